"""Exact densities, normalised at every noise level, and analytic machines."""

from compjax.densities.clutter import BernoulliClutter
from compjax.densities.conditional import ConditionalProjective
from compjax.densities.conditional_machine import ConditionalMachine
from compjax.densities.covariance_machine import CovarianceMachine
from compjax.densities.empirical import Empirical
from compjax.densities.gaussian import Gaussian, GaussianMixture, compose_gaussians
from compjax.densities.independent import FactorizedConditionals, Independent
from compjax.densities.machines import (
    BoundaryMachine,
    EquivariantMachine,
    LocalMachine,
    PatchMachine,
)
from compjax.densities.rotated import Rotated
from compjax.densities.shapes import Box, Circle
from compjax.densities.sprites import Sprites

__all__ = [
    "BernoulliClutter",
    "BoundaryMachine",
    "Box",
    "Circle",
    "ConditionalMachine",
    "ConditionalProjective",
    "CovarianceMachine",
    "Empirical",
    "EquivariantMachine",
    "FactorizedConditionals",
    "Gaussian",
    "GaussianMixture",
    "Independent",
    "LocalMachine",
    "PatchMachine",
    "Rotated",
    "Sprites",
    "compose_gaussians",
]
