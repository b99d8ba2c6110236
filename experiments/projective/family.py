"""A frozen family of compositions, and whether reverse diffusion samples each of them.

Six kinds of 40 members.  All but the last are Gaussians in three dimensions, two
conditionals over a background; what varies is random, from one seed:

* *factorized*: conditional i changes mean and variance of coordinate i;
* *sheared*: the same, seen through a shear;
* *equal covariance*: shifts in any two directions, at any angle;
* *overlapping variances*: orthogonal shifts, but both change one variance more;
* *sheared, no shift*: sheared, and only variances change;
* *mixture background*: two Gaussians in the plane over their own equal mixture.

Success is an error of the sampled law, never a diagnostic: KL(sampled law || C[p]) of
ancestral steps, below a threshold.  Everything here is NumPy in double precision and
shares no code with compjax.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from experiments import launch

COUNT = 40
"""Members of a kind."""

SEED = 20250
"""Of the family.  It does not change."""


class Member(NamedTuple):
    """One composition: an m-part background and k Gaussian conditionals over it.

    Args:
        kind: Which of `KINDS`.
        means: Of the background's equal parts, `[m, d]`; m = 1 for a Gaussian.
        covs: `[m, d, d]`.
        conditional_means: `[k, d]`.
        conditional_covs: `[k, d, d]`.
    """

    kind: str
    means: np.ndarray
    covs: np.ndarray
    conditional_means: np.ndarray
    conditional_covs: np.ndarray


Rng = np.random.Generator


def rotation(rng: Rng) -> np.ndarray:
    """A uniform rotation, from a unit quaternion: no sign is left to LAPACK."""
    w, x, y, z = (q := rng.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def seen(kind: str, view: np.ndarray, means: Any, variances: Any) -> Member:
    """Diagonal Gaussians, the background first, seen through a linear map."""
    means = np.asarray(means) @ view.T
    covs = np.stack([view @ np.diag(v) @ view.T for v in np.asarray(variances)])
    return Member(kind, means[:1], covs[:1], means[1:], covs[1:])


def factors(rng: Rng, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of factorized conditionals, `[3, 3]`, background first."""
    variances = np.tile(rng.uniform(0.5, 1.5, 3), (3, 1))
    means = np.tile(rng.uniform(-1, 1, 3), (3, 1))
    for i in (0, 1):
        means[i + 1, i] += shift * rng.uniform(0.5, 2) * rng.choice([-1, 1])
        variances[i + 1, i] *= np.exp(rng.uniform(np.log(0.05), np.log(1.5)))
    return means, variances


def shear(rng: Rng) -> np.ndarray:
    """`I + s u v^T` with orthogonal unit u, v, and s up to 3."""
    q = rotation(rng)
    return np.eye(3) + rng.uniform(0, 3) * np.outer(q[0], q[1])


def factorized(rng: Rng) -> Member:
    """Theorem 5.3 holds."""
    return seen("factorized", np.eye(3), *factors(rng, 1.0))


def sheared(rng: Rng) -> Member:
    """It does not, unless the shear is small."""
    return seen("sheared", shear(rng), *factors(rng, 1.0))


def sheared_without_shift(rng: Rng) -> Member:
    """As `sheared`, but no mean moves: cosines have nothing to see."""
    return seen("sheared, no shift", shear(rng), *factors(rng, 0.0))


def equal_covariance(rng: Rng) -> Member:
    """V is constant, and commutation exact, at every angle."""
    means = rng.uniform(-1, 1, (1, 3)) + np.zeros((3, 1))
    means[1:] += rng.uniform(-2, 2, (2, 3))
    variances = np.tile(np.exp(rng.uniform(np.log(0.2), np.log(2), 3)), (3, 1))
    return seen("equal covariance", rotation(rng), means, variances)


def overlapping(rng: Rng) -> Member:
    """Orthogonal shifts that factorize in their means only."""
    means, variances = factors(rng, 1.0)
    variances[1:, 2] *= np.exp(rng.uniform(np.log(0.03), np.log(1), 2))
    return seen("overlapping variances", rotation(rng), means, variances)


def mixture_background(rng: Rng) -> Member:
    """Setting B: equal parts up to five units apart."""
    covs, means = [], np.zeros((2, 2))
    for _ in range(2):
        angle, sizes = rng.uniform(0, np.pi), rng.uniform(0.5, 1.0, 2)
        turn = np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        )
        covs.append(turn @ np.diag(sizes) @ turn.T)
    means[1] = rng.uniform(0, 5) * turn[0]
    covs = np.stack(covs)
    return Member("mixture background", means, covs, means, covs)


KINDS: tuple[Callable[[Rng], Member], ...] = (
    factorized,
    sheared,
    equal_covariance,
    overlapping,
    sheared_without_shift,
    mixture_background,
)


def family(sigmas: np.ndarray, count: int = COUNT) -> Iterator[Member]:
    """The members, kind by kind.

    Draws whose composition is no density at some noise level are drawn again.

    Args:
        sigmas: The grid, which ends in 0.
        count: Members of a kind.
    """
    for i, make in enumerate(KINDS):
        rng = np.random.default_rng([SEED, i])
        found = 0
        while found < count:
            member = make(rng)
            if len(member.means) > 1 or normalisable(member, sigmas):
                found += 1
                yield member


def composed(member: Member, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Precision and precision times mean of a composition of noised Gaussians."""
    noise = sigma**2 * np.eye(member.means.shape[1])
    coefficients = [
        1 - len(member.conditional_means),
        *[1] * len(member.conditional_means),
    ]
    precisions = np.linalg.inv(
        np.concatenate([member.covs, member.conditional_covs]) + noise
    )
    means = np.concatenate([member.means, member.conditional_means])
    return (
        np.einsum("i,ijk->jk", coefficients, precisions),
        np.einsum("i,ijk,ik->j", coefficients, precisions, means),
    )


def normalisable(member: Member, sigmas: np.ndarray) -> bool:
    """Whether the composition of Gaussians has a positive precision at every level."""
    eigenvalues = [np.linalg.eigvalsh(composed(member, s)[0]) for s in sigmas]
    return all(e.min() > 1e-3 * e.max() for e in eigenvalues)


def ancestral(sigmas: np.ndarray) -> Iterator[tuple[float, float, float]]:
    """`sigma`, `sigma^2 - sigma_next^2` and `sigma_up` of every step."""
    for high, low in itertools.pairwise(sigmas):
        step = high**2 - low**2
        yield high, step, low * np.sqrt(step) / high


def sampled_gaussian(
    member: Member, sigmas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of what ancestral steps draw, exactly: all is linear."""
    d = member.means.shape[1]
    mean, cov = np.zeros(d), sigmas[0] ** 2 * np.eye(d)
    for sigma, step, up in ancestral(sigmas):
        precision, pull = composed(member, sigma)
        linear = np.eye(d) - step * precision
        mean = linear @ mean + step * pull
        cov = linear @ cov @ linear.T + up**2 * np.eye(d)
    return mean, cov


def gaussian_error(member: Member, sigmas: np.ndarray) -> float:
    """`KL(sampled || C[p])` of two Gaussians."""
    mean, cov = sampled_gaussian(member, sigmas)
    precision, pull = composed(member, 0.0)
    gap = np.linalg.solve(precision, pull) - mean
    change = precision @ cov
    logs = np.linalg.slogdet(change)[1]
    return float(np.trace(change) - len(mean) - logs + gap @ precision @ gap) / 2


def log_normals(x: np.ndarray, means: np.ndarray, covs: np.ndarray) -> np.ndarray:
    """`[m, b]`, and constants included."""
    precisions, logs = np.linalg.inv(covs), np.linalg.slogdet(2 * np.pi * covs)[1]
    gaps = x[None] - means[:, None]
    return -(np.einsum("mbi,mij,mbj->mb", gaps, precisions, gaps) + logs[:, None]) / 2


def mixture_score(member: Member, x: np.ndarray, sigma: float) -> np.ndarray:
    """The composed score over the mixture of the conditionals themselves."""
    covs = member.covs + sigma**2 * np.eye(x.shape[1])
    logs = log_normals(x, member.means, covs)
    shares = np.exp(logs - logsumexp(logs, axis=0))
    gaps = x[None] - member.means[:, None]
    scores = -np.einsum("mij,mbj->mbi", np.linalg.inv(covs), gaps)
    k = len(scores)
    return scores.sum(0) - (k - 1) * (shares[..., None] * scores).sum(0)


CELLS = 12
"""Cells along a side of the grid on which laws in the plane are compared."""


def mixture_error(
    member: Member, sigmas: np.ndarray, n: int, rng: np.random.Generator
) -> float:
    """`KL(sampled || C[p])` over cells, of n samples, less its bias.

    The grid reaches five standard deviations of the target around its mean; samples
    outside count in the cell that is nearest.  KL over cells is at most KL.
    """
    x = sigmas[0] * rng.standard_normal((n, 2))
    for sigma, step, up in ancestral(sigmas):
        x = (
            x
            + step * mixture_score(member, x, sigma)
            + up * rng.standard_normal(x.shape)
        )
    # Twice: a wide grid for the target's moments, then one that fits it.
    points, target = on_grid(member, np.zeros(2), np.full(2, 12.0))
    centre = target @ points
    scale = np.sqrt(target @ (points - centre) ** 2)
    points, target = on_grid(member, centre, 5 * scale)
    cell = lambda x: np.clip(
        ((x - centre) / (5 * scale) + 1) * CELLS / 2, 0, CELLS - 1
    ).astype(int)
    index = lambda x: np.ravel_multi_index(tuple(cell(x).T), (CELLS, CELLS))
    p = np.bincount(index(points), target, CELLS**2)
    q = np.bincount(index(x), minlength=CELLS**2) / n
    seen = q > 0
    bias = (seen.sum() - 1) / (2 * n)
    return float((q[seen] * np.log(q[seen] / np.maximum(p[seen], 1e-12))).sum() - bias)


def on_grid(
    member: Member, centre: np.ndarray, half: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Midpoints of a grid and the target's share of each, `[n, 2]` and `[n]`."""
    side = (np.arange(40 * CELLS) + 0.5) / (20 * CELLS) - 1
    points = centre + half * np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    logs = log_normals(points, member.means, member.covs)
    k = len(logs)
    composed = logs.sum(0) - (k - 1) * (logsumexp(logs, axis=0) - np.log(k))
    shares = np.exp(composed - composed.max())
    return points, shares / shares.sum()


def error(member: Member, sigmas: np.ndarray, n: int, rng: Rng) -> float:
    """`KL(sampled law || C[p])` in nats, of ancestral steps down the grid.

    Args:
        member: A composition.
        sigmas: The grid, which ends in 0.
        n: Samples, where it cannot be had in closed form.
        rng: For those.
    """
    if len(member.means) == 1:
        return gaussian_error(member, sigmas)
    return mixture_error(member, sigmas, n, rng)


def errors(sigmas: np.ndarray, n: int, seed: int, count: int = COUNT) -> list[float]:
    """The error of every member of the family, in its order."""
    rng = np.random.default_rng(seed)
    members = list(family(sigmas, count))
    return [error(m, sigmas, n, rng) for m in launch.progress(members, "sampling")]
