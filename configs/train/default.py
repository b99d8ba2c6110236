"""Every field of a training run, with what it means; the other files here change some.

Fields are overridden on the command line too, as in `--config.train.steps=500`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """EDM2's XS on CLEVR scenes of 64 x 64 pixels with one object."""
    config = ConfigDict()
    config.seed = 0  # decides parameters, examples and noise

    config.data = ConfigDict()
    config.data.set = "single"  # background single cluttered colored counts_all/_one
    config.data.label = ""  # a label function of compjax.datasets; "": the set's own
    config.data.draw = "clevr"  # clevr, clevr_visible, or plain: large and rubber
    config.data.files = ""  # a folder of files to read; "": drawn on the device
    config.data.size = 64  # height and width of the images, in pixels
    config.data.batch = 2048  # examples of one update, over all devices
    config.data.empty = 0.0  # share of scenes without an object (not for files)
    config.data.null = 0.1  # share of labels that are withheld
    config.data.jitter = 1.0  # scales CLEVR's jitter of camera and lamps

    config.network = ConfigDict()
    config.network.preset = "img64-xs"  # of EDM2; "": as the next fields say
    config.network.channels = 128  # channels at the highest resolution
    config.network.channel_mult = (1, 2, 3, 4)  # multiples of them, one a resolution
    config.network.num_blocks = 3  # residual blocks at each resolution
    config.network.attn_resolutions = (16, 8)  # where blocks have attention
    config.network.channels_per_head = 64  # of the attention
    config.network.patch = 1  # pixels a side that become channels at the input
    config.network.dropout = 0.0  # probability of dropping an activation
    config.network.dtype = "bfloat16"  # of activations; or float32
    config.network.memory = "keep"  # activations; or recompute them, to save memory

    config.mesh = ConfigDict()
    config.mesh.fsdp = 1  # devices that share one copy of the state

    config.train = ConfigDict()
    config.train.steps = 65_536  # updates
    config.train.noise_draws = 1  # noise levels that each example serves in an update
    config.train.accumulate = 1  # parts of a batch, in turn, where memory is short
    config.train.learning_rate = 0.012  # peak
    config.train.decay = 35_000  # updates after which it falls as 1 / sqrt(updates)
    config.train.rampup_images = 10e6  # images over which it rises
    config.train.noise_mean = -0.8  # mean of ln sigma
    config.train.noise_std = 1.6  # its standard deviation
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
