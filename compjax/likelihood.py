r"""Log-likelihoods of a score: along the probability flow, and by denoising.

Along the flow $dx/d\sigma = v(x, \sigma) = -\sigma s(x, \sigma)$ a density changes by
$d \log p / d\sigma = -\nabla\!\cdot v = \sigma\,\nabla\!\cdot s$, so

$$\log p_{\sigma_{min}}(x) = \log p_{\sigma_{max}}(x(\sigma_{max}))
    - \int_{\sigma_{min}}^{\sigma_{max}}
      \sigma\,\nabla\!\cdot s(x(\sigma), \sigma)\,d\sigma.$$
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.divergence import divergence, slopes
from compjax.noise import check_sigmas
from compjax.scores import check_score, denoise
from compjax.types import PRNGKey, ScoreFn, as_float, inner, whole


def log_likelihood(
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigmas: Float[Array | np.ndarray, " levels"],
) -> Float[Array, " b"]:
    r"""$\log p_{\sigma_{min}}(x)$ along the probability flow, with the exact trace.

    The grid's last level but one is $\sigma_{min}$, as its last may be 0; every
    interval is one step of the classical Runge-Kutta rule in $\log \sigma$.  The prior
    is the Gaussian with the mean and the variance that the denoiser gives to the data
    there: its error is of the order of $(\text{variance} / \sigma_{max}^2)^2$, where
    that of $N(0, \sigma_{max}^2 I)$ is of the order of their mean over $\sigma_{max}$.

    It is the density of what the flow samples.  For a composition that does not commute
    with noise that is neither the composition's `log_density` nor the same, normalised.

    Args:
        score: The score.
        x: `[b, *d]`.
        sigmas: Decreasing noise levels, as for `sample`; at least three.

    Returns:
        `[b]`, in nats.

    Raises:
        ValueError: If the grid is not one, or `score` is a plain function.

    Source: Song et al. 2021 (2011.13456), eq. 39.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> x, grid = jnp.ones((1, 2)), cj.karras_sigmas(64)
        >>> exact = p.log_prob(x, grid[-2])
        >>> bool(jnp.allclose(log_likelihood(p, x, grid), exact, atol=1e-3))
        True
    """
    x, sigmas = _checked(score, x, sigmas)
    return _exact(score, x, sigmas)


def log_likelihood_estimate(
    key: PRNGKey,
    score: ScoreFn,
    x: Float[Array, "b *d"],
    sigmas: Float[Array | np.ndarray, " levels"],
    probes: int = 1,
) -> Float[Array, " b"]:
    """`log_likelihood` with Hutchinson's trace, which is unbiased.

    The same probes serve all noise levels, so that what is integrated is smooth.

    Args:
        key: A typed PRNG key: the same key, the same estimate.
        score: The score.
        x: `[b, *d]`.
        sigmas: As for `log_likelihood`.
        probes: Random directions for every sample.

    Returns:
        `[b]`, in nats.

    Raises:
        ValueError: As `log_likelihood`; if `probes < 1`.

    Source: Grathwohl et al. 2019 (1810.01367); Song et al. 2021 (2011.13456).

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> x, grid = jnp.ones((1, 2)), cj.karras_sigmas(64)
        >>> log_likelihood_estimate(jax.random.key(0), p, x, grid).shape
        (1,)
    """
    probes = whole("probes", probes)
    x, sigmas = _checked(score, x, sigmas)
    return _estimated(key, score, x, sigmas, probes)


@jax.jit
def _exact(score, x, sigmas):
    return _flow(lambda x, sigma: divergence(score, x, sigma), score, x, sigmas)


@partial(jax.jit, static_argnames="probes")
def _estimated(key, score, x, sigmas, probes):
    signs = jax.random.rademacher(key, (probes, *x.shape), x.dtype)
    trace = lambda x, sigma: slopes(score, x, sigma, signs).mean(0)
    return _flow(trace, score, x, sigmas)


def _flow(trace: Callable[..., Array], score: Any, x: Array, sigmas: Array) -> Array:
    """The flow from sigmas[-2] up to sigmas[0], and what the density loses."""
    levels = jnp.log(sigmas[-2::-1])

    def slope(state: tuple[Array, Array], level: Array) -> tuple[Array, Array]:
        sigma, x = jnp.exp(level), state[0]  # d sigma = sigma d log sigma
        return -(sigma**2) * score(x, sigma), sigma**2 * trace(x, sigma)

    def step(state: Any, ends: tuple[Array, Array]) -> tuple[Any, None]:
        low, high = ends
        width, middle = high - low, (low + high) / 2
        ahead = lambda slope, width: jax.tree.map(
            lambda s, d: s + width * d, state, slope
        )
        first = slope(state, low)
        second = slope(ahead(first, width / 2), middle)
        third = slope(ahead(second, width / 2), middle)
        fourth = slope(ahead(third, width), high)
        mean = jax.tree.map(
            lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth
        )
        return ahead(mean, width), None

    start = (x, jnp.zeros(len(x), x.dtype))
    (x, change), _ = jax.lax.scan(step, start, (levels[:-1], levels[1:]))
    return _wide(trace, score, x, sigmas[0]) - change


def _wide(trace: Callable[..., Array], score: Any, x: Array, sigma: Array) -> Array:
    r"""The log-density of wide noise around data that look Gaussian from there.

    With $C = \sigma^2 (I + \sigma^2 \nabla s)$, the covariance of the data given x,
    $(x - m)^\top (C + \sigma^2)^{-1} (x - m) = s^\top (C + \sigma^2)\,s$, and
    $\log\det(C + \sigma^2) = d \log \sigma^2 + \mathrm{tr}\,C / \sigma^2$ to the first
    order in $C / \sigma^2$.
    """
    s, slope = jax.jvp(lambda x: score(x, sigma), (x,), (score(x, sigma),))
    d = x[0].size
    quadratic = 2 * sigma**2 * inner(s, s) + sigma**4 * inner(s, slope)
    widened = d + sigma**2 * trace(x, sigma)
    return -(quadratic + widened + d * jnp.log(2 * jnp.pi * sigma**2)) / 2


class Bound(NamedTuple):
    """A lower bound on log-densities, `elbo`.

    Args:
        mean: `[b]`, in nats.
        standard_error: `[b]`, of the mean over the draws.
    """

    mean: Float[Array, " b"]
    standard_error: Float[Array, " b"]


def elbo(
    key: PRNGKey,
    score: ScoreFn,
    x0: Float[Array, "b *d"],
    sigmas: Float[Array | np.ndarray, " levels"],
    draws: int = 16,
) -> Bound:
    r"""The lower bound on $\log p(x_0)$ of the chain that `Ancestral` samples.

    With $x_j = x_0 + \sigma_j \epsilon$ and D the denoiser, $-\log p(x_0)$ is at most

    $$\frac{\lVert x_0 \rVert^2}{2\sigma_{max}^2}
      + \sum_j \tfrac12 \Bigl(\frac1{\sigma_{j+1}^2} - \frac1{\sigma_j^2}\Bigr)
        E\lVert x_0 - D(x_j, \sigma_j) \rVert^2
      + \frac{E\lVert x_0 - D(x_n, \sigma_n) \rVert^2}{2\sigma_n^2}
      + \frac d2 \log 2\pi\sigma_n^2,$$

    with $\sigma_n = \sigma_{min}$: a prior, the steps, and a Gaussian decoder.  With an
    exact score it is $-\log p(x_0)$ as the grid becomes fine and $\sigma_{min}$ small.

    Args:
        key: A typed PRNG key.
        score: The score.
        x0: `[b, *d]`, clean data.
        sigmas: Decreasing noise levels; its last but one is $\sigma_{min}$.
        draws: Noises of every sample at every level, at least 2.

    Returns:
        The bound and its standard error.

    Raises:
        ValueError: As `log_likelihood`; if `draws < 2`.

    Source: Ho et al. 2020 (2006.11239), eq. 5; Kingma et al. 2021 (2107.00630).

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> x0, grid = jnp.ones((1, 2)), cj.karras_sigmas(1024, 0.01, 50.0)
        >>> bound = elbo(jax.random.key(0), p, x0, grid, draws=256)
        >>> bool(abs(bound.mean - p.log_prob(x0)) < 0.2)
        True
    """
    draws = whole("draws", draws, 2)
    x0, sigmas = _checked(score, x0, sigmas)
    found = _losses(key, (score,), x0, sigmas, draws)[:, 0]
    levels = sigmas[:-1]
    prior = inner(x0, x0) / (2 * levels[0] ** 2)
    decoder = x0[0].size / 2 * jnp.log(2 * jnp.pi * levels[-1] ** 2)
    return _bound(found - (prior + decoder)[None])


def lift(
    key: PRNGKey,
    conditional: ScoreFn,
    background: ScoreFn,
    x0: Float[Array, "b *d"],
    sigmas: Float[Array | np.ndarray, " levels"],
    draws: int = 16,
) -> Bound:
    r"""$\log p(x_0 \mid c) - \log p(x_0)$, as a difference of bounds, `elbo`.

    Both see the same noise, so that what they have in common cancels.  Exact densities
    need none of this: take the difference of `log_prob`.

    Args:
        key: A typed PRNG key.
        conditional: The score given the condition.
        background: The score without it.
        x0: `[b, *d]`, clean samples.
        sigmas: As for `elbo`.
        draws: As for `elbo`.

    Returns:
        The estimate, `[b]`, and its standard error.  It is no bound: both terms are.

    Raises:
        ValueError: As `elbo`.

    Source: Yu et al. 2025 (CompLift, 2505.13740).

    Example:
        >>> import compjax as cj
        >>> at = lambda m: cj.densities.Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> x0, grid = jnp.array([[0.0], [2.0]]), cj.karras_sigmas(128, 0.01, 50.0)
        >>> found = lift(jax.random.key(0), at(2.0), at(0.0), x0, grid)
        >>> (found.mean > 0).tolist()
        [False, True]
    """
    draws = whole("draws", draws, 2)
    check_score(background, "the background")
    x0, sigmas = _checked(conditional, x0, sigmas)
    found = _losses(key, (conditional, background), x0, sigmas, draws)
    return _bound(found[:, 0] - found[:, 1])


def _bound(draws: Array) -> Bound:
    return Bound(draws.mean(0), draws.std(0, ddof=1) / len(draws) ** 0.5)


@partial(jax.jit, static_argnames="draws")
def _losses(key, scores, x0, sigmas, draws):
    """Weighted denoising losses, negative, `[draws, scores, b]`, of the same noise."""
    levels = sigmas[:-1]
    precision = 1 / levels**2
    # The last level's share of 1 / sigma^2 is all that is left of it: the decoder's.
    shares = jnp.concatenate([jnp.diff(precision), precision[-1:]])

    def one(key: PRNGKey) -> Array:
        def level(total: Array, inputs: Any) -> tuple[Array, None]:
            key, sigma, share = inputs
            x = x0 + sigma * jax.random.normal(key, x0.shape, x0.dtype)
            errors = [x0 - denoise(score, x, sigma) for score in scores]
            squares = jnp.stack([inner(error, error) for error in errors])
            return total - share / 2 * squares, None

        keys = jax.random.split(key, len(levels))
        start = jnp.zeros((len(scores), len(x0)))
        return jax.lax.scan(level, start, (keys, levels, shares))[0]

    return jax.lax.map(one, jax.random.split(key, draws))


def _checked(score: Any, x: Any, sigmas: Any) -> tuple[Array, Array]:
    x = as_float(x)
    check_score(score, "the score")
    check_sigmas(sigmas)
    if len(sigmas) < 3:
        raise ValueError(
            f"sigmas must be at least 3, one above the last but one; got {sigmas}."
        )
    return x, as_float(sigmas)
