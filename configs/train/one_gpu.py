"""EDM2's XS on CLEVR scenes of 64 x 64 pixels with one object, on one GPU.

Command:   python -m experiments.train --config=configs/train/one_gpu.py
           --workdir=runs/one_gpu
Hardware:  one GPU with 80 GB; with 24 GB add --config.train.accumulate=4
Expected:  20 000 updates of 256 images.  Not run yet: awaits a GPU.
"""

from ml_collections import ConfigDict

from configs.train import default


def get_config() -> ConfigDict:
    """`default` with other numbers."""
    config = default.get_config()
    config.data.batch = 256
    config.data.empty = 0.1
    config.train.steps = 20_000
    config.train.learning_rate = 0.006
    config.train.decay = 5000
    config.train.rampup_images = 0.5e6
    config.train.save_every = 500
    config.train.snapshot_every = 1000
    config.train.average_last = 2048
    config.train.evaluate_every = 1000
    return config
