r"""The probability-flow ODE, $dx/d\sigma = -\sigma\, s(x, \sigma)$."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.samplers.base import Info, State
from compjax.scores import denoise
from compjax.types import Number, PRNGKey, ScoreFn, pytree


@pytree
class Euler:
    """Euler steps of the probability flow; DDIM in these coordinates.  First order.

    Source: Song et al. 2021 (2010.02502); Karras et al. 2022, eq. 4 with s(t) = 1.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> step = Euler().step
        >>> state = State(jnp.ones((1, 1)))
        >>> step(jax.random.key(0), state, p, jnp.float32(1), jnp.float32(0))[0].x
        Array([[0.5]], dtype=float32)
    """

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> State:
        """The state that holds x."""
        del key, sigmas  # deterministic, and the same at every step
        return State(x)

    def step(
        self,
        key: PRNGKey,
        state: State,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[State, Info]:
        """One evaluation of the score at (x, sigma)."""
        del key
        slope = -sigma * score(state.x, sigma)
        return State(state.x + (sigma_next - sigma) * slope), Info(jnp.int32(1))


@pytree
class Heun:
    """Heun's second-order steps, and an Euler step where the grid ends in 0: EDM's.

    n steps that end in 0 evaluate the score 2n - 1 times.

    Source: Karras et al. 2022, algorithm 1.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> state, step = State(jnp.ones((1, 1))), Heun().step
        >>> high, low = jnp.float32(1), jnp.float32(0.5)
        >>> _, info = step(jax.random.key(0), state, p, high, low)
        >>> int(info.evaluations)
        2
    """

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> State:
        """The state that holds x."""
        del key, sigmas
        return State(x)

    def step(
        self,
        key: PRNGKey,
        state: State,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[State, Info]:
        """The trapezoid rule, or Euler's where sigma_next is 0."""
        del key
        return heun_step(state.x, score, sigma, sigma_next)


def heun_step(
    x: Float[Array, "b *d"], score: ScoreFn, sigma: Number, sigma_next: Number
) -> tuple[State, Info]:
    """One step of Heun's method from sigma to sigma_next, shared with `Churn`.

    Args:
        x: `[b, *d]` at noise level sigma.
        score: The score to follow.
        sigma: Noise level, positive.
        sigma_next: The next one; at 0, where no score exists, the step is Euler's.
    """
    slope = -sigma * score(x, sigma)
    x_euler = x + (sigma_next - sigma) * slope

    def correct(x_euler: Array) -> Array:
        slope_next = -sigma_next * score(x_euler, sigma_next)
        return x + (sigma_next - sigma) * (slope + slope_next) / 2

    inside = sigma_next > 0
    x_next = jax.lax.cond(inside, correct, lambda x_euler: x_euler, x_euler)
    return State(x_next), Info(1 + jnp.asarray(inside, jnp.int32))


class MultistepState(NamedTuple):
    """The sample, the denoised image before, and the log-step that followed it."""

    x: Float[Array, "b *d"]
    denoised: Float[Array, "b *d"]
    log_step: Float[Array, ""]


@pytree
class DPMSolverPP:
    r"""DPM-Solver++(2M): second order at one evaluation a step.

    Exact for a denoiser that is linear in $\lambda = -\ln\sigma$, extrapolated from
    the last two steps of sizes $h_{-1}$ and $h$:

    $$x \leftarrow \frac{\sigma_{next}}{\sigma}\,x
        + \Bigl(1 - \frac{\sigma_{next}}{\sigma}\Bigr)
          \Bigl(D + \frac{h}{2 h_{-1}} (D - D_{-1})\Bigr).$$

    The first step and a step to 0, where h is infinite, take D as it is.

    Source: Lu et al. 2022 (2211.01095), algorithm 2, in VE coordinates.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> grid = cj.karras_sigmas(20)
        >>> x, _ = cj.sample(jax.random.key(0), p, DPMSolverPP(), (4096, 1), grid)
        >>> bool(abs(x.std() - 1) < 0.1)
        True
    """

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> MultistepState:
        """The state that holds x, and no step before."""
        del key, sigmas
        return MultistepState(x, jnp.zeros_like(x), jnp.full((), jnp.inf, x.dtype))

    def step(
        self,
        key: PRNGKey,
        state: MultistepState,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[MultistepState, Info]:
        """One evaluation of the score at (x, sigma)."""
        del key
        denoised = denoise(score, state.x, sigma)
        inside = sigma_next > 0
        ratio = sigma_next / sigma
        log_step = -jnp.log(jnp.where(inside, ratio, 1.0))
        slope = log_step / (2 * state.log_step)  # 0 at the first step and the last
        ahead = denoised + slope * (denoised - state.denoised)
        x = ratio * state.x + (1 - ratio) * ahead
        return MultistepState(x, denoised, log_step), Info(jnp.int32(1))
