"""Coordinates that are switched on at random: Bradley's model of a cluttered scene."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.densities.gaussian import check_indices
from compjax.types import (
    Density,
    Number,
    PRNGKey,
    Sigma,
    align,
    as_float,
    concrete,
    pytree,
    set_fields,
)


@pytree
class BernoulliClutter(Density):
    r"""Independent coordinates $x_j = z_j + N(0, scale^2)$ with $z_j \sim Bern(q_j)$.

    With all $q_j = q$ it is the cluttered background $p_b$; `with_object(i)` sets
    $q_i = 1$, the conditional $p_i$; the equal `mixture` of all $p_i$ is the
    unconditional $p_u$.

    Args:
        probabilities: $q$, `[n]`, each in [0, 1].
        scale: Standard deviation of the clean coordinates around 0 and 1, positive.

    Raises:
        ValueError: If a probability or the scale is out of range.

    Source: Bradley et al. 2025, appendix G, eq. 18.

    Example:
        >>> p = BernoulliClutter(jnp.full(3, 0.5), 0.1)
        >>> p.with_object(0).denoise(jnp.full((1, 3), 0.5), 10.0).round(2)
        Array([[1. , 0.5, 0.5]], dtype=float32)
    """

    probabilities: Any
    scale: Any

    def __post_init__(self) -> None:
        q, scale = as_float(self.probabilities), as_float(self.scale)
        if q.ndim != 1 or scale.ndim != 0:
            raise ValueError(
                "BernoulliClutter needs probabilities [n] and a scalar scale, got "
                f"shapes {q.shape} and {scale.shape}."
            )
        value = concrete(q)
        if value is not None and not ((value >= 0) & (value <= 1)).all():
            raise ValueError(f"probabilities must lie in [0, 1], got {value}.")
        if (value := concrete(scale)) is not None and not value > 0:
            raise ValueError(f"scale must be positive, got {value}.")
        set_fields(self, probabilities=q, scale=scale)

    def with_object(self, i: int) -> BernoulliClutter:
        """The conditional in which coordinate i is certainly on."""
        n = len(self.probabilities)
        if not 0 <= i < n:
            raise ValueError(f"There is no coordinate {i} among {n}.")
        return BernoulliClutter(self.probabilities.at[i].set(1.0), self.scale)

    def marginal(self, indices: Any) -> BernoulliClutter:
        """The law of some coordinates, in the order given."""
        kept = check_indices(indices, len(self.probabilities))
        return BernoulliClutter(self.probabilities[kept], self.scale)

    def _logs(self, x: Array, sigma: Sigma) -> tuple[Array, Array, Array]:
        """`log(1-q) + log N(x; 0, v)`, `log q + log N(x; 1, v)`, and v."""
        if x.shape[1:] != self.probabilities.shape:
            n = len(self.probabilities)
            raise ValueError(f"x must be [b, {n}], got {x.shape}.")
        variance = self.scale**2 + align(sigma, x) ** 2
        log_volume = 0.5 * jnp.log(2 * np.pi * variance)
        q = self.probabilities[None]
        off = safe_log(1 - q) - x**2 / (2 * variance) - log_volume
        on = safe_log(q) - (x - 1) ** 2 / (2 * variance) - log_volume
        return off, on, variance

    def __call__(self, x: Float[Array, "b n"], sigma: Sigma) -> Float[Array, "b n"]:
        off, on, variance = self._logs(x, sigma)
        return (jax.nn.sigmoid(on - off) - x) / variance

    def log_prob(
        self, x: Float[Array, "b n"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""
        off, on, _ = self._logs(x, sigma)
        return jnp.logaddexp(off, on).sum(1)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """`[n, d]` independent draws at a noise level."""
        key_on, key_noise = jax.random.split(key)
        shape = (n, len(self.probabilities))
        on = jax.random.bernoulli(key_on, self.probabilities[None], shape)
        noise = jnp.sqrt(self.scale**2 + as_float(sigma) ** 2)
        return on + noise * jax.random.normal(key_noise, shape)


def safe_log(q: Array) -> Array:
    """The logarithm, -inf at 0, where its gradient is 0 (the double `where`).

    Args:
        q: Not negative, of any shape.

    Example:
        >>> safe_log(jnp.array([0.0, 1.0]))
        Array([-inf,   0.], dtype=float32)
    """
    return jnp.where(q > 0, jnp.log(jnp.where(q > 0, q, 1.0)), -jnp.inf)
