"""Networks: every module is a preconditioned denoiser.

`module.apply({"params": params}, x, sigma, condition)` is an estimate of
`E[x0 | x, condition]`; `compjax.Network(module, params)` is its score.  `HeatMap` alone
is none: it finds objects for `compjax.scenes.detect`.
"""

from compjax.networks.edm2 import UNet
from compjax.networks.heatmap import HeatMap
from compjax.networks.local import Local
from compjax.networks.magnitude import (
    MPConv,
    MPFourier,
    mp_cat,
    mp_silu,
    mp_sum,
    normalize,
    normalize_weights,
)
from compjax.networks.mlp import MLP

__all__ = [
    "MLP",
    "HeatMap",
    "Local",
    "MPConv",
    "MPFourier",
    "UNet",
    "mp_cat",
    "mp_silu",
    "mp_sum",
    "normalize",
    "normalize_weights",
]
