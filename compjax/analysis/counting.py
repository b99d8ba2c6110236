"""Counting objects in generated scenes, with the controls that make a count mean much.

Every rate stands beside two others: *chance*, the same images scored against another
sample's locations, and *ceiling*, true renders of the same requests seen through the
same detector, which absorbs occlusion and the detector's own mistakes.  What is left,

    corrected = (hit - chance) / (ceiling - chance),

is 0 for images that ignore their requests and 1 for images as good as renders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from compjax import scenes

RESAMPLES = 2000
"""Resamples of the bootstrap."""

TAILS = (0.025, 0.975)
"""What the intervals leave out below and above."""


class Row(NamedTuple):
    """One row of a length-generalisation table; rates are means over images.

    Intervals are those of `tally`: 95 %, by bootstrap over images within training
    seeds.

    Args:
        images: Number of images.
        hit: Share of the requested locations that hold an object of their own.
        hit_low: Lower end of its interval.
        hit_high: Upper end.
        chance: The same images against another sample's locations.
        ceiling: True renders of the requests, through the same detector.
        corrected: `(hit - chance) / (ceiling - chance)`; None where that has no
            meaning, as true renders hit no more often than chance.
        corrected_low: Lower end of its interval; None where a resample has none.
        corrected_high: Upper end.
        exact: Share of images with every request met and nothing else.
        objects: Mean number of objects in all.
        histogram: How many images held 0, 1, 2, ... objects.
        extra: Mean number of objects that answer no request.
        extra_low: Lower end of its interval.
        extra_high: Upper end.
        extra_at_0: The model's own rate of extras at k = 0, if it was given.
        extra_at_1: The same at k = 1.
        training_seeds: Number of models the images come from.
    """

    images: int
    hit: float
    hit_low: float
    hit_high: float
    chance: float
    ceiling: float
    corrected: float | None
    corrected_low: float | None
    corrected_high: float | None
    exact: float
    objects: float
    histogram: list[int]
    extra: float
    extra_low: float
    extra_high: float
    extra_at_0: float | None
    extra_at_1: float | None
    training_seeds: int


def tally(
    found: Sequence[np.ndarray],
    true: Sequence[np.ndarray],
    requested: Any,
    radius: float,
    seed: int = 0,
    *,
    training_seeds: Any = None,
    elsewhere: Any = None,
    own_extra: tuple[float, float] | None = None,
) -> Row:
    """The row of a table for n images of k requested locations each.

    Intervals are percentiles of a bootstrap over images *within* training seeds: each
    model keeps its number of images, so models that differ do not widen the interval,
    and a claim about models in general needs several of them.  An image takes its
    chance and its ceiling along, so the interval of the corrected rate knows what
    these share.

    Args:
        found: n arrays `[m, 2]`, the objects found in each image, in pixels.
        true: The same for true renders of the requests.
        requested: `[n, k, 2]`, the requested locations, in pixels.
        radius: How far away an object may be and still answer a request: 6 pixels at
            a width of 128, as `scenes.hit_radius` gives it.
        seed: Of the bootstrap.
        training_seeds: `[n]`, which trained model made each image; one model if None.
        elsewhere: `[n, j, 2]`, what chance is scored against, in pixels; another
            sample's requests if None.  Give places of scenes of their own where all
            samples have the same requests.
        own_extra: The means of `extra_objects` of the same model for k = 0 and k = 1
            requests, which the row then shows beside its own.

    Raises:
        ValueError: If the arguments do not agree on n, if k < 1, or if a model has
            fewer than two images; if `elsewhere` does not fit.

    Source: one-to-one hits, chance and ceiling are the protocol of docs/math.md.

    Example:
        >>> requested = np.array([[[8.0, 8.0]], [[24.0, 24.0]]])
        >>> row = tally(list(requested), list(requested), requested, 3.0)
        >>> row.hit, row.chance, row.corrected, row.exact, row.histogram
        (1.0, 0.0, 1.0, 1.0, [0, 2])
    """
    requested = np.asarray(requested)
    n = len(requested)
    if (
        requested.ndim != 3
        or not requested.shape[1]
        or requested.shape[2] != 2
        or not len(found) == len(true) == n >= 2
    ):
        raise ValueError(
            "tally needs n >= 2 images with as many requests [n, k, 2] in pixels, and "
            "objects as scenes.valid_xy gives them, got "
            f"{len(found)} images, {len(true)} renders and {requested.shape}."
        )
    groups = _groups(training_seeds, n)
    k = requested.shape[1]
    another = np.arange(n)
    for group in groups:
        another[group] = np.roll(group, 1)
    hits = _rates(found, requested, radius)
    elsewhere = requested[another] if elsewhere is None else np.asarray(elsewhere)
    if elsewhere.ndim != 3 or len(elsewhere) != n or not elsewhere.shape[1]:
        raise ValueError(
            f"elsewhere has shape {elsewhere.shape}: give [{n}, j, 2] with j >= 1."
        )
    chance = _rates(found, elsewhere, radius)
    ceiling = _rates(true, requested, radius)
    counts = np.array([len(xy) for xy in found])
    extra = counts - hits * k
    means = _bootstrap(seed, groups, np.stack([hits, chance, ceiling, extra]))
    corrected = _corrected(*means[:3])
    whole = _corrected(*(rate.mean() for rate in (hits, chance, ceiling)))
    hit_low, hit_high = np.quantile(means[0], TAILS)
    extra_low, extra_high = np.quantile(means[3], TAILS)
    # NaN where any resample has no corrected rate: without those, an interval would
    # look narrower the less is known.
    low, high = (_number(end) for end in np.quantile(corrected, TAILS))
    extra_at_0, extra_at_1 = (None, None) if own_extra is None else own_extra
    return Row(
        images=n,
        hit=float(hits.mean()),
        hit_low=float(hit_low),
        hit_high=float(hit_high),
        chance=float(chance.mean()),
        ceiling=float(ceiling.mean()),
        corrected=_number(whole),
        corrected_low=low,
        corrected_high=high,
        exact=float(((hits == 1) & (counts == k)).mean()),
        objects=float(counts.mean()),
        histogram=np.bincount(counts).tolist(),
        extra=float(extra.mean()),
        extra_low=float(extra_low),
        extra_high=float(extra_high),
        extra_at_0=extra_at_0,
        extra_at_1=extra_at_1,
        training_seeds=len(groups),
    )


def extra_objects(
    found: Sequence[np.ndarray], requested: Any, radius: float
) -> Int[np.ndarray, " n"]:
    """How many objects of each image answer no request.

    At k = 0 and k = 1 this is the model's own rate of extras, beside which the extras
    of longer requests are to be seen.

    Args:
        found: n arrays `[m, 2]`, the objects found in each image, in pixels.
        requested: `[n, k, 2]`, in pixels; k may be 0.
        radius: How far away an object may be and still answer a request.

    Returns:
        `[n]`.

    Raises:
        ValueError: If the two do not agree on n.

    Example:
        >>> extra_objects([np.array([[8.0, 8.0], [20.0, 8.0]])], [[[9.0, 8.0]]], 3.0)
        array([1])
    """
    requested = np.asarray(requested, float)
    if requested.ndim != 3 or len(found) != len(requested):
        raise ValueError(
            f"{len(found)} images and requests {requested.shape}: give as many requests"
            " [n, k, 2]."
        )
    pairs = zip(found, requested, strict=True)
    answers = [scenes.match(xy, to, radius).sum() for xy, to in pairs]
    return np.array([len(xy) for xy in found], int) - np.array(answers, int)


def _rates(
    objects: Sequence[np.ndarray], requested: np.ndarray, radius: float
) -> Float[np.ndarray, " n"]:
    """The share of each image's requests that are hit."""
    pairs = zip(objects, requested, strict=True)
    return np.array([scenes.match(xy, to, radius).mean() for xy, to in pairs])


def _groups(training_seeds: Any, n: int) -> list[np.ndarray]:
    """The images of each model."""
    labels = np.zeros(n, int) if training_seeds is None else np.asarray(training_seeds)
    if labels.shape != (n,):
        raise ValueError(
            f"training_seeds has shape {labels.shape}: give the seed of each of the"
            f" {n} images."
        )
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if any(len(group) < 2 for group in groups):
        raise ValueError(
            f"training_seeds = {labels}: give at least two images of every seed, as"
            " chance scores one against the requests of another."
        )
    return groups


def _bootstrap(
    seed: int, groups: list[np.ndarray], values: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r resamples"]:
    """Means of resamples that keep the number of images of every model."""
    rng = np.random.default_rng(seed)
    total = np.zeros((len(values), RESAMPLES))
    for group in groups:
        # How often each image is drawn: as good as the draws, and never n at a time.
        even = np.full(len(group), 1 / len(group))
        times = rng.multinomial(len(group), even, RESAMPLES)
        total += values[:, group] @ times.T
    return total / values.shape[1]


def _corrected(hit: Any, chance: Any, ceiling: Any) -> Any:
    """The corrected rate; NaN where the ceiling is not above chance."""
    # Rates are fractions of small numbers: what differs by rounding alone is equal.
    span = np.asarray(ceiling - chance)
    meant = span > 1e-9
    return np.where(meant, (hit - chance) / np.where(meant, span, 1.0), np.nan)


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)
