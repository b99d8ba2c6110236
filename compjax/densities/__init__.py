"""Exact densities, normalised at every noise level: the oracles."""

from compjax.densities.clutter import BernoulliClutter
from compjax.densities.gaussian import Gaussian, GaussianMixture
from compjax.densities.independent import FactorizedConditionals, Independent

__all__ = [
    "BernoulliClutter",
    "FactorizedConditionals",
    "Gaussian",
    "GaussianMixture",
    "Independent",
]
