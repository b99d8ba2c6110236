"""Softmax averages over a data set that is read a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from compjax.types import Sigma, align

FLOOR = 1e-20
"""The least variance of noise, that of sigma = 1e-10: softmax there is the nearest."""


def over_chunks(
    step: Callable[[Any, Any, Array], Any], state: Any, items: Any, chunk: int
) -> Any:
    """The state after `step(state, part, fresh)` for all chunks of a data set, in turn.

    The last chunk reaches back over items that were seen where the number of items is
    no multiple of `chunk`; `fresh` is False for those.  Nothing is copied but one
    chunk, and a gradient computes every chunk again instead of keeping it.

    Args:
        step: `(state, part, fresh [chunk]) -> state`.
        state: What it starts from.
        items: A pytree, every leaf `[N, ...]`.
        chunk: How many items to take at a time.

    Example:
        >>> def add(total, part, fresh):
        ...     return total + jnp.where(fresh, part, 0.0).sum()
        >>> over_chunks(add, jnp.zeros(()), jnp.arange(5.0), 2)
        Array(10., dtype=float32)
    """
    n = len(jax.tree.leaves(items)[0])
    chunk = min(chunk, n)

    def body(state: Any, begin: Array) -> tuple[Any, None]:
        first = jnp.minimum(begin, n - chunk)
        take = lambda a: jax.lax.dynamic_slice_in_dim(a, first, chunk)
        fresh = first + jnp.arange(chunk) >= begin
        return step(state, jax.tree.map(take, items), fresh), None

    body = jax.checkpoint(body, prevent_cse=False)
    return jax.lax.scan(body, state, jnp.arange(0, n, chunk))[0]


def log_weights(
    distances: Float[Array, "b n *k"], sigma: Sigma, allowed: Bool[Array, "n *#k"]
) -> Float[Array, "b n *k"]:
    r"""$-d / 2\sigma^2$, the log-likelihood of every item up to a number they share.

    At $\sigma = 0$ the variance is 1e-20, so that the nearest item takes all.

    Args:
        distances: d, squared, `[b, n, *k]`.
        sigma: Noise level.
        allowed: Items that count, `[n, *k]` or what broadcasts; others get $-\infty$.

    Example:
        >>> log_weights(jnp.array([[2.0, 8.0]]), 1.0, jnp.array([True, False]))
        Array([[ -1., -inf]], dtype=float32)
    """
    variance = jnp.maximum(align(sigma, distances) ** 2, FLOOR)
    return jnp.where(allowed[None], -distances / (2 * variance), -jnp.inf)


class Running(NamedTuple):
    """A softmax average of what was seen so far: the state of `include`.

    Fields are the largest log-weight `[b, *k]`, the sum of weights in units of that one
    `[b, *k]`, and the weighted sum of values in the same units `[b, *k, c]`.
    """

    peak: Array
    total: Array
    weighted: Array

    def mean(self) -> Array:
        """The average, `[b, *k, c]`."""
        return self.weighted / self.total[..., None]


def nothing_yet(shape: tuple[int, ...]) -> Running:
    """The average of no items: values have the shape `[b, *k, c]`.

    Example:
        >>> nothing_yet((1, 3)).peak
        Array([-inf], dtype=float32)
    """
    return Running(
        jnp.full(shape[:-1], -jnp.inf), jnp.zeros(shape[:-1]), jnp.zeros(shape)
    )


def include(
    running: Running, logs: Float[Array, "b n *k"], values: Float[Array, "n *k c"]
) -> Running:
    r"""The softmax average with n more items.

    With $m' = \max(m, \max_i l_i)$: the old sums are multiplied by $e^{m - m'}$, and
    the items enter with $e^{l_i - m'}$, which is at most 1.

    Args:
        running: The average so far.  The first items must leave no entry without a
            finite log-weight.
        logs: l, `[b, n, *k]`.
        values: `[n, *k, c]`.

    Example:
        >>> average = nothing_yet((1, 1))
        >>> for value in (0.0, 4.0):
        ...     average = include(average, jnp.zeros((1, 1)), jnp.array([[value]]))
        >>> average.mean()
        Array([[2.]], dtype=float32)
    """
    # The average does not depend on the peak, so neither does its gradient.
    peak = jnp.maximum(running.peak, logs.max(1))
    peak = jax.lax.stop_gradient(peak)
    kept, weights = jnp.exp(running.peak - peak), jnp.exp(logs - peak[:, None])
    return Running(
        peak,
        kept * running.total + weights.sum(1),
        kept[..., None] * running.weighted + weighted_sum(weights, values),
    )


def weighted_sum(
    weights: Float[Array, "b n *k"], values: Float[Array, "n *k c"]
) -> Float[Array, "b *k c"]:
    """The sum over n of weights times values, in full precision on every device.

    Example:
        >>> weighted_sum(jnp.ones((1, 2)), jnp.array([[1.0], [2.0]]))
        Array([[3.]], dtype=float32)
    """
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("bn...,n...c->b...c", weights, values, precision=highest)
