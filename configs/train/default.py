"""Every field of a training run, with what it means; the other files here change some.

Fields are overridden on the command line too, as in `--config.train.steps=500`.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """EDM2's XS on CLEVR scenes of 64 x 64 pixels with one object."""
    config = ConfigDict()
    config.seed = 0  # decides parameters, examples and noise

    config.data = ConfigDict()
    config.data.set = "single"  # of experiments.sets: single, counts_all ...
    config.data.label = ""  # a label function of compjax.datasets; "": the set's own
    # clevr, clevr_visible; plain or small: of rubber, large or small; places: plain, at
    # 16 places.
    config.data.draw = "clevr"
    # A folder of files to read; "": drawn on the device.  With files, draw, empty and
    # jitter are those of the examples that the run is evaluated on.
    config.data.files = ""
    config.data.size = 64  # height and width of the images, in pixels
    config.data.batch = 2048  # examples of one update, over all devices
    config.data.empty = 0.0  # share of scenes without an object
    config.data.null = 0.1  # share of labels that are withheld
    config.data.jitter = 1.0  # scales CLEVR's jitter of camera and lamps
    config.data.offset = "gray"  # the image that is zero: gray, or the empty scene

    config.network = ConfigDict()
    config.network.preset = "img64-xs"  # of EDM2: compjax.networks.edm2.PRESETS
    # None: the preset's.
    config.network.channels = placeholder(int)  # at the highest resolution
    config.network.channel_mult = placeholder(tuple)  # multiples, one a resolution
    config.network.num_blocks = placeholder(int)  # residual blocks at each resolution
    config.network.attn_resolutions = placeholder(tuple)  # where there is attention
    config.network.channels_per_head = placeholder(int)  # of the attention
    config.network.patch = placeholder(int)  # pixels a side that become channels
    config.network.positions = placeholder(int)  # frequencies of places; EDM2 has none
    config.network.dropout = placeholder(float)  # probability
    config.network.sigma_data = placeholder(float)  # standard deviation of the data
    config.network.dtype = "bfloat16"  # of activations; or float32
    config.network.memory = "keep"  # activations; or recompute them, to save memory
    config.network.local = ConfigDict()  # see compjax.networks.Local
    config.network.local.tile = placeholder(int)  # side in pixels; None: a global one
    config.network.local.reach = placeholder(int)  # pixels around a tile; None: all
    config.network.local.condition_reach = placeholder(int)  # the same for the label

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # devices that share one copy of the state

    config.train = ConfigDict()
    config.train.steps = 65_536  # updates
    config.train.noise_draws = 1  # noise levels that each example serves in an update
    config.train.accumulate = 1  # parts of a batch, in turn, where memory is short
    # None: the preset's, which are meant for batches of 2048.
    config.train.learning_rate = placeholder(float)  # peak
    config.train.decay = placeholder(int)  # updates until it falls as 1 / sqrt(updates)
    config.train.noise_mean = placeholder(float)  # mean of ln sigma
    config.train.noise_std = placeholder(float)  # its standard deviation
    config.train.rampup_images = 10e6  # images over which the learning rate rises
    config.train.normalization = "after"  # the update; or before the gradients (EDM2)
    config.train.average_last = 4096  # updates in the plain average at the end; 0: none
    config.train.average_stds = (0.05, 0.1)  # relative widths of power-function ones
    config.train.log_every = 50  # updates between lines of metrics.jsonl
    config.train.save_every = 1000  # updates between checkpoints
    config.train.keep = 2  # checkpoints
    config.train.milestone_every = 0  # updates between checkpoints kept for ever; 0: no
    config.train.snapshot_every = 4096  # updates between snapshots of averages; 0: no
    config.train.evaluate_every = 4096  # updates between grids of samples

    config.sample = ConfigDict()
    config.sample.images = 16  # in a grid
    config.sample.steps = 32  # of Heun's method
    config.sample.sigma_min = 0.002  # last noise level before 0
    config.sample.sigma_max = 80.0  # first noise level
    return config
