"""What the scales of the experiment on rendered scenes share; clevr_*.py are they."""

from ml_collections import ConfigDict

from configs.local import prediction


def with_models(common: ConfigDict, window: ConfigDict) -> ConfigDict:
    """The networks of the experiment, one a design, and what they are asked for.

    Args:
        common: A configuration of `experiments.train`, which all networks have but for
            what `models` says.
        window: What the local network has of its own, in `network`.
    """
    common.data.empty = 0.0  # every image has objects, as in the paper
    config = ConfigDict()
    config.seed = 0  # decides requests and the noise of samples
    config.seeds = (0, 1, 2)  # of training: one network of every kind for each
    config.common = common

    # Labels name all objects, one, or some; images hold one to three objects, or one.
    config.models = ConfigDict()
    config.models.complete_many = changed("counts_all", "vector_of_all")  # experiment 1
    config.models.incomplete_one = changed("counts_one", "vector_of_one")  # 2
    config.models.complete_one = changed("single_all", "vector_of_all")
    config.models.incomplete_many = changed("counts_some", "vector_of_some")
    # As experiment 2, with the label as an image: is it the encoding?
    config.models.channel = changed("counts_one", "locations_of_one")
    config.models.local = changed("counts_one", "locations_of_one")  # experiment 3
    config.models.local.network = window

    config.sample = ConfigDict()
    config.sample.images = 96  # for every training seed, model and number of requests
    config.sample.together = 96  # of them that are sampled at a time
    config.sample.requests = tuple(range(11))  # locations that are asked for
    config.sample.steps = 16  # of DPM-Solver++
    config.sample.sigma_min = 0.02  # last noise level before 0
    config.sample.sigma_max = 20.0  # first noise level

    config.probe = ConfigDict()
    config.probe.images = 16  # noised images at which derivatives are taken
    config.probe.sigmas = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
    config.probe.probes = 1  # random signs a tile and image
    config.probe.tile = common.data.size // 4  # pixels are looked at from tiles
    config.probe.disc = 0.11  # radius of a large object, as a share of the width

    # Named before any training, as in configs/local/prediction.py.
    config.prediction = prediction.get_config().prediction
    return config


def changed(name: str, label: str) -> ConfigDict:
    """What a network has of its own."""
    return ConfigDict(
        {"data": {"set": name, "label": label}, "network": {}, "train": {}}
    )


def window(tile: int, reach: int, **fields: int) -> ConfigDict:
    """A network of windows, whose pixels and labels reach equally far.

    Args:
        tile: Side of a tile, in pixels.
        reach: How many pixels around it are seen.
        fields: Of `network`, else as all have them.
    """
    local = {"tile": tile, "reach": reach, "condition_reach": reach}
    return ConfigDict({"local": local, **fields})
