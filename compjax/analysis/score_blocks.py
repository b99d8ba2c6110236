r"""Are these factorized conditionals?  Definition 5.2 read off score functions.

For factorized conditionals the difference $\delta_i = s_i - s_b$ lives on the block
$M_i$, depends on $x|_{M_i}$ alone, and $s_b$ does not look across blocks, at every
noise level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.types import PRNGKey, ScoreFn, Sigma, as_float


class ScoreBlocks(NamedTuple):
    r"""Where score differences live, and what looks across blocks.

    Args:
        strength: `[k, d]`, root mean squares of $\delta_i$ at each coordinate.
        labels: `[d]`, the block of every coordinate: i + 1 for $M_i$, 0 for $M_b$.
        overlap: `[k, k]`, $\sum_c \min(a_{ic}, a_{jc})$ with $a_i$ the shares of
            $E\,\delta_i^2$ at each coordinate: 0 for disjoint supports, 1 for equal.
        leak: `[k + 1]`, shares of the squared Jacobian that cross blocks: of $s_b$,
            then of each $\delta_i$ (rows and columns off $M_i$).
    """

    strength: Float[np.ndarray, "k d"]
    labels: Int[np.ndarray, " d"]
    overlap: Float[np.ndarray, "k k"]
    leak: Float[np.ndarray, " sets"]


def score_blocks(
    key: PRNGKey,
    background: ScoreFn,
    conditionals: Sequence[ScoreFn],
    x: Any,
    sigma: Sigma,
    *,
    probes: int = 8,
    threshold: float = 0.1,
) -> ScoreBlocks:
    """The blocks of score functions at one noise level.

    Args:
        key: A typed PRNG key, for the probes of Jacobians.
        background: $s_b$.
        conditionals: $s_1, ..., s_k$.
        x: `[b, *d]`, points where the scores are meant to be right: noised samples.
        sigma: Their noise level.
        probes: Random directions in each block, for each point.
        threshold: As for `find_blocks`.

    Returns:
        A `ScoreBlocks`, with the coordinates of an event in one axis.

    Raises:
        ValueError: If there is no conditional, scores differ in shape, or `probes < 1`;
            or as `find_blocks`.

    Source: Bradley et al. 2025, definition 5.2; ours.

    Example:
        >>> import compjax as cj
        >>> at = lambda *m: cj.densities.Gaussian(jnp.array(m), jnp.eye(3))
        >>> b, *parts = at(0.0, 0.0, 0.0), at(1.0, 0.0, 0.0), at(0.0, 2.0, 0.0)
        >>> report = score_blocks(jax.random.key(0), b, parts, jnp.ones((4, 3)), 1.0)
        >>> report.labels.tolist(), float(report.overlap[0, 1])
        ([1, 2, 0], 0.0)
    """
    if not len(conditionals):
        raise ValueError("Give at least one conditional score.")
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}.")
    x = as_float(x)
    for i, score in enumerate((background, *conditionals)):
        shape = jax.eval_shape(score, x, sigma).shape
        if shape != x.shape:
            raise ValueError(f"Score {i} returned shape {shape} for x of {x.shape}.")
    strength = np.sqrt(np.asarray(_squares(background, tuple(conditionals), x, sigma)))
    labels = find_blocks(strength, threshold)
    squares = strength**2
    shares = squares / np.maximum(squares.sum(1, keepdims=True), np.finfo(float).tiny)
    overlap = np.minimum(shares[:, None], shares[None]).sum(-1)
    blocks = np.arange(len(conditionals) + 1)[:, None] == labels[None]
    blocks = jnp.asarray(blocks, x.dtype)
    energy = sum(
        _energy(k, background, tuple(conditionals), x, sigma, blocks)
        for k in jax.random.split(key, probes)
    )
    return ScoreBlocks(strength, labels, overlap, _leaks(np.asarray(energy)))


def find_blocks(strength: Any, threshold: float = 0.1) -> Int[np.ndarray, " d"]:
    """The block of every coordinate, by the conditional that changes it most.

    Args:
        strength: `[k, d]`, how much each conditional changes each coordinate.
        threshold: The share of a conditional's largest strength above which it counts.

    Returns:
        `[d]`: i + 1 for the block of conditional i, 0 where none counts.

    Raises:
        ValueError: If strengths are negative or there are none, or the threshold is not
            in (0, 1).

    Source: ours, for Bradley et al. 2025, definition 5.2.

    Example:
        >>> find_blocks(np.array([[2.0, 0.1, 0.0], [0.0, 3.0, 0.1]])).tolist()
        [1, 2, 0]
    """
    strength = np.asarray(strength, float)
    fits = strength.ndim == 2 and strength.size and (strength >= 0).all()
    if not fits or not 0 < threshold < 1:
        raise ValueError(
            "find_blocks needs strengths [k, d] that are not negative and a threshold "
            f"in (0, 1), got shape {strength.shape} and {threshold}."
        )
    largest = strength.max(1, keepdims=True)
    counts = (strength > threshold * largest) & (largest > 0)
    relative = np.where(counts, strength / np.where(largest > 0, largest, 1.0), 0.0)
    return np.where(counts.any(0), relative.argmax(0) + 1, 0)


@jax.jit
def _squares(background: Any, conditionals: Any, x: Array, sigma: Sigma) -> Array:
    s_b = background(x, sigma)
    deltas = jnp.stack([s(x, sigma) - s_b for s in conditionals])
    return (deltas.reshape(len(conditionals), len(x), -1) ** 2).mean(1)


@jax.jit
def _energy(
    key: PRNGKey,
    background: Any,
    conditionals: Any,
    x: Array,
    sigma: Sigma,
    blocks: Float[Array, "blocks d"],
) -> Float[Array, "sets rows columns"]:
    r"""$\lVert P_r J P_c v \rVert^2$ of $s_b$ and each delta, for a random v."""

    def values(x: Array) -> Array:
        s_b = background(x, sigma)
        return jnp.stack([s_b, *(s(x, sigma) - s_b for s in conditionals)])

    v = jax.random.normal(key, x.shape, x.dtype)

    def along(block: Array) -> Array:
        _, moved = jax.jvp(values, (x,), (v * block.reshape((1, *x.shape[1:])),))
        squares = (moved.reshape(len(moved), len(x), -1) ** 2).mean(1)
        return squares @ blocks.T

    return jnp.moveaxis(jax.lax.map(along, blocks), 0, -1)


def _leaks(energy: Float[np.ndarray, "sets rows columns"]) -> np.ndarray:
    """What crosses blocks: off the diagonal of s_b, off block (i, i) of delta_i."""
    total = energy.sum((1, 2))
    inside = np.array(
        [np.trace(energy[0]), *(energy[i, i, i] for i in range(1, len(energy)))]
    )
    # A shift has no Jacobian at all: what is below rounding of the background's counts
    # as none.
    none = total <= 1e-8 * total[0]
    return np.where(none, 0.0, 1 - inside / np.where(none, 1.0, total))
