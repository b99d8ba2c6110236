"""`compose_conditions`: k conditions of one model, in one call of its network."""

from __future__ import annotations

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
        place: How the conditions are split over devices; None if they are not.
    """

    score: Any
    background: Any
    conditions: Condition
    weights: Any
    chunk: int | None = static()
    place: jax.NamedSharding | None = static()

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
        if self.chunk is None or n <= self.chunk:
            return self._together(fn, x, sigma, self.conditions)
        full = n - n % self.chunk
        groups = jax.tree.map(
            lambda c: c[:full].reshape((-1, self.chunk) + c.shape[1:]), self.conditions
        )
        values = jax.lax.map(lambda c: self._together(fn, x, sigma, c), groups)
        values = values.reshape((full,) + values.shape[2:])
        if full == n:
            return values
        rest = jax.tree.map(lambda c: c[full:], self.conditions)
        return jnp.concatenate([values, self._together(fn, x, sigma, rest)])

    def _together(self, fn: Any, x: Array, sigma: Sigma, some: Condition) -> Array:
        if self.place is None:
            return _evaluate_together(fn, x, sigma, some)
        return _evaluate_apart(fn, x, sigma, some, self.place)

    def __repr__(self) -> str:
        n = _stacked(self.conditions, "conditions")
        first = "background=condition 0" if self.background is None else self.background
        return (
            f"compose_conditions({self.score!r}, {first}, {n} stacked conditions, "
            f"weights={show_weights(self.weights)})"
        )


def _evaluate_together(fn: Any, x: Array, sigma: Sigma, conditions: Condition) -> Array:
    """One call on a batch of `b * n`, in which the n copies of a sample are neighbours.

    That order lets a batch that is sharded over devices stay where it is.
    """
    b, n = x.shape[0], _stacked(conditions, "conditions")

    def flatten(c: Array) -> Array:
        c = jnp.moveaxis(_for_each_sample(c, b), 0, 1)
        return c.reshape((b * n,) + c.shape[2:])

    repeated = jnp.repeat(x, n, axis=0)
    levels = sigma if jnp.ndim(sigma) == 0 else jnp.repeat(jnp.asarray(sigma), n)
    values = fn(repeated, levels, jax.tree.map(flatten, conditions))
    return jnp.moveaxis(values.reshape((b, n) + values.shape[1:]), 1, 0)


def _evaluate_apart(
    fn: Any,
    x: Array,
    sigma: Sigma,
    conditions: Condition,
    place: jax.NamedSharding,
) -> Array:
    """One call on a batch of `n * b`; the samples of a condition are neighbours.

    That order lets conditions that are sharded over devices stay where they are; every
    device sees all samples.
    """
    b, n = x.shape[0], _stacked(conditions, "conditions")

    def split(a: Array) -> Array:
        return jax.lax.with_sharding_constraint(a, place)

    def flatten(c: Array) -> Array:
        c = _for_each_sample(c, b)
        return split(c.reshape((n * b,) + c.shape[2:]))

    def repeat(a: Array) -> Array:
        return split(jnp.tile(a, (n,) + (1,) * (a.ndim - 1)))

    levels = sigma if jnp.ndim(sigma) == 0 else repeat(jnp.asarray(sigma))
    values = split(fn(repeat(x), levels, jax.tree.map(flatten, conditions)))
    return values.reshape((n, b) + values.shape[1:])


def _for_each_sample(c: Array, b: int) -> Array:
    """Stacked conditions `[n, b or 1, ...]` as `[n, b, ...]`."""
    if c.shape[1] not in (1, b):
        raise ValueError(
            f"A condition leaf of shape {c.shape} does not fit a batch of {b}: "
            "leaves are [k, b or 1, ...]."
        )
    return jnp.broadcast_to(c, (c.shape[0], b) + c.shape[2:])


def _place(conditions: Condition) -> jax.NamedSharding | None:
    """How concrete conditions are split over devices along k; None if they are not."""
    # A tracer does not tell: inside jit the batch stays where it is.
    found = getattr(jax.tree.leaves(conditions)[0], "sharding", None)
    if not isinstance(found, jax.NamedSharding) or found.is_fully_replicated:
        return None
    if not found.spec[0]:
        return None
    return jax.NamedSharding(found.mesh, jax.P(found.spec[0]))


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
) -> ConditionSum:
    r"""The composition of k conditions of one model, in one network call.

    $$s_b + \sum_i w_i\,(s(x, \sigma\,|\,c_i) - s_b)$$

    Equal to `compose` of the bound scores, but the network sees one batch of
    `(k + 1) * b`.  Conditions of weight zero cost time and change nothing, so one
    compiled program serves every number of conditions up to k.

    A batch that is sharded over devices stays sharded.  So do conditions that are
    sharded along k, which is the thing to do where k is large and the batch small: each
    device evaluates its conditions for all samples, and a background condition costs
    one more call.

    Args:
        score: A conditional score `(x, sigma, condition) -> [b, *d]`.
        background: A condition, whose leaves `[b or 1, ...]` join the batch, or a score
            function, which costs one more call.
        conditions: k stacked conditions, every leaf `[k, b or 1, ...]`.
        weights: k numbers or functions of sigma, or an array `[k]` or `[k, b]` (each
            sample its own weights); ones if None.
        chunk: Evaluate at most so many conditions at a time, when memory is short.

    Returns:
        A score function with `parts` and `coefficients`.

    Raises:
        ValueError: If shapes do not fit, or there are not k weights, or `chunk < 1`.

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
    place = _place(conditions)
    if place is not None:
        if chunk is not None and chunk % (k // place.shard_shape((k,))[0]):
            raise ValueError(
                f"chunk = {chunk} does not split over the devices of the conditions: "
                "give a multiple of their number, or None."
            )
        if not callable(background):
            background = condition(score, background)
    if callable(background):
        check_score(background, "the background")
        return ConditionSum(score, background, conditions, weights, chunk, place)
    try:
        conditions = jax.tree.map(_prepend, background, conditions)
    except (ValueError, TypeError) as error:
        raise ValueError(
            "The background condition must have the structure and shapes of one "
            f"stacked condition: {error}"
        ) from error
    return ConditionSum(score, None, conditions, weights, chunk, None)


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
