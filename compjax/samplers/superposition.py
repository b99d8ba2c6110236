r"""Superposition of diffusion models: OR and AND with weights that follow the sample.

Along a path $dx = u\,d\tau + dW$ in reverse time, $d\tau = -d\sigma^2$, every model's
log-density changes by Ito's formula and the heat equation, without a divergence:

$$d \log p_i = s_i \cdot dx - \tfrac12 \lVert s_i \rVert^2\,d\tau
  + \text{the same for all i}.$$

A finite step uses Bayes' rule, $p_i(x') = p_i(x)\,p_i(x' \mid x) / p(x \mid x')$, with
the Gaussian $p_i(x' \mid x)$ of DDPM, whose variance is
$\sigma_{up}^2 \le \Delta\tau$: the line above times $\Delta\tau / \sigma_{up}^2$.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.compose.weighted import contract
from compjax.samplers.sde import ancestral_levels
from compjax.types import (
    Number,
    PRNGKey,
    as_float,
    concrete,
    pytree,
    set_fields,
)


class Superposed(NamedTuple):
    """A sample and what every model thinks of it.

    Args:
        x: `[b, *d]`.
        log_densities: `[k, b]`, of every model at its noise level, estimated, up to a
            number that all models share.
    """

    x: Float[Array, "b *d"]
    log_densities: Float[Array, "k b"]


class SuperposedInfo(NamedTuple):
    """What `Superposition` reports of a step.

    Args:
        evaluations: Of the parts.
        weights: `[k, b]`, of the models in this step.
        log_densities: `[k, b]`, after it.
    """

    evaluations: Int[Array, ""]
    weights: Float[Array, "k b"]
    log_densities: Float[Array, "k b"]


@pytree
class Or:
    r"""The mixture: weights $\propto (w_i\,p_i)^{1/T}$, by the estimated densities.

    Args:
        log_weights: $\log w_i$, one number for all or `[k]`.
        temperature: $T$; 1 is the exact score of the mixture.

    Source: Skreta et al. 2024 (2412.17762), proposition 1.

    Example:
        >>> logs, x = jnp.log(jnp.array([[1.0], [3.0]])), jnp.zeros((1, 1))
        >>> Or()(logs, jnp.zeros((2, 1, 1)), x, 1.0, 1.0).ravel().round(2)
        Array([0.25, 0.75], dtype=float32)
    """

    log_weights: Any = 0.0
    temperature: Number = 1.0

    def __post_init__(self) -> None:
        set_fields(
            self,
            log_weights=as_float(self.log_weights),
            temperature=as_float(self.temperature),
        )
        value = concrete(self.temperature)
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"temperature must be positive, got {value}.")

    def __call__(
        self,
        log_densities: Float[Array, "k b"],
        parts: Float[Array, "k b *d"],
        noise: Float[Array, "b *d"],
        width: Number,
        gain: Number,
    ) -> Float[Array, "k b"]:
        """Weights `[k, b]`."""
        del parts, noise, width, gain
        log_weights = jnp.broadcast_to(self.log_weights, (len(log_densities),))
        logs = log_densities + log_weights[:, None]
        return jax.nn.softmax(logs / self.temperature, axis=0)


@pytree
class And:
    r"""Equal densities: weights that sum to one, with which all $d\log p_i$ agree.

    With k models they solve k linear equations, in the sense of least squares with a
    small ridge around equal weights, which decides where scores do not differ.

    Args:
        offsets: $\ell_i$, `[k]` or a number: wanted log-densities up to a common
            constant.
        ridge: What is added to the diagonal of the normal equations, as a share of
            its mean; not negative.

    Source: Skreta et al. 2024 (2412.17762), proposition 6; least squares ours.

    Example:
        >>> And(offsets=jnp.array([0.0, 1.0])).ridge > 0
        Array(True, dtype=bool)
    """

    offsets: Any = 0.0
    ridge: Number = 1e-4

    def __post_init__(self) -> None:
        set_fields(self, offsets=as_float(self.offsets), ridge=as_float(self.ridge))
        if (ridge := concrete(self.ridge)) is not None and not 0 <= ridge < np.inf:
            raise ValueError(f"ridge must not be negative, got {ridge}.")

    def __call__(
        self,
        log_densities: Float[Array, "k b"],
        parts: Float[Array, "k b *d"],
        noise: Float[Array, "b *d"],
        width: Number,
        gain: Number,
    ) -> Float[Array, "k b"]:
        r"""Weights `[k, b]` that close the gaps between log-densities in this step.

        With $x' - x = \Delta\tau \sum_j \kappa_j s_j + \epsilon$ the change of the
        i-th is the gain times
        $s_i \cdot (x' - x) - \lVert s_i \rVert^2 \Delta\tau / 2$, linear in kappa.
        """
        k, b = log_densities.shape
        flat = parts.reshape(k, b, -1).swapaxes(0, 1)  # [b, k, D]
        away = noise.reshape(b, 1, -1)
        gap = (
            log_densities - jnp.broadcast_to(self.offsets, (k,))[:, None]
        ).T  # [b, k]
        gap = gap - gap[:, :1]
        difference = flat[:, 1:] - flat[:, :1]
        # In units of the step, everything is bounded as its width goes to zero.
        drift = jnp.einsum("bid,bjd->bij", difference, flat)
        fixed = (
            (difference * away).sum(-1) / width
            - ((flat[:, 1:] ** 2).sum(-1) - (flat[:, :1] ** 2).sum(-1)) / 2
            + gap[:, 1:] / (gain * width)
        )
        # kappa = 1/k + N z, with the columns of N summing to zero, meets the sum.
        null = jnp.eye(k)[:, 1:] - jnp.eye(k)[:, :1]
        matrix = jnp.einsum("bij,jl->bil", drift, null)
        wanted = -fixed - drift.mean(-1)
        square = matrix.swapaxes(-1, -2) @ matrix
        size = jnp.trace(square, axis1=-2, axis2=-1)[:, None, None] / (k - 1)
        floor = jnp.finfo(square.dtype).tiny
        damped = square + (self.ridge * size + floor) * jnp.eye(k - 1)[None]
        z = jnp.linalg.solve(damped, (matrix.swapaxes(-1, -2) @ wanted[..., None]))[
            ..., 0
        ]
        return (1 / k + z @ null.T).T


@pytree
class Superposition:
    """Samples of several models at once, whose weights follow the sample.

    Args:
        rule: `Or()` or `And()`, or any pytree callable like them.

    Raises:
        ValueError: On sampling, if the score has fewer than two parts.

    Source: Skreta et al. 2024 (2412.17762).

    Example:
        >>> import compjax as cj
        >>> at = lambda m: cj.densities.Gaussian(jnp.full(1, m), 0.01 * jnp.eye(1))
        >>> both, grid = cj.product(at(-1.0), at(1.0)), cj.karras_sigmas(64)
        >>> sampler = Superposition(Or())
        >>> x, info = cj.sample(jax.random.key(0), both, sampler, (256, 1), grid)
        >>> bool(jnp.allclose(jnp.abs(x).mean(), 1, atol=0.1))
        True
    """

    rule: Any

    def __post_init__(self) -> None:
        if isinstance(self.rule, type) or not callable(self.rule):
            raise ValueError(f"rule must be Or() or And(), got {self.rule!r}.")

    def check(self, score: Any, sigmas: Array) -> None:
        """Raises a ValueError for what cannot be superposed."""
        if not hasattr(score, "parts"):
            raise ValueError(
                "Superposition needs several scores, which cj.product keeps apart; got "
                f"{type(score).__name__}."
            )
        coefficients = score.coefficients(sigmas[0])
        if len(coefficients) < 2:
            raise ValueError(
                f"Superposition needs two scores or more, got {len(coefficients)}."
            )
        value = concrete(coefficients)
        if value is not None and np.ptp(value) > 1e-5:
            raise ValueError(
                f"Superposition finds weights itself, and would ignore {value}: give "
                "cj.product(*scores), and Or(log_weights=...) for a prior."
            )

    def start(
        self, key: PRNGKey, score: Any, shape: tuple[int, ...], sigmas: Array
    ) -> Superposed:
        r"""Wide noise, and log-densities, $-\sigma^2 \lVert s_i \rVert^2 / 2$."""
        x = sigmas[0] * jax.random.normal(key, shape, sigmas.dtype)
        parts = score.parts(x, sigmas[0])
        squares = (parts**2).sum(tuple(range(2, parts.ndim)))
        return Superposed(x, -(sigmas[0] ** 2) / 2 * squares)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Superposed:
        """Superposition starts from noise alone."""
        raise ValueError(
            "Superposition knows the models' densities at noise only: give no start."
        )

    def step(
        self,
        key: PRNGKey,
        state: Superposed,
        score: Any,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[Superposed, SuperposedInfo]:
        """Weigh the models, then one ancestral step, followed by their densities."""
        parts = score.parts(state.x, sigma)
        width = sigma**2 - sigma_next**2
        _, up = ancestral_levels(1.0, sigma, sigma_next)
        noise = up * jax.random.normal(key, state.x.shape, state.x.dtype)
        # Where the grid ends at 0 the step has no noise, and no density is needed.
        gain = jnp.where(up > 0, width / jnp.where(up > 0, up, 1.0) ** 2, 1.0)
        weights = self.rule(state.log_densities, parts, noise, width, gain)
        moved = width * contract(weights, parts) + noise
        event = tuple(range(2, parts.ndim))
        # What all models have in common is left out: only differences are used.
        change = gain * (parts * (moved[None] - width / 2 * parts)).sum(event)
        logs = state.log_densities + change
        info = SuperposedInfo(jnp.int32(1), weights, logs)
        return Superposed(state.x + moved, logs), info
