r"""`localize`: what is left of a score when each output sees only its window.

A score is *local* where output i depends on few inputs $N_i$ and few conditions $L_i$
(Bradley 2025).  `localize` makes any score local, by withholding the rest from it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scores import as_score, check_score
from compjax.types import (
    Condition,
    Sigma,
    Weight,
    align,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
    whole,
)


@pytree
class Reach:
    r"""What every tile of outputs sees: the inputs within a radius of it.

    Args:
        distance: `[t, *e]`, of every input from every tile; infinite for what is never
            seen.  Axes of length 1 stand for all of their entries.
        radius: A number, or a function of sigma.

    Raises:
        ValueError: If a distance is negative, or the radius is.

    Example:
        >>> near = Reach(jnp.array([[0.0, 1.0, 2.0]]), radius=1.0)
        >>> near(0.5)
        Array([[ True,  True, False]], dtype=bool)
    """

    distance: Any
    radius: Weight = 0.0

    def __post_init__(self) -> None:
        radius = self.radius
        radius = as_score(radius) if callable(radius) else as_float(radius)
        set_fields(self, distance=as_float(self.distance), radius=radius)
        value = concrete(self.distance)
        if value is not None and not (value.ndim > 1 and (value >= 0).all()):
            raise ValueError(
                f"distance must be [t, *e] and nowhere negative, got {_show(value)}."
            )
        if not callable(radius) and (value := concrete(radius)) is not None:
            if value.ndim or not value >= 0:
                raise ValueError(f"radius must be a number from 0, got {value}.")

    def __call__(self, sigma: Sigma) -> Array:
        """`[t, *e]`, or `[t, b, *e]` where every sample has a noise level of its own.

        Args:
            sigma: Noise level.
        """
        radius = self.radius
        radius = as_float(radius(sigma) if callable(radius) else radius)
        if radius.ndim == 0:
            return self.distance <= radius
        radius = radius.reshape(1, -1, *(1,) * (self.distance.ndim - 1))
        return self.distance[:, None] <= radius


@pytree
class Windows:
    """Tiles of outputs, and which inputs each of them sees.

    Args:
        tiles: `[t, *d]`, ones where an output belongs to a tile, else zeros.
        reach: A `Reach` from these tiles.

    Raises:
        ValueError: If an output belongs to no tile or to several, there is not one
            distance a tile, or a tile does not see itself.

    Example:
        >>> halves = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
        >>> Windows(halves, Reach(1 - halves)).reach(1.0).sum(1)
        Array([2, 2], dtype=int32)
    """

    tiles: Any
    reach: Reach

    def __post_init__(self) -> None:
        set_fields(self, tiles=as_float(self.tiles))
        tiles, distance = concrete(self.tiles), concrete(self.reach.distance)
        if tiles is None or distance is None:
            return
        if not (np.isin(tiles, (0, 1)).all() and (tiles.sum(0) == 1).all()):
            raise ValueError(
                "tiles must be 0 or 1 and put every output into one tile, got "
                f"{_show(tiles)}, whose sums run from {tiles.sum(0).min()} to "
                f"{tiles.sum(0).max()}."
            )
        if distance.ndim != tiles.ndim or len(distance) != len(tiles):
            raise ValueError(
                f"distance {distance.shape} must have the axes of tiles {tiles.shape}."
            )
        if (tiles * np.nan_to_num(distance, posinf=1.0)).any():
            raise ValueError("A tile must see itself: its distance to itself is 0.")


def square_windows(shape: tuple[int, int], tile: int, radius: Weight = 0.0) -> Windows:
    """Square tiles of an image, with the squares around them as windows.

    Args:
        shape: `(h, w)` of the image, in pixels.
        tile: Side of a tile, in pixels.
        radius: How many pixels beyond its edges a tile sees, on every side; a number or
            a function of sigma; infinite for the whole image.

    Returns:
        `Windows`, row by row, for images `[b, h, w, c]`.

    Raises:
        ValueError: If tiles do not divide the image.

    Source: The patches of Bradley 2025, experiment 3; their sizes are ours.

    Example:
        >>> square_windows((8, 8), 4, 1).reach(0.0).sum((1, 2, 3))
        Array([25, 25, 25, 25], dtype=int32)
    """
    tile = whole("tile", tile)
    _check_tiles(shape, tile)
    distance = _distances(shape, tile, shape)
    return Windows((distance == 0).astype(float), Reach(distance, radius))


def square_reach(
    shape: tuple[int, int], tile: int, grid: tuple[int, int], radius: Weight = 0.0
) -> Reach:
    """Which cells of a condition the tiles of `square_windows` see.

    Args:
        shape: `(h, w)` of the image, in pixels.
        tile: Side of a tile, in pixels.
        grid: `(H, W)` of the condition, whose cells divide the image.
        radius: A tile sees the cells of which a pixel is as near as that.

    Returns:
        A `Reach` for conditions `[b, H, W, c]`.

    Raises:
        ValueError: If tiles or cells do not divide the image.

    Example:
        >>> square_reach((8, 8), 4, (4, 4), 1)(0.0).sum((1, 2, 3))
        Array([9, 9, 9, 9], dtype=int32)
    """
    tile = whole("tile", tile)
    _check_tiles(shape, tile)
    if any(side % cells for side, cells in zip(shape, grid, strict=True)):
        raise ValueError(f"A grid of {grid} cells does not divide an image {shape}.")
    return Reach(_distances(shape, tile, grid), radius)


@pytree
class Backdrop:
    r"""What stands outside of the windows: $m + \sigma n$, a noised image like others.

    A network that was trained on noised images should not be shown flat ones.

    Args:
        mean: m, a number or `[*d]`.
        noise: n, `[*d]`, one draw of standard normals.

    Example:
        >>> Backdrop(0.5, jnp.ones(2))(2.0)
        Array([2.5, 2.5], dtype=float32)
    """

    mean: Any
    noise: Any

    def __call__(self, sigma: Sigma) -> Array:
        noise = as_float(self.noise)
        if jnp.ndim(sigma):
            noise = jnp.broadcast_to(noise, (*jnp.shape(sigma), *noise.shape))
        noise = align(sigma, noise) * noise
        return jnp.broadcast_to(as_float(self.mean), noise.shape) + noise


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


def _distances(
    shape: tuple[int, int], tile: int, grid: tuple[int, int]
) -> Float[np.ndarray, "t h w 1"]:
    """Chebyshev distances, in pixels, from tiles to the nearest pixels of cells."""
    sides = []
    for side, cells in zip(shape, grid, strict=True):
        first = np.arange(0, side, tile)[:, None]
        begin = np.arange(cells)[None] * (side // cells)
        end = begin + side // cells - 1
        sides.append(np.maximum(0, np.maximum(first - end, begin - first - tile + 1)))
    rows, columns = sides
    far = np.maximum(rows[:, None, :, None], columns[None, :, None, :])
    return far.reshape(-1, *grid, 1).astype(float)


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


def _check_tiles(shape: tuple[int, int], tile: int) -> None:
    if any(side % tile for side in shape):
        raise ValueError(f"Tiles of {tile} pixels do not divide an image {shape}.")


def _check_event(event: tuple[int, ...], x: Array) -> None:
    if len(event) != x.ndim - 1 or any(
        e not in (1, n) for e, n in zip(event, x.shape[1:], strict=True)
    ):
        raise ValueError(f"x of shape {x.shape} does not fit windows on {event}.")


def _show(value: np.ndarray) -> str:
    return f"shape {value.shape}" if value.size > 16 else str(value.tolist())
