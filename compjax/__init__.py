"""When do diffusion models compose, and generalise, and by what mechanism?

    import compjax as cj

The names here are what a notebook needs; the modules hold the rest.  Importing compjax
imports JAX and nothing heavier: subpackages that need more load on first use.
"""

import importlib
from typing import Any

from compjax import (
    densities,
    divergence,
    likelihood,
    noise,
    samplers,
    scores,
    types,
    windows,
)
from compjax.compose import (
    compose,
    compose_conditions,
    contrast,
    guide,
    harmonic_mean,
    localize,
    mixture,
    negate,
    power,
    product,
    pullback,
    switch,
)
from compjax.likelihood import elbo, lift, log_likelihood, log_likelihood_estimate
from compjax.noise import karras_sigmas, log_snr_sigmas
from compjax.samplers import sample, trajectory
from compjax.scores import (
    Network,
    as_score,
    condition,
    score_from_denoiser,
    score_from_energy,
    score_from_epsilon,
    score_from_velocity,
)

__version__ = "0.1.0"

_LAZY = (
    "analysis",
    "datasets",
    "networks",
    "plotting",
    "scenes",
    "testing",
    "training",
)

__all__ = [
    "Network",
    "as_score",
    "compose",
    "compose_conditions",
    "condition",
    "contrast",
    "densities",
    "divergence",
    "elbo",
    "guide",
    "harmonic_mean",
    "karras_sigmas",
    "lift",
    "likelihood",
    "localize",
    "log_likelihood",
    "log_likelihood_estimate",
    "log_snr_sigmas",
    "mixture",
    "negate",
    "noise",
    "power",
    "product",
    "pullback",
    "sample",
    "samplers",
    "score_from_denoiser",
    "score_from_energy",
    "score_from_epsilon",
    "score_from_velocity",
    "scores",
    "switch",
    "trajectory",
    "types",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return importlib.import_module(f"compjax.{name}")
    raise AttributeError(f"module 'compjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
