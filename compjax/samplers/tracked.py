r"""Log-densities of samples while they are sampled, without a divergence.

Bayes' rule for one step from x down to x' of the noised data,
$p(x') = p(x)\,p(x' \mid x) / p(x \mid x')$: the way up is noise of variance
$w = \sigma^2 - \sigma_{next}^2$, the way down the Gaussian of an ancestral step.  In
the limit of small steps it is Ito's formula with the heat equation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from compjax.samplers.sde import ancestral_levels
from compjax.types import Number, PRNGKey, ScoreFn, inner, pytree


class TrackedState(NamedTuple):
    """A sample and its log-density at its noise level, `[b, *d]` and `[b]`."""

    x: Float[Array, "b *d"]
    log_density: Float[Array, " b"]


class TrackedInfo(NamedTuple):
    """What `Tracked` reports of a step.

    Args:
        evaluations: Of the score.
        log_density: `[b]`, estimated, in nats, of the samples after the step; of a step
            to 0, which has no noise, that of the samples before it.
    """

    evaluations: Int[Array, ""]
    log_density: Float[Array, " b"]


@pytree
class Tracked:
    r"""The reverse SDE in ancestral steps, with the log-density of every sample.

    $$\log p(x') = \log p(x) - \frac{\lVert \epsilon \rVert^2}2
        + \frac{\lVert x' - x \rVert^2}{2w} + \frac d2 \log\frac{w}{\sigma_{up}^2}$$

    One evaluation of the score a step and no derivative.  Its error is random, about
    $\log(\sigma_0^2 / \sigma_n^2) \sqrt{d / 2n}$ for n steps; it speaks of the noised
    data, not of what a composition should be.

    Source: Skreta et al. 2024 (2412.17762), theorem 1, for small steps.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> grid = cj.karras_sigmas(1024, 0.05, 40.0)
        >>> x, info = cj.sample(jax.random.key(0), p, Tracked(), (64, 2), grid[:-1])
        >>> error = info.log_density[-1] - p.log_prob(x, grid[-2])
        >>> bool(jnp.abs(error).mean() < 0.4)
        True
    """

    def start(
        self, key: PRNGKey, score: ScoreFn, shape: tuple[int, ...], sigmas: Array
    ) -> TrackedState:
        r"""Wide noise; the density is $N(D(x), \sigma^2)$, D the denoiser."""
        x = sigmas[0] * jax.random.normal(key, shape, sigmas.dtype)
        away, d = sigmas[0] * score(x, sigmas[0]), x[0].size
        constant = d / 2 * jnp.log(2 * jnp.pi * sigmas[0] ** 2)
        return TrackedState(x, -inner(away, away) / 2 - constant)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> TrackedState:
        """Tracking starts from noise alone."""
        raise ValueError("Tracked knows the density of noise only: give no start.")

    def step(
        self,
        key: PRNGKey,
        state: TrackedState,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[TrackedState, TrackedInfo]:
        """One ancestral step, and Bayes' rule for it."""
        _, up = ancestral_levels(1.0, sigma, sigma_next)
        noise = jax.random.normal(key, state.x.shape, state.x.dtype)
        width = sigma**2 - sigma_next**2
        moved = width * score(state.x, sigma) + up * noise
        d, noisy = noise[0].size, up > 0
        stretch = jnp.log(width / jnp.where(noisy, up, 1.0) ** 2)
        change = inner(moved, moved) / width - inner(noise, noise) + d * stretch
        logs = state.log_density + jnp.where(noisy, change / 2, 0.0)
        x = state.x + moved
        return TrackedState(x, logs), TrackedInfo(jnp.int32(1), logs)
