"""Matches objects that were found with locations that were asked for."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from compjax.scenes.camera import check_size


def hit_radius(size: tuple[int, int]) -> float:
    """How far from a requested location an object may be and count as a hit.

    Args:
        size: height and width of the image, in pixels.

    Returns:
        6 pixels at a width of 128, scaled with the width.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Example:
        >>> hit_radius((64, 64))
        3.0
    """
    _, width = check_size(size)
    return 6.0 * width / 128.0


def match(
    found: Float[Array | np.ndarray, "m 2"],
    requested: Float[Array | np.ndarray, "k 2"],
    radius: float,
) -> Bool[np.ndarray, " k"]:
    """Which requested locations have an object of their own within the radius.

    Args:
        found: `[m, 2]` in pixels, as `valid_xy` gives them.
        requested: `[k, 2]` in pixels.
        radius: in pixels, as `hit_radius` gives it.

    Returns:
        `[k]`, true for hits: the requests that occur in `pairs`.

    Raises:
        ValueError: if `radius` is not positive.

    Example:
        >>> found = np.array([[10.0, 10.0]])
        >>> match(found, np.array([[9.0, 10.0], [11.0, 10.0]]), 3.0).sum()
        np.int64(1)
    """
    hits = np.zeros(len(np.reshape(requested, (-1, 2))), bool)
    hits[pairs(found, requested, radius)[:, 1]] = True
    return hits


def pairs(
    found: Float[Array | np.ndarray, "m 2"],
    requested: Float[Array | np.ndarray, "k 2"],
    radius: float,
) -> Int[np.ndarray, "p 2"]:
    """Which object answers which request.

    One object answers one request; among all pairings it takes one with the most pairs
    within the radius, and among those the closest (Hungarian algorithm).

    Args:
        found: `[m, 2]` in pixels.
        requested: `[k, 2]` in pixels.
        radius: in pixels, as `hit_radius` gives it.

    Returns:
        `[p, 2]`, row by row the numbers of an object and of its request.

    Raises:
        ValueError: if `radius` is not positive.

    Example:
        >>> found = np.array([[10.0, 10.0], [30.0, 10.0]])
        >>> pairs(found, np.array([[29.0, 10.0], [50.0, 10.0]]), 3.0)
        array([[1, 0]])
    """
    from scipy.optimize import linear_sum_assignment

    if not radius > 0:
        raise ValueError(f"radius = {radius}: give a positive number of pixels.")
    found, requested = np.reshape(found, (-1, 2)), np.reshape(requested, (-1, 2))
    distance = np.linalg.norm(requested[:, None] - found[None], axis=-1)
    near = distance <= radius
    # One pair more is worth more than any shortening of the others.
    gain = near * (1.0 + len(requested) - distance / radius)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    kept = near[rows, columns]
    return np.stack([columns[kept], rows[kept]], axis=1)
