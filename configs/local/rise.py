"""Which rises first in training: locality, or what it is to predict?  On exact sprites.

Command:   python -m experiments.local.rise --workdir=runs/local_rise
           --config=configs/local/rise.py
Hardware:  two CPU cores, no GPU: about 20 minutes for 10 networks; resumable
Expected:  unknown before it is run.  Probe and outcome are those of
           configs/local/prediction.py.
"""

from ml_collections import ConfigDict

from configs.local import prediction, sprites


def get_config() -> ConfigDict:
    """The two global networks that generalise in length, five seeds."""
    config = prediction.get_config()
    config.seeds = (0, 1, 2, 3, 4)
    every = sprites.get_config().models
    config.models = ConfigDict({n: every[n] for n in ("complete_many", "channel")})
    config.rise = ConfigDict()
    config.rise.steps = (25, 50, 75, 100, 150, 200, 300, 450, 700, 1000)
    config.rise.levels = (0.25, 0.5, 0.75)  # of the way from the first to the last
    return config
