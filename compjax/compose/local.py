r"""`localize`: what is left of a score when each output sees only its window.

A score is *local* where output i depends on few inputs $N_i$ and few conditions $L_i$
(Bradley 2025).  `localize` makes any score local, by withholding the rest from it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.scores import as_score, check_score
from compjax.types import (
    Condition,
    Sigma,
    as_float,
    pytree,
    static,
    whole,
)
from compjax.windows import Reach, Windows


@pytree
class Localized:
    """A score of which each tile of outputs sees its window; see `localize`."""

    score: Any
    pixels: Windows
    conditions: Any
    image: Any
    told: Any
    chunk: int = static(default=1)

    def __call__(
        self, x: Float[Array, "b *d"], sigma: Sigma, condition: Condition = None
    ) -> Float[Array, "b *d"]:
        return self._evaluate(self.score, x, sigma, condition)

    @property
    def denoise(self) -> Any:
        """`E[x0 | what is seen]`, where the score has a denoiser."""
        fn = self.score.denoise
        return lambda x, sigma, condition=None: self._evaluate(fn, x, sigma, condition)

    def _evaluate(self, fn: Any, x: Array, sigma: Sigma, condition: Any) -> Array:
        _check_event(self.pixels.tiles.shape[1:], x)
        image = as_float(self.image(sigma) if callable(self.image) else self.image)
        image = jnp.broadcast_to(image, x.shape)
        if condition is None:
            given, known = (), None
        else:
            known = None if self.conditions is None else self._known(sigma, condition)
            given = (condition,)

        def of_tile(windows: tuple[Any, Any, Any]) -> Array:
            tile, seen, known = windows
            kept = given
            if known is not None:
                kept = (jax.tree.map(_keep, known, condition, self._told(condition)),)
            return tile[None] * fn(jnp.where(seen, x, image), sigma, *kept)

        tiles = self.pixels.tiles
        tiles = (tiles, _per_sample(self.pixels.reach, sigma), known)
        if self.chunk > 1:
            return jax.lax.map(of_tile, tiles, batch_size=self.chunk).sum(0)
        # Tiles are disjoint: the sum puts them side by side.
        add = lambda total, windows: (total + of_tile(windows), None)
        return jax.lax.scan(add, jnp.zeros_like(x), tiles)[0]

    def _known(self, sigma: Sigma, condition: Condition) -> Any:
        """Masks of the conditions, `[t, 1 or b, *e]`."""
        reaches = _like(condition, self.conditions, is_leaf=_is_reach)
        return jax.tree.map(
            lambda reach: _per_sample(reach, sigma), reaches, is_leaf=_is_reach
        )

    def _told(self, condition: Condition) -> Condition:
        return _like(condition, self.told)


def localize(
    score: Any,
    pixels: Windows,
    conditions: Any = None,
    fill: Any = (0.0, 0.0),
    *,
    chunk: int = 1,
) -> Localized:
    r"""The score of which each output sees only its window of pixels and conditions.

    $$s^{loc}_i(x \mid c) = s_i(x_{N_i}, \mathrm{fill} \mid c_{L_i}, \mathrm{fill})$$

    The Jacobian is zero outside of the windows, exactly: nothing from there enters.
    Applied to a trained model it is an intervention, which asks what the far pixels or
    conditions did; a model whose score is local already does not change.

    Args:
        score: A score, or a conditional score.
        pixels: `Windows` on the sample; with an infinite radius only conditions are
            withheld.
        conditions: A `Reach` on the condition, or a pytree of them in the structure of
            conditions; None to withhold none.
        fill: `(image, condition)`, what is put in place of what is not seen.  The image
            is a number, `[*d]`, or a function of sigma such as `Backdrop`; the
            condition is a number or a condition, such as `empty` or `null` ones.
        chunk: Tiles in one call of the score, which needs so much more memory.

    Returns:
        A conditional score if `score` is one, with `.denoise` if `score` has it.  It
        costs one evaluation a tile.

    Raises:
        ValueError: If the score is a plain function, tiles differ in number, `chunk` is
            not positive; when it is called, if samples do not fit the windows.

    Source: The intervention of Bradley 2025, experiment 3, on any score: ours.

    Example:
        >>> from compjax.scores import as_score
        >>> smooth = as_score(lambda x, sigma: x.mean(1, keepdims=True) - x)
        >>> halves = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
        >>> local = localize(smooth, Windows(halves, Reach(1 - halves)))
        >>> jax.jacobian(lambda x: local(x[None], 1.0)[0])(jnp.ones(4))[0]
        Array([-0.75,  0.25,  0.  ,  0.  ], dtype=float32)
    """
    check_score(score, "the score to localize")
    image, told = fill
    t = len(pixels.tiles)
    for reach in jax.tree.leaves(conditions, is_leaf=_is_reach):
        if not _is_reach(reach) or len(reach.distance) != t:
            raise ValueError(
                f"conditions must be a Reach of the {t} tiles, such as square_reach "
                f"returns, got {reach!r}."
            )
    image = as_score(image) if callable(image) else as_float(image)
    told = jax.tree.map(as_float, told)
    return Localized(score, pixels, conditions, image, told, whole("chunk", chunk))


def _is_reach(node: Any) -> bool:
    return isinstance(node, Reach)


def _like(condition: Condition, value: Any, **kwargs: Any) -> Any:
    """`value`, or a copy for each leaf of a condition where it is one for all."""
    if len(jax.tree.leaves(value, **kwargs)) > 1:
        return value
    (one,) = jax.tree.leaves(value, **kwargs)
    return jax.tree.map(lambda _: one, condition)


def _per_sample(reach: Reach, sigma: Sigma) -> Array:
    """`[t, 1 or b, *e]`, to go with batches."""
    seen = reach(sigma)
    return seen if seen.ndim > reach.distance.ndim else seen[:, None]


def _keep(known: Array, told: Array, other: Array) -> Array:
    told = jnp.asarray(told)
    return jnp.where(known, told, jnp.broadcast_to(other, told.shape))


def _check_event(event: tuple[int, ...], x: Array) -> None:
    if len(event) != x.ndim - 1 or any(
        e not in (1, n) for e, n in zip(event, x.shape[1:], strict=True)
    ):
        raise ValueError(f"x of shape {x.shape} does not fit windows on {event}.")
