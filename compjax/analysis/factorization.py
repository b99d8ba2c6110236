"""Are these factorized conditionals?  Definition 5.2 as a test on samples.

Which coordinates does each conditional change, do two of them change the same ones, and
are the blocks independent?  `score_blocks` asks the same of score functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from compjax.analysis.distances import two_sample_test
from compjax.analysis.orthogonality import as_features
from compjax.types import PRNGKey


class Factorization(NamedTuple):
    """What samples say of definition 5.2.

    Every p-value is of one hypothesis that factorized conditionals satisfy; small ones
    speak against it.

    Args:
        changed: `[k, d]`, which coordinates each conditional changes.
        labels: `[d]`, the block of every coordinate: i + 1 for $M_i$, 0 for $M_b$.
        overlap: `[k, k]`, how many coordinates two conditionals both change.
        dependence: `[k + 1]`, p-values that blocks are independent: of $M_i$ and the
            rest under $p_i$, and of all blocks under $p_b$, which comes first.
        outside: `[k]`, p-values that $p_i$ and $p_b$ agree off $M_i$.
        level: The family-wise error of all tests together.
        factorized: Whether nothing was found against it.
    """

    changed: Bool[np.ndarray, "k d"]
    labels: Int[np.ndarray, " d"]
    overlap: Int[np.ndarray, "k k"]
    dependence: Float[np.ndarray, " sets"]
    outside: Float[np.ndarray, " k"]
    level: float
    factorized: bool


def factorization(
    key: PRNGKey,
    background: Any,
    conditionals: Sequence[Any],
    *,
    level: float = 0.01,
    most: int = 300,
) -> Factorization:
    """Tests definition 5.2 on samples of the parts.

    Coordinates are compared one by one (Kolmogorov-Smirnov, with Holm's correction for
    k d of them); blocks by the distance correlation and by the energy distance, both
    calibrated by permutations.  A test that finds nothing proves nothing: its power
    grows with the samples.  $M_i$ holds the coordinates whose own law changes, so a
    condition that changes nothing but how coordinates depend on one another fails
    outside it, although some larger block may be its own.

    Args:
        key: A typed PRNG key, for permutations.
        background: Samples `[n, *d]`.
        conditionals: k sets of samples.
        level: Family-wise error of all tests together, in (0, 1).
        most: How many samples the tests of blocks use, which compare every pair; two at
            the least.

    Returns:
        A `Factorization`.

    Raises:
        ValueError: If there is no conditional, sets differ in shape or are small, or
            `level` or `most` is out of range.

    Source: Bradley et al. 2025, definition 5.2; the tests are ours.

    Example:
        >>> rng = np.random.default_rng(2)
        >>> at = lambda *mean: mean + rng.standard_normal((500, 3))
        >>> sets = at(0, 0, 0), [at(2, 0, 0), at(0, 3, 0)]
        >>> report = factorization(jax.random.key(0), *sets)
        >>> report.labels.tolist(), report.factorized
        ([1, 2, 0], True)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), got {level}.")
    if most < 2:
        raise ValueError(f"most must be at least 2, got {most}.")
    base, *sets = as_features(background, conditionals, None)
    each = level / 3  # of the three questions
    changed = changed_coordinates(base, sets, each)
    labels = _first_label(changed)
    overlap = changed.astype(int) @ changed.T.astype(int)
    # So many that the smallest p-value survives Holm's correction for all sets.
    permutations = int(np.ceil(2 * (len(sets) + 1) / each))
    key_orders, *keys = jax.random.split(key, len(sets) + 1)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_orders)))
    test = partial(_independence, rng, permutations=permutations)
    base, sets = base[:most], [x[:most] for x in sets]
    inside = [test(x[:, c], x[:, ~c]) for x, c in zip(sets, changed, strict=True)]
    dependence = np.array([_mutual(test, base, labels), *inside])
    outside = np.array(
        [
            two_sample_test(k, x[:, ~c], base[:, ~c], permutations).p_value
            if not c.all()
            else 1.0
            for k, x, c in zip(keys, sets, changed, strict=True)
        ]
    )
    found = (
        (overlap - np.diag(np.diag(overlap)) > 0).any(),
        (holm(dependence) < each).any(),
        (holm(outside) < each).any(),
    )
    return Factorization(
        changed, labels, overlap, dependence, outside, level, not any(found)
    )


def changed_coordinates(
    background: Float[np.ndarray, "n d"],
    conditionals: Sequence[Float[np.ndarray, "m d"]],
    level: float,
) -> Bool[np.ndarray, "k d"]:
    """Which coordinates differ in law, with a family-wise error of `level`.

    Args:
        background: Samples.
        conditionals: k sets of samples.
        level: In (0, 1).

    Returns:
        `[k, d]`.

    Source: two-sample Kolmogorov-Smirnov tests; Holm 1979.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((200, 2))
        >>> changed_coordinates(x[:100], [x[100:] + [0, 2]], 0.01)
        array([[False,  True]])
    """
    from scipy import stats

    tests = [stats.ks_2samp(x, background, method="asymp") for x in conditionals]
    values = np.array([test.pvalue for test in tests])  # type: ignore[reportAttributeAccessIssue]
    return holm(values) < level


def holm(p_values: Any) -> np.ndarray:
    """P-values corrected for their number by Holm's method.

    Args:
        p_values: Of any shape.

    Returns:
        Values of the same shape: those below a level have that family-wise error.

    Source: Holm 1979.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03])).round(2)
        array([0.03, 0.06, 0.06])
    """
    flat = np.asarray(p_values, float).ravel()
    order = np.argsort(flat)
    worse = np.maximum.accumulate(flat[order] * np.arange(flat.size, 0, -1))
    corrected = np.empty_like(flat)
    corrected[order] = np.minimum(worse, 1.0)
    return corrected.reshape(np.shape(p_values))


def _first_label(changed: np.ndarray) -> np.ndarray:
    """The first conditional that changes a coordinate, plus one; 0 if none does."""
    return np.where(changed.any(0), changed.argmax(0) + 1, 0)


def _distances(x: np.ndarray) -> np.ndarray:
    """Distances of all pairs, doubly centred; coordinates have unit variance."""
    from scipy.spatial.distance import pdist, squareform

    scale = x.std(0)
    d = squareform(pdist(x / np.where(scale > 0, scale, 1.0)))
    return d - d.mean(0) - d.mean(1)[:, None] + d.mean()


def _independence(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, permutations: int
) -> float:
    """The p-value of distance covariance; 1 where a side has no coordinates."""
    if not (x.shape[1] and y.shape[1]):
        return 1.0
    a, b = _distances(x), _distances(y)
    observed = (a * b).sum()
    orders = (rng.permutation(len(x)) for _ in range(permutations))
    larger = sum((a * b[np.ix_(order, order)]).sum() >= observed for order in orders)
    return (1 + larger) / (1 + permutations)


def _mutual(test: Any, x: np.ndarray, labels: np.ndarray) -> float:
    """That all blocks are independent: block 1 of the later ones, 2 of those after."""
    blocks = np.unique(labels)
    if len(blocks) == 1:
        return 1.0
    values = [test(x[:, labels == b], x[:, labels > b]) for b in blocks[:-1]]
    return min(1.0, len(values) * float(min(values)))
