"""How far samples are from what should have come out: as published, and rightly.

A distance between samples means something beside the *floor*, which is what two sets of
exact samples show.
"""

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist, pdist

from experiments.benchmarks2d.tasks import Points, Task

RRR_SLIP = 2 * (np.log(8) + np.log(2 * np.pi * 0.03**2))
"""What RRR's `toy_gmm` adds to log-likelihoods: its normaliser has the wrong sign."""


def measure(task: Task, x: Points, exact: Points, key: int = 0) -> dict[str, float]:
    """Every metric that a task has.

    Args:
        task: The benchmark.
        x: `[n, 2]`, samples.
        exact: `[n, 2]`, exact samples of the target.
        key: Seed of the projections.

    Returns:
        By name; `W2` is the one that decides.
    """
    found = {
        "W2": w2(x, exact),
        "sliced W2": sliced_w2(x, exact, key),
        "MMD^2": mmd2(x, exact),
        "Chamfer": chamfer(x, exact),
    }
    if task.accepts is not None:
        found["accuracy"] = float(task.accepts(x).mean())
    if task.name == "mixture_c":
        found["accuracy as published"] = float(within_circles(x).mean())
    if task.log_target is not None:
        found["log-likelihood"] = spread_log_likelihood(task, x)
        found["log-likelihood as published"] = spread_log_likelihood(task, x, RRR_SLIP)
        found["covariances"] = halves_distance(x, exact)
    return found


def w2(x: Points, y: Points) -> float:
    """The 2-Wasserstein distance of two samples of equal size, by assignment."""
    cost = cdist(x, y, "sqeuclidean")
    return float(np.sqrt(cost[linear_sum_assignment(cost)].mean()))


def sliced_w2(x: Points, y: Points, seed: int = 0, directions: int = 2000) -> float:
    """The same, averaged over lines: Soiffer et al. 2026."""
    angles = np.random.default_rng(seed).uniform(0, np.pi, directions)
    lines = np.stack([np.cos(angles), np.sin(angles)])
    apart = np.sort(x @ lines, axis=0) - np.sort(y @ lines, axis=0)
    return float(np.sqrt((apart**2).mean()))


def mmd2(x: Points, y: Points) -> float:
    """The unbiased squared kernel distance, with the median as width: Soiffer et al.

    It is 0 on average for one law, so that values below 0 occur.
    """
    distances = pdist(np.concatenate([x[:500], y[:500]]))
    width = np.median(distances) or distances.mean()  # of two points it is 0
    kernel = lambda a, b: np.exp(-cdist(a, b, "sqeuclidean") / (2 * width**2))
    n, m = len(x), len(y)
    within = lambda k, n: (k.sum() - n) / (n * (n - 1))
    between = kernel(x, y).mean()
    return float(within(kernel(x, x), n) + within(kernel(y, y), m) - 2 * between)


def chamfer(x: Points, y: Points) -> float:
    """Mean distances to the nearest, both ways, summed: Yu et al. 2025.

    It does not see how many samples are where.
    """
    return float(KDTree(y).query(x)[0].mean() + KDTree(x).query(y)[0].mean())


def within_circles(x: Points) -> Points:
    """CompLift's accuracy of two circles: without abs, all that is inside counts."""
    centers = np.array([[-0.5, 0.0], [0.5, 0.0]])
    return (np.linalg.norm(x[:, None] - centers[None], axis=-1) - 1).min(1) <= 0.1


def spread_log_likelihood(task: Task, x: Points, slip: float = 0.0) -> float:
    """Of the target with 1 % of its mass over [-1.1, 1.1]^2: Sjoberg et al. 2026.

    Args:
        task: One with a log-density.
        x: Samples.
        slip: Added to the target's log-density.
    """
    assert task.log_target is not None
    everywhere = (np.abs(x) <= 1.1).all(1) / 2.2**2
    target = np.exp(task.log_target(x) + slip)
    # What is outside of both has no finite log-density; the paper's samples are inside.
    return float(np.log(np.maximum(0.99 * target + 0.01 * everywhere, 1e-12)).mean())


def halves_distance(x: Points, y: Points) -> float:
    """The distance of the two modes' variances: Sjoberg et al. 2026.

    There a mixture of two diagonal Gaussians is fitted; the modes of this target are so
    far apart that the sign of the second coordinate says which one a sample belongs to.
    """

    def variances(x: Points) -> np.ndarray:
        halves = [x[x[:, 1] > 0], x[x[:, 1] <= 0]]
        return np.stack([h.var(0) if len(h) else np.full(2, np.inf) for h in halves])

    return float(np.linalg.norm(variances(x) - variances(y)))


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Mean over seeds of every metric."""
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
