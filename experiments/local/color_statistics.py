"""Cosines, ranks and rates of the experiment on colours: NumPy, no network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.spatial.distance import pdist

from compjax import analysis


def crossed_cosines(shifts: Any) -> Float[np.ndarray, "k k"]:
    r"""Cosines between k shifts, of which there are two estimates from other samples.

    $$\frac{\langle d_i, d_j' \rangle + \langle d_i', d_j \rangle}
           {2 \sqrt{\langle d_i, d_i' \rangle \langle d_j, d_j' \rangle}}$$

    The errors of d and d' are independent, so that no product holds the square of one.
    In a single set of samples such squares would lengthen every shift and, where
    samples are shared, turn all of them alike.

    Args:
        shifts: `[2, k, f]`.

    Returns:
        `[k, k]`; NaN beside a shift whose length is lost in noise.  Values may lie a
        little outside of -1 and 1.

    Source: Ours.
    """
    one, other = np.asarray(shifts, float)
    products = (one @ other.T + other @ one.T) / 2
    squares = np.diag(products)
    length = np.sqrt(np.where(squares > 0, squares, np.nan))
    return products / length / length[:, None]


def over_seeds(values: Any) -> analysis.Estimate:
    """The mean over training seeds `[s, ...]`, and its standard error.

    NaN is the error of one seed.
    """
    values = np.asarray(values, float)
    n = len(values)
    if n < 2:
        return analysis.Estimate(values.mean(0), np.full(values.shape[1:], np.nan))
    return analysis.Estimate(values.mean(0), values.std(0, ddof=1) / np.sqrt(n))


def half_width(error: Any, n: int) -> Any:
    """Of the 95 % interval about a mean of n seeds, by Student's law."""
    return error * (stats.t.ppf(0.975, n - 1) if n > 1 else np.nan)


class Ranking(NamedTuple):
    """A rank correlation of few pairs.

    Args:
        rho: Spearman's; NaN where one side does not vary.
        p: The share of all orders whose correlation is as far from 0: two-sided, exact.
    """

    rho: float
    p: float


def ranking(first: Sequence[float], second: Sequence[float]) -> Ranking:
    """How two lists rank the same few things, at most 8.

    Args:
        first: n numbers.
        second: n numbers.
    """
    one, other = (stats.rankdata(values) for values in (first, second))
    one, other = one - one.mean(), other - other.mean()
    scale = np.sqrt((one**2).sum() * (other**2).sum())
    if not (scale > 0 and np.isfinite([*first, *second]).all()):
        return Ranking(np.nan, np.nan)
    orders = np.array(list(itertools.permutations(one)))
    rho = float(one @ other / scale)
    as_far = np.abs(orders @ other) / scale >= abs(rho) - 1e-9
    return Ranking(rho, float(as_far.mean()))


def least_rho(n: int, level: float = 0.05) -> float:
    """The smallest rank correlation of n pairs without ties whose p is below a level.

    Args:
        n: At most 8.
        level: Of significance.
    """
    ranks = np.arange(n) - (n - 1) / 2
    orders = np.array(list(itertools.permutations(ranks)))
    rhos = np.abs(orders @ ranks) / (ranks @ ranks)
    values = np.unique(rhos.round(9))
    tails = np.array([(rhos >= rho - 1e-9).mean() for rho in values])
    return float(values[tails < level][0])


def meets(xy: Any, colors: Any, asked: Any, apart: float) -> bool:
    """Whether there is an object of every colour, and these stand apart.

    Patches of one object of a mixed colour are near each other, and no two objects.

    Args:
        xy: `[m, 2]`, objects.
        colors: `[m]`, theirs.
        asked: Different colours.
        apart: Distance that no pair may be nearer than.
    """
    choices = [np.asarray(xy)[np.asarray(colors) == color] for color in asked]
    return any(
        (pdist(np.stack(chosen)) > apart).all()
        for chosen in itertools.product(*choices)
    )


RESAMPLES = 2000
"""Of the bootstrap."""


def rates(
    met: np.ndarray, chance: np.ndarray, ceiling: np.ndarray, seeds: Any, seed: int
) -> dict[str, Any]:
    """Means of three answers of every image, and the first between the other two.

    Intervals are those of `analysis.tally`: 95 %, by bootstrap over images within
    training seeds.

    Args:
        met: `[n]`, whether an image meets its request.
        chance: `[n]`, whether it meets another.
        ceiling: `[n]`, whether the true picture of the request does.
        seeds: `[n]`, which trained model made each image.
        seed: Of the bootstrap.
    """
    answers = np.stack([met, chance, ceiling]).astype(float)
    rng, seeds = np.random.default_rng(seed), np.asarray(seeds)
    groups = [np.flatnonzero(seeds == one) for one in np.unique(seeds)]
    picks = np.concatenate(
        [rng.choice(group, (RESAMPLES, len(group))) for group in groups], axis=1
    )
    again = answers[:, picks].mean(-1)
    low, high = np.quantile(again[0], (0.025, 0.975))
    row = dict(zip(("met", "chance", "ceiling"), answers.mean(1).tolist(), strict=True))
    row |= {"met_low": float(low), "met_high": float(high)}
    ends = np.quantile(corrected(*again), (0.025, 0.975))
    values = (corrected(*answers.mean(1)), *ends)
    names = ("corrected", "corrected_low", "corrected_high")
    return row | {name: number(v) for name, v in zip(names, values, strict=True)}


def corrected(met: Any, chance: Any, ceiling: Any) -> Any:
    """0 for images that ignore their requests, 1 for those as good as true pictures."""
    room = np.asarray(ceiling - chance)
    return np.where(room > 0, met - chance, np.nan) / np.where(room > 0, room, 1.0)


def number(value: Any) -> float | None:
    """A number as JSON has it: None where it is not known."""
    return float(value) if np.isfinite(value) else None
