r"""The reverse SDE, $dx = -2\sigma s\,d\sigma + \sqrt{2\sigma}\,dW$."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.samplers.base import Info, State
from compjax.samplers.ode import heun_step
from compjax.types import (
    Number,
    PRNGKey,
    ScoreFn,
    as_float,
    concrete,
    pytree,
    set_fields,
)


@pytree
class Ancestral:
    r"""Ancestral steps: the reverse SDE at eta = 1, the probability flow at eta = 0.

    Down to $\sigma_{down}$ along the flow, then up to $\sigma_{next}$ by noise, with
    $\sigma_{up}^2 = \eta^2 \sigma_{next}^2 (\sigma^2 - \sigma_{next}^2) / \sigma^2$ and
    $\sigma_{down}^2 = \sigma_{next}^2 - \sigma_{up}^2$.  At eta = 1 this is the
    posterior of DDPM, $x + (\sigma^2 - \sigma_{next}^2)\,s + \sigma_{up}\,\epsilon$.

    Args:
        eta: How much of the noise to renew, in [0, 1].

    Raises:
        ValueError: If eta is outside [0, 1].

    Source: Ho et al. 2020 (2006.11239), eq. 7; Song et al. 2021 (2010.02502), eq. 16.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> grid = cj.karras_sigmas(100)
        >>> x, _ = cj.sample(jax.random.key(0), p, Ancestral(), (4096, 1), grid)
        >>> bool(abs(x.std() - 1) < 0.1)
        True
    """

    eta: Number = 1.0

    def __post_init__(self) -> None:
        set_fields(self, eta=as_float(self.eta))
        if (eta := concrete(self.eta)) is not None and not 0 <= eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {eta}.")

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
        """One evaluation of the score at (x, sigma), and fresh noise."""
        down, up = ancestral_levels(self.eta, sigma, sigma_next)
        x, noise = state.x, jax.random.normal(key, state.x.shape, state.x.dtype)
        x = x - (down - sigma) * sigma * score(x, sigma) + up * noise
        return State(x), Info(jnp.int32(1))


def ancestral_levels(
    eta: Number, sigma: Number, sigma_next: Number
) -> tuple[Array, Array]:
    r"""$\sigma_{down}$ and $\sigma_{up}$ of an ancestral step.

    Args:
        eta: How much of the noise to renew, in [0, 1].
        sigma: Noise level, positive.
        sigma_next: The next one.

    Example:
        >>> [float(level) for level in ancestral_levels(1.0, 2.0, 0.0)]
        [0.0, 0.0]
    """
    kept = (sigma - sigma_next) * (sigma + sigma_next) / sigma**2
    up = eta * sigma_next * jnp.sqrt(kept)
    # sqrt has no gradient at 0, which is where a grid ends.
    down_squared = as_float(sigma_next**2 * (1 - eta**2 * kept))
    zero = down_squared <= 0
    down = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, down_squared)))
    return down, up


class ChurnState(NamedTuple):
    """The sample, and by how much each step raises its noise level."""

    x: Float[Array, "b *d"]
    gamma: Float[Array, ""]


@pytree
class Churn:
    r"""EDM's stochastic sampler: raise the noise level a little, then a Heun step.

    Where $s_{min} \le \sigma \le s_{max}$, noise of standard deviation $s_{noise}$
    lifts sigma to $\hat\sigma = (1 + \gamma)\,\sigma$ with
    $\gamma = \min(s_{churn}/n, \sqrt 2 - 1)$, n the number of steps.

    Args:
        s_churn: Amount of churn over the whole run, not negative; 0 is `Heun`.
        s_min: Lowest noise level that is churned.
        s_max: Highest noise level that is churned.
        s_noise: Standard deviation of the fresh noise.

    Raises:
        ValueError: If a number is out of range.

    Source: Karras et al. 2022, algorithm 2.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> grid = cj.karras_sigmas(32)
        >>> x, _ = cj.sample(jax.random.key(0), p, Churn(10.0), (4096, 1), grid)
        >>> bool(abs(x.std() - 1) < 0.1)
        True
    """

    s_churn: Number
    s_min: Number = 0.0
    s_max: Number = jnp.inf
    s_noise: Number = 1.0

    def __post_init__(self) -> None:
        names = ("s_churn", "s_min", "s_max", "s_noise")
        set_fields(self, **{name: as_float(getattr(self, name)) for name in names})
        for name in names:
            value = concrete(getattr(self, name))
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must not be negative, got {value}.")

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> ChurnState:
        """The state that holds x and gamma, which depends on the number of steps."""
        del key
        gamma = jnp.minimum(self.s_churn / (len(sigmas) - 1), 2**0.5 - 1)
        return ChurnState(x, gamma)

    def step(
        self,
        key: PRNGKey,
        state: ChurnState,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[ChurnState, Info]:
        """Fresh noise, then the two evaluations of a Heun step."""
        churned = (self.s_min <= sigma) & (sigma <= self.s_max)
        gamma = jnp.where(churned, state.gamma, 0.0)
        raised = sigma * (1 + gamma)
        # sigma sqrt((1 + gamma)^2 - 1), with a gradient at gamma = 0 as well
        variance = gamma * (gamma + 2)
        lift = jnp.where(churned & (variance > 0), variance, 1.0)
        lift = jnp.where(variance > 0, sigma * self.s_noise * jnp.sqrt(lift), 0.0)
        x = state.x + lift * jax.random.normal(key, state.x.shape, state.x.dtype)
        moved, info = heun_step(x, score, raised, sigma_next)
        return ChurnState(moved.x, state.gamma), info
