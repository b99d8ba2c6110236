"""Which diagnostic foretells whether reverse diffusion samples a composition?

Command:   python -m experiments.projective.prediction --workdir=runs/prediction
Hardware:  two CPU cores, a few minutes
Expected:  pooled AUROC of the certificate at least 0.95; of the cosines, what they get.

The family (experiments/projective/family.py), the threshold of success and the primary
diagnostic were fixed before any diagnostic was run on it.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The study that experiments/projective/README.md reports."""
    config = ConfigDict()
    config.seed = 0  # decides samples; the family has a seed of its own
    config.count = 40  # members of each of the six kinds
    config.steps = 300  # ancestral steps; discretisation alone costs 0.001 nats
    config.sigma_min = 0.01  # last noise level before 0
    config.sigma_max = 80.0  # first noise level
    # Success is KL(sampled law || C[p]) below this, in nats: what a shift by one
    # seventh of a standard deviation costs.
    config.threshold = 0.01
    config.outcome_samples = 20_000  # for the kind that has no closed form
    config.primary = "certificate"  # the diagnostic that the expectation is about
    config.samples = 2000  # that a diagnostic may draw
    config.resamples = 2000  # of the bootstrap over members, within kinds
    return config
