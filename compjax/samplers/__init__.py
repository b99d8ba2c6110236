"""Samplers: from noise to data, down a grid of noise levels, inside one scan."""

from compjax.samplers.base import Info, sample, trajectory
from compjax.samplers.ode import DPMSolverPP, Euler, Heun
from compjax.samplers.sde import Ancestral, Churn

__all__ = [
    "Ancestral",
    "Churn",
    "DPMSolverPP",
    "Euler",
    "Heun",
    "Info",
    "sample",
    "trajectory",
]
