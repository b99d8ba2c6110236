"""Weighted populations: their diagnostics, resampling and bookkeeping."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.types import Number, PRNGKey, as_float, inner


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

    @classmethod
    def equal(cls, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]) -> Particles:
        """Particles of equal weights at x, at the beginning of a grid."""
        zero, zeros = jnp.zeros((), x.dtype), jnp.zeros(len(x), x.dtype)
        return cls(x, zeros, zero, zeros, zero, sigmas[-1])

    def weigh(self, increment: Float[Array, " b"]) -> tuple[Particles, Int[Array, ""]]:
        """Adds to the log-weights, so that weights average to one; counts the dead."""
        logs = self.log_weights + increment
        finite = jnp.isfinite(self.x).all(tuple(range(1, self.x.ndim)))
        logs = jnp.where(finite & jnp.isfinite(logs), logs, -jnp.inf)
        mean = jax.nn.logsumexp(logs) - np.log(len(logs))
        dead = jnp.isneginf(logs).sum()
        # With no particle left, nothing is a sample: `cj.sample` then says so.
        x = jnp.where(dead < len(logs), self.x, jnp.nan)
        logs = jnp.where(dead < len(logs), logs - mean, -jnp.inf)
        normalizer = self.log_normalizer + mean
        return self._replace(x=x, log_weights=logs, log_normalizer=normalizer), dead

    def resample(
        self, key: PRNGKey, threshold: Number
    ) -> tuple[Particles, Int[Array, " b"], Float[Array, ""]]:
        """Particles and their ancestors; and the effective sample size before.

        All stay as they are unless that is below the threshold.
        """
        size = effective_sample_size(self.log_weights)
        resampling = size < threshold
        chosen = systematic(key, self.log_weights)
        stay = jnp.arange(len(chosen), dtype=chosen.dtype)
        ancestors = jnp.where(resampling, chosen, stay)
        logs = jnp.where(resampling, 0.0, self.log_weights)
        x, pending = self.x[ancestors], self.pending[ancestors]
        state = self._replace(x=x, log_weights=logs, pending=pending)
        return state, ancestors, size


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
