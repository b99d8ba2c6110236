r"""The divergence of a score, $\nabla\!\cdot s$: exactly, or by random directions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.types import (
    PRNGKey,
    ScoreFn,
    Sigma,
    inner,
    pytree,
    set_fields,
    static,
    whole,
)


def divergence(
    score: ScoreFn, x: Float[Array, "b *d"], sigma: Sigma
) -> Float[Array, " b"]:
    r"""$\nabla\!\cdot s(x, \sigma)$, exactly: one derivative for every dimension.

    Args:
        score: The score.
        x: `[b, *d]`.
        sigma: Noise level.

    Returns:
        `[b]`.

    Example:
        >>> from compjax.densities import Gaussian
        >>> divergence(Gaussian(jnp.zeros(3), jnp.eye(3)), jnp.ones((1, 3)), 0.0)
        Array([-3.], dtype=float32)
    """
    D = x[0].size
    basis = jnp.eye(D, dtype=x.dtype).reshape(D, 1, *x.shape[1:])
    return slopes(score, x, sigma, basis).sum(0)


def divergence_estimate(
    key: PRNGKey,
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    probes: int = 1,
) -> Float[Array, " b"]:
    r"""Hutchinson's unbiased estimate of the divergence, by random signs.

    Its variance is $\frac{2}{n} \sum_{i \ne j} A_{ij}^2$ for n probes, A the symmetric
    part of the Jacobian.

    Args:
        key: A typed PRNG key.
        score: The score.
        x: `[b, *d]`.
        sigma: Noise level.
        probes: How many random directions are averaged.

    Returns:
        `[b]`.

    Source: Hutchinson 1989; Grathwohl et al. 2019 (1810.01367).

    Example:
        >>> from compjax.densities import Gaussian
        >>> p = Gaussian(jnp.zeros(3), jnp.eye(3))  # diagonal: no variance
        >>> divergence_estimate(jax.random.key(0), p, jnp.ones((1, 3)), 0.0)
        Array([-3.], dtype=float32)
    """
    signs = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
    return slopes(score, x, sigma, signs).mean(0)


def slopes(
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    directions: Float[Array, "n _ *d"],
) -> Float[Array, "n b"]:
    r"""$v^\top \nabla s\,v$ along directions, one after the other.

    Args:
        score: The score.
        x: `[b, *d]`.
        sigma: Noise level.
        directions: $v$, `[n, b or 1, *d]`.

    Returns:
        `[n, b]`.

    Example:
        >>> from compjax.densities import Gaussian
        >>> p, x = Gaussian(jnp.zeros(3), jnp.eye(3)), jnp.ones((1, 3))
        >>> slopes(p, x, 0.0, 2 * jnp.ones((1, 1, 3)))
        Array([[-12.]], dtype=float32)
    """

    def one(direction: Array) -> Array:
        direction = jnp.broadcast_to(direction, x.shape)
        _, along = jax.jvp(lambda x: score(x, sigma), (x,), (direction,))
        return inner(along, direction)

    return jax.lax.map(one, directions)


@pytree
class ExactTrace:
    """`divergence`, where a sampler asks for one with a key.

    Example:
        >>> from compjax.densities import Gaussian
        >>> p, x = Gaussian(jnp.zeros(3), jnp.eye(3)), jnp.ones((1, 3))
        >>> ExactTrace()(jax.random.key(0), p, x, 0.0)
        Array([-3.], dtype=float32)
    """

    def __call__(self, key: PRNGKey, score: Any, x: Array, sigma: Sigma) -> Array:
        del key
        return divergence(score, x, sigma)


@pytree
class HutchinsonTrace:
    """`divergence_estimate` with some probes.

    Args:
        probes: How many random directions are averaged.

    Raises:
        ValueError: If there is none.

    Example:
        >>> from compjax.densities import Gaussian
        >>> p, x = Gaussian(jnp.zeros(3), jnp.eye(3)), jnp.ones((1, 3))
        >>> HutchinsonTrace(2)(jax.random.key(0), p, x, 0.0)
        Array([-3.], dtype=float32)
    """

    probes: int = static(default=1)

    def __post_init__(self) -> None:
        set_fields(self, probes=whole("probes", self.probes))

    def __call__(self, key: PRNGKey, score: Any, x: Array, sigma: Sigma) -> Array:
        return divergence_estimate(key, score, x, sigma, self.probes)
