r"""Locality and the noise level: the windows that hold at all levels, and the others.

Noise pulls the score and the denoiser in opposite directions.  What the score hears of
far pixels, beside what it hears of its own, fades as noise grows; for the denoiser it
grows, up to the correlations of the data.  docs/math.md states and proves it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from compjax.analysis.background import score_squares
from compjax.analysis.local_theory import Masks, regions
from compjax.densities import Gaussian, GaussianMixture, Independent
from compjax.densities.gaussian import check_covariance
from compjax.noise import check_sigmas
from compjax.types import Number, PRNGKey, as_float, whole


def cumulant_gradient(
    p: Gaussian | GaussianMixture, y: Float[Array, "b d"]
) -> Float[Array, "b d"]:
    r"""The denoiser at infinite noise: the gradient of the cumulant function.

    $$\nabla K(y) = \lim_{\sigma\to\infty} D(\sigma^2 y, \sigma), \qquad
      K(y) = \log E\, e^{y \cdot x_0},$$

    and the error at finite sigma is
    $-\mathrm{cov}_y(x_0, \lVert x_0\rVert^2) / 2\sigma^2$ to the leading order, with
    the covariance under $e^{y \cdot x_0} p / E\, e^{y \cdot x_0}$.  Where coordinate i
    of it depends on $y_j$, no window of i that holds at all noise levels can leave j
    out (theorem L).

    Args:
        p: A Gaussian or a mixture of them, for which K is known.
        y: `[b, d]`, in units of 1 / x.

    Source: ours (theorem L of docs/math.md).

    Example:
        >>> p = Gaussian(jnp.zeros(2), jnp.array([[1.0, 0.5], [0.5, 1.0]]))
        >>> cumulant_gradient(p, jnp.array([[1.0, 0.0]]))
        Array([[1. , 0.5]], dtype=float32)
    """
    if isinstance(p, Gaussian):
        p = GaussianMixture(jnp.zeros(1), p.mean[None], p.cov[None])

    def cumulant(y: Array) -> Array:
        logs = p.log_weights + p.means @ y + 0.5 * (p.covs @ y) @ y
        return jax.nn.logsumexp(logs)

    return jax.vmap(jax.grad(cumulant))(as_float(y))


def gaussian_windows(cov: Any) -> Bool[np.ndarray, "d d"]:
    r"""Windows of a Gaussian that hold at all noise levels: row i is the window of i.

    $D = m + C\,(C + \sigma^2 I)^{-1} (x - m)$ looks no further than the connected
    component of i in the graph of covariances that are not zero, at any sigma.  No
    smaller windows hold at every sigma if covariances are not negative, nor for any but
    exceptional values of others, where paths through the graph cancel.

    Args:
        cov: `[d, d]`.

    Raises:
        ValueError: If `cov` is not a covariance.

    Source: ours (docs/math.md).

    Example:
        >>> gaussian_windows([[2, 1, 0], [1, 2, 0], [0, 0, 1]]).astype(int)
        array([[1, 1, 0],
               [1, 1, 0],
               [0, 0, 1]])
    """
    from scipy.sparse.csgraph import connected_components

    cov = np.asarray(cov, float)
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1]:
        raise ValueError(f"cov must be [d, d], got {cov.shape}.")
    check_covariance(cov, "cov")
    _, labels = connected_components(cov != 0, directed=False)
    return labels[:, None] == labels[None]


class Coupling(NamedTuple):
    r"""What outputs hear of inputs, beside their own: $\lvert J_{ij} / J_{ii}\rvert$.

    Args:
        score: `[d, d]`, of the score.
        denoiser: `[d, d]`, of the denoiser.
    """

    score: Float[Array, "d d"]
    denoiser: Float[Array, "d d"]


def gaussian_coupling(cov: Any, sigma: Number) -> Coupling:
    r"""The couplings of a Gaussian's score and denoiser at a noise level.

    $$J_s = -(C + \sigma^2 I)^{-1}, \qquad J_D = I + \sigma^2 J_s$$

    For two coordinates of variance 1 and correlation $\rho$ they are
    $\rho / (1 + \sigma^2)$ and $\rho\,\sigma^2 / (1 + \sigma^2 - \rho^2)$: the one
    falls as noise grows, the other rises from 0 to $\rho$.  "More local at high noise"
    is true of scores and false of denoisers.

    Args:
        cov: C, `[d, d]`.
        sigma: Noise level, positive.

    Raises:
        ValueError: If `cov` is not a covariance.

    Source: ours; elementary.

    Example:
        >>> score, denoiser = gaussian_coupling([[1.0, 0.5], [0.5, 1.0]], 1.0)
        >>> [round(float(j[0, 1]), 3) for j in (score, denoiser)]
        [0.25, 0.286]
    """
    cov, variance = as_float(cov), as_float(sigma) ** 2
    if cov.ndim != 2 or cov.shape[0] != cov.shape[1]:
        raise ValueError(f"cov must be [d, d], got {cov.shape}.")
    check_covariance(cov, "cov")
    eye = jnp.eye(len(cov))
    precision = jnp.linalg.inv(cov + variance * eye)
    beside = lambda j: jnp.abs(j / jnp.diagonal(j)[:, None])
    # The denoiser as C (C + sigma^2 I)^-1: I - sigma^2 (C + sigma^2 I)^-1 cancels.
    return Coupling(beside(precision), beside(cov @ precision))


def projection(p: Any, masks: Masks) -> Independent:
    r"""The product of a density's marginals: the nearest law with independent regions.

    $$q = \prod_B p(x|_B) = \arg\min_q KL(p \,\|\, q)$$

    over the masks and the rest.  Noise maps it to the projection of the noised density.

    Args:
        p: A density with a method `marginal`.
        masks: Regions; all other coordinates are one more.

    Raises:
        ValueError: If masks overlap, or leave the coordinates of p.

    Source: ours; elementary.

    Example:
        >>> p = Gaussian(jnp.zeros(2), jnp.array([[1.0, 0.5], [0.5, 1.0]]))
        >>> projection(p, ((1,), (0,))).parts
        (Gaussian(mean=[0.0], cov=[[1.0]]), Gaussian(mean=[0.0], cov=[[1.0]]))
    """
    draw = jax.eval_shape(lambda: p.sample(jax.random.key(0), 1))
    blocks = tuple(tuple(b.tolist()) for b in regions(masks, draw.shape[1]))
    return Independent(blocks, tuple(p.marginal(block) for block in blocks))


class NoiseKL(NamedTuple):
    r"""How a divergence falls along noise, at the levels asked for.

    Args:
        lost: `[levels]`, $\epsilon(\sigma_i) - \epsilon(\sigma_0)$ in nats.
        error: `[levels]`, their standard errors.
        squares: `[levels]`, $E_p \lVert s_p - s_q \rVert^2$, which need not fall.
    """

    lost: Float[Array, " levels"]
    error: Float[Array, " levels"]
    squares: Float[Array, " levels"]


def kl_along_noise(
    key: PRNGKey, p: Any, q: Any, sigmas: Float[Array | np.ndarray, " levels"], n: int
) -> NoiseKL:
    r"""How $\epsilon(\sigma) = KL(p^\sigma \,\|\, q^\sigma)$ grows as noise is removed.

    $$\epsilon(\sigma_i) - \epsilon(\sigma_0) =
      \int_{\sigma_i}^{\sigma_0}
      \sigma\, E_{p^\sigma} \lVert s_p - s_q\rVert^2 d\sigma$$

    by trapezoids in $\log\sigma$, as `score_kl`.  From a $\sigma_0$ at which the two
    laws are one, it is $\epsilon$ itself.  The standard errors are of the draws, not of
    the trapezoids.

    Args:
        key: A typed PRNG key.
        p: A density.
        q: A score function, such as `projection(p, masks)`.
        sigmas: Decreasing noise levels; 0 at the end counts as the level before.
        n: Draws of p, the same at all levels; two or more.

    Raises:
        ValueError: If sigmas do not decrease or `n < 2`.

    Source: de Bruijn's identity; ours in this form (docs/math.md).

    Example:
        >>> p = Gaussian(jnp.zeros(2), jnp.array([[1.0, 0.5], [0.5, 1.0]]))
        >>> q, grid = projection(p, ((0,), (1,))), np.geomspace(40.0, 0.01, 60)
        >>> found = kl_along_noise(jax.random.key(0), p, q, grid, 20_000)
        >>> round(float(found.lost[-1]), 2)  # -log(1 - 0.25) / 2
        0.14
    """
    check_sigmas(sigmas)
    n, sigmas = whole("n", n, least=2), as_float(sigmas)
    levels = jnp.where(sigmas > 0, sigmas, sigmas[-2])
    key_draw, key_noise = jax.random.split(key)
    squares = score_squares(key_noise, p, q, p.sample(key_draw, n), levels)
    heights = levels[:, None] ** 2 * squares
    widths = -jnp.diff(jnp.log(levels))[:, None]
    areas = jnp.cumsum((heights[1:] + heights[:-1]) / 2 * widths, axis=0)
    paths = jnp.concatenate([jnp.zeros((1, n)), areas])
    error = paths.std(1, ddof=1) / np.sqrt(n)
    return NoiseKL(paths.mean(1), error, squares.mean(1))
