"""Scores and the other four names of the same function.

At noise level sigma, in VE coordinates ``x = x0 + sigma * eps``:

* denoiser  ``D = E[x0 | x]``
* score     ``s = grad log p_sigma(x) = (D - x) / sigma**2``  (Tweedie)
* epsilon   ``e = E[eps | x] = (x - D) / sigma = -sigma * s``
* velocity  ``v = E[eps - x0 | x] = e - D``  (rectified flow, dx_t/dt)
* energy    ``E = -log p_sigma(x) + const``,  ``s = -grad E``

The lifts take a callable of one kind, ``(x, sigma) -> value``, and return a score that
keeps it; ``denoise``, ``epsilon`` and ``velocity`` read a score the other way.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.types import (
    Condition,
    Number,
    ScoreFn,
    Sigma,
    align,
    as_float,
    pytree,
    static,
)


def as_score(fn: Any) -> Any:
    """A score function from a plain one, by giving it the structure of a pytree.

    A function defined at module level never retraces; a fresh lambda does, because
    JAX knows functions by identity.

    Args:
        fn: `(x, sigma) -> score`.  A pytree callable is returned as it is.

    Returns:
        A pytree callable without leaves.

    Raises:
        ValueError: If `fn` is not callable.

    Example:
        >>> score = as_score(lambda x, sigma: -x / (1 + sigma**2))
        >>> score(jnp.ones((1, 2)), 1.0)
        Array([[-0.5, -0.5]], dtype=float32)
    """
    if not callable(fn):
        raise ValueError(f"A score function must be callable, got {fn!r}.")
    return jax.tree_util.Partial(fn) if jax.tree_util.all_leaves([fn]) else fn


def check_score(fn: Any, role: str) -> Any:
    """`fn`, if it may enter an operator or a sampler.

    Args:
        fn: What the user passed.
        role: How to name it in the message, such as `"operand 2"`.

    Raises:
        ValueError: If `fn` is not callable, or is a plain function, whose closure JAX
            could not see.

    Example:
        >>> check_score(jnp.tanh, "the background")
        Traceback (most recent call last):
        ...
        ValueError: the background is a plain function; lift it with cj.as_score(fn).
    """
    if not callable(fn):
        raise ValueError(f"{role} must be a score function, got {fn!r}.")
    if jax.tree_util.all_leaves([fn]):
        raise ValueError(f"{role} is a plain function; lift it with cj.as_score(fn).")
    return fn


def denoise(
    score: ScoreFn, x: Float[Array, "b *d"], sigma: Sigma
) -> Float[Array, "b *d"]:
    r"""$E[x_0 | x] = x + \sigma^2 s(x, \sigma)$: Tweedie's formula.

    Args:
        score: Any score function.
        x: `[b, *d]`.
        sigma: Noise level.

    Example:
        >>> prior = as_score(lambda x, sigma: -x / (1 + sigma**2))
        >>> denoise(prior, jnp.ones((1, 2)), 1.0)
        Array([[0.5, 0.5]], dtype=float32)
    """
    return x + align(sigma, x) ** 2 * score(x, sigma)


def epsilon(
    score: ScoreFn, x: Float[Array, "b *d"], sigma: Sigma
) -> Float[Array, "b *d"]:
    r"""$E[\epsilon | x] = -\sigma\, s(x, \sigma)$: the predicted noise.

    Args:
        score: Any score function.
        x: `[b, *d]`.
        sigma: Noise level.

    Example:
        >>> prior = as_score(lambda x, sigma: -x / (1 + sigma**2))
        >>> epsilon(prior, jnp.ones((1, 2)), 1.0)
        Array([[0.5, 0.5]], dtype=float32)
    """
    return -align(sigma, x) * score(x, sigma)


def velocity(
    score: ScoreFn, x: Float[Array, "b *d"], sigma: Sigma
) -> Float[Array, "b *d"]:
    r"""$E[\epsilon - x_0 | x]$: the velocity of the rectified flow.

    Args:
        score: Any score function.
        x: `[b, *d]`, in VE coordinates (`noise.flow_from_ve` gives the flow's).
        sigma: Noise level.

    Example:
        >>> prior = as_score(lambda x, sigma: -x / (1 + sigma**2))
        >>> velocity(prior, jnp.ones((1, 2)), 1.0)
        Array([[0., 0.]], dtype=float32)
    """
    level, s = align(sigma, x), score(x, sigma)
    return -level * s - (x + level**2 * s)


def _safe_divide(numerator: Array, denominator: Array) -> Array:
    """0 where the denominator is 0, with finite gradients (the double `where`)."""
    zero = denominator == 0
    return jnp.where(zero, 0.0, numerator / jnp.where(zero, 1.0, denominator))


@pytree
class DenoiserScore:
    """The score of a denoiser: `(D - x) / sigma**2`, and 0 at sigma = 0."""

    denoiser: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return _safe_divide(self.denoise(x, sigma) - x, align(sigma, x) ** 2)

    def denoise(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        """`E[x0 | x]`: the denoiser itself."""
        return self.denoiser(x, sigma)


@pytree
class EpsilonScore:
    """The score of a noise prediction: `-epsilon / sigma`, and 0 at sigma = 0."""

    predictor: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return _safe_divide(-self.predictor(x, sigma), align(sigma, x))

    def denoise(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        """`E[x0 | x] = x - sigma * epsilon`."""
        return x - align(sigma, x) * self.predictor(x, sigma)


@pytree
class VelocityScore:
    """The score of a flow velocity: `-(x + v) / (sigma (1 + sigma))`."""

    predictor: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        level = align(sigma, x)
        return _safe_divide(-(x + self.predictor(x, sigma)), level * (1 + level))

    def denoise(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        """`E[x0 | x] = (x - sigma * v) / (1 + sigma)`."""
        level = align(sigma, x)
        return (x - level * self.predictor(x, sigma)) / (1 + level)


@pytree
class EnergyScore:
    """The annealed density of an energy: score `-grad E`, log-density `-E`."""

    energy: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return jax.grad(lambda x: self.log_density(x, sigma).sum())(x)

    def log_density(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, " b"]:
        """`-E(x, sigma)`."""
        return -self.energy(x, sigma)


def score_from_denoiser(fn: Any) -> DenoiserScore:
    r"""The score $(D(x,\sigma) - x)/\sigma^2$ of a denoiser $D = E[x_0|x]$.

    Args:
        fn: `(x [b, *d], sigma) -> E[x0 | x]`, in VE coordinates.

    Returns:
        A score with `.denoise`; it returns 0 at sigma = 0.

    Example:
        >>> score = score_from_denoiser(lambda x, sigma: x / (1 + sigma**2))
        >>> score(jnp.ones((1, 2)), 1.0)
        Array([[-0.5, -0.5]], dtype=float32)
    """
    return DenoiserScore(as_score(fn))


def score_from_epsilon(fn: Any) -> EpsilonScore:
    r"""The score $-\epsilon(x,\sigma)/\sigma$ of a noise predictor.

    Args:
        fn: `(x [b, *d], sigma) -> E[eps | x]`, in VE coordinates.  A DDPM network takes
            `noise.vp_from_ve(x, sigma)` inside.

    Returns:
        A score with `.denoise`; it returns 0 at sigma = 0.

    Example:
        >>> score = score_from_epsilon(lambda x, sigma: x * sigma / (1 + sigma**2))
        >>> score(jnp.ones((1, 2)), 1.0)
        Array([[-0.5, -0.5]], dtype=float32)
    """
    return EpsilonScore(as_score(fn))


def score_from_velocity(fn: Any) -> VelocityScore:
    r"""The score $-(x + v)/(\sigma(1+\sigma))$ of a rectified-flow velocity.

    From $v = \epsilon - x_0$ and $x = x_0 + \sigma\epsilon$ one has
    $x + v = (1+\sigma)\,\epsilon$.

    Args:
        fn: `(x [b, *d], sigma) -> E[eps - x0 | x]`, in VE coordinates.  A flow network
            `net(x_t, t)` takes `noise.flow_from_ve(x, sigma)` inside.

    Returns:
        A score with `.denoise`; it returns 0 at sigma = 0.

    Example:
        >>> score = score_from_velocity(lambda x, s: (s - 1) / (1 + s**2) * x)
        >>> score(jnp.ones((1, 2)), 1.0)
        Array([[-0.5, -0.5]], dtype=float32)
    """
    return VelocityScore(as_score(fn))


def score_from_energy(fn: Any) -> EnergyScore:
    r"""The annealed density with energy $E$: score $-\nabla E$.

    Args:
        fn: `(x [b, *d], sigma) -> [b]`, equal to `-log p_sigma(x)` up to a constant.

    Returns:
        A score with `.log_density`.

    Example:
        >>> energy = lambda x, sigma: (x**2).sum(-1) / 2 / (1 + sigma**2)
        >>> score_from_energy(energy)(jnp.ones((1, 2)), 1.0)
        Array([[-0.5, -0.5]], dtype=float32)
    """
    return EnergyScore(as_score(fn))


@pytree
class Conditioned:
    """A conditional score with its condition bound; see `condition`."""

    score: Any
    value: Condition

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return self.score(x, sigma, self.value)

    @property
    def denoise(self) -> Any:
        """`E[x0 | x, condition]`, where the conditional score has it."""
        return _bind_last(self.score.denoise, self.value)

    @property
    def log_density(self) -> Any:
        """The log-density given the condition, where the conditional score has it."""
        return _bind_last(self.score.log_density, self.value)


def _bind_last(method: Any, value: Any) -> Any:
    return lambda x, sigma: method(x, sigma, value)


def condition(score: Any, value: Condition) -> Conditioned:
    """The score function `(x, sigma) -> score(x, sigma, value)`.

    Args:
        score: A conditional score, `(x, sigma, condition) -> [b, *d]`.
        value: A condition; every leaf leads with an axis of size b or 1.

    Returns:
        A score function, with `.denoise` and `.log_density` if `score` has them.

    Raises:
        ValueError: If `score` is not a pytree callable.

    Example:
        >>> shifted = as_score(lambda x, sigma, c: -(x - c) / (1 + sigma**2))
        >>> condition(shifted, jnp.ones((1, 2)))(jnp.ones((3, 2)), 1.0).shape
        (3, 2)
    """
    return Conditioned(check_score(score, "the conditional score"), value)


@pytree
class Network:
    """The conditional score of a preconditioned denoiser network and its parameters.

    `__call__` is the score, `.denoise` the denoiser.  The module is part of the
    structure and the parameters are leaves, so new parameters never retrace.  Called
    without a condition it is an ordinary ScoreFn.

    Args:
        module: An object with `apply({"params": params}, x, sigma, condition) -> D`,
            hashable by value, such as any linen module of `compjax.networks`.
        params: Its parameters.

    Example:
        >>> class Shrink:
        ...     def apply(self, variables, x, sigma, condition):
        ...         return variables["params"] * x
        >>> Network(Shrink(), jnp.float32(0.5))(jnp.ones((1, 2)), 1.0)
        Array([[-0.5, -0.5]], dtype=float32)
    """

    module: Any = static()
    params: Any

    def __call__(
        self, x: Float[Array, "b *d"], sigma: Sigma, condition: Condition = None
    ) -> Float[Array, "b *d"]:
        D = self.denoise(x, sigma, condition)
        return _safe_divide(D - x, align(sigma, x) ** 2)

    def denoise(
        self, x: Float[Array, "b *d"], sigma: Sigma, condition: Condition = None
    ) -> Float[Array, "b *d"]:
        """`E[x0 | x, condition]`."""
        return self.module.apply({"params": self.params}, x, sigma, condition)


def edm_preconditioning(
    sigma: Sigma, sigma_data: Number = 0.5
) -> tuple[Array, Array, Array, Array]:
    r"""EDM's coefficients, which make a denoiser of a unit-variance network F.

    $$D = c_{skip}\,x + c_{out}\,F(c_{in}\,x,\, c_{noise})$$

    Args:
        sigma: Noise level, positive.
        sigma_data: Standard deviation of the data.

    Returns:
        `(c_skip, c_out, c_in, c_noise)`, each of sigma's shape.

    Source: Karras et al. 2022, table 1.

    Example:
        >>> c_skip, c_out, c_in, c_noise = edm_preconditioning(0.5)
        >>> float(c_skip), float(c_noise) == float(jnp.log(0.5) / 4)
        (0.5, True)
    """
    sigma, sigma_data = as_float(sigma), as_float(sigma_data)
    total = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / total
    c_out = sigma * sigma_data / jnp.sqrt(total)
    # sigma = 0 is reached only by gradients of masked branches: keep them finite.
    c_noise = jnp.log(jnp.where(sigma > 0, sigma, 1.0)) / 4
    return c_skip, c_out, 1 / jnp.sqrt(total), c_noise
