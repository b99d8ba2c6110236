"""Softmax averages over a data set that is read a chunk at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from compjax.types import Sigma, align, as_float

FLOOR = 1e-18
"""The least variance of noise, that of sigma = 1e-9: softmax there is the nearest."""

ROUNDING = 2.0**-18
"""What sums of squares in float32 may be off, relatively."""


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

    At $\sigma = 0$ the variance is 1e-18, so that the nearest item takes all.

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

    Fields are the reference `[b, *k]`, a log-weight, and the sums `[b, *k, c + 1]` of
    values and, in the last channel, of weights, in units of e to the reference.
    """

    reference: Array
    sums: Array

    def mean(self) -> Array:
        """The average, `[b, *k, c]`."""
        return self.sums[..., :-1] / self.sums[..., -1:]

    def log_total(self) -> Array:
        """The logarithm of the sum of weights, `[b, *k]`."""
        return self.reference + jnp.log(self.sums[..., -1])


def nothing_yet(shape: tuple[int, ...]) -> Running:
    """The average of no items: values have the shape `[b, *k, c]`.

    Example:
        >>> nothing_yet((1, 3)).reference
        Array([-inf], dtype=float32)
    """
    *batch, c = shape
    return Running(jnp.full(batch, as_float(-jnp.inf)), jnp.zeros((*batch, c + 1)))


def include(
    running: Running, logs: Float[Array, "b n *k"], values: Float[Array, "n *k c"]
) -> Running:
    r"""The softmax average with n more items.

    With $m' = \max(m, \max_i l_i)$: the old sums are multiplied by $e^{m - m'}$, and
    the items enter with $e^{l_i - m'}$.  Values and weights are added up in one
    product, so that rounding of large l never leaves a mean outside the values.

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
    reference = jnp.maximum(running.reference, _reference(logs))
    kept = jnp.exp(running.reference - reference)
    ones = jnp.ones((*values.shape[:-1], 1), values.dtype)
    values = jnp.concatenate([values, ones], axis=-1)
    more = weighted_sum(relative_weights(logs, reference), values)
    return Running(reference, kept[..., None] * running.sums + more)


def _reference(logs: Array) -> Array:
    """A little below the largest log-weight, `[b, *k]`.

    A compiler may compute `logs` twice, and round differently: the largest one could
    then lie far below what was found to be the largest, and all weights vanish.
    """
    # The average does not depend on the reference, so neither does its gradient.
    peak = jax.lax.stop_gradient(logs.max(1))
    return peak - ROUNDING * jnp.abs(peak)


def relative_weights(
    logs: Float[Array, "b n *k"], reference: Float[Array, "b *k"]
) -> Float[Array, "b n *k"]:
    """The weights in units of e to the reference; at most e^60, so that they add up.

    Only log-weights beyond 10^7 come near that: items that float32 cannot tell apart.

    Example:
        >>> relative_weights(jnp.zeros((1, 1)), jnp.zeros(1))
        Array([[1.]], dtype=float32)
    """
    return jnp.exp(jnp.minimum(logs - reference[:, None], 60.0))


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
