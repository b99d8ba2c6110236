r"""Projective composition, checked: $\Pi_i \sharp \hat p = \Pi_i \sharp p_i$ for all i.

The definition speaks of laws.  For samples each equality becomes a two-sample test,
whose null distribution comes from the samples themselves; for Gaussians and linear
projections it becomes a divergence in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from compjax.analysis.distances import TwoSample, gaussian_kl, two_sample_test
from compjax.densities import Gaussian
from compjax.types import PRNGKey


class ProjectiveError(NamedTuple):
    """How far a sample is from a projective composition.

    Args:
        comparisons: One two-sample test for every part.
        p_value: For all of them together, by Bonferroni: below a level a, samples of a
            projective composition are rejected at most a share a of the time.
    """

    comparisons: tuple[TwoSample, ...]
    p_value: float


def projective_error(
    key: PRNGKey,
    samples: Any,
    parts: Sequence[Any],
    projections: Sequence[Any],
    permutations: int = 499,
) -> ProjectiveError:
    r"""Whether samples come from a projective composition of the parts.

    Args:
        key: A typed PRNG key.
        samples: `[n, *d]`, of the composition.
        parts: $p_1, \dots, p_k$: densities, of which n samples are drawn, or samples
            `[m, *d]` of their own.
        projections: $\Pi_1, \dots, \Pi_k$: functions of batches, or matrices `[r, d]`
            (a coordinate block is a function, `lambda x: x[:, block]`).
        permutations: Of each test.

    Returns:
        A calibrated comparison for every part.

    Raises:
        ValueError: If there are not as many projections as parts, or shapes do not fit.

    Source: Bradley et al. 2025, definition 4.1; the test is ours.

    Example:
        >>> at = lambda *mean: Gaussian(np.array(mean), np.eye(2))
        >>> x = at(3.0, 3.0).sample(jax.random.key(0), 100)
        >>> first, second = np.eye(2)[:1], np.eye(2)[1:]
        >>> found = projective_error(
        ...     jax.random.key(1), x, (at(3.0, 0.0), at(0.0, 0.0)), (first, second), 99
        ... )
        >>> [test.p_value < 0.05 for test in found.comparisons]
        [False, True]
    """
    _check_pairs(parts, projections)
    samples = np.asarray(samples)
    if samples.ndim < 2:
        raise ValueError(f"samples must be [n, *d], got shape {samples.shape}.")
    keys = jax.random.split(key, (len(parts), 2))
    comparisons = []
    for part, projection, (key_draw, key_test) in zip(
        parts, projections, keys, strict=True
    ):
        sampler = getattr(part, "sample", None)
        drawn = part if sampler is None else sampler(key_draw, len(samples))
        shadow = _function(projection)
        comparisons.append(
            two_sample_test(key_test, shadow(samples), shadow(drawn), permutations)
        )
    smallest = min(test.p_value for test in comparisons)
    return ProjectiveError(tuple(comparisons), min(1.0, len(parts) * smallest))


def gaussian_projective_error(
    composition: Gaussian, parts: Sequence[Gaussian], projections: Sequence[Any]
) -> tuple[float, ...]:
    r"""The divergences $KL(\Pi_i \sharp \hat p \| \Pi_i \sharp p_i)$ of Gaussians.

    Args:
        composition: $\hat p$.
        parts: $p_1, \dots, p_k$.
        projections: $\Pi_1, \dots, \Pi_k$, matrices `[r, d]` of full row rank.

    Returns:
        k divergences in nats, all zero for a projective composition and no other law.

    Raises:
        ValueError: As `projective_error`.

    Source: Bradley et al. 2025, definition 4.1.

    Example:
        >>> at = lambda *mean: Gaussian(np.array(mean), np.eye(2))
        >>> first, second = np.eye(2)[:1], np.eye(2)[1:]
        >>> parts = at(2.0, 0.0), at(0.0, 1.0)
        >>> gaussian_projective_error(at(2.0, 0.0), parts, (first, second))
        (0.0, 0.5)
    """
    _check_pairs(parts, projections)
    return tuple(
        gaussian_kl(composition.pushforward(matrix), part.pushforward(matrix))
        for part, matrix in zip(parts, projections, strict=True)
    )


def _check_pairs(parts: Sequence[Any], projections: Sequence[Any]) -> None:
    if not parts or len(parts) != len(projections):
        raise ValueError(
            f"{len(parts)} parts and {len(projections)} projections: give one of each "
            "for every part, at least one."
        )


def _function(projection: Any) -> Callable[[Any], np.ndarray]:
    """A projection as a function of batches."""
    if callable(projection):
        return lambda x: np.asarray(projection(x))
    matrix = np.asarray(projection)
    if matrix.ndim != 2:
        raise ValueError(
            f"A projection is a function or a matrix [r, d], got shape {matrix.shape}."
        )

    def apply(x: Any) -> np.ndarray:
        x = np.asarray(x)
        if x.shape[1:] != matrix.shape[1:]:
            raise ValueError(f"A matrix {matrix.shape} projects no batch of {x.shape}.")
        return x @ matrix.T

    return apply
