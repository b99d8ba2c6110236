"""Exact densities, normalised at every noise level: the oracles."""

from compjax.densities.clutter import BernoulliClutter
from compjax.densities.conditional import ConditionalProjective
from compjax.densities.gaussian import Gaussian, GaussianMixture, compose_gaussians
from compjax.densities.independent import FactorizedConditionals, Independent
from compjax.densities.rotated import Rotated
from compjax.densities.shapes import Box, Circle
from compjax.densities.sprites import Sprites

__all__ = [
    "BernoulliClutter",
    "Box",
    "Circle",
    "ConditionalProjective",
    "FactorizedConditionals",
    "Gaussian",
    "GaussianMixture",
    "Independent",
    "Rotated",
    "Sprites",
    "compose_gaussians",
]
