"""Training the detector: a pool of 8192 rendered scenes, seen twelve times over.

Command:   python -m experiments.scenes.train_detector --workdir=runs/detector
Hardware:  two CPU cores, no GPU; forty minutes to an hour
Expected:  a threshold near 0.4, with exact counts in 97 % of 512 validation renders at
           128 x 128 with 0 to 10 objects; evaluate_detector.py measures the rest.

The weights that come with the package were made with these numbers, on pictures of an
earlier `fast` preset with simpler metal; all figures are of pictures as they are today.
Any field can be overridden, as in `--config.train.steps=500`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration of the weights that come with the package."""
    config = ConfigDict()
    config.seed = 0  # decides scenes, parameters and augmentation

    config.pool = ConfigDict()
    config.pool.shards = 16  # files of rendered scenes, made in parallel
    config.pool.ruled = 160  # in each, scenes with CLEVR's rule of visible pixels
    config.pool.crowded = 160  # the same, with 5 objects or more
    config.pool.free = 112  # scenes without it
    config.pool.plain = 80  # scenes of large rubber objects, as in the quickstart
    config.pool.still = 0.25  # share of scenes without jitter of camera and lamps
    config.pool.ignored = 100  # objects with fewer visible pixels need not be found

    config.network = ConfigDict()
    config.network.channels = (48, 80, 96)  # at 1/4, 1/8 and 1/16 of the side

    config.train = ConfigDict()
    config.train.steps = 4000  # updates
    config.train.batch = 24  # images in each
    config.train.learning_rate = 0.002  # peak, reached linearly, left as a cosine
    config.train.warmup = 300  # updates until the peak
    config.train.weight_decay = 0.02  # of AdamW
    config.train.average_std = 0.05  # relative width of the average of the weights
    config.train.save_every = 250  # updates between checkpoints
    config.train.devices = 2  # that a batch is split over

    config.augment = ConfigDict()
    config.augment.coarse = 0.6  # share of images that go through a coarser grid
    config.augment.coarser = (32, 40, 48, 56, 64, 80, 96)  # pixels a side of it
    config.augment.blur = 2.0  # largest standard deviation of a blur, in pixels of 128
    config.augment.blurred = 0.4  # share of images that are blurred
    config.augment.noise = 0.06  # largest standard deviation of noise
    config.augment.gain = 0.2  # largest relative change of brightness
    config.augment.tint = 0.06  # largest relative change of each channel
    config.augment.gamma = 0.2  # largest exponent away from one

    config.validation = ConfigDict()
    config.validation.scenes = 512  # renders on which the threshold is chosen
    config.validation.sides = (128, 64, 32)  # pixels a side of these, all as important
    return config
