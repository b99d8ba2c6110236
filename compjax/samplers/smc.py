r"""Feynman-Kac correction: weighted particles that sample what was composed.

Let $\pi_\sigma \propto \prod_i p_{i,\sigma}^{c_i}$ be the annealed path of a
composition with score $S = \sum_i c_i s_i$.  Every part obeys the heat equation in
$\tau = \sigma^2$; their product does not.  Along the reverse SDE with score S,
particles with the weights

$$\log W = \int g\,d\tau, \qquad
  g = \tfrac12\Bigl(\lVert S \rVert^2 - \sum_i c_i \lVert s_i \rVert^2\Bigr)$$

follow $\pi_\sigma$ exactly: the Laplacians cancel, so no divergence is needed
(docs/math.md, Theorem N, where g is the criterion V).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.compose.weighted import contract
from compjax.samplers.correct import run_kernel
from compjax.samplers.population import (
    ParticleInfo,
    Particles,
    virial,
)
from compjax.samplers.weights import (
    check_parts,
    is_composition,
    scaled_weight_rate,
    weight_rate,
)
from compjax.types import (
    Kernel,
    Number,
    PRNGKey,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
    whole,
)


@pytree
class FeynmanKac:
    r"""Weighted reverse diffusion, resampled when too few particles are left.

    Reaches $\prod_i p_i^{c_i}$ from the scores of its parts alone, for products,
    powers, guidance and compositions, with an error of the order of the steps.  The
    batch is one population: its samples depend on each other.  With Markov moves,
    copies of one particle part again.

    Every part must be the score of a noised density.  A `start` that a user gives is
    taken for samples of the composition at the first level.  Where a grid ends above 0,
    the last step is weighed at its beginning alone.

    Coefficients that sum to one, as those of `compose` and `guide`, need nothing else.
    Where they sum to C, as in products and powers, wide noise to that power is narrower
    than the noise that is added, and weights vary even for parts that are all alike;
    with a `divergence` the noise is scaled to fit.

    Args:
        threshold: Resample when the effective sample size, as a share, is below it; 0
            never, 1 at every step.
        final: The same for the returned samples; at 0 they keep their weights, which
            are `info.log_weights[-1]`.
        kernel: Moves particles at their noise level before each step; None for none.
        moves: How many moves.
        scale: Roughly the standard deviation of what is sampled.  It decides the
            variance of a step's noise, between that of DDPM near 0 and that of Euler
            and Maruyama's rule at infinity; for small steps it hardly matters.
        divergence: `ExactTrace()` or `HutchinsonTrace(probes)` to scale the noise by
            1/C; None for the reverse SDE, which needs none.  The noise of probes enters
            the weights as an exponent, whose bias falls with the steps.  Derivatives
            are not counted as evaluations.

    Raises:
        ValueError: If a number is out of range; on sampling, if the score has no parts,
            or coefficients that depend on sigma or on the sample, or do not sum to a
            positive number (then the product of wide noise cannot be normalised).

    Source: Skreta et al. 2025 (2503.02819); Del Moral 2004.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> both, grid = cj.product(p, p), cj.karras_sigmas(64)
        >>> sampler = FeynmanKac(divergence=cj.divergence.ExactTrace())
        >>> x, info = cj.sample(jax.random.key(0), both, sampler, (512, 1), grid)
        >>> bool(abs(x.var() - 0.5) < 0.1)
        True
    """

    threshold: Number = 0.5
    final: Number = 1.0
    kernel: Any = None
    moves: int = static(default=1)
    scale: Number = 1.0
    divergence: Any = None

    def __post_init__(self) -> None:
        _check_population_sampler(self)

    def check(self, score: Any, sigmas: Array) -> None:
        """Raises a ValueError for what cannot be sampled."""
        if not is_composition(score):
            raise ValueError(
                "FeynmanKac weighs the parts of a composition, which cj.compose, "
                f"cj.product and their like keep; got {type(score).__name__}."
            )
        check_parts(score)
        found = jax.vmap(score.coefficients)(sigmas[:-1])
        _check_coefficients(found)
        if (levels := concrete(found)) is not None and np.ptp(levels, axis=0).max() > (
            1e-4 * np.abs(levels).max()
        ):
            raise ValueError(
                f"coefficients go from {levels[0]} to {levels[-1]} along the grid: "
                "weights then need log-densities, which UnbiasedFeynmanKac uses."
            )

    def start(
        self, key: PRNGKey, score: Any, shape: tuple[int, ...], sigmas: Array
    ) -> Particles:
        r"""Particles of $\prod_i N(0, \sigma_0^2)^{c_i}$, whose normaliser is known."""
        total = score.coefficients(sigmas[0]).sum(0)
        x, _ = _prior(key, shape, sigmas[0], total)
        wide = (total - 1) * jnp.log(2 * jnp.pi * sigmas[0] ** 2) + jnp.log(total)
        state = self.init(key, x, sigmas)
        return state._replace(log_normalizer=-np.prod(shape[1:]) / 2 * wide)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Particles:
        """Particles of equal weights at x."""
        del key
        return Particles.equal(x, sigmas)

    def step(
        self,
        key: PRNGKey,
        state: Particles,
        score: Any,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[Particles, ParticleInfo]:
        """Weigh by the parts at (x, sigma), resample, move, diffuse to sigma_next."""
        keys = jax.random.split(key, 5)
        key_resample, key_moves, key_noise, key_trace, key_last = keys
        coefficients = score.coefficients(sigma)
        x, parts = state.x, score.parts(state.x, sigma)
        rate = self._rate(key_trace, score, x, sigma, parts)
        correction = state.width / 2 * (rate - state.pending)
        state, dead = state.weigh(correction)
        state, ancestors, size = state.resample(key_resample, self.threshold)
        parts, rate = parts[:, ancestors], rate[ancestors]
        x, acceptance, moves = _move(key_moves, self, state.x, score, sigma)
        evaluations = moves + 1
        if self.kernel is not None:
            evaluations, parts = evaluations + 1, score.parts(x, sigma)
            rate = self._rate(key_trace, score, x, sigma, parts)

        total = 1.0 if self.divergence is None else coefficients.sum(0)
        lost, variance = _variances(self.scale, sigma, sigma_next, total)
        noise = jnp.sqrt(variance) * jax.random.normal(key_noise, x.shape, x.dtype)
        composed = contract(coefficients, parts)
        force = virial(x, composed, state.log_weights)
        x = x + lost * composed + noise
        width = sigma**2 - sigma_next**2
        state = state._replace(x=x, pending=rate, width=width)
        state, dead_now = state.weigh(width * rate)
        state, chosen = _finish(key_last, self, state, sigma_next)
        return state, ParticleInfo(
            evaluations,
            state.log_weights,
            size,
            ancestors[chosen],
            state.log_normalizer,
            jnp.maximum(dead, dead_now),
            acceptance,
            force,
        )

    def _rate(
        self, key: PRNGKey, score: Any, x: Array, sigma: Number, parts: Array
    ) -> Array:
        coefficients = score.coefficients(sigma)
        if self.divergence is None:
            return weight_rate(coefficients, parts)
        trace = self.divergence(key, score, x, sigma)
        return scaled_weight_rate(coefficients, parts, trace)


@pytree
class UnbiasedFeynmanKac:
    r"""Particles weighted by exact transition densities: no error from the steps.

    For annealed densities, whose values are known.  Each step proposes
    $x' \sim M(\cdot \mid x)$, reverse diffusion that is exact for Gaussian data, and
    weighs by $\pi_{\sigma'}(x') L(x \mid x') / (\pi_\sigma(x) M(x' \mid x))$ with L the
    noise that leads back.  `exp(info.log_normalizer[-1])` is an unbiased estimate of
    $\int \prod_i p_i^{c_i}$ for any grid, and coefficients may depend on sigma.

    Args:
        threshold: As for `FeynmanKac`.
        final: As for `FeynmanKac`.
        kernel: As for `FeynmanKac`; it must leave the density invariant, as `MALA` and
            `HMC` do.
        moves: As for `FeynmanKac`.
        scale: As for `FeynmanKac`: of the proposals, not what they are weighted to.

    Raises:
        ValueError: If a number is out of range; on sampling, if the score has no
            log-density, or coefficients as for `FeynmanKac`.

    Source: Del Moral et al. 2006, section 3.3; Neal 2001.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> both, grid = cj.product(p, p), cj.karras_sigmas(32)
        >>> sampler = UnbiasedFeynmanKac()
        >>> x, info = cj.sample(jax.random.key(0), both, sampler, (512, 1), grid)
        >>> bool(abs(info.log_normalizer[-1] + 0.5 * jnp.log(4 * jnp.pi)) < 0.1)
        True
    """

    threshold: Number = 0.5
    final: Number = 1.0
    kernel: Any = None
    moves: int = static(default=1)
    scale: Number = 1.0

    def __post_init__(self) -> None:
        _check_population_sampler(self)

    def check(self, score: Any, sigmas: Array) -> None:
        """Raises a ValueError for what cannot be sampled."""
        if not hasattr(score, "log_density"):
            raise ValueError(
                f"{score!r} has no log_density to weigh particles with: take "
                "FeynmanKac, which needs scores alone."
            )
        if hasattr(score, "coefficients"):
            _check_coefficients(jax.vmap(score.coefficients)(sigmas[:-1]))

    def start(
        self, key: PRNGKey, score: Any, shape: tuple[int, ...], sigmas: Array
    ) -> Particles:
        """Particles of wide noise, weighted to the composition at `sigmas[0]`."""
        x, log_prior = _prior(key, shape, sigmas[0], _total(score, sigmas[0]))
        state = self.init(key, x, sigmas)
        return state.weigh(score.log_density(x, sigmas[0]) - log_prior)[0]

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Particles:
        """Particles of equal weights at x."""
        del key
        return Particles.equal(x, sigmas)

    def step(
        self,
        key: PRNGKey,
        state: Particles,
        score: Any,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[Particles, ParticleInfo]:
        """Resample, move, propose at sigma_next, weigh by the transition densities."""
        key_resample, key_moves, key_noise, key_last = jax.random.split(key, 4)
        state, ancestors, size = state.resample(key_resample, self.threshold)
        x, acceptance, moves = _move(key_moves, self, state.x, score, sigma)
        total = _total(score, sigma)
        lost, variance = _variances(self.scale, sigma, sigma_next, total)
        composed = score(x, sigma)
        mean = x + lost * composed
        noise = jax.random.normal(key_noise, x.shape, x.dtype)
        proposal = mean + jnp.sqrt(variance) * noise
        increment = (
            score.log_density(proposal, sigma_next)
            - score.log_density(x, sigma)
            + _log_normal(x - proposal, lost)
            - _log_normal(proposal - mean, variance)
        )
        force = virial(x, composed, state.log_weights)
        state, dead = state._replace(x=proposal).weigh(increment)
        state, chosen = _finish(key_last, self, state, sigma_next)
        return state, ParticleInfo(
            moves + 2,
            state.log_weights,
            size,
            ancestors[chosen],
            state.log_normalizer,
            dead,
            acceptance,
            force,
        )


def _prior(
    key: PRNGKey, shape: tuple[int, ...], sigma: Array, total: Array
) -> tuple[Array, Array]:
    r"""Samples of $N(0, \sigma^2 / \sum_i c_i)$, to which wide noise is raised."""
    variance = sigma**2 / total
    x = jnp.sqrt(variance) * jax.random.normal(key, shape, sigma.dtype)
    return x, _log_normal(x, variance)


def _log_normal(away: Array, variance: Array) -> Array:
    d = away[0].size
    square = (away**2).sum(tuple(range(1, away.ndim)))
    return -square / (2 * variance) - d / 2 * jnp.log(2 * jnp.pi * variance)


def _variances(
    scale: Number, sigma: Number, sigma_next: Number, total: Any
) -> tuple[Array, Array]:
    """Variance of the noise that a step takes away, and of what it puts in its place.

    The second is that of `x' | x` for Gaussian data of this scale.
    """
    lost = (sigma**2 - sigma_next**2) / total
    wide = scale**2 + jnp.stack([sigma_next**2, sigma**2]) / total
    return lost, lost * wide[0] / wide[1]


def _total(score: Any, sigma: Number) -> Array:
    if not hasattr(score, "coefficients"):
        return jnp.ones(())
    return score.coefficients(sigma).sum(0)


def _move(
    key: PRNGKey, sampler: Any, x: Array, score: Any, sigma: Number
) -> tuple[Array, Array, Array]:
    """Particles after the Markov moves, their acceptance, and the evaluations made."""
    if sampler.kernel is None:
        return x, jnp.ones(len(x), x.dtype), jnp.int32(0)
    x, info = run_kernel(key, sampler.kernel, x, score, sigma, sampler.moves)
    return x, info.acceptance, info.evaluations


def _finish(
    key: PRNGKey, sampler: Any, state: Particles, sigma_next: Number
) -> tuple[Particles, Array]:
    """Resamples at the end of the grid, and says which particles are left."""
    threshold = jnp.where(sigma_next <= state.last, sampler.final, 0.0)
    state, chosen, _ = state.resample(key, threshold)
    return state, chosen


def _check_population_sampler(sampler: Any) -> None:
    names = ("threshold", "final", "scale")
    set_fields(sampler, **{name: as_float(getattr(sampler, name)) for name in names})
    for name in ("threshold", "final"):
        value = concrete(getattr(sampler, name))
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value}.")
    if (scale := concrete(sampler.scale)) is not None and not 0 < scale < np.inf:
        raise ValueError(f"scale must be positive, got {scale}.")
    set_fields(sampler, moves=whole("moves", sampler.moves))
    kernel, trace = sampler.kernel, getattr(sampler, "divergence", None)
    if kernel is not None and (isinstance(kernel, type) or not _is_kernel(kernel)):
        raise ValueError(f"kernel must be one, such as MALA(0.3), got {kernel!r}.")
    if isinstance(trace, type) or not (trace is None or callable(trace)):
        raise ValueError(
            f"divergence must be one, such as ExactTrace(), got {trace!r}."
        )


def _is_kernel(kernel: Any) -> bool:
    return hasattr(kernel, "step_size") or isinstance(kernel, Kernel)


def _check_coefficients(found: Array) -> None:
    """Of all levels, `[n, k]`."""
    if found.ndim > 2:
        raise ValueError(
            "coefficients differ between samples, which then have different targets: "
            "particles are one population, so sample one composition at a time."
        )
    levels = concrete(found)
    if levels is None:
        return
    totals = levels.sum(1)
    if not (totals > 0).all():
        worst = int(np.argmin(totals))
        raise ValueError(
            f"coefficients {levels[worst]} sum to {totals[worst]}: wide noise to that "
            "power cannot be normalised; they must sum to a positive number."
        )
