"""A small network on scenes with one large object, or none: minutes on a laptop.

Command:   python -m experiments.train --config=configs/train/laptop.py
           --workdir=runs/laptop
Hardware:  two CPU cores, no GPU
Expected:  six minutes; error/sigma=0.2 falls to about 0.01; samples show one object
           where the condition says
"""

from ml_collections import ConfigDict

from configs.train import default


def get_config() -> ConfigDict:
    """`default` with other numbers."""
    config = default.get_config()
    config.data.label = "bumps_of_one"
    config.data.draw = "plain"
    config.data.size = 32
    config.data.batch = 32
    config.data.empty = 0.12
    config.data.null = 0.12
    config.data.jitter = 0.0

    config.network.channels = 32
    config.network.channel_mult = (1, 2)
    config.network.num_blocks = 1
    config.network.attn_resolutions = ()
    config.network.patch = 2
    config.network.dtype = "float32"

    config.train.steps = 1500
    config.train.learning_rate = 0.03
    config.train.decay = 1000
    config.train.rampup_images = 3200.0
    config.train.noise_std = 1.2
    config.train.average_last = 0
    config.train.average_stds = (0.1, 0.05)
    config.train.log_every = 20
    config.train.save_every = 250
    config.train.snapshot_every = 250
    config.train.evaluate_every = 500

    config.sample.steps = 12
    config.sample.sigma_min = 0.01
    config.sample.sigma_max = 10.0
    return config
