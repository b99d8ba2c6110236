"""Experiments 1, 2 and 3 of Bradley 2025 on exact sprites, with their controls.

Command:   python -m experiments.local.sprites --workdir=runs/local_sprites
Hardware:  two CPU cores, no GPU: about an hour for 42 networks; resumable
Expected:  experiment 1 meets most requests beyond the three objects of its training,
           experiment 2 does not, experiment 3 does.  Images, networks and windows are
           ours: the paper's are CLEVR and EDM2.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Fourteen networks that train for about a minute each, three seeds."""
    config = ConfigDict()
    config.seed = 0  # of requests, of the noise of samples, of the placebo
    config.seeds = (0, 1, 2)  # of training

    config.world = ConfigDict()
    config.world.places = 4  # along a side of the image
    config.world.pixels = 6  # along a side of a place
    config.world.templates = 2  # kinds of objects
    config.world.norm = 2.5  # of an object
    config.world.scale = 0.05  # of the noise floor
    config.world.seed = 5  # of the templates

    config.network = ConfigDict()
    config.network.channels = 64  # of global networks
    config.network.local_channels = 32  # of local ones
    config.network.channels_per_head = 32
    config.network.patch = 6  # one grid point a place
    config.network.sigma_data = 0.3

    config.train = ConfigDict()
    config.train.batch = 64
    config.train.null = 0.1  # share of images whose labels are withheld
    config.train.noise_mean = -1.0  # of log sigma
    config.train.noise_std = 1.4
    config.train.average_std = 0.1
    config.train.rampup_images = 12800.0
    config.train.save_every = 500

    config.sample = ConfigDict()
    config.sample.images = 96  # for every training seed, model and number of requests
    config.sample.requests = (0, 1, 2, 3, 4, 6, 8, 10)  # places asked for
    config.sample.steps = 16  # of DPM-Solver++
    config.sample.sigma_min = 0.02
    config.sample.sigma_max = 20.0

    config.probe = ConfigDict()
    config.probe.images = 32  # noised images at which derivatives are taken
    config.probe.sigmas = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    config.probe.probes = 1  # random signs a place and image

    config.switch = ConfigDict()  # conditions on above, or only below, noise levels
    config.switch.models = ("complete_many", "incomplete_one", "local")
    config.switch.sigmas = (0.1, 0.3, 1.0, 3.0)
    config.switch.images = 96
    config.switch.k = 3  # places, as many as training has seen

    config.machine = ConfigDict()  # analytic machines, in experiments.local.machines
    config.machine.images = 2000  # that they are shown
    config.machine.window = 11  # pixels along a side: a place, from any pixel in it
    config.machine.samples = 64
    config.machine.requests = (1, 3, 6, 10)

    config.models = ConfigDict()
    exp1 = {"completeness": 1.0, "most": 3}
    exp2 = {"completeness": 0.0, "most": 3}
    config.models["complete_many"] = network("vector", **exp1)  # experiment 1
    config.models["incomplete_one"] = network("vector", **exp2)  # experiment 2
    config.models["complete_one"] = network("vector", completeness=1.0, most=1)
    config.models["incomplete_many"] = network("vector", completeness=0.5, most=3)
    config.models["channel"] = network("channel", **exp2)
    config.models["mean"] = network("mean", **exp2)
    config.models["local"] = network("channel", window(6, 6), **exp2)  # experiment 3
    config.models["window_0"] = network("channel", window(0, 0), **exp2)
    config.models["window_12"] = network("channel", window(12, 12), **exp2)
    config.models["window_all"] = network("channel", window(None, None), **exp2)
    config.models["growing"] = network("channel", window(6, 6, grow=0.5), **exp2)
    config.models["conditions_only"] = network("channel", window(None, 6), **exp2)
    config.models["pixels_only"] = network("channel", window(6, None), **exp2)
    config.models["placebo"] = network("channel", window(6, 6, placebo=True), **exp2)
    return config


def network(
    encoding: str, window: ConfigDict | None = None, *, completeness: float, most: int
) -> ConfigDict:
    """A network, its labels and its training."""
    config = ConfigDict({"encoding": encoding, "completeness": completeness})
    config.most = most  # objects of an image; every number from 1 equally often
    config.window = window  # None: global
    # About a minute each: a network of windows sees an image many times over.
    config.steps = 1000 if window is None or window.pixels == 0 else 300
    config.learning_rate = 0.03
    config.decay = 0.6 * config.steps
    return config


def window(
    pixels: int | None, conditions: int | None, grow: float = 0.0, placebo: bool = False
) -> ConfigDict:
    """How far a tile, which is a place, sees; None: all of the image."""
    config = ConfigDict()
    config.pixels = pixels
    config.conditions = conditions
    config.grow = grow  # the noise level above which it sees so far, below only itself
    config.placebo = placebo  # told the conditions of another tile
    return config
