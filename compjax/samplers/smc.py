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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.compose import Contrast, HarmonicMean, Pullback, Switch
from compjax.compose.weighted import contract
from compjax.samplers.correct import run_kernel
from compjax.types import (
    Kernel,
    Number,
    PRNGKey,
    as_float,
    concrete,
    inner,
    pytree,
    set_fields,
    static,
    whole,
)


def weight_rate(
    coefficients: Float[Array, " k"] | Float[Array, "k b"],
    parts: Float[Array, "k b *d"],
) -> Float[Array, " b"]:
    r"""$g = \tfrac12(\lVert S \rVert^2 - \sum_i c_i \lVert s_i \rVert^2)$, `[b]`.

    Differences to the first part are taken before any square, as parts are large where
    their differences are small.  With coefficients that sum to one nothing else is
    left, and g is the criterion V of `analysis.criterion`.

    Args:
        coefficients: $c_i$.
        parts: $s_i$.

    Source: Ours (Theorem N); Skreta et al. 2025 (2503.02819), proposition 3.3.

    Example:
        >>> parts = jnp.array([[[1.0, 0.0]], [[1.0, 2.0]]])
        >>> weight_rate(jnp.ones(2), parts)  # (|(2, 2)|^2 - 1 - 5) / 2
        Array([1.], dtype=float32)
    """
    first, total = parts[0], coefficients.sum(0)
    shift, apart = differences(coefficients, parts)
    surplus = (total**2 - total) * inner(first, first)
    cross = 2 * (total - 1) * inner(first, shift)
    return (inner(shift, shift) - apart + surplus + cross) / 2


def scaled_weight_rate(
    coefficients: Float[Array, " k"] | Float[Array, "k b"],
    parts: Float[Array, "k b *d"],
    divergence: Float[Array, " b"],
) -> Float[Array, " b"]:
    r"""The rate of weights where the noise is scaled by $1/C = 1/\sum_i c_i$.

    $$g = \tfrac12\Bigl(\frac{\lVert S \rVert^2}{C} -
          \sum_i c_i \lVert s_i \rVert^2\Bigr)
          + \tfrac12\Bigl(\frac1C - 1\Bigr) \nabla\!\cdot S$$

    Where the noise is wide, every part is $N(0, \sigma^2)$, and g is the same for all.

    Args:
        coefficients: $c_i$.
        parts: $s_i$.
        divergence: $\nabla\!\cdot S$, `[b]`.

    Source: Ours (docs/math.md); for one part, Skreta et al. 2025, proposition 3.2.

    Example:
        >>> parts = -jnp.ones((2, 1, 3))  # two standard normals at (1, 1, 1)
        >>> scaled_weight_rate(jnp.ones(2), parts, jnp.array([-6.0]))
        Array([1.5], dtype=float32)
    """
    total = coefficients.sum(0)
    shift, apart = differences(coefficients, parts)
    spread = inner(shift, shift) / total - apart
    return (spread + (1 / total - 1) * divergence) / 2


def differences(
    coefficients: Float[Array, " k"] | Float[Array, "k b"],
    parts: Float[Array, "k b *d"],
) -> tuple[Float[Array, "b *d"], Float[Array, " b"]]:
    r"""$\sum_i c_i\,\delta_i$ and $\sum_i c_i \lVert \delta_i \rVert^2$, from part 1.

    Args:
        coefficients: $c_i$.
        parts: $s_i$, with $\delta_i = s_i - s_1$.

    Returns:
        `[b, *d]` and `[b]`.

    Example:
        >>> parts = jnp.array([[[1.0, 0.0]], [[1.0, 2.0]]])
        >>> [a.tolist() for a in differences(jnp.ones(2), parts)]
        [[[0.0, 2.0]], [4.0]]
    """
    deltas = parts - parts[:1]
    squares = (deltas**2).sum(tuple(range(2, parts.ndim)))
    return contract(coefficients, deltas), contract(coefficients, squares)


def virial(
    x: Float[Array, "b *d"],
    score: Float[Array, "b *d"],
    log_weights: Float[Array, " b"] | None = None,
) -> Float[Array, ""]:
    r"""$E\,(x - E x) \cdot S(x) / d$, which is -1 under the density whose score S is.

    By parts.  Samples for which it is not have another law, or the score belongs to no
    density at all: directions in which the precision is negative count as +1 and more.

    Args:
        x: `[b, *d]`, samples.
        score: `[b, *d]`, the score there, at their noise level.
        log_weights: `[b]`, up to a constant; None for equal ones.

    Returns:
        A scalar, whose standard error is about $\sqrt{2 / bd}$ for Gaussians.

    Source: Clausius' virial theorem.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> x = p.sample(jax.random.key(0), 4000)
        >>> bool(abs(virial(x, p(x, 0.0)) + 1) < 0.1)
        True
    """
    logs = jnp.zeros(len(x)) if log_weights is None else log_weights
    event = tuple(range(1, x.ndim))
    alive = jnp.isfinite(x).all(event) & jnp.isfinite(score).all(event)
    # The dead have no weight, but 0 times what is no number is none either.
    at = alive.reshape(alive.shape + (1,) * len(event))
    x, score = jnp.where(at, x, 0.0), jnp.where(at, score, 0.0)
    weights = jnp.nan_to_num(jax.nn.softmax(jnp.where(alive, logs, -jnp.inf)))
    center = jnp.tensordot(weights, x, 1)
    return weights @ inner(x - center[None], score) / x[0].size


def effective_sample_size(log_weights: Any) -> Float[Array, ""]:
    r"""$(\sum W)^2 / (b \sum W^2)$: which share of the samples is left, in [0, 1].

    Args:
        log_weights: `[b]`, up to a constant.

    Returns:
        A scalar: at least 1 / b, or 0 where every weight is zero.

    Source: Kong 1992; the usual measure of importance weights.

    Example:
        >>> float(effective_sample_size(jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])))
        0.5
    """
    logs = as_float(log_weights)
    twice, squares = 2 * jax.nn.logsumexp(logs), jax.nn.logsumexp(2 * logs)
    share = jnp.exp(twice - squares) / logs.size
    return jnp.where(jnp.isneginf(logs).all(), 0.0, share)


class Particles(NamedTuple):
    r"""A weighted population.

    Args:
        x: `[b, *d]`.
        log_weights: `[b]`, up to a constant.
        log_normalizer: Of the composition, as far as it is estimated.
        pending: `[b]`, the rate of the step before, which the trapezoid rule halves
            once the rate at its end is known.
        width: $\Delta\tau$ of that step.
        last: The noise level at which the grid ends.
    """

    x: Float[Array, "b *d"]
    log_weights: Float[Array, " b"]
    log_normalizer: Float[Array, ""]
    pending: Float[Array, " b"]
    width: Float[Array, ""]
    last: Float[Array, ""]


class ParticleInfo(NamedTuple):
    r"""What weighted samplers report of a step.

    Args:
        evaluations: Of the score's parts.
        log_weights: `[b]`, of x after the step; their exponentials average to one.
        effective_sample_size: Share of particles that are left, before resampling.
        ancestors: `[b]`, which particle each one was before the step.
        log_normalizer: $\log \int \pi_\sigma$, estimated.
        dead: How many particles have weight zero, or none that is a number.
        acceptance: `[b]`, of the Markov moves; ones without any.
        virial: $E\,(x - E x) \cdot S / d$ before the step, which is -1 for every
            density: away from it by more than its error, the particles follow another
            law, or the composition is no density there (a negative precision).
    """

    evaluations: Int[Array, ""]
    log_weights: Float[Array, " b"]
    effective_sample_size: Float[Array, ""]
    ancestors: Int[Array, " b"]
    log_normalizer: Float[Array, ""]
    dead: Int[Array, ""]
    acceptance: Float[Array, " b"]
    virial: Float[Array, ""]


def systematic(key: PRNGKey, log_weights: Float[Array, " b"]) -> Int[Array, " b"]:
    r"""Systematic resampling: particle i has $bW_i$ children, rounded down or up.

    Args:
        key: A typed PRNG key.
        log_weights: `[b]`, up to a constant.

    Returns:
        `[b]`, the parent of every child, in rising order.

    Source: Kitagawa 1996; Douc et al. 2005.

    Example:
        >>> systematic(jax.random.key(0), jnp.log(jnp.array([0.5, 0.0, 0.25, 0.25])))
        Array([0, 0, 2, 3], dtype=int32)
    """
    b = len(log_weights)
    ends = jnp.cumsum(jax.nn.softmax(log_weights))
    points = (jnp.arange(b) + jax.random.uniform(key, (), ends.dtype)) / b
    # Rounding may leave the last end a little below one: then it is the last's all the
    # same, or that of the last one with a weight.
    alive = jnp.flip(jnp.argmax(jnp.flip(log_weights) > -jnp.inf))
    return jnp.minimum(jnp.searchsorted(ends, points, side="right"), b - 1 - alive)


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
        state = self.init(key, x, sigmas)
        d = np.prod(shape[1:])
        normalizer = (
            -d
            / 2
            * ((total - 1) * jnp.log(2 * jnp.pi * sigmas[0] ** 2) + jnp.log(total))
        )
        return state._replace(log_normalizer=normalizer)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Particles:
        """Particles of equal weights at x."""
        del key
        return _equal(x, sigmas)

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
        state, dead = _weigh(state, correction)

        ancestors, ess, log_weights = _resample(
            key_resample, state.log_weights, self.threshold
        )
        x, parts, rate = x[ancestors], parts[:, ancestors], rate[ancestors]
        acceptance, evaluations = jnp.ones(len(x), x.dtype), jnp.int32(1)
        if self.kernel is not None:
            x, move = run_kernel(key_moves, self.kernel, x, score, sigma, self.moves)
            acceptance, evaluations = move.acceptance, move.evaluations + 2
            parts = score.parts(x, sigma)
            rate = self._rate(key_trace, score, x, sigma, parts)

        total = 1.0 if self.divergence is None else coefficients.sum(0)
        lost, variance = _variances(self.scale, sigma, sigma_next, total)
        noise = jnp.sqrt(variance) * jax.random.normal(key_noise, x.shape, x.dtype)
        composed = contract(coefficients, parts)
        force = virial(x, composed, log_weights)
        x = x + lost * composed + noise
        width = sigma**2 - sigma_next**2
        state = state._replace(x=x, log_weights=log_weights, pending=rate, width=width)
        state, dead_now = _weigh(state, width * rate)
        state, chosen = _finish(key_last, state, sigma_next, self.final)
        return state, ParticleInfo(
            evaluations,
            state.log_weights,
            ess,
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
        return _weigh(state, score.log_density(x, sigmas[0]) - log_prior)[0]

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Particles:
        """Particles of equal weights at x."""
        del key
        return _equal(x, sigmas)

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
        ancestors, ess, log_weights = _resample(
            key_resample, state.log_weights, self.threshold
        )
        x, evaluations = state.x[ancestors], jnp.int32(2)
        acceptance = jnp.ones(len(x), x.dtype)
        if self.kernel is not None:
            x, move = run_kernel(key_moves, self.kernel, x, score, sigma, self.moves)
            acceptance, evaluations = move.acceptance, move.evaluations + 2

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
        force = virial(x, composed, log_weights)
        state = state._replace(x=proposal, log_weights=log_weights)
        state, dead = _weigh(state, increment)
        state, chosen = _finish(key_last, state, sigma_next, self.final)
        return state, ParticleInfo(
            evaluations,
            state.log_weights,
            ess,
            ancestors[chosen],
            state.log_normalizer,
            dead,
            acceptance,
            force,
        )


def is_composition(score: Any) -> bool:
    """Whether a score keeps its parts apart.

    Args:
        score: Any score.

    Example:
        >>> is_composition(jnp.tanh)
        False
    """
    return hasattr(score, "parts") and hasattr(score, "coefficients")


NOT_NOISED = (Contrast, HarmonicMean, Switch, Pullback)
"""Compositions of densities, along whose path no heat equation holds."""


def check_parts(composition: Any) -> None:
    """Raises a ValueError if a part is itself a composition.

    Weights need parts that obey the heat equation, as scores of noised densities do;
    those of sums, contrasts, harmonic means, switches and pullbacks do not.

    Args:
        composition: With parts.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> check_parts(cj.compose(p, cj.power(p, 2.0)))
        Traceback (most recent call last):
        ...
        ValueError: product(...) is itself a composition, not the score of a noised ...
    """
    parts = (*getattr(composition, "scores", ()), getattr(composition, "score", None))
    for part in (*parts, getattr(composition, "background", None)):
        if is_composition(part) or isinstance(part, NOT_NOISED):
            raise ValueError(
                f"{part!r} is itself a composition, not the score of a noised density: "
                "compose its parts directly, with weights of their own."
            )


def _equal(x: Array, sigmas: Array) -> Particles:
    zero, zeros = jnp.zeros((), x.dtype), jnp.zeros(len(x), x.dtype)
    return Particles(x, zeros, zero, zeros, zero, sigmas[-1])


def _prior(
    key: PRNGKey, shape: tuple[int, ...], sigma: Array, total: Array
) -> tuple[Array, Array]:
    r"""Samples of $N(0, \sigma^2 / \sum_i c_i)$, to which wide noise is raised."""
    variance = sigma**2 / total
    x = jnp.sqrt(variance) * jax.random.normal(key, shape, sigma.dtype)
    return x, _log_normal(x, variance)


def _variances(
    scale: Number, sigma: Number, sigma_next: Number, total: Any
) -> tuple[Array, Array]:
    """Variance of the noise that a step takes away, and of what it puts in its place.

    The second is that of `x' | x` for Gaussian data of this scale.
    """
    lost = (sigma**2 - sigma_next**2) / total
    wide = scale**2 + jnp.stack([sigma_next**2, sigma**2]) / total
    return lost, lost * wide[0] / wide[1]


def _log_normal(away: Array, variance: Array) -> Array:
    d = away[0].size
    square = (away**2).sum(tuple(range(1, away.ndim)))
    return -square / (2 * variance) - d / 2 * jnp.log(2 * jnp.pi * variance)


def _total(score: Any, sigma: Number) -> Array:
    if not hasattr(score, "coefficients"):
        return jnp.ones(())
    return score.coefficients(sigma).sum(0)


def _weigh(state: Particles, increment: Array) -> tuple[Particles, Array]:
    """Adds to the log-weights, so that the weights average to one; counts the dead."""
    logs = state.log_weights + increment
    finite = jnp.isfinite(state.x).all(tuple(range(1, state.x.ndim)))
    logs = jnp.where(finite & jnp.isfinite(logs), logs, -jnp.inf)
    mean = jax.nn.logsumexp(logs) - np.log(len(logs))
    dead = jnp.isneginf(logs).sum()
    # With no particle left, nothing is a sample: `cj.sample` then says so.
    x = jnp.where(dead < len(logs), state.x, jnp.nan)
    logs = jnp.where(dead < len(logs), logs - mean, -jnp.inf)
    normalizer = state.log_normalizer + mean
    return state._replace(x=x, log_weights=logs, log_normalizer=normalizer), dead


def _resample(
    key: PRNGKey, log_weights: Array, threshold: Number
) -> tuple[Array, Array, Array]:
    """Ancestors, the effective sample size before, and the log-weights after."""
    ess = effective_sample_size(log_weights)
    resampling = ess < threshold
    ancestors = systematic(key, log_weights)
    stay = jnp.arange(len(log_weights), dtype=ancestors.dtype)
    return (
        jnp.where(resampling, ancestors, stay),
        ess,
        jnp.where(resampling, 0.0, log_weights),
    )


def _finish(
    key: PRNGKey, state: Particles, sigma_next: Number, final: Number
) -> tuple[Particles, Array]:
    """Resamples at the end of the grid, and says which particles are left."""
    threshold = jnp.where(sigma_next <= state.last, final, 0.0)
    chosen, _, log_weights = _resample(key, state.log_weights, threshold)
    return state._replace(x=state.x[chosen], log_weights=log_weights), chosen


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
