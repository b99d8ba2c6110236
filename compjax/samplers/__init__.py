"""Samplers: from noise to data, down a grid of noise levels, inside one scan."""

from compjax.samplers.base import Info, sample, trajectory
from compjax.samplers.correct import StepSizes, corrected, run_kernel, tune
from compjax.samplers.line_integral import PathIntegral, score_only
from compjax.samplers.mcmc import HMC, MALA, UHMC, ULA
from compjax.samplers.ode import DPMSolverPP, Euler, Heun
from compjax.samplers.population import effective_sample_size, systematic, virial
from compjax.samplers.rejection import Kept, rejection
from compjax.samplers.sde import Ancestral, Churn
from compjax.samplers.smc import FeynmanKac, UnbiasedFeynmanKac
from compjax.samplers.superposition import And, Or, Superposition
from compjax.samplers.tracked import Tracked
from compjax.samplers.weights import scaled_weight_rate, weight_rate

__all__ = [
    "HMC",
    "MALA",
    "UHMC",
    "ULA",
    "Ancestral",
    "And",
    "Churn",
    "DPMSolverPP",
    "Euler",
    "FeynmanKac",
    "Heun",
    "Info",
    "Kept",
    "Or",
    "PathIntegral",
    "StepSizes",
    "Superposition",
    "Tracked",
    "UnbiasedFeynmanKac",
    "corrected",
    "effective_sample_size",
    "rejection",
    "run_kernel",
    "sample",
    "scaled_weight_rate",
    "score_only",
    "systematic",
    "trajectory",
    "tune",
    "virial",
    "weight_rate",
]
