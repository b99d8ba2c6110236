"""Experiments 1, 2 and 3 of Bradley 2025 on two CPU cores: 32 px, plain scenes.

Command:   python -m experiments.local.clevr
           --config=configs/local/clevr_laptop.py --workdir=runs/local_clevr
Hardware:  two CPU cores, no GPU; 18 networks, meant for 60 minutes; resumable
Expected:  Not run whole yet.  Not the paper's setting: large rubber objects, fixed
           camera and lamps, small images and networks.
"""

from ml_collections import ConfigDict

from configs.local.clevr import window, with_models
from configs.train import default


def get_config() -> ConfigDict:
    """Networks that train for two minutes each."""
    common = default.get_config()
    common.data.draw = "places"  # where they stand is learned in minutes
    common.data.size = 32
    common.data.batch = 16
    common.data.null = 0.1
    common.data.jitter = 0.0
    common.data.offset = "empty"

    common.network.channels = 64
    # One level of three blocks, and the numbers of training: from trials of one seed.
    common.network.channel_mult = (1,)
    common.network.num_blocks = 0
    common.network.positions = 4
    common.network.attn_resolutions = ()  # the middle blocks attend nevertheless
    common.network.channels_per_head = 32
    common.network.patch = 4
    common.network.sigma_data = 0.1  # it is 0.11 without the empty scene
    common.network.dtype = "float32"

    common.train.steps = 3000
    common.train.noise_draws = 2
    common.train.learning_rate = 0.03
    common.train.decay = 1800
    common.train.rampup_images = 3200.0
    common.train.noise_mean = -0.2  # where objects stand is decided at high levels
    common.train.noise_std = 1.4
    common.train.average_last = 0
    common.train.average_stds = (0.1,)
    common.train.save_every = 500
    common.train.snapshot_every = 0
    common.train.evaluate_every = 5000  # at the end only

    common.sample.images = 8  # of the picture at the end of training
    common.sample.steps = 12
    common.sample.sigma_min = 0.02
    common.sample.sigma_max = 20.0

    config = with_models(common, window(8, 4, channels=32))
    return config
