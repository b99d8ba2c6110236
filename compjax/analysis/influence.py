r"""Which inputs an output depends on: squared derivatives of a score, tile by tile.

The three names of one function have three Jacobians,

$$J_D = 1 + \sigma^2 J_s, \qquad J_\epsilon = -\sigma J_s,$$

and what is local in one need not be in another: "more local at high noise" has opposite
signs for the score and the denoiser (docs/math.md).  So every probe answers for all
three, from the same derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.types import PRNGKey, ScoreFn, Sigma, align, as_float, whole
from compjax.windows import Windows


class Views(NamedTuple):
    r"""One quantity for the score, the denoiser and the predicted noise.

    Args:
        score: Of $s$.
        denoiser: Of $D = x + \sigma^2 s$.
        epsilon: Of $\epsilon = -\sigma s$.
    """

    score: Any
    denoiser: Any
    epsilon: Any


class Influence(NamedTuple):
    """Mean squared derivatives between tiles and single coordinates.

    Args:
        squares: `Views` of `[t, *d]`: squared derivatives, summed over the outputs (or
            inputs) of a tile and averaged over samples.
        errors: `Views` of `[t, *d]`, standard errors of a random estimate at the given
            samples; zeros if exact.
    """

    squares: Views
    errors: Views


def influence(
    score: ScoreFn, x: Float[Array, "b *d"], sigma: Sigma, tiles: Any
) -> Influence:
    r"""How each input moves the outputs of a tile, exactly.

    $$G_t[j] = \frac1b \sum_b \sum_{i \in t} \Bigl(\frac{\partial f_i}
               {\partial x_j}\Bigr)^2$$

    One vector-Jacobian product for every output of the tiles, one at a time: memory is
    that of one gradient of the score.

    Args:
        score: Any score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        tiles: `[t, *d]`, ones where an output belongs to a tile; `windows.square` gives
            those of an image, or take a few outputs only.

    Returns:
        `squares.score[t, j]` and so on.

    Raises:
        ValueError: If tiles do not fit x, or hold anything but zeros and ones.

    Source: The gradients of Niedoba et al. 2024 (2411.19339) and Bradley 2025; how they
        are averaged is ours.

    Example:
        >>> from compjax.scores import as_score
        >>> mean = as_score(lambda x, sigma: x.mean(1, keepdims=True) - x)
        >>> influence(mean, jnp.ones((1, 4)), 1.0, jnp.eye(4)[:1]).squares.score
        Array([[0.5625, 0.0625, 0.0625, 0.0625]], dtype=float32)
    """
    return _exact(_rows, score, x, sigma, tiles)


def response(
    score: ScoreFn, x: Float[Array, "b *d"], sigma: Sigma, tiles: Any
) -> Influence:
    r"""How each output moves with the inputs of a tile, exactly: by columns.

    One Jacobian-vector product for every input of the tiles, one at a time.

    Args:
        score: Any score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        tiles: `[t, *d]`, ones where an input belongs to a tile.

    Returns:
        As `influence`, with tiles of inputs and single outputs.

    Raises:
        ValueError: As for `influence`.

    Source: Ours.

    Example:
        >>> from compjax.scores import as_score
        >>> first = as_score(lambda x, sigma: x[:, :1] * jnp.array([[1.0, 2.0]]))
        >>> response(first, jnp.ones((1, 2)), 1.0, jnp.eye(2)).squares.score
        Array([[1., 4.],
               [0., 0.]], dtype=float32)
    """
    return _exact(_columns, score, x, sigma, tiles)


def influence_estimate(
    key: PRNGKey,
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    tiles: Any,
    probes: int = 4,
) -> Influence:
    r"""`influence` by random signs: so many products a tile, however large it is.

    With signs v on a tile, $E\,(J^T v)_j^2 = \sum_{i \in t} J_{ij}^2$.

    Args:
        key: A typed PRNG key.
        score: Any score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        tiles: `[t, *d]`.
        probes: At least 2, for standard errors.

    Returns:
        Unbiased estimates, with their standard errors at these samples.

    Raises:
        ValueError: As for `influence`, or if there are fewer than 2 probes.

    Source: Hutchinson 1990; ours for windows.

    Example:
        >>> from compjax.scores import as_score
        >>> mean = as_score(lambda x, sigma: x.mean(1, keepdims=True) - x)
        >>> x, tiles = jnp.ones((1, 4)), jnp.ones((1, 4))
        >>> found = influence_estimate(jax.random.key(0), mean, x, 1.0, tiles, 64)
        >>> bool((abs(found.squares.score - 0.75) < 4 * found.errors.score).all())
        True
    """
    return _estimate(_rows, key, score, x, sigma, tiles, probes)


def response_estimate(
    key: PRNGKey,
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    tiles: Any,
    probes: int = 4,
) -> Influence:
    """`response` by random signs on the inputs of a tile.

    Args:
        key: A typed PRNG key.
        score: Any score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        tiles: `[t, *d]`.
        probes: At least 2.

    Returns:
        As `influence_estimate`.

    Raises:
        ValueError: As for `influence_estimate`.

    Source: As for `influence_estimate`.

    Example:
        >>> from compjax.scores import as_score
        >>> first = as_score(lambda x, sigma: x[:, :1] * jnp.array([[1.0, 2.0]]))
        >>> x, key = jnp.ones((1, 2)), jax.random.key(0)
        >>> response_estimate(key, first, x, 1.0, jnp.eye(2), 2).squares.score
        Array([[1., 4.],
               [0., 0.]], dtype=float32)
    """
    return _estimate(_columns, key, score, x, sigma, tiles, probes)


def recentred(squares: Any, tiles: Any) -> Float[np.ndarray, "rows columns"]:
    r"""The mean influence of tiles of an image, each seen from where it is.

    Args:
        squares: `[t, h, w, c]`, such as `influence(...).squares.score`; summed over
            channels here.
        tiles: `[t, h, w, 1 or c]`, squares or rectangles of ones.

    Returns:
        `[2h - 1, 2w - 1]`: at `[h - 1, w - 1]` what the first pixel of a tile has; NaN
        where no image reaches.

    Raises:
        ValueError: If there is not one map a tile.

    Source: Ours.

    Example:
        >>> from compjax import windows
        >>> tiles = windows.square((1, 2), 1).tiles
        >>> recentred(np.array([[[[1.0], [2.0]]], [[[3.0], [1.0]]]]), tiles)
        array([[3., 1., 2.]])
    """
    maps = np.asarray(squares, float).sum(-1)
    tiles = np.asarray(tiles)
    if len(maps) != len(tiles) or maps.ndim != 3:
        raise ValueError(
            f"{len(maps)} maps of {maps.ndim - 1} axes, {len(tiles)} tiles."
        )
    _, h, w = maps.shape
    total, count = np.zeros((2, 2 * h - 1, 2 * w - 1))
    for one, tile in zip(maps, tiles, strict=True):
        row, column = np.argwhere(tile.any(-1)).min(0)
        at = (
            slice(h - 1 - row, 2 * h - 1 - row),
            slice(w - 1 - column, 2 * w - 1 - column),
        )
        total[at] += one
        count[at] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def influence_by_distance(
    key: PRNGKey,
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigma: Sigma,
    windows: Windows,
    probes: int = 4,
) -> tuple[Float[np.ndarray, " m"], Views]:
    r"""Squared derivatives of all tiles, summed by their distance from the tile.

    Args:
        key: A typed PRNG key.
        score: Any score.
        x: `[b, *d]`, noised samples.
        sigma: Their noise level.
        windows: Tiles of outputs and the distances of all inputs from them.
        probes: Random signs for every tile and sample.

    Returns:
        The distances that occur, rising, and `Views` of `[b, m]`, unbiased.

    Raises:
        ValueError: If windows do not fit x, or `probes < 1`.

    Source: Ours.

    Example:
        >>> from compjax import windows
        >>> from compjax.scores import as_score
        >>> pixels, x = windows.square((1, 4), 1), jnp.ones((1, 1, 4, 1))
        >>> left = as_score(lambda x, sigma: jnp.roll(x, 1, axis=2) - 2 * x)
        >>> key = jax.random.key(0)
        >>> at, mass = influence_by_distance(key, left, x, 1.0, pixels)
        >>> at.tolist(), mass.score.tolist()  # the image ends: one is 3 pixels away
        ([0.0, 1.0, 2.0, 3.0], [[16.0, 3.0, 0.0, 1.0]])
    """
    x, tiles = _checked(x, windows.tiles)
    probes, level = whole("probes", probes), align(sigma, x)
    distances, bins = distance_bins(windows.reach.distance, x)
    apply = _rows(score, x, sigma)

    def add(total: Views, draw: tuple[PRNGKey, Array, Array]) -> tuple[Views, None]:
        key, tile, bins = draw
        signs = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
        for v in signs:
            squares = _squares(apply, v * tile[None], level)
            found = (by_distance(s, bins[None], len(distances)) for s in squares)
            total = Views(*(t + f / probes for t, f in zip(total, found, strict=True)))
        return total, None

    zeros = jnp.zeros((len(x), len(distances)), x.dtype)
    keys = jax.random.split(key, len(tiles))
    start = Views(zeros, zeros, zeros)
    return distances, jax.lax.scan(add, start, (keys, tiles, bins))[0]


def distance_bins(
    distance: Any, x: Float[Array, "b *d"]
) -> tuple[Float[np.ndarray, " m"], Array]:
    """The distances that occur, and which of them each input is at.

    Args:
        distance: `[t, *d]`; axes of length 1 stand for all of their entries.
        x: Samples, of which only the shape matters.

    Returns:
        `[m]`, rising, and `[t, *d]`, indices.

    Raises:
        ValueError: If the distances do not fit samples.

    Example:
        >>> distance_bins(np.array([[0.0, 2.0, 2.0]]), jnp.ones((5, 3)))[0]
        array([0., 2.])
    """
    distance = np.asarray(distance, float)
    _check_fit("distance", distance, x)
    distances, bins = np.unique(distance, return_inverse=True)
    bins = bins.reshape(distance.shape)
    return distances, jnp.asarray(np.broadcast_to(bins, (len(bins), *x.shape[1:])))


def by_distance(
    squares: Float[Array, "b *d"], bins: Any, m: int
) -> Float[Array, "b m"]:
    """Sums over the entries of each sample that are at one distance.

    Args:
        squares: `[b, *d]`.
        bins: `[b or 1, *d]`, indices below m.
        m: Their number.

    Example:
        >>> by_distance(jnp.ones((1, 3)), jnp.array([[0, 1, 1]]), 2)
        Array([[1., 2.]], dtype=float32)
    """
    bins = jnp.broadcast_to(bins, squares.shape).reshape(len(squares), -1)
    flat = squares.reshape(len(squares), -1)
    return jax.vmap(lambda s, at: jax.ops.segment_sum(s, at, m))(flat, bins)


def _rows(score: Any, x: Array, sigma: Sigma) -> Any:
    """`v -> J^T v`, all samples at once."""
    return jax.vjp(lambda x: score(x, sigma), x)[1]


def _columns(score: Any, x: Array, sigma: Sigma) -> Any:
    """`v -> J v`, all samples at once."""
    linear = jax.linearize(lambda x: score(x, sigma), x)[1]
    return lambda v: (linear(v),)


def _exact(product: Any, score: Any, x: Array, sigma: Sigma, tiles: Any) -> Influence:
    x, tiles = _checked(x, tiles)
    places = tuple(jnp.asarray(at) for at in np.nonzero(np.asarray(tiles)))
    apply, level = product(score, x, sigma), align(sigma, x)

    def add(total: Views, place: tuple[Array, ...]) -> tuple[Views, None]:
        tile, *at = place
        v = jnp.zeros(x.shape[1:]).at[tuple(at)].set(1.0)
        squares = _squares(apply, jnp.broadcast_to(v, x.shape), level)
        means = (square.mean(0) for square in squares)
        return Views(
            *(t.at[tile].add(m) for t, m in zip(total, means, strict=True))
        ), None

    zeros = jnp.zeros((len(tiles), *x.shape[1:]))
    squares, _ = jax.lax.scan(add, Views(zeros, zeros, zeros), places)
    return Influence(squares, Views(zeros, zeros, zeros))


def _estimate(
    product: Any,
    key: PRNGKey,
    score: Any,
    x: Array,
    sigma: Sigma,
    tiles: Any,
    probes: int,
) -> Influence:
    x, tiles = _checked(x, tiles)
    probes = whole("probes", probes, 2)
    apply, level = product(score, x, sigma), align(sigma, x)

    def of_tile(key_and_tile: tuple[PRNGKey, Array]) -> tuple[Views, Views]:
        key, tile = key_and_tile

        def add(moments: Any, key: PRNGKey) -> tuple[Any, None]:
            signs = jax.random.rademacher(key, x.shape, x.dtype)
            squares = _squares(apply, signs * tile[None], level)
            both = Views(*((s, s**2) for s in squares))
            return jax.tree.map(jnp.add, moments, both), None

        zeros = (jnp.zeros_like(x), jnp.zeros_like(x))
        moments = Views(zeros, zeros, zeros)
        moments, _ = jax.lax.scan(add, moments, jax.random.split(key, probes))
        pairs = [_mean_and_error(sums, more, probes) for sums, more in moments]
        means, errors = zip(*pairs, strict=True)
        return Views(*means), Views(*errors)

    keys = jax.random.split(key, len(tiles))
    return Influence(*jax.lax.map(of_tile, (keys, tiles)))


def _mean_and_error(total: Array, squares: Array, probes: int) -> tuple[Array, Array]:
    """Over probes of each sample, then over samples, which are given and not random."""
    mean = total / probes
    variance = jnp.maximum(squares / probes - mean**2, 0) / (probes - 1)
    return mean.mean(0), jnp.sqrt(variance.sum(0)) / len(total)


def _squares(apply: Any, v: Array, level: Array) -> Views:
    """`(J v)**2` of the score, the denoiser and the predicted noise."""
    (u,) = apply(v)
    return Views(u**2, (v + level**2 * u) ** 2, (level * u) ** 2)


def _checked(x: Any, tiles: Any) -> tuple[Array, Array]:
    x = as_float(x)
    tiles = np.asarray(tiles, x.dtype)
    _check_fit("tiles", tiles, x)
    if not np.isin(tiles, (0, 1)).all():
        raise ValueError(f"tiles hold zeros and ones, got {np.unique(tiles)[:9]}.")
    return x, jnp.asarray(np.broadcast_to(tiles, (len(tiles), *x.shape[1:])))


def _check_fit(name: str, value: np.ndarray, x: Array) -> None:
    if value.ndim != x.ndim or any(
        t not in (1, n) for t, n in zip(value.shape[1:], x.shape[1:], strict=True)
    ):
        raise ValueError(
            f"{name} of shape {value.shape} does not fit samples {x.shape}: it is "
            "[t, *d], an axis of length 1 standing for all of its entries."
        )
