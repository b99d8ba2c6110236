"""`switch` along the noise level, and `pullback` through a bijection."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.scores import check_score
from compjax.types import Number, ScoreFn, Sigma, as_float, concrete, pytree


@pytree
class Switch:
    """One score below a noise level, another above it; see `switch`."""

    low: Any
    high: Any
    threshold: Float[Array, ""]

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return self._choose(self.low, self.high, x, sigma)

    @property
    def log_density(self) -> Any:
        """The log-density of the active part, present when both have one."""
        low, high = self.low.log_density, self.high.log_density
        return lambda x, sigma: self._choose(low, high, x, sigma)

    def _choose(self, low: Any, high: Any, x: Array, sigma: Sigma) -> Array:
        sigma = as_float(sigma)
        below = sigma < self.threshold
        shapes = [jax.eval_shape(part, x, sigma).shape for part in (low, high)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"low returned shape {shapes[0]} and high {shapes[1]}: both must live "
                "on the space of x."
            )
        if sigma.ndim == 0:  # a sampler's scalar level pays for one part only
            return jax.lax.cond(below, low, high, x, sigma)
        a, b = low(x, sigma), high(x, sigma)
        return jnp.where(below.reshape(below.shape + (1,) * (a.ndim - 1)), a, b)


@pytree
class Pullback:
    """A score seen through a bijection of the data; see `pullback`."""

    score: Any
    bijection: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        z, transpose = jax.vjp(jax.vmap(self.bijection.forward), x)
        (pulled,) = transpose(self.score(z, sigma))
        return pulled + jax.vmap(jax.grad(self.bijection.log_det))(x)

    @property
    def log_density(self) -> Any:
        """`log p_z(A(x)) + log |det J_A(x)|`, present when the score has one."""
        log = self.score.log_density
        forward, log_det = self.bijection.forward, self.bijection.log_det
        return lambda x, sigma: log(jax.vmap(forward)(x), sigma) + jax.vmap(log_det)(x)


def switch(low: ScoreFn, high: ScoreFn, threshold: Number) -> Switch:
    """`low` below a noise level, `high` from that level upwards.

    Use it to guide within an interval, or to intervene on layout (high noise) and
    detail (low noise) separately.

    Args:
        low: Score function for sigma < threshold.
        high: Score function for sigma >= threshold.
        threshold: The noise level, not negative.

    Returns:
        A score function; an annealed density when both parts are.

    Raises:
        ValueError: If a part is not a score function, or `threshold < 0`.

    Example:
        >>> from compjax.densities import Gaussian
        >>> a, b = (Gaussian(m * jnp.ones(1), jnp.eye(1)) for m in (0.0, 1.0))
        >>> switch(a, b, 1.0)(jnp.ones((1, 1)), 0.0)
        Array([[-1.]], dtype=float32)
    """
    check_score(low, "low")
    check_score(high, "high")
    if (value := concrete(threshold)) is not None and not value >= 0:
        raise ValueError(f"threshold is a noise level, so not negative; got {value}.")
    return Switch(low, high, as_float(threshold))


def pullback(score: ScoreFn, bijection: Any) -> Pullback:
    r"""The score of x when `score` is that of $z = A(x)$.

    $$J_A(x)^T s_z(A(x), \sigma) + \nabla_x \log|\det J_A(x)|$$

    The noise lives in z: this is the exact score of the pulled-back annealed path, and
    of noised x only at sigma = 0, or for orthogonal A.

    Args:
        score: $s_z$, on events of the shape of A's values.
        bijection: $A$, with `forward`, `inverse` and `log_det` on single events.

    Returns:
        A score function; an annealed density when `score` is.

    Raises:
        ValueError: If `score` is not a score function or `bijection` lacks a method.

    Source: Bradley et al. 2025, lemma 6.2 (compositions are equivariant under it).

    Example:
        >>> from compjax.densities import Gaussian
        >>> from compjax.testing import Affine
        >>> z = Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> pullback(z, Affine(2 * jnp.eye(1), jnp.zeros(1)))(jnp.ones((1, 1)), 0.0)
        Array([[-4.]], dtype=float32)
    """
    check_score(score, "the score")
    if jax.tree_util.all_leaves([bijection]):
        raise ValueError(
            f"{type(bijection).__name__} is not a pytree; decorate its class with "
            "compjax.types.pytree."
        )
    for method in ("forward", "inverse", "log_det"):
        if not hasattr(bijection, method):
            raise ValueError(
                f"A bijection has forward, inverse and log_det; "
                f"{type(bijection).__name__} lacks {method}."
            )
    return Pullback(score, bijection)
