r"""Local conditional scores: the statements as functions.

A conditional score is *local* (LCS) if at every pixel it depends on some of the pixels
and some of the conditions only.  It belongs to a *conditional projective composition*
(CPC, `densities.ConditionalProjective`), and that is where models get conditions right
in numbers they never saw.  docs/math.md states and proves what is evaluated here;
`local_noise` says what the noise level has to do with it, and `windowed` what a network
with windows makes of incomplete labels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.analysis.theorems import composition_error
from compjax.densities import ConditionalProjective
from compjax.samplers.line_integral import PathIntegral
from compjax.samplers.mcmc import Point
from compjax.types import Number, PRNGKey, ScoreFn, Sigma, as_float, whole

Masks = Sequence[tuple[int, ...]]
"""Disjoint sets of coordinates."""

Family = Callable[[tuple[int, ...]], ScoreFn]
"""A conditional score: the score function of every set J of conditions."""


def local_score(
    family: ConditionalProjective,
    present: Iterable[int],
    x: Float[Array, "b n"],
    sigma: Sigma,
) -> Float[Array, "b n"]:
    r"""The score of $p(x \mid c_J)$, from regions that do not see one another.

    $$s(x \mid c_J)|_{M_j} = \nabla\log p(x|_{M_j} \mid c_j), \qquad
      s(x \mid c_J)|_{M_J^c} = \nabla\log p(x|_{M_J^c} \mid \emptyset)$$

    So pixels of $M_j$ see $x|_{M_j}$ and $c_j$, whatever else is requested.  It is the
    gradient of `family.given(present).log_prob` at every noise level.

    Args:
        family: A conditional projective composition.
        present: $J$.
        x: `[b, n]`.
        sigma: Noise level.

    Raises:
        ValueError: If x is not `[b, n]`.

    Source: Bradley 2025 (2509.16447), lemma 1, by second-hand reports.

    Example:
        >>> from compjax.densities import Gaussian
        >>> background = Gaussian(jnp.zeros(2), jnp.eye(2) + 0.5)
        >>> family = ConditionalProjective(
        ...     background, ((0,),), (Gaussian(jnp.ones(1), jnp.eye(1)),)
        ... )
        >>> score = local_score(family, (0,), jnp.full((1, 2), 2.0), 1.0)
        >>> [round(float(s), 2) for s in score[0]]  # (1 - 2) / 2, (0 - 2) / 2.5
        [-0.5, -0.8]
    """
    present, n = tuple(present), len(family.rest(()))
    if x.shape[1:] != (n,):
        raise ValueError(f"x must be [b, {n}], got {x.shape}.")
    score = jnp.zeros_like(x)
    for j in present:
        mask = np.array(family.masks[j])
        score = score.at[:, mask].set(family.conditionals[j](x[:, mask], sigma))
    if rest := family.rest(present):
        rest = np.array(rest)
        background = family.background.marginal(rest)
        score = score.at[:, rest].set(background(x[:, rest], sigma))
    return score


class LocalDefect(NamedTuple):
    r"""How far a conditional score is from a local one: three shares, 0 where it is.

    Each is the root mean square of a change of the score over that of the score; nan
    where nothing could be compared.

    Args:
        pixels: On each $M_j$, j in J, and on all that is left, when pixels outside of
            it are replaced.
        conditions: On each $M_j$ when conditions other than j are added or dropped.
        rest: On each $M_i$, i not in J, and on what no mask covers, by either.
    """

    pixels: Float[Array, ""]
    conditions: Float[Array, ""]
    rest: Float[Array, ""]


def local_defect(
    key: PRNGKey,
    family: Family,
    masks: Masks,
    x: Float[Array, "b n"],
    sigma: Number,
    sets: Sequence[tuple[int, ...]] | None = None,
) -> LocalDefect:
    r"""How much scores hear of pixels and conditions that they should not hear of.

    Pixels outside a region are replaced by those of another sample.  By theorem E,
    `pixels` and `conditions` are 0 if and only if, given each J, its regions are
    independent and the law on $M_j$ is the same in all J that hold j.  All three are 0
    if and only if that is so and what has no condition is independent, region by
    region, and stays as it is: a CPC over a background that factorises.  (A CPC over
    one that does not has the first two alone.)

    Args:
        key: A typed PRNG key, which decides what replaces what.
        family: The score function of every set of conditions: `parts.given` for a CPC.
        masks: $M_1, \dots, M_k$.
        x: `[b, n]`, two or more noised samples.
        sigma: Their noise level.
        sets: The sets J to look at; all $2^k$ of them if None.

    Raises:
        ValueError: If there are less than two samples, or masks overlap.

    Source: ours, for the definition in Bradley 2025 (2509.16447).

    Example:
        >>> from compjax.densities import Gaussian
        >>> key_x, key_apart, key_tied = jax.random.split(jax.random.key(0), 3)
        >>> x, masks = jax.random.normal(key_x, (100, 2)), ((0,), (1,))
        >>> of = lambda r: Gaussian(jnp.zeros(2), jnp.array([[1.0, r], [r, 1.0]]))
        >>> apart, tied = of(0.0), of(0.6)
        >>> float(local_defect(key_apart, lambda J: apart, masks, x, 0.1).pixels)
        0.0
        >>> found = local_defect(key_tied, lambda J: tied, masks, x, 0.1)
        >>> bool(found.pixels > 0.5), float(found.conditions)
        (True, 0.0)
    """
    x = as_float(x)
    if len(x) < 2:
        raise ValueError(f"Pixels are swapped between samples: give two, not {len(x)}.")
    (b, n), k = x.shape, len(masks)
    everywhere = regions(masks, n)
    if sets is None:
        sets = [J for m in range(k + 1) for J in itertools.combinations(range(k), m)]
    # A shift of the batch leaves no sample where it was.
    others = jnp.roll(x, jax.random.randint(key, (), 1, b), axis=0)

    def swapped(region: np.ndarray) -> Array:
        return jnp.where(np.isin(np.arange(n), region)[None], x, others)

    first: dict[tuple[int, bool], Array] = {}
    pixels, conditions, rest = [], [], []
    for J in sets:
        looked_at = everywhere + regions([masks[j] for j in J], n)[len(J) :]
        values = family(tuple(J))(
            jnp.concatenate([x, *(swapped(region) for region in looked_at)]), sigma
        )
        here, *elsewhere = values.reshape(-1, b, n)
        for i, (region, there) in enumerate(zip(looked_at, elsewhere, strict=True)):
            own, held = here[:, region], i in J
            of_pixels = pixels if held or i >= len(everywhere) else rest
            if len(region) < n:  # else nothing is outside
                of_pixels.append((there[:, region], own))
            if i < len(everywhere):
                reference = first.setdefault((i, held), own)
                if reference is not own:
                    (conditions if held else rest).append((own, reference))
    return LocalDefect(_share(pixels), _share(conditions), _share(rest))


def _share(pairs: list[tuple[Array, Array]]) -> Array:
    """The root mean square of the differences over that of the second of each pair."""
    if not pairs:
        return as_float(jnp.nan)
    change = sum(((a - b) ** 2).sum() for a, b in pairs)
    size = sum((b**2).sum() for _, b in pairs)
    return jnp.sqrt(jnp.where(change > 0, change / size, 0.0))


def regions(masks: Masks, n: int) -> list[np.ndarray]:
    """The masks, and all other coordinates as one more region where there are any.

    Raises:
        ValueError: If masks are empty, overlap, or leave `range(n)`.

    Example:
        >>> regions(((2,), (0,)), 4)
        [array([2]), array([0]), array([1, 3])]
    """
    flat = [int(i) for mask in masks for i in mask]
    inside = all(0 <= i < n for i in flat)
    if not inside or not all(map(len, masks)) or len(set(flat)) < len(flat):
        raise ValueError(
            "Masks are disjoint, non-empty sets of the coordinates 0 to "
            f"{n - 1}, got {[tuple(mask) for mask in masks]}."
        )
    rest = np.setdiff1d(np.arange(n), np.array(flat, int))
    return [np.array(mask, int) for mask in masks] + ([rest] if len(rest) else [])


def blockwise_log_ratio(
    score: ScoreFn,
    masks: Masks,
    x: Float[Array, "b n"],
    y: Float[Array, "b n"],
    sigma: Sigma,
    segments: int = 32,
) -> Float[Array, " b"]:
    r"""$\log p(x) - \log p(y)$ by integrals over one region at a time.

    $$\sum_B \int_0^1 s_B\bigl(y + t\,(x - y)_B\bigr) \cdot (x - y)_B\,dt$$

    over the masks B and the rest.  Every integral moves from y within its region and
    stays at y outside.  It is the log-ratio of densities if regions are independent,
    and for a local score: where pixels stay does not matter.  If not, it is another
    number: $\sum_{B < B'} d_B^T P_{BB'} d_{B'}$ too large for a Gaussian of precision P
    and $d = x - y$.

    Args:
        score: $s$.
        masks: Regions; all other coordinates are one more.
        x: `[b, n]`, where integrals end.
        y: `[b, n]`, where they start.
        sigma: Noise level.
        segments: Pieces of each line, with five nodes of Gauss and Lobatto's rule each.

    Raises:
        ValueError: If masks overlap, shapes differ or `segments < 1`.

    Source: ours (theorem E of docs/math.md).

    Example:
        >>> from compjax.densities import Gaussian
        >>> p = Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> x, y = jnp.ones((1, 2)), jnp.zeros((1, 2))
        >>> blockwise_log_ratio(p, ((0,), (1,)), x, y, 0.0).round(4)
        Array([-1.], dtype=float32)
    """
    x, y, segments = as_float(x), as_float(y), whole("segments", segments)
    if x.shape != y.shape:
        raise ValueError(f"x and y must be of one shape, got {x.shape} and {y.shape}.")
    line = PathIntegral(score, 3)
    starts = jnp.arange(segments) / segments
    total = jnp.zeros(len(x))
    for region in regions(masks, x.shape[1]):
        inside = np.isin(np.arange(x.shape[1]), region)
        away = jnp.where(inside[None], x - y, 0.0)

        def piece(t: Array, away: Array = away) -> Array:
            ends = (y + t * away, y + (t + 1 / segments) * away)
            start, end = (Point(z, score(z, sigma), None) for z in ends)
            return line.log_ratio(start, end, sigma)

        total = total + jax.lax.map(piece, starts).sum(0)
    return total


def extension_error(
    family: Family, present: Sequence[int], x: Float[Array, "b n"], sigma: Sigma
) -> Float[Array, " b"]:
    r"""How far single conditions, composed, are from the law given all of them.

    $$s(x \mid c_J) \quad \text{against} \quad s(x \mid \emptyset) +
      \sum_{j \in J} \bigl(s(x \mid c_j) - s(x \mid \emptyset)\bigr)$$

    It is zero, at every number of conditions and at every noise level, if the family is
    a CPC and $p(x \mid \emptyset)$ factorises over the masks and the rest: then one
    condition at a time is enough to learn from.

    Args:
        family: The score function of every set of conditions.
        present: $J$.
        x: `[b, n]`.
        sigma: Noise level.

    Returns:
        `[b]`, as `composition_error`.

    Source: ours (docs/math.md), after Bradley 2025 (2509.16447).

    Example:
        >>> from compjax.densities import Gaussian, Independent
        >>> at = lambda m: Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> apart = Independent(((0,), (1,)), (at(0.0), at(0.0)))
        >>> parts = ConditionalProjective(apart, ((0,), (1,)), (at(1.0), at(2.0)))
        >>> extension_error(parts.given, (0, 1), jnp.ones((1, 2)), 0.5).round(4)
        Array([0.], dtype=float32)
    """
    singles = [family((j,)) for j in present]
    return composition_error(family(()), singles, family(tuple(present)), x, sigma)
