"""`compose_conditions`: k conditions of one model, in one call of its network."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.compose.weighted import (
    anchored_coefficients,
    as_weights,
    check_space,
    contract,
    show_weights,
)
from compjax.scores import check_score, condition
from compjax.types import Condition, ConditionalScore, ScoreFn, Sigma, pytree, static


@pytree
class ConditionSum:
    r"""$s_b + \sum_i w_i\,(s(\cdot\,|\,c_i) - s_b)$ over one conditional score.

    The batched twin of an anchored `WeightedSum`: the same `parts`, `coefficients` and
    `log_density`, but the conditions are evaluated together.

    Args:
        score: The conditional score.
        background: A score function; None if the first condition is the background.
        conditions: Every leaf `[n, b or 1, ...]`.
        weights: What `as_weights` returns.
        chunk: How many conditions to evaluate at a time; None for all.
        sharding: Of the network's batch; None leaves the samples where they are.
    """

    score: Any
    background: Any
    conditions: Condition
    weights: Any
    chunk: int | None = static()
    sharding: jax.sharding.Sharding | None = static()

    def coefficients(self, sigma: Sigma) -> Array:
        """The coefficients of background and conditions, `[k + 1]` or `[k + 1, b]`."""
        return anchored_coefficients(self.weights, sigma, True)

    def parts(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "k b *d"]:
        """The scores before they are summed, `[k + 1, b, *d]`, the background first."""
        parts = self._evaluate(self.score, x, sigma)
        check_space("The conditional score", parts.shape[1:], x)
        if self.background is None:
            return parts
        background = self.background(x, sigma)
        check_space("The background", background.shape, x)
        return jnp.concatenate([background[None], parts])

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return contract(self.coefficients(sigma), self.parts(x, sigma))

    @property
    def log_density(self) -> Any:
        """`sum_i c_i log p_i`, present when the conditional score has it."""
        log = self.score.log_density
        background = None if self.background is None else self.background.log_density

        def log_density(x: Array, sigma: Sigma) -> Array:
            logs = self._evaluate(log, x, sigma)
            if background is not None:
                logs = jnp.concatenate([background(x, sigma)[None], logs])
            return contract(self.coefficients(sigma), logs)

        return log_density

    def _evaluate(self, fn: Any, x: Array, sigma: Sigma) -> Array:
        """`fn(x, sigma, c)` for every condition: `[n, b, ...]`."""
        n = _stacked(self.conditions, "conditions")
        together = partial(_evaluate_together, fn, x, sigma, sharding=self.sharding)
        if self.chunk is None or n <= self.chunk:
            return together(self.conditions)
        full = n - n % self.chunk
        groups = jax.tree.map(
            lambda c: c[:full].reshape((-1, self.chunk) + c.shape[1:]), self.conditions
        )
        values = jax.lax.map(together, groups)
        values = values.reshape((full,) + values.shape[2:])
        if full == n:
            return values
        rest = jax.tree.map(lambda c: c[full:], self.conditions)
        return jnp.concatenate([values, together(rest)])

    def __repr__(self) -> str:
        n = _stacked(self.conditions, "conditions")
        first = "background=condition 0" if self.background is None else self.background
        return (
            f"compose_conditions({self.score!r}, {first}, {n} stacked conditions, "
            f"weights={show_weights(self.weights)})"
        )


def _evaluate_together(
    fn: Any,
    x: Array,
    sigma: Sigma,
    conditions: Condition,
    sharding: jax.sharding.Sharding | None,
) -> Array:
    """One call for all pairs `[n, b]` of a condition and a sample, merged to one batch.

    The copies of a sample are neighbours, which lets a batch that is split over devices
    stay where it is.  With a sharding the samples of a condition are, which lets
    conditions that are split along n stay.
    """
    b, n = x.shape[0], _stacked(conditions, "conditions")
    if sharding is not None:
        _check_split(n, b, sharding)

    def merge(a: Array) -> Array:
        if a.shape[1] not in (1, b):
            raise ValueError(
                f"A condition leaf of shape {a.shape} does not fit a batch of {b}: "
                "leaves are [k, b or 1, ...]."
            )
        pairs = jnp.broadcast_to(a, (n, b) + a.shape[2:])
        if sharding is None:
            return pairs.swapaxes(0, 1).reshape((b * n,) + a.shape[2:])
        pairs = pairs.reshape((n * b,) + a.shape[2:])
        return jax.lax.with_sharding_constraint(pairs, sharding)

    levels = sigma if jnp.ndim(sigma) == 0 else merge(jnp.asarray(sigma)[None])
    values = fn(merge(x[None]), levels, jax.tree.map(merge, conditions))
    if sharding is None:
        return values.reshape((b, n) + values.shape[1:]).swapaxes(0, 1)
    return values.reshape((n, b) + values.shape[1:])


def _check_split(n: int, b: int, sharding: jax.sharding.Sharding) -> None:
    try:
        sharding.shard_shape((n * b,))
    except ValueError as error:
        raise ValueError(
            f"{n} conditions of {b} samples do not split as {sharding}: give k, or "
            "chunk, such that every call has a multiple of the number of parts."
        ) from error


def _stacked(conditions: Condition, name: str) -> int:
    """The common leading axis of all leaves."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(conditions)]
    if len({shape[:1] for shape in shapes}) != 1 or min(map(len, shapes)) < 2:
        raise ValueError(
            f"Every leaf of the {name} must be [k, b or 1, ...] with one k; got shapes "
            f"{shapes}.  A batch axis is added by c[:, None]."
        )
    return shapes[0][0]


def compose_conditions(
    score: ConditionalScore,
    background: Condition | ScoreFn,
    conditions: Condition,
    weights: Any = None,
    *,
    chunk: int | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> ConditionSum:
    r"""The composition of k conditions of one model, in one network call.

    $$s_b + \sum_i w_i\,(s(x, \sigma\,|\,c_i) - s_b)$$

    Equal to `compose` of the bound scores, but the network sees one batch of
    `(k + 1) * b`.  Conditions of weight zero cost time and change nothing, so one
    compiled program serves every number of conditions up to k.

    A batch that is split over devices stays so.  Where k is large and the batch small,
    `sharding` splits the pairs of a condition and a sample instead, condition by
    condition: every device evaluates its share of the conditions, and conditions that
    are split alike along k stay where they are.  The background is then a call of its
    own.

    Args:
        score: A conditional score `(x, sigma, condition) -> [b, *d]`.
        background: A condition, whose leaves `[b or 1, ...]` join the batch, or a score
            function, which costs one more call.
        conditions: k stacked conditions, every leaf `[k, b or 1, ...]`.
        weights: k numbers or functions of sigma, or an array `[k]` or `[k, b]` (each
            sample its own weights); ones if None.
        chunk: Evaluate at most so many conditions at a time, when memory is short.
        sharding: A `jax.sharding.Sharding` for the axis `[k * b]` of the network's
            batch, such as `over_batch(mesh)`; None leaves the samples where they are.

    Returns:
        A score function with `parts` and `coefficients`.

    Raises:
        ValueError: If shapes do not fit, or there are not k weights, or `chunk < 1`;
            when it is called, if conditions times samples do not split.

    Source: Bradley et al. 2025, definition 5.1.

    Example:
        >>> from compjax.scores import as_score
        >>> shifted = as_score(lambda x, sigma, c: -(x - c) / (1 + sigma**2))
        >>> both = compose_conditions(shifted, jnp.zeros((1, 2)), jnp.eye(2)[:, None])
        >>> both(jnp.ones((1, 2)), 0.0)
        Array([[0., 0.]], dtype=float32)
    """
    check_score(score, "the conditional score")
    conditions = jax.tree.map(jnp.asarray, conditions)
    k = _stacked(conditions, "conditions")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}.")
    weights = as_weights(weights, k)
    if not callable(background):
        if sharding is None:
            conditions = _led_by(background, conditions)
            return ConditionSum(score, None, conditions, weights, chunk, None)
        # As one of the conditions it would shift the others between devices.
        jax.eval_shape(_led_by, background, conditions)
        background = condition(score, background)
    check_score(background, "the background")
    return ConditionSum(score, background, conditions, weights, chunk, sharding)


def _led_by(background: Condition, conditions: Condition) -> Condition:
    """The stacked conditions with the background before them."""
    try:
        return jax.tree.map(_prepend, background, conditions)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "The background condition must have the structure and shapes of one "
            f"stacked condition: {error}"
        ) from error


def _prepend(first: Any, rest: Any) -> Array:
    """`[n, b, ...]` led by `[b, ...]`, where either b may be 1."""
    first, rest = jnp.asarray(first)[None], jnp.asarray(rest)
    if first.shape[2:] != rest.shape[2:]:
        raise ValueError(f"{first.shape[1:]} against {rest.shape[1:]}")
    batch = jnp.broadcast_shapes(first.shape[1:2], rest.shape[1:2])
    shapes = [a.shape[:1] + batch + a.shape[2:] for a in (first, rest)]
    return jnp.concatenate(
        [jnp.broadcast_to(a, s) for a, s in zip((first, rest), shapes, strict=True)]
    )
