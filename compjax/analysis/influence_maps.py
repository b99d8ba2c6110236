"""Influence by place: maps seen from their tiles, and sums by distance."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.analysis.influence import (
    Views,
    check_fit,
    checked_tiles,
    rows_of_jacobian,
    squares_along,
)
from compjax.types import PRNGKey, ScoreFn, Sigma, align, whole
from compjax.windows import Windows


def recentred(squares: Any, tiles: Any) -> Float[np.ndarray, "rows columns"]:
    r"""The mean influence of tiles of an image, each seen from where it is.

    Args:
        squares: `[t, h, w, c]`, such as `influence(...).squares.score`; summed over
            channels here.
        tiles: `[t, h, w, 1 or c]`, squares or rectangles of ones.

    Returns:
        `[2h - 1, 2w - 1]`: at `[h - 1, w - 1]` what the first pixel of a tile has; NaN
        where no image reaches.

    Raises:
        ValueError: If there is not one map a tile.

    Source: Ours.

    Example:
        >>> from compjax import windows
        >>> tiles = windows.square((1, 2), 1).tiles
        >>> recentred(np.array([[[[1.0], [2.0]]], [[[3.0], [1.0]]]]), tiles)
        array([[3., 1., 2.]])
    """
    maps = np.asarray(squares, float).sum(-1)
    tiles = np.asarray(tiles)
    if len(maps) != len(tiles) or maps.ndim != 3:
        raise ValueError(
            f"{len(maps)} maps of {maps.ndim - 1} axes, {len(tiles)} tiles."
        )
    _, h, w = maps.shape
    total, count = np.zeros((2, 2 * h - 1, 2 * w - 1))
    for one, tile in zip(maps, tiles, strict=True):
        row, column = np.argwhere(tile.any(-1)).min(0)
        at = (
            slice(h - 1 - row, 2 * h - 1 - row),
            slice(w - 1 - column, 2 * w - 1 - column),
        )
        total[at] += one
        count[at] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def influence_by_distance(
    key: PRNGKey,
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    windows: Windows,
    probes: int = 4,
) -> tuple[Float[np.ndarray, " m"], Views]:
    r"""Squared derivatives of all tiles, summed by their distance from the tile.

    Args:
        key: A typed PRNG key.
        score: Any score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        windows: Tiles of outputs and the distances of all inputs from them.
        probes: Random signs for every tile and sample.

    Returns:
        The distances that occur, rising, and `Views` of `[b, m]`, unbiased.

    Raises:
        ValueError: If windows do not fit x, or `probes < 1`.

    Source: Ours.

    Example:
        >>> from compjax import windows
        >>> from compjax.scores import as_score
        >>> pixels, x = windows.square((1, 4), 1), jnp.ones((1, 1, 4, 1))
        >>> left = as_score(lambda x, sigma: jnp.roll(x, 1, axis=2) - 2 * x)
        >>> key = jax.random.key(0)
        >>> at, mass = influence_by_distance(key, left, x, 1.0, pixels)
        >>> at.tolist(), mass.score.tolist()  # the image ends: one is 3 pixels away
        ([0.0, 1.0, 2.0, 3.0], [[16.0, 3.0, 0.0, 1.0]])
    """
    x, tiles = checked_tiles(x, windows.tiles)
    probes, level = whole("probes", probes), align(sigma, x)
    distances, bins = distance_bins(windows.reach.distance, x)
    apply = rows_of_jacobian(score, x, sigma)

    def add(total: Views, draw: tuple[PRNGKey, Array, Array]) -> tuple[Views, None]:
        key, tile, bins = draw
        signs = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
        for v in signs:
            squares = squares_along(apply, v * tile[None], level)
            found = (by_distance(s, bins[None], len(distances)) for s in squares)
            total = Views(*(t + f / probes for t, f in zip(total, found, strict=True)))
        return total, None

    zeros = jnp.zeros((len(x), len(distances)), x.dtype)
    keys = jax.random.split(key, len(tiles))
    start = Views(zeros, zeros, zeros)
    return distances, jax.lax.scan(add, start, (keys, jnp.asarray(tiles), bins))[0]


def distance_bins(
    distance: Any, x: Float[Array, "b *d"]
) -> tuple[Float[np.ndarray, " m"], Array]:
    """The distances that occur, and which of them each input is at.

    Args:
        distance: `[t, *d]`; axes of length 1 stand for all of their entries.
        x: Samples, of which only the shape matters.

    Returns:
        `[m]`, rising, and `[t, *d]`, indices.

    Raises:
        ValueError: If the distances do not fit samples.

    Example:
        >>> distance_bins(np.array([[0.0, 2.0, 2.0]]), jnp.ones((5, 3)))[0]
        array([0., 2.])
    """
    distance = np.asarray(distance, float)
    check_fit("distance", distance, x)
    distances, bins = np.unique(distance, return_inverse=True)
    bins = bins.reshape(distance.shape)
    return distances, jnp.asarray(np.broadcast_to(bins, (len(bins), *x.shape[1:])))


def by_distance(
    squares: Float[Array, "b *d"], bins: Any, m: int
) -> Float[Array, "b m"]:
    """Sums over the entries of each sample that are at one distance.

    Args:
        squares: `[b, *d]`.
        bins: `[b or 1, *d]`, indices below m.
        m: Their number.

    Example:
        >>> by_distance(jnp.ones((1, 3)), jnp.array([[0, 1, 1]]), 2)
        Array([[1., 2.]], dtype=float32)
    """
    bins = jnp.broadcast_to(bins, squares.shape).reshape(len(squares), -1)
    flat = squares.reshape(len(squares), -1)
    return jax.vmap(lambda s, at: jax.ops.segment_sum(s, at, m))(flat, bins)
