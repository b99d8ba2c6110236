"""Weights of a composition: how fast they change along the reverse SDE."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float

from compjax.compose import Contrast, HarmonicMean, Pullback, Switch
from compjax.compose.weighted import contract
from compjax.types import inner


def weight_rate(
    coefficients: Float[Array, " k"] | Float[Array, "k b"],
    parts: Float[Array, "k b *d"],
) -> Float[Array, " b"]:
    r"""$g = \tfrac12(\lVert S \rVert^2 - \sum_i c_i \lVert s_i \rVert^2)$, `[b]`.

    Differences to the first part are taken before any square, as parts are large where
    their differences are small.  With coefficients that sum to one nothing else is
    left, and g is the criterion V of `analysis.criterion`.

    Args:
        coefficients: $c_i$.
        parts: $s_i$.

    Source: Ours (Theorem N); Skreta et al. 2025 (2503.02819), proposition 3.3.

    Example:
        >>> import jax.numpy as jnp
        >>> parts = jnp.array([[[1.0, 0.0]], [[1.0, 2.0]]])
        >>> weight_rate(jnp.ones(2), parts)  # (|(2, 2)|^2 - 1 - 5) / 2
        Array([1.], dtype=float32)
    """
    first, total = parts[0], coefficients.sum(0)
    shift, apart = differences(coefficients, parts)
    surplus = (total**2 - total) * inner(first, first)
    cross = 2 * (total - 1) * inner(first, shift)
    return (inner(shift, shift) - apart + surplus + cross) / 2


def scaled_weight_rate(
    coefficients: Float[Array, " k"] | Float[Array, "k b"],
    parts: Float[Array, "k b *d"],
    divergence: Float[Array, " b"],
) -> Float[Array, " b"]:
    r"""The rate of weights where the noise is scaled by $1/C = 1/\sum_i c_i$.

    $$g = \tfrac12\Bigl(\frac{\lVert S \rVert^2}{C} -
          \sum_i c_i \lVert s_i \rVert^2\Bigr)
          + \tfrac12\Bigl(\frac1C - 1\Bigr) \nabla\!\cdot S$$

    Where the noise is wide, every part is $N(0, \sigma^2)$, and g is the same for all.

    Args:
        coefficients: $c_i$.
        parts: $s_i$.
        divergence: $\nabla\!\cdot S$, `[b]`.

    Source: Ours (docs/math.md); for one part, Skreta et al. 2025, proposition 3.2.

    Example:
        >>> import jax.numpy as jnp
        >>> parts = -jnp.ones((2, 1, 3))  # two standard normals at (1, 1, 1)
        >>> scaled_weight_rate(jnp.ones(2), parts, jnp.array([-6.0]))
        Array([1.5], dtype=float32)
    """
    total = coefficients.sum(0)
    shift, apart = differences(coefficients, parts)
    spread = inner(shift, shift) / total - apart
    return (spread + (1 / total - 1) * divergence) / 2


def differences(
    coefficients: Float[Array, " k"] | Float[Array, "k b"],
    parts: Float[Array, "k b *d"],
) -> tuple[Float[Array, "b *d"], Float[Array, " b"]]:
    r"""$\sum_i c_i\,\delta_i$ and $\sum_i c_i \lVert \delta_i \rVert^2$, from part 1.

    Args:
        coefficients: $c_i$.
        parts: $s_i$, with $\delta_i = s_i - s_1$.

    Returns:
        `[b, *d]` and `[b]`.

    Example:
        >>> import jax.numpy as jnp
        >>> parts = jnp.array([[[1.0, 0.0]], [[1.0, 2.0]]])
        >>> [a.tolist() for a in differences(jnp.ones(2), parts)]
        [[[0.0, 2.0]], [4.0]]
    """
    deltas = parts - parts[:1]
    squares = (deltas**2).sum(tuple(range(2, parts.ndim)))
    return contract(coefficients, deltas), contract(coefficients, squares)


def is_composition(score: Any) -> bool:
    """Whether a score keeps its parts apart.

    Args:
        score: Any score.

    Example:
        >>> import jax.numpy as jnp
        >>> is_composition(jnp.tanh)
        False
    """
    return hasattr(score, "parts") and hasattr(score, "coefficients")


NOT_NOISED = (Contrast, HarmonicMean, Switch, Pullback)
"""Compositions of densities, along whose path no heat equation holds."""


def check_parts(composition: Any) -> None:
    """Raises a ValueError if a part is itself a composition.

    Weights need parts that obey the heat equation, as scores of noised densities do;
    those of sums, contrasts, harmonic means, switches and pullbacks do not.

    Args:
        composition: With parts.

    Example:
        >>> import compjax as cj, jax.numpy as jnp
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> check_parts(cj.compose(p, cj.power(p, 2.0)))
        Traceback (most recent call last):
        ...
        ValueError: product(...) is itself a composition, not the score of a noised ...
    """
    parts = (*getattr(composition, "scores", ()), getattr(composition, "score", None))
    for part in (*parts, getattr(composition, "background", None)):
        if is_composition(part) or isinstance(part, NOT_NOISED):
            raise ValueError(
                f"{part!r} is itself a composition, not the score of a noised density: "
                "compose its parts directly, with weights of their own."
            )
