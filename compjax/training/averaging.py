r"""Averages of the parameters over training, which is what one samples with.

An average after t updates is
$\bar w_t = \bar w_{t-1} + s_t\,(w_t - \bar w_{t-1})$; the shares $s_t$ are the whole
difference between one kind of average and another.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from compjax.types import Number, as_float


@runtime_checkable
class Average(Protocol):
    """An average of the parameters that is updated after every step.

    `share(step)` is the share of the new parameters in the average after update number
    `step`, counted from 1; it may depend on nothing else.  Hashable by value.
    """

    def share(self, step: Number | Int[Array, ""]) -> Float[Array, ""]: ...


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class PowerFunction:
    r"""EDM2's average: the parameters at step t count in proportion to $t^\gamma$.

    $$s_t = 1 - (1 - 1/t)^{\gamma + 1}$$

    The first average is the first parameters that were trained.

    Args:
        std: Width of the profile relative to the length of training, which determines
            $\gamma$ by `std_to_exp`; 0.05 to 0.2 are usual.

    Raises:
        ValueError: If `std` is out of range.

    Source: Karras et al. 2024 (EDM2, 2312.02696), section 3.1.

    Example:
        >>> [round(float(PowerFunction(0.1).share(step)), 3) for step in (1, 2, 100)]
        [1.0, 0.996, 0.077]
    """

    std: float

    def __post_init__(self) -> None:
        std_to_exp(self.std)  # raises now rather than at the first step

    def share(self, step: Number | Int[Array, ""]) -> Float[Array, ""]:
        """The share of the parameters after update number `step`, from 1."""
        # 1 - (1 - 1/t)^p without the cancellation, which leaves few digits at large t.
        return -jnp.expm1((std_to_exp(self.std) + 1) * jnp.log1p(-1 / as_float(step)))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LastUpdates:
    r"""The plain mean of the parameters after updates until - count + 1, ..., until.

    $$s_t = 1 / \max(1, t - (until - count)),$$

    so that it follows the parameters up to there; beyond `until` it stays as it is.

    Args:
        count: Number of updates in the mean; Bradley et al. take the last 4096.
        until: The update that is the last one in the mean: the end of training.

    Raises:
        ValueError: Unless 1 <= count <= until.

    Source: Bradley et al. 2025 (2502.04549): how their networks are averaged.

    Example:
        >>> [float(LastUpdates(2, until=4).share(step)) for step in (1, 3, 4, 5)]
        [1.0, 1.0, 0.5, 0.0]
    """

    count: int
    until: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.until:
            raise ValueError(
                f"The mean of the last {self.count} updates until update {self.until} "
                "does not exist; take 1 <= count <= until."
            )

    def share(self, step: Number | Int[Array, ""]) -> Float[Array, ""]:
        """The share of the parameters after update number `step`, from 1."""
        number = jnp.asarray(step) - (self.until - self.count)
        inside = number <= self.count
        return jnp.where(inside, 1 / as_float(jnp.maximum(number, 1)), 0.0)


def which_average(averages: Sequence[Average], step: int) -> int:
    """Which of several averages to sample with: the first that averages anything.

    `LastUpdates` is the parameters themselves until its mean begins.

    Args:
        averages: In order of preference.
        step: Number of updates made.

    Returns:
        Its index; 0 if none of them averages yet.

    Example:
        >>> averages = (LastUpdates(10, until=100), PowerFunction(0.1))
        >>> which_average(averages, 50), which_average(averages, 95)
        (1, 0)
    """
    started = (i for i, one in enumerate(averages) if float(one.share(step)) < 1)
    return next(started, 0)


def update_average(average: PyTree, params: PyTree, share: Number) -> PyTree:
    r"""$(1 - share)\,average + share\,params$, leaf by leaf.

    Args:
        average: The old average.
        params: The new parameters.
        share: The share of the new; 0 and 1 return the old and the new exactly.

    Example:
        >>> update_average({"w": as_float(0)}, {"w": as_float(1)}, 0.25)
        {'w': Array(0.25, dtype=float32)}
    """
    share = as_float(share)

    def mix(old: Any, new: Any) -> Array:
        # In floating point each form is exact at the end from which it starts.
        change = new - old
        return jnp.where(share < 0.5, old + share * change, new - (1 - share) * change)

    return jax.tree.map(mix, average, params)


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
