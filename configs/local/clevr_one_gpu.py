"""Experiments 1, 2 and 3 of Bradley 2025 on one GPU: 64 px, whole CLEVR.

Command:   python -m experiments.local.clevr
           --config=configs/local/clevr_one_gpu.py --workdir=runs/local_clevr_64
           --config.seeds="(0,)" for one network of every kind
Hardware:  one H200; with 24 GB add --config.common.train.accumulate=4
Expected:  six networks a seed, each 16 000 updates of 256 images, meant for less than
           25 minutes: 2.1e17 operations each.  Not run yet: awaits a GPU.
"""

from ml_collections import ConfigDict

from configs.local.clevr import window, with_models
from configs.train import one_gpu


def get_config() -> ConfigDict:
    """A U-Net of three levels at 32 x 32 grid points: a fifth of the work of XS."""
    common = one_gpu.get_config()
    common.data.jitter = 0.0  # windows cannot agree on the light: see the paper config
    common.data.offset = "empty"
    common.network.channel_mult = (1, 2, 3)
    common.network.num_blocks = 2
    common.network.patch = 2
    common.network.sigma_data = 0.1
    common.train.steps = 16_000
    common.train.learning_rate = 0.01
    common.train.noise_mean = -0.4  # where objects stand is decided at high levels
    common.train.noise_std = 1.6
    common.train.evaluate_every = 4000
    common.train.snapshot_every = 4000

    # Windows of 32 x 32 pixels: four times the grid points, half the channels.
    config = with_models(common, window(16, 8, channels=64))
    config.sample.together = 256
    config.sample.images = 256
    config.sample.steps = 32
    config.sample.sigma_min = 0.005
    config.sample.sigma_max = 80.0
    return config
