"""Do conditionals move the mean in orthogonal directions?  Lemma 8.1 as a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

TAILS = (0.025, 0.975)
"""What the intervals leave out below and above."""


class Orthogonality(NamedTuple):
    r"""Cosines of mean shifts $\mu_i - \mu_b$, with 95 % bootstrap intervals.

    Args:
        cosines: `[k, k]`; NaN beside a conditional whose mean does not move.
        low: `[k, k]`, lower ends.
        high: `[k, k]`, upper ends.
        lengths: `[k]`, of the shifts, in units of the features; 0 where the samples
            cannot tell a shift from none.
    """

    cosines: Float[np.ndarray, "k k"]
    low: Float[np.ndarray, "k k"]
    high: Float[np.ndarray, "k k"]
    lengths: Float[np.ndarray, " k"]


def orthogonality(
    background: Any,
    conditionals: Sequence[Any],
    features: Callable[[Any], Any] | None = None,
    *,
    resamples: int = 500,
    seed: int = 0,
) -> Orthogonality:
    r"""Cosines between the mean shifts of conditionals, from samples.

    $$\cos(\mu_i - \mu_b,\ \mu_j - \mu_b)$$

    Factorized conditionals have 0 off the diagonal, in pixels and in every feature map
    that is orthogonal.  The converse is false, and equal covariances compose exactly at
    any angle: a heuristic, to be read beside the `certificate`.

    Shifts share the samples of the background, whose noise alone makes cosines of
    estimates positive.  It is subtracted from inner products and squared lengths.

    Args:
        background: Samples `[n, *d]`.
        conditionals: k sets of samples, each `[m, *d]` with an m of its own.
        features: A map of samples to features `[n, *f]`; None for the samples.
        resamples: Of the bootstrap over samples, within each set.
        seed: Of the bootstrap.

    Returns:
        An `Orthogonality`.

    Raises:
        ValueError: If there is no conditional, or sets differ in shape or hold fewer
            than two samples, or features are not finite, or `resamples < 1`.

    Source: Bradley et al. 2025, lemma 8.1 and figure 8; the correction is ours.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> at = lambda *mean: mean + rng.standard_normal((500, 2))
        >>> report = orthogonality(at(0, 0), [at(2, 0), at(0, 3)])
        >>> bool(report.low[0, 1] < 0 < report.high[0, 1])
        True
    """
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}.")
    sets = as_features(background, conditionals, features)
    means = [x.mean(0) for x in sets]
    noise = np.array([x.var(0, ddof=1).sum() / len(x) for x in sets])
    rng = np.random.default_rng(seed)
    again = [_resampled_means(rng, x, resamples) for x in sets]
    dots = _dots(np.stack(means)[:, None], noise)[0]
    # A resample is noisy about the sample as the sample is about the truth.
    resampled = _dots(np.stack(again), 2 * noise)
    squares = np.diagonal(resampled, axis1=1, axis2=2)
    moved = np.quantile(squares, TAILS[0], axis=0) > 0
    lengths = np.where(moved, np.sqrt(np.maximum(np.diagonal(dots), 0)), 0.0)
    low, high = np.quantile(_cosines(resampled, moved), TAILS, axis=0)
    return Orthogonality(_cosines(dots[None], moved)[0], low, high, lengths)


def as_features(
    background: Any,
    conditionals: Sequence[Any],
    features: Callable[[Any], Any] | None,
) -> list[np.ndarray]:
    """The sets as finite matrices `[n, f]`, the background's first.

    Args:
        background: Samples `[n, *d]`.
        conditionals: k sets of samples.
        features: As for `orthogonality`.

    Returns:
        k + 1 of them, in double precision.

    Raises:
        ValueError: As `orthogonality`.

    Example:
        >>> [x.shape for x in as_features(np.ones((5, 2, 2)), [np.ones((3, 4))], None)]
        [(5, 4), (3, 4)]
    """
    if not len(conditionals):
        raise ValueError("Give the samples of at least one conditional.")
    sets = []
    for i, x in enumerate((background, *conditionals)):
        x = np.asarray(x if features is None else features(x), np.float64)
        name = "The background" if i == 0 else f"Conditional {i - 1}"
        if x.ndim < 2 or len(x) < 2:
            raise ValueError(f"{name} needs samples [n >= 2, *d], got shape {x.shape}.")
        if not np.isfinite(x).all():
            raise ValueError(f"{name} has features that are not finite.")
        sets.append(x.reshape(len(x), -1))
    if len({x.shape[1] for x in sets}) > 1:
        raise ValueError(
            "All samples must live on one space, got "
            f"{[x.shape[1] for x in sets]} coordinates."
        )
    return sets


def _resampled_means(
    rng: np.random.Generator, x: np.ndarray, resamples: int
) -> Float[np.ndarray, "r f"]:
    times = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), resamples)
    return times @ x / len(x)


def _dots(
    means: Float[np.ndarray, "sets r f"], noise: Float[np.ndarray, " sets"]
) -> Float[np.ndarray, "r k k"]:
    """Inner products of shifts, less what the noise of the means adds to them."""
    shifts = means[1:] - means[:1]
    dots = np.einsum("irf,jrf->rij", shifts, shifts, optimize=True)
    return dots - noise[0] - np.diag(noise[1:])


def _cosines(
    dots: Float[np.ndarray, "r k k"], moved: np.ndarray
) -> Float[np.ndarray, "r k k"]:
    lengths = np.sqrt(np.maximum(np.diagonal(dots, axis1=1, axis2=2), 0))
    lengths = np.where(moved & (lengths > 0), lengths, np.nan)
    cosines = dots / lengths[:, :, None] / lengths[:, None, :]
    return np.clip(cosines, -1, 1)
