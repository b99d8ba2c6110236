"""Settings A, B and C of Bradley et al. 2025 on one GPU: 64 px, whole CLEVR.

Command:   python -m experiments.projective.clevr
           --config=configs/projective/clevr_one_gpu.py --workdir=runs/clevr_64
Hardware:  one GPU with 80 GB; with 24 GB add --config.common.train.accumulate=4
Expected:  four networks, each 20 000 updates of 256 images (meant for less than 25
           minutes of an H200).  Not run yet: awaits a GPU.
"""

from ml_collections import ConfigDict

from configs.projective.clevr import with_models
from configs.train import one_gpu


def get_config() -> ConfigDict:
    """EDM2's XS at 64 x 64."""
    common = one_gpu.get_config()
    common.data.empty = 0.0  # but for those of one object
    return with_models(common)
