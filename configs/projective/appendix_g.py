"""Figure 12 of Bradley et al. 2025: Bayes against projective composition, exact scores.

Command:   python -m experiments.projective.appendix_g --workdir=runs/appendix_g
Hardware:  any CPU, about a minute
Expected:  left, the empty background shows all requested coordinates at strength 1, the
           unconditional one at 1/k; right, on a cluttered background, both work.

The paper's noise floor, coin and number of samples are not known to us: ours are below.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration of the figure."""
    config = ConfigDict()
    config.seed = 0  # of the samples
    config.coordinates = 8  # columns of the panels
    config.requested = (0, 2, 4, 6)  # the coordinates that are composed
    config.scale = 0.05  # standard deviation of the clean coordinates (ours)
    config.coin = 0.5  # probability that clutter switches a coordinate on (ours)
    config.shown = 24  # samples drawn as rows of a panel
    config.samples = 4096  # samples behind every mean
    config.floors = (0.05, 0.2, 0.4, 0.6, 1.0)  # scales at which the 1/k law is tested
    config.steps = 400  # of the reverse SDE
    config.start = 80.0  # noise level at which it starts
    config.end = 0.002  # last noise level before 0
    return config
