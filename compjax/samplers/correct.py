"""`corrected`: any predictor with any Markov kernel; `tune` finds its steps."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.samplers.base import State, check_run
from compjax.samplers.line_integral import ScoreOnly
from compjax.samplers.mcmc import UHMC, ULA, Move
from compjax.samplers.ode import Euler
from compjax.types import (
    Kernel,
    Number,
    PRNGKey,
    Sampler,
    ScoreFn,
    as_float,
    concrete,
    pytree,
    static,
    whole,
)


class CorrectedInfo(NamedTuple):
    """What a corrected sampler reports of a step.

    Args:
        evaluations: Of the score, by kernel and predictor.
        acceptance: `[b]`, the mean probability of acceptance over the moves.
        predictor: What the predictor reports.
    """

    evaluations: Int[Array, ""]
    acceptance: Float[Array, " b"]
    predictor: Any


@pytree
class Corrected:
    """A predictor with Markov moves before each of its steps; `corrected` makes it.

    Args:
        predictor: The sampler that goes from level to level.
        kernel: The kernel that stays at a level.
        moves: How many moves of it at every level.
    """

    predictor: Any
    kernel: Any
    moves: int = static()

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Any:
        """The state of the predictor."""
        return self.predictor.init(key, x, sigmas)

    def step(
        self,
        key: PRNGKey,
        state: Any,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[Any, CorrectedInfo]:
        """The moves at sigma, then the predictor's step to sigma_next."""
        key_moves, key_step = jax.random.split(key)
        x, move = run_kernel(key_moves, self.kernel, state.x, score, sigma, self.moves)
        state, info = self.predictor.step(
            key_step, state._replace(x=x), score, sigma, sigma_next
        )
        evaluations = move.evaluations + info.evaluations
        return state, CorrectedInfo(evaluations, move.acceptance, info)


def corrected(predictor: Sampler, kernel: Kernel, moves: int) -> Corrected:
    """A predictor with any corrector: `moves` of the kernel before each step.

    The moves are made where the sample is, so the first ones mend the start and none
    is made at sigma = 0, where there is no score.

    Args:
        predictor: `Euler()`, `Heun()`, `Ancestral()`, `Churn(...)`, or one of yours
            whose state is the sample alone.
        kernel: For example `ULA()`, `MALA()`, `score_only(HMC())`.
        moves: Moves at every noise level, at least 1.

    Raises:
        ValueError: If one of them is not what it should be.

    Source: Song et al. 2021 (2011.13456), algorithm 1; Du et al. 2023 (2302.11552).

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.ones(2), jnp.eye(2))
        >>> sampler = corrected(cj.samplers.Euler(), cj.samplers.MALA(0.5), 4)
        >>> grid = cj.karras_sigmas(8)
        >>> x, info = cj.sample(jax.random.key(0), p, sampler, (32, 2), grid)
        >>> info.acceptance.shape, int(info.evaluations[0])
        ((8, 32), 6)
    """
    for thing, names in ((predictor, ("init", "step")), (kernel, ("init", "step"))):
        if isinstance(thing, type) or not all(hasattr(thing, n) for n in names):
            raise ValueError(
                f"{thing!r} has no init and step: construct one, as in "
                "corrected(cj.samplers.Euler(), cj.samplers.MALA(), 4)."
            )
    if hasattr(predictor, "start"):
        raise ValueError(
            f"{predictor!r} keeps more than samples, which moves would make untrue: "
            "particles are moved by FeynmanKac(kernel=...)."
        )
    return Corrected(predictor, kernel, whole("moves", moves))


def run_kernel(
    key: PRNGKey,
    kernel: Kernel,
    x: Float[Array, "b *d"],
    target: ScoreFn,
    sigma: Number,
    moves: int,
) -> tuple[Float[Array, "b *d"], Move]:
    """Some moves at one noise level.

    Args:
        key: A typed PRNG key.
        kernel: The kernel.
        x: `[b, *d]`, where the chains are.
        target: Its score, and its log-density where the kernel needs one.
        sigma: The noise level, above 0.
        moves: How many moves.

    Returns:
        `(x, move)`: where the chains end, all evaluations and the mean acceptance.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> x, kernel = jnp.ones((4, 1)), cj.samplers.MALA()
        >>> x, move = run_kernel(jax.random.key(0), kernel, x, p, 1.0, 10)
        >>> int(move.evaluations)
        11
    """
    key_init, key_moves = jax.random.split(key)
    state = kernel.init(key_init, x, target, sigma)

    def one(state: Any, key: PRNGKey) -> tuple[Any, Move]:
        return kernel.step(key, state, target, sigma)

    state, steps = jax.lax.scan(one, state, jax.random.split(key_moves, moves))
    total = 1 + steps.evaluations.sum()  # one to begin with
    return state.x, Move(total, steps.acceptance.mean(0))


def tune(
    key: PRNGKey,
    kernel: Kernel,
    score: ScoreFn,
    shape: tuple[int, ...],
    sigmas: Float[Array | np.ndarray, " levels"],
    *,
    acceptance: Number = 0.6,
    moves: int = 30,
    start: Float[Array, "b *d"] | None = None,
) -> Any:
    r"""The kernel with the step sizes at which it accepts what it should, by level.

    Chains go down the grid along the probability flow.  At every level they make some
    moves, after the i-th of which the logarithm of the step rises by
    $(\bar\alpha - \alpha) / \sqrt i$, the mean acceptance less the wanted one; the mean
    of its second half is kept.  Tune once, then sample: a kernel that adapts while it
    samples leaves nothing invariant.

    Args:
        key: A typed PRNG key.
        kernel: A kernel that rejects: `MALA`, `HMC`, or `score_only` of one.
        score: What it is to sample.
        shape: `[b, *d]`, how many chains.
        sigmas: Decreasing noise levels.
        acceptance: The wanted one, in (0, 1): 0.574 is best for MALA and 0.651 for HMC
            in many dimensions.
        moves: Moves at every level.
        start: As for `sample`.

    Returns:
        The kernel, whose step size is a function of sigma.

    Raises:
        ValueError: If the kernel accepts everything, `acceptance` is out of range, or
            there are no moves.

    Source: Robbins and Monro 1951; Roberts and Rosenthal 1998; Beskos et al. 2013.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> grid = cj.karras_sigmas(8)
        >>> tuned = tune(jax.random.key(0), cj.samplers.MALA(), p, (64, 2), grid)
        >>> tuned.step_size(1.0).shape
        ()
    """
    inner = kernel.kernel if isinstance(kernel, ScoreOnly) else kernel
    if isinstance(inner, ULA | UHMC) or not hasattr(inner, "step_size"):
        raise ValueError(
            f"{kernel!r} rejects nothing that its step could be tuned by: tune MALA or "
            "HMC, and give their step size to it."
        )
    wanted = concrete(as_float(acceptance))
    if wanted is not None and not 0 < wanted < 1:
        raise ValueError(f"acceptance must lie in (0, 1), got {wanted}.")
    moves, shape = whole("moves", moves), tuple(shape)
    start, sigmas = check_run(score, Euler(), shape, sigmas, start)
    steps = _tune(key, kernel, score, shape, sigmas, as_float(acceptance), moves, start)
    return _resized(kernel, StepSizes(sigmas[:-1], steps))


@pytree
class StepSizes:
    """Step sizes by noise level, interpolated between levels in logarithms.

    Args:
        sigmas: `[n]`, decreasing.
        values: `[n]`, the step size at each.

    Example:
        >>> StepSizes(jnp.array([4.0, 1.0]), jnp.array([0.4, 0.1]))(2.0).round(3)
        Array(0.2, dtype=float32)
    """

    sigmas: Float[Array, " n"]
    values: Float[Array, " n"]

    def __call__(self, sigma: Number) -> Array:
        levels, steps = jnp.log(self.sigmas[::-1]), jnp.log(self.values[::-1])
        return jnp.exp(jnp.interp(jnp.log(as_float(sigma)), levels, steps))


@partial(jax.jit, static_argnames=("shape", "moves"))
def _tune(key, kernel, score, shape, sigmas, acceptance, moves, start):
    key_start, key_levels = jax.random.split(key)
    if start is None:
        start = sigmas[0] * jax.random.normal(key_start, shape, sigmas.dtype)
    predictor = Euler()
    first = _step_size(kernel, sigmas[0])

    def level(carry, inputs):
        x, log_step = carry
        key, sigma, sigma_next = inputs
        key_init, key_moves = jax.random.split(key)

        def move(carry, inputs):
            state, log_step = carry
            key, i = inputs
            sized = _resized(kernel, jnp.exp(log_step))
            state, info = sized.step(key, state, score, sigma)
            short = info.acceptance.mean() - acceptance
            log_step = log_step + short / jnp.sqrt(i + 1)
            return (state, log_step), log_step

        state = kernel.init(key_init, x, score, sigma)
        keys, count = jax.random.split(key_moves, moves), jnp.arange(moves)
        (state, _), found = jax.lax.scan(move, (state, log_step), (keys, count))
        log_step = found[moves // 2 :].mean()
        x = predictor.step(key, State(state.x), score, sigma, sigma_next)[0].x
        return (x, log_step), jnp.exp(log_step)

    keys = jax.random.split(key_levels, len(sigmas) - 1)
    carry = (start, jnp.log(first))
    return jax.lax.scan(level, carry, (keys, sigmas[:-1], sigmas[1:]))[1]


def _step_size(kernel: Any, sigma: Number) -> Array:
    found = kernel.step_size
    return as_float(found(sigma)) if callable(found) else found


def _resized(kernel: Any, step_size: Any) -> Any:
    """The kernel with another step size, a number or a function of sigma."""
    if isinstance(kernel, ScoreOnly):
        return dataclasses.replace(kernel, kernel=_resized(kernel.kernel, step_size))
    return dataclasses.replace(kernel, step_size=step_size)
