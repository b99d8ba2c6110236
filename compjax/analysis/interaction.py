"""Do conditions act independently of each other?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.types import Condition, ConditionalScore, Sigma


class Estimate(NamedTuple):
    """A number and its standard error, or arrays of them.

    Args:
        mean: The estimate.
        error: Its standard error.
    """

    mean: Any
    error: Any


def interaction(
    score: ConditionalScore,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    neither: Condition,
    first: Condition,
    second: Condition,
    both: Condition,
) -> Estimate:
    r"""How far two conditions are from acting independently: a second difference.

    $$\frac{\lVert s_{ij} - s_i - s_j + s_{\emptyset} \rVert}
           {\lVert s_i - s_{\emptyset} \rVert + \lVert s_j - s_{\emptyset} \rVert}$$

    with root mean squares over samples.  It is 0 for a conditional projective
    composition, and the same for s, D and $\epsilon$.

    Args:
        score: A conditional score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        neither: $\emptyset$, leaves `[b or 1, ...]`.
        first: $c_i$.
        second: $c_j$.
        both: $c_i$ and $c_j$.

    Returns:
        The ratio, with an error over samples.

    Source: Ours.

    Example:
        >>> from compjax.scores import as_score
        >>> score = as_score(lambda x, sigma, c: c - x)
        >>> at = lambda *c: jnp.array([c])
        >>> found = interaction(score, jnp.ones((2, 2)), 1.0, at(0.0, 0.0),
        ...     at(1.0, 0.0), at(0.0, 1.0), at(1.0, 1.0))
        >>> float(found.mean)
        0.0
    """
    none, i, j, ij = (score(x, sigma, c) for c in (neither, first, second, both))
    axes = tuple(range(1, ij.ndim))
    defect, one, other = (
        np.asarray((a**2).sum(axes), float)
        for a in (ij - i - j + none, i - none, j - none)
    )
    rms = lambda a: np.sqrt(a.mean(-1))
    ratio = lambda d, a, b: rms(d) / (rms(a) + rms(b))
    n = len(defect)
    others = ~np.eye(n, dtype=bool)
    without = lambda a: np.broadcast_to(a, (n, n))[others].reshape(n, n - 1)
    error = np.nan
    if n > 1:  # the jackknife's
        again = ratio(without(defect), without(one), without(other))
        error = np.sqrt((n - 1) * again.var())
    return Estimate(ratio(defect, one, other), error)


def delta_cosines(
    score: ConditionalScore,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    background: Condition,
    conditions: Sequence[Condition],
) -> Float[Array, "b k k"]:
    r"""Cosines of $\delta_i(x) = s(x \mid c_i) - s(x \mid \emptyset)$, pointwise.

    Zero for conditions with disjoint masks, in pixels or in any orthogonal features.

    Args:
        score: A conditional score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        background: $\emptyset$, leaves `[b or 1, ...]`.
        conditions: k of them.

    Returns:
        `[b, k, k]`; 0 beside a condition that changes nothing.

    Raises:
        ValueError: If there is no condition.

    Source: Bradley et al. 2025, lemma 8.1, for scores.

    Example:
        >>> from compjax.scores import as_score
        >>> score = as_score(lambda x, sigma, c: c - x)
        >>> none, *both = jnp.zeros((1, 2)), jnp.array([[1.0, 0.0]]), jnp.ones((1, 2))
        >>> delta_cosines(score, jnp.ones((1, 2)), 1.0, none, both)[0].round(3)
        Array([[1.   , 0.707],
               [0.707, 1.   ]], dtype=float32)
    """
    if not len(conditions):
        raise ValueError("Give at least one condition.")
    base = score(x, sigma, background)
    deltas = jnp.stack([score(x, sigma, c) - base for c in conditions], axis=1)
    deltas = deltas.reshape(*deltas.shape[:2], -1)
    length = jnp.linalg.norm(deltas, axis=-1, keepdims=True)
    unit = jnp.where(length > 0, deltas / jnp.where(length > 0, length, 1.0), 0.0)
    return unit @ unit.swapaxes(1, 2)
