"""Sampler error and score error of compositions, as k grows.

Command:   python -m experiments.projective.ledger --workdir=runs/ledger
Hardware:  two CPU cores, two minutes
Expected:  on factorized conditionals the sampler's error stays within the noise at
           every k; through a shear it is above it from k = 2.  That of the scores, in
           nats, grows with k.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The figure of experiments/projective/README.md."""
    config = ConfigDict()
    config.seed = 0  # decides parameters, data, noise and samples
    config.conditions = 4  # conditionals, and dimensions
    config.shear = 1.0  # x_i = z_i + shear z_(i+1), in the second half
    config.shift = 2.0  # of the mean of z_i under conditional i
    config.variance = 0.1  # of z_i under conditional i; 1 under the background
    config.width = 128  # of the network's layers
    config.layers = 2  # hidden ones
    config.train_steps = 6000  # updates
    config.batch = 512  # pairs of a point and a noise level in an update
    config.learning_rate = 3e-3  # at the start; it falls to 0 as a cosine
    config.samples = 1000  # of each law that is compared
    config.steps = 200  # ancestral steps
    config.sigma_min = 0.01  # last noise level before 0
    config.sigma_max = 40.0  # first noise level
    return config
