"""What the scales of the CLEVR experiment share; clevr_*.py are the scales."""

from ml_collections import ConfigDict


def with_models(common: ConfigDict) -> ConfigDict:
    """The networks of the experiment, one a dataset, and how they are composed.

    Args:
        common: A configuration of `experiments.train`, which all networks have but for
            what `models` says.
    """
    config = ConfigDict()
    config.seed = 0  # decides requests and the noise of samples
    config.seeds = (0,)  # of training: one network of every kind for each
    config.common = common

    config.models = ConfigDict()
    config.models.background = changed("background")  # empty scenes
    config.models.single = changed("single")  # one object; null withholds its place
    config.models.single.data.empty = 0.1  # or none: the background, in one network
    config.models.cluttered = changed("cluttered")  # one to five, the place of one
    config.models.colored = changed("colored")  # one object and its colour, or none
    config.models.colored.data.empty = 0.1

    config.sample = ConfigDict()
    config.sample.images = 256  # for every training seed, setting and k
    config.sample.together = 64  # of them that are sampled at a time
    config.sample.chunk = 10  # conditions in one call of a network, of at most 10
    config.sample.steps = 32  # of Heun's method
    config.sample.sigma_min = 0.002  # last noise level before 0
    config.sample.sigma_max = 80.0  # first noise level
    config.sample.spacing = 2.9  # of the nine places; objects stand within 3 of 0
    config.sample.window = 0.15  # radius of a place's window, as part of the width
    return config


def changed(name: str) -> ConfigDict:
    """What a network has of its own."""
    return ConfigDict({"data": {"set": name}, "train": {}})
