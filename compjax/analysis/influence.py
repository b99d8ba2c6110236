r"""Which inputs an output depends on: squared derivatives of a score, tile by tile.

The three names of one function have three Jacobians,

$$J_D = 1 + \sigma^2 J_s, \qquad J_{\epsilon} = -\sigma J_s,$$

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
    return _exact(rows_of_jacobian, score, x, sigma, tiles)


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
    return _estimate(rows_of_jacobian, key, score, x, sigma, tiles, probes)


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


def rows_of_jacobian(score: Any, x: Array, sigma: Sigma) -> Any:
    """`v -> (J^T v,)`, all samples at once.

    Args:
        score: Any score.
        x: `[b, *d]`.
        sigma: Noise level.

    Example:
        >>> from compjax.scores import as_score
        >>> shift = as_score(lambda x, sigma: jnp.roll(x, 1, axis=1))
        >>> rows_of_jacobian(shift, jnp.ones((1, 3)), 1.0)(jnp.eye(3)[:1])[0]
        Array([[0., 0., 1.]], dtype=float32)
    """
    return jax.vjp(lambda x: score(x, sigma), x)[1]


def _columns(score: Any, x: Array, sigma: Sigma) -> Any:
    """`v -> J v`, all samples at once."""
    linear = jax.linearize(lambda x: score(x, sigma), x)[1]
    return lambda v: (linear(v),)


def _exact(product: Any, score: Any, x: Array, sigma: Sigma, tiles: Any) -> Influence:
    x, tiles = checked_tiles(x, tiles)
    places = tuple(jnp.asarray(at) for at in np.nonzero(tiles))
    apply, level = product(score, x, sigma), align(sigma, x)

    def add(total: Views, place: tuple[Array, ...]) -> tuple[Views, None]:
        tile, *at = place
        v = jnp.zeros(x.shape[1:]).at[tuple(at)].set(1.0)
        squares = squares_along(apply, jnp.broadcast_to(v, x.shape), level)
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
    x, tiles = checked_tiles(x, tiles)
    probes = whole("probes", probes, 2)
    apply, level = product(score, x, sigma), align(sigma, x)

    def of_tile(key_and_tile: tuple[PRNGKey, Array]) -> tuple[Views, Views]:
        key, tile = key_and_tile

        def add(moments: Any, key: PRNGKey) -> tuple[Any, None]:
            signs = jax.random.rademacher(key, x.shape, x.dtype)
            squares = squares_along(apply, signs * tile[None], level)
            both = Views(*((s, s**2) for s in squares))
            return jax.tree.map(jnp.add, moments, both), None

        zeros = (jnp.zeros_like(x), jnp.zeros_like(x))
        moments = Views(zeros, zeros, zeros)
        moments, _ = jax.lax.scan(add, moments, jax.random.split(key, probes))
        pairs = [_mean_and_error(sums, more, probes) for sums, more in moments]
        means, errors = zip(*pairs, strict=True)
        return Views(*means), Views(*errors)

    keys = jax.random.split(key, len(tiles))
    return Influence(*jax.lax.map(of_tile, (keys, jnp.asarray(tiles))))


def _mean_and_error(total: Array, squares: Array, probes: int) -> tuple[Array, Array]:
    """Over probes of each sample, then over samples, which are given and not random."""
    mean = total / probes
    variance = jnp.maximum(squares / probes - mean**2, 0) / (probes - 1)
    return mean.mean(0), jnp.sqrt(variance.sum(0)) / len(total)


def squares_along(apply: Any, v: Array, level: Array) -> Views:
    """`(J v)**2` of the score, the denoiser and the predicted noise.

    Args:
        apply: `v -> (J v,)` of the score, or its transpose.
        v: `[b, *d]`.
        level: Sigma, aligned with v.

    Example:
        >>> squares_along(lambda v: (-v,), jnp.ones((1, 1)), jnp.float32(2.0)).denoiser
        Array([[9.]], dtype=float32)
    """
    (u,) = apply(v)
    return Views(u**2, (v + level**2 * u) ** 2, (level * u) ** 2)


def checked_tiles(x: Any, tiles: Any) -> tuple[Array, np.ndarray]:
    """Samples and whole tiles `[t, *d]`.

    Args:
        x: `[b, *d]`.
        tiles: `[t, *d]`; axes of length 1 stand for all of their entries.

    Raises:
        ValueError: If tiles do not fit, or hold anything but zeros and ones.

    Example:
        >>> checked_tiles(np.ones((2, 3)), np.ones((1, 1)))[1].shape
        (1, 3)
    """
    x = as_float(x)
    tiles = np.asarray(tiles, x.dtype)
    check_fit("tiles", tiles, x)
    if not np.isin(tiles, (0, 1)).all():
        raise ValueError(f"tiles hold zeros and ones, got {np.unique(tiles)[:9]}.")
    return x, np.broadcast_to(tiles, (len(tiles), *x.shape[1:]))


def check_fit(name: str, value: np.ndarray, x: Array) -> None:
    """Raises a ValueError if `[t, *d]` does not fit samples.

    Args:
        name: Of the value, for the message.
        value: `[t, *d]`.
        x: Samples, of which only the shape matters.

    Example:
        >>> check_fit("tiles", np.ones((2, 1)), jnp.ones((5, 3)))
    """
    if value.ndim != x.ndim or any(
        t not in (1, n) for t, n in zip(value.shape[1:], x.shape[1:], strict=True)
    ):
        raise ValueError(
            f"{name} of shape {value.shape} does not fit samples {x.shape}: it is "
            "[t, *d], an axis of length 1 standing for all of its entries."
        )
