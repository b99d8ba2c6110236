r"""Markov kernels: moves that leave the density of one noise level where it is.

A kernel moves every sample of a batch on its own: proposals, acceptance and momenta
are those of independent chains.  Step sizes are relative to the noise level,
$h = a\sigma^2$ for Langevin and $\epsilon = a\sigma$ for leapfrog steps, so one number
serves a whole grid: nothing in a noised density is narrower than sigma.  A composition
can be narrower by the square root of its positive coefficients' sum; `tune` finds the
steps where one number does not do.
`corrected` puts a kernel into a sampler.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from compjax.scores import as_score
from compjax.types import (
    Number,
    PRNGKey,
    ScoreFn,
    Weight,
    as_float,
    concrete,
    inner,
    pytree,
    set_fields,
    static,
    whole,
)


class Point(NamedTuple):
    """A sample, and what the target says there.

    Args:
        x: `[b, *d]`.
        score: `[b, *d]`.
        log_density: `[b]`, up to a constant; None where the target has none.
    """

    x: Float[Array, "b *d"]
    score: Float[Array, "b *d"]
    log_density: Float[Array, " b"] | None


class Phase(NamedTuple):
    """A sample that moves: what Hamiltonian kernels carry.

    Args:
        point: Where it is.
        momentum: `[b, *d]`, standard normal in equilibrium.
    """

    point: Point
    momentum: Float[Array, "b *d"]

    @property
    def x(self) -> Float[Array, "b *d"]:
        """The sample, `[b, *d]`."""
        return self.point.x


class Move(NamedTuple):
    """What a kernel reports of a move.

    Args:
        evaluations: How often the target was evaluated.
        acceptance: `[b]`, the probability with which each proposal was accepted; ones
            where a kernel accepts everything, 0 where a proposal was not finite.
    """

    evaluations: Int[Array, ""]
    acceptance: Float[Array, " b"]


@pytree
class ULA:
    r"""Unadjusted Langevin: $x + h\,s + \sqrt{2h}\,\epsilon$ with $h = a\sigma^2$.

    Its law is off by O(h): on a Gaussian of variance v the chain's variance is
    $v / (1 - h / 2v)$.

    Args:
        step_size: $a$, a number or a function of sigma.

    Raises:
        ValueError: If the step size is not positive.

    Source: Roberts and Tweedie 1996.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> kernel, keys = ULA(0.1), jax.random.split(jax.random.key(0))
        >>> state = kernel.init(keys[0], jnp.zeros((4, 1)), p, 1.0)
        >>> state, move = kernel.step(keys[1], state, p, 1.0)
        >>> state.x.shape, int(move.evaluations)
        ((4, 1), 1)
    """

    step_size: Weight = 0.1

    def __post_init__(self) -> None:
        set_fields(self, step_size=_as_step_size(self.step_size))

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], target: ScoreFn, sigma: Number
    ) -> Point:
        """The state at x: one evaluation of the target."""
        del key
        return _look(target, x, sigma)

    def step(
        self, key: PRNGKey, state: Point, target: ScoreFn, sigma: Number
    ) -> tuple[Point, Move]:
        """One move, which is always made."""
        x = _langevin(key, state, _step(self.step_size, sigma) * sigma**2)
        return _look(target, x, sigma), _always(x, 1)


@pytree
class MALA:
    r"""Langevin proposals, corrected by Metropolis and Hastings: exact at any step.

    Args:
        step_size: $a$ in $h = a\sigma^2$, a number or a function of sigma.

    Raises:
        ValueError: If the step size is not positive; on a move, if the target has no
            log-density (`score_only` does without).

    Source: Roberts and Tweedie 1996; in the limit of many dimensions best where 0.574
        of proposals are accepted (Roberts and Rosenthal 1998).

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> kernel, keys = MALA(0.5), jax.random.split(jax.random.key(0))
        >>> state = kernel.init(keys[0], jnp.zeros((4, 1)), p, 1.0)
        >>> state, move = kernel.step(keys[1], state, p, 1.0)
        >>> move.acceptance.shape
        (4,)
    """

    step_size: Weight = 0.1

    def __post_init__(self) -> None:
        set_fields(self, step_size=_as_step_size(self.step_size))

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], target: ScoreFn, sigma: Number
    ) -> Point:
        """The state at x: one evaluation of the target."""
        del key
        return _look(target, x, sigma)

    def step(
        self, key: PRNGKey, state: Point, target: ScoreFn, sigma: Number
    ) -> tuple[Point, Move]:
        """A proposal, and for each sample its own decision."""
        key_noise, key_accept = jax.random.split(key)
        h = _step(self.step_size, sigma) * sigma**2
        proposal = _look(target, _langevin(key_noise, state, h), sigma)
        log_ratio, extra = _log_ratio(target, state, proposal, sigma)
        there, back = _towards(state, proposal, h), _towards(proposal, state, h)
        accepted, probability = _metropolis(key_accept, log_ratio + back - there)
        state = _choose(accepted, proposal, state)
        return state, Move(jnp.int32(1 + extra), probability)


@pytree
class UHMC:
    r"""Unadjusted Hamiltonian Monte Carlo: leapfrog steps, all of which are taken.

    Args:
        step_size: $a$ in $\epsilon = a\sigma$, a number or a function of sigma.
        leapfrogs: Leapfrog steps of a move.
        damping: What a move keeps of the momentum of the last one, in [0, 1).

    Raises:
        ValueError: If a number is out of range.

    Source: Du et al. 2023 (2302.11552), appendix; Horowitz 1991 for the damping.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> kernel, keys = UHMC(0.2, leapfrogs=5), jax.random.split(jax.random.key(0))
        >>> state = kernel.init(keys[0], jnp.zeros((4, 1)), p, 1.0)
        >>> int(kernel.step(keys[1], state, p, 1.0)[1].evaluations)
        5
    """

    step_size: Weight = 0.2
    leapfrogs: int = static(default=3)
    damping: Number = 0.5

    def __post_init__(self) -> None:
        _check_hamiltonian(self)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], target: ScoreFn, sigma: Number
    ) -> Phase:
        """The state at x, with a fresh momentum."""
        return Phase(_look(target, x, sigma), jax.random.normal(key, x.shape, x.dtype))

    def step(
        self, key: PRNGKey, state: Phase, target: ScoreFn, sigma: Number
    ) -> tuple[Phase, Move]:
        """One move, which is always made."""
        start = _refreshed(key, state, self.damping)
        end = _leapfrog(target, start, sigma, self.step_size, self.leapfrogs)
        return end, _always(end.x, self.leapfrogs)


@pytree
class HMC:
    r"""Hamiltonian Monte Carlo with Metropolis' correction: exact at any step.

    A rejected sample turns back, so that persistent momenta leave the target invariant.

    Args:
        step_size: $a$ in $\epsilon = a\sigma$, a number or a function of sigma.
        leapfrogs: Leapfrog steps of a move.
        damping: What a move keeps of the momentum of the last one, in [0, 1).

    Raises:
        ValueError: If a number is out of range; on a move, if the target has no
            log-density (`score_only` does without).

    Source: Duane et al. 1987; Horowitz 1991.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> kernel, keys = HMC(0.2, leapfrogs=5), jax.random.split(jax.random.key(0))
        >>> state = kernel.init(keys[0], jnp.zeros((4, 1)), p, 1.0)
        >>> kernel.step(keys[1], state, p, 1.0)[0].x.shape
        (4, 1)
    """

    step_size: Weight = 0.2
    leapfrogs: int = static(default=3)
    damping: Number = 0.0

    def __post_init__(self) -> None:
        _check_hamiltonian(self)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], target: ScoreFn, sigma: Number
    ) -> Phase:
        """The state at x, with a fresh momentum."""
        return Phase(_look(target, x, sigma), jax.random.normal(key, x.shape, x.dtype))

    def step(
        self, key: PRNGKey, state: Phase, target: ScoreFn, sigma: Number
    ) -> tuple[Phase, Move]:
        """A trajectory, and for each sample its own decision."""
        key_momentum, key_accept = jax.random.split(key)
        start = _refreshed(key_momentum, state, self.damping)
        end = _leapfrog(target, start, sigma, self.step_size, self.leapfrogs)
        log_ratio, extra = _log_ratio(target, start.point, end.point, sigma)
        gained = _half_square(end.momentum) - _half_square(start.momentum)
        accepted, probability = _metropolis(key_accept, log_ratio - gained)
        turned = Phase(start.point, -start.momentum)
        state = _choose(accepted, end, turned)
        return state, Move(jnp.int32(self.leapfrogs + extra), probability)


def _as_step_size(step_size: Any) -> Any:
    if callable(step_size):
        return as_score(step_size)
    step_size = as_float(step_size)
    value = concrete(step_size)
    if value is not None and not (value.ndim == 0 and 0 < value < jnp.inf):
        raise ValueError(
            f"step_size must be a positive number or a function of sigma, got {value}."
        )
    return step_size


def _check_hamiltonian(kernel: Any) -> None:
    set_fields(
        kernel,
        step_size=_as_step_size(kernel.step_size),
        damping=as_float(kernel.damping),
    )
    set_fields(kernel, leapfrogs=whole("leapfrogs", kernel.leapfrogs))
    if (damping := concrete(kernel.damping)) is not None and not 0 <= damping < 1:
        raise ValueError(f"damping must lie in [0, 1), got {damping}.")


def _step(step_size: Any, sigma: Number) -> Array:
    return as_float(step_size(sigma)) if callable(step_size) else step_size


def _look(target: Any, x: Array, sigma: Number) -> Point:
    log_density = getattr(target, "log_density", None)
    value = None if log_density is None else log_density(x, sigma)
    return Point(x, target(x, sigma), value)


def _langevin(key: PRNGKey, state: Point, h: Array) -> Array:
    noise = jax.random.normal(key, state.x.shape, state.x.dtype)
    return state.x + h * state.score + jnp.sqrt(2 * h) * noise


def _towards(start: Point, end: Point, h: Array) -> Array:
    """The log-density of a Langevin proposal, of variance 2h, up to a constant."""
    return -_half_square(end.x - start.x - h * start.score) / (2 * h)


def _leapfrog(
    target: Any, start: Phase, sigma: Number, step_size: Any, steps: int
) -> Phase:
    stride = _step(step_size, sigma) * sigma

    def drift_and_kicks(_: Any, phase: Phase) -> Phase:
        half = phase.momentum + stride / 2 * phase.point.score
        point = _look(target, phase.x + stride * half, sigma)
        return Phase(point, half + stride / 2 * point.score)

    return jax.lax.fori_loop(0, steps, drift_and_kicks, start)


def _refreshed(key: PRNGKey, state: Phase, damping: Number) -> Phase:
    fresh = jax.random.normal(key, state.x.shape, state.x.dtype)
    kept = damping * state.momentum + jnp.sqrt(1 - as_float(damping) ** 2) * fresh
    return Phase(state.point, kept)


def _log_ratio(
    target: Any, start: Point, end: Point, sigma: Number
) -> tuple[Array, int]:
    """`log p(end) - log p(start)`, `[b]`, and the evaluations that it cost."""
    if hasattr(target, "log_ratio"):  # it has differences only
        return target.log_ratio(start, end, sigma), target.points
    if start.log_density is None or end.log_density is None:
        raise ValueError(
            f"{target!r} has no log_density to decide by: take score_only(kernel), "
            "which integrates the score, or a kernel that accepts everything."
        )
    return end.log_density - start.log_density, 0


def _metropolis(key: PRNGKey, log_ratio: Array) -> tuple[Array, Array]:
    """For each sample whether it moves, and the probability that it does.

    A ratio that is not a number is a proposal that cannot be judged: rejected.
    """
    log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
    probability = jnp.exp(jnp.minimum(log_ratio, 0))
    uniform = jax.random.uniform(key, log_ratio.shape, log_ratio.dtype)
    return uniform < probability, probability


def _choose(accepted: Array, new: Any, old: Any) -> Any:
    """For each sample the new state or the old one."""
    pick = lambda a, b: jnp.where(
        accepted.reshape(accepted.shape + (1,) * (a.ndim - 1)), a, b
    )
    return jax.tree.map(pick, new, old)


def _always(x: Array, evaluations: int) -> Move:
    return Move(jnp.int32(evaluations), jnp.ones(x.shape[0], x.dtype))


def _half_square(a: Array) -> Array:
    return inner(a, a) / 2
