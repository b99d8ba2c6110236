r"""Averages of the parameters with the power-function profile of EDM2."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from compjax.types import Number, as_float


def std_to_exp(std: float) -> float:
    r"""The exponent $\gamma$ of the profile whose relative width is `std`.

    The average at step T weighs the parameters at step t by $t^\gamma$, a profile of
    standard deviation $T\,\sqrt{(\gamma+1)/((\gamma+2)^2(\gamma+3))}$.  Its inverse is
    the largest root of

    $$\gamma^3 + 7\gamma^2 + (16 - std^{-2})\,\gamma + 12 - std^{-2} = 0.$$

    Args:
        std: Width relative to the length of training; 0.05 to 0.2 are usual.

    Raises:
        ValueError: If `std` is not in (0, 0.288), where the exponent is positive.

    Source: Karras et al. 2024 (EDM2, 2312.02696), power-function EMA.

    Example:
        >>> round(std_to_exp(0.1), 4)
        6.9372
    """
    if not 0 < std < 12**-0.5:
        raise ValueError(
            f"The relative width of an average must be in (0, {12**-0.5:.3f}), got "
            f"{std}; 0.1 is a good start."
        )
    tail = float(std) ** -2
    return float(np.roots([1, 7, 16 - tail, 12 - tail]).real.max())


def power_function_beta(std: float, step: Number | Int[Array, ""]) -> Float[Array, ""]:
    r"""The share of the old average in the one after `step` steps.

    $$\beta = (1 - 1/step)^{\gamma + 1}$$

    At step 1 it is 0: the average starts from the first parameters that were trained.

    Args:
        std: Relative width of the average.
        step: Number of updates including the one that has just been made, from 1.

    Source: Karras et al. 2024 (EDM2, 2312.02696), power-function EMA.

    Example:
        >>> [round(float(power_function_beta(0.1, step)), 3) for step in (1, 2, 100)]
        [0.0, 0.004, 0.923]
    """
    return (1 - 1 / as_float(step)) ** (std_to_exp(std) + 1)


def update_average(average: PyTree, params: PyTree, beta: Number) -> PyTree:
    r"""$\beta\,average + (1 - \beta)\,params$, leaf by leaf.

    Args:
        average: The old average.
        params: The new parameters.
        beta: The share of the old.

    Example:
        >>> update_average({"w": as_float(0)}, {"w": as_float(1)}, 0.75)
        {'w': Array(0.25, dtype=float32)}
    """
    share = 1 - as_float(beta)
    return jax.tree.map(lambda a, p: a + share * (p - a), average, params)
