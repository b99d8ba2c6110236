"""Length generalisation in a few minutes: one object seen, up to six composed.

Command:   python -m experiments.quickstart --workdir=runs/quickstart
Hardware:  two CPU cores, no GPU
Expected:  with the empty background at least 90 % of the requested locations hold an
           object for k <= 4, and at least 80 % for k = 6; the other three fail.

Any field can be overridden, as in `--config.train.steps=500`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration that the README's first command runs."""
    config = ConfigDict()
    config.seed = 0  # decides parameters, scenes, noise and requests
    config.size = 48  # height and width of the images, in pixels

    config.data = ConfigDict()
    config.data.scenes = 8  # scenes rendered in each step
    config.data.empty = 0.12  # share of scenes without an object
    config.data.null = 0.12  # share of objects whose location is withheld

    config.network = ConfigDict()
    config.network.channels = 32  # channels at the highest resolution
    config.network.channel_mult = (1, 1, 1)  # multiples of them, one a resolution
    config.network.num_blocks = 0  # residual blocks at each resolution
    config.network.sigma_data = 0.2  # of images, less the empty scene, times 2
    config.network.patch = 2  # pixels a side that become channels at the input

    config.train = ConfigDict()
    config.train.steps = 2800  # updates
    config.train.noise_draws = 2  # noise levels that each scene serves in a step
    config.train.learning_rate = 0.03  # peak, reached linearly, left linearly
    config.train.warmup = 100  # updates until the peak
    config.train.noise_mean = -0.8  # mean of ln sigma in training
    config.train.noise_std = 1.2  # its standard deviation
    config.train.average_std = 0.1  # relative width of the average of the weights
    config.train.save_every = 250  # updates between checkpoints

    config.sample = ConfigDict()
    config.sample.images = 64  # images for every setting and number of requests
    config.sample.max_requests = 6  # k runs from 1 to this, padded to it
    config.sample.distance = 0.2  # least distance of requests, as part of the width
    config.sample.steps = 6  # steps of Heun's method
    config.sample.sigma_min = 0.01  # last noise level before 0
    config.sample.sigma_max = 5.0  # first noise level
    return config
