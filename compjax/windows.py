"""Windows: which inputs, and which conditions, a group of outputs sees."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scores import as_score
from compjax.types import (
    Sigma,
    Weight,
    align,
    as_float,
    concrete,
    pytree,
    set_fields,
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


def square(shape: tuple[int, int], tile: int, radius: Weight = 0.0) -> Windows:
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
        >>> square((8, 8), 4, 1).reach(0.0).sum((1, 2, 3))
        Array([25, 25, 25, 25], dtype=int32)
    """
    tile = whole("tile", tile)
    _check_tiles(shape, tile)
    distance = _distances(shape, tile, shape)
    return Windows((distance == 0).astype(float), Reach(distance, radius))


def square_reach(
    shape: tuple[int, int], tile: int, grid: tuple[int, int], radius: Weight = 0.0
) -> Reach:
    """Which cells of a condition the tiles of `square` see.

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


def _check_tiles(shape: tuple[int, int], tile: int) -> None:
    if any(side % tile for side in shape):
        raise ValueError(f"Tiles of {tile} pixels do not divide an image {shape}.")


def _show(value: np.ndarray) -> str:
    return f"shape {value.shape}" if value.size > 16 else str(value.tolist())
