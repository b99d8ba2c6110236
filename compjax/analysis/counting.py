"""Counting objects in generated scenes, with the controls that make a count mean much.

Every rate stands beside two others: *chance*, the same images scored against another
sample's locations, and *ceiling*, true renders of the same requests seen through the
same counter, which absorbs occlusion and the counter's own mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from compjax import scenes


class Row(NamedTuple):
    """One row of a length-generalisation table; rates are means over images.

    Args:
        images: Number of images.
        hit: Share of the requested locations that hold an object of their own.
        hit_low: Lower end of a 95 % bootstrap interval over images.
        hit_high: Upper end.
        chance: The same images against the next sample's locations.
        ceiling: True renders of the requests, through the same counter.
        corrected: `(hit - chance) / (ceiling - chance)`; None where that is 0 / 0.
        exact: Share of images with every request met and nothing else.
        objects: Mean number of objects in all.
        histogram: How many images held 0, 1, 2, ... objects.
    """

    images: int
    hit: float
    hit_low: float
    hit_high: float
    chance: float
    ceiling: float
    corrected: float | None
    exact: float
    objects: float
    histogram: list[int]


def tally(
    found: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
    requested: Any,
    radius: float,
    seed: int = 0,
) -> Row:
    """The row of a table for n images of k requested locations each.

    Args:
        found: n arrays `[m, 2]`, the objects found in each image, in pixels.
        true: The same for true renders of the requests.
        requested: `[n, k, 2]`, the requested locations, in pixels.
        radius: How far away an object may be and still answer a request.
        seed: Of the bootstrap.

    Raises:
        ValueError: If the three do not agree on n, or n < 2, or k < 1.

    Source: one-to-one hits, chance and ceiling are the protocol of docs/math.md.

    Example:
        >>> requested = np.array([[[8.0, 8.0]], [[24.0, 24.0]]])
        >>> row = tally(list(requested), list(requested), requested, 3.0)
        >>> row.hit, row.chance, row.exact, row.histogram
        (1.0, 0.0, 1.0, [0, 2])
    """
    requested = np.asarray(requested)
    n = len(requested)
    if (
        requested.ndim != 3
        or not requested.shape[1]
        or not len(found) == len(true) == n >= 2
    ):
        raise ValueError(
            "tally needs n >= 2 images with as many requests [n, k, 2], got "
            f"{len(found)} images, {len(true)} renders and {requested.shape}."
        )

    def rates(objects: Sequence[np.ndarray], locations: np.ndarray) -> np.ndarray:
        pairs = zip(objects, locations, strict=True)
        return np.array([scenes.match(xy, to, radius).mean() for xy, to in pairs])

    hits = rates(found, requested)
    chance = rates(found, np.roll(requested, 1, axis=0)).mean()
    ceiling = rates(true, requested).mean()
    counts = np.array([len(xy) for xy in found])
    resampled = np.random.default_rng(seed).integers(n, size=(2000, n))
    low, high = np.quantile(hits[resampled].mean(1), [0.025, 0.975])
    span = ceiling - chance
    return Row(
        images=n,
        hit=float(hits.mean()),
        hit_low=float(low),
        hit_high=float(high),
        chance=float(chance),
        ceiling=float(ceiling),
        corrected=float((hits.mean() - chance) / span) if span > 0 else None,
        exact=float(((hits == 1) & (counts == requested.shape[1])).mean()),
        objects=float(counts.mean()),
        histogram=np.bincount(counts).tolist(),
    )
