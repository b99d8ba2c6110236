"""Weights that recover the target of sheared Gaussians.

Command:   python -m experiments.projective.certificate --workdir=runs/certificate
Hardware:  two CPU cores, about a minute
Expected:  the weighted covariance within 5 % of the target's at every shear, the plain
           one further off as the shear grows; KL of plain samples below its bound.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The figure of experiments/projective/README.md."""
    config = ConfigDict()
    config.seed = 0  # decides samples
    config.shears = (0.0, 0.3, 0.6, 0.9, 1.2, 1.5)  # x_1 = z_1 + shear z_2
    config.variance = 0.1  # of z_i under conditional i; 1 under the background
    config.samples = 40_000  # for every shear
    config.steps = 800  # ancestral steps
    config.sigma_min = 0.01  # last noise level before 0
    config.sigma_max = 80.0  # first noise level
    return config
