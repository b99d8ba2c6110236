"""Boxes and circles: the uniform densities of the two-dimensional benchmarks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from compjax.types import (
    Density,
    Number,
    PRNGKey,
    Sigma,
    align,
    as_float,
    concrete,
    inner,
    pytree,
    set_fields,
)

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)


@pytree
class Box(Density):
    r"""The uniform density of a box: intervals, independently.

    With noise, every coordinate has density
    $(\Phi(\tfrac{b - x}{\sigma}) - \Phi(\tfrac{a - x}{\sigma})) / (b - a)$.

    Args:
        low: $a$, `[d]`.
        high: $b$, `[d]`, above low.

    Raises:
        ValueError: If a side has no length.

    Source: elementary.

    Example:
        >>> box = Box(jnp.zeros(2), jnp.array([1.0, 2.0]))
        >>> jnp.exp(box.log_prob(jnp.array([[0.5, 1.0], [0.5, 3.0]])))
        Array([0.5, 0. ], dtype=float32)
    """

    low: Any
    high: Any

    def __post_init__(self) -> None:
        low, high = as_float(self.low), as_float(self.high)
        if low.ndim != 1 or low.shape != high.shape:
            raise ValueError(
                f"low and high must both be [d], got {low.shape} and {high.shape}."
            )
        a, b = concrete(low), concrete(high)
        if a is not None and b is not None and not (a < b).all():
            raise ValueError(f"high must be above low everywhere, got {a} and {b}.")
        set_fields(self, low=low, high=high)

    def log_prob(
        self, x: Float[Array, "b d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The exact log-density of the noised box, `[b]`."""
        noise = jnp.broadcast_to(align(sigma, x), x.shape)
        low, high = self._ends()
        inside = (x >= low) & (x <= high)
        sharp = jnp.where(inside, 0.0, -jnp.inf)
        positive = noise > 0
        smooth = self._log_mass(x, jnp.where(positive, noise, 1.0))
        logs = jnp.where(positive, smooth, sharp) - jnp.log(high - low)
        return logs.sum(1)

    def __call__(self, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b d"]:
        noise = jnp.broadcast_to(align(sigma, x), x.shape)
        positive = noise > 0  # without noise it is flat where it is not zero
        safe = jnp.where(positive, noise, 1.0)
        score = jax.grad(lambda x: self._log_mass(x, safe).sum())(x)
        return jnp.where(positive, score, 0.0)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """Points of the box, with noise."""
        key_place, key_noise = jax.random.split(key)
        shape = (n, len(self.low))
        place = jax.random.uniform(key_place, shape, self.low.dtype)
        noise = as_float(sigma) * jax.random.normal(key_noise, shape, self.low.dtype)
        low, high = self._ends()
        return low + place * (high - low) + noise

    def _ends(self) -> tuple[Array, Array]:
        """Low and high, `[1, d]`."""
        return self.low[None], self.high[None]

    def _log_mass(self, x: Array, noise: Array) -> Array:
        """Log of the noise's mass on every side, `[b, d]`."""
        low, high = self._ends()
        side = high - low
        wide = noise > side / 2
        # Where the noise is wide the two ends are nearly the same: an average of the
        # noise's density over the side says more than a difference.
        middle = (low + high)[..., None] / 2
        node = middle + side[..., None] / 2 * as_float(NODES)[None, None]
        logs = norm.logpdf(x[..., None], node, jnp.where(wide, noise, 1.0)[..., None])
        average = jax.nn.logsumexp(logs, axis=-1, b=as_float(WEIGHTS)[None, None] / 2)
        narrow = jnp.where(wide, side, noise)
        left, right = (low - x) / narrow, (high - x) / narrow
        # In the upper tail both are close to one: look from the other side.
        upper = left + right > 0
        left, right = jnp.where(upper, -right, left), jnp.where(upper, -left, right)
        far = norm.logcdf(right)
        difference = far + jnp.log(-jnp.expm1(norm.logcdf(left) - far))
        return jnp.where(wide, average + jnp.log(side), difference)


@pytree
class Circle(Density):
    r"""The uniform density of a circle's line, in the plane.

    With noise, at distance r from the centre,
    $p = \frac{1}{2\pi\sigma^2} e^{-(r^2 + R^2) / 2\sigma^2} I_0(rR / \sigma^2)$.

    Args:
        center: `[2]`.
        radius: $R$, positive.

    Raises:
        ValueError: If the centre is not in the plane, or the radius not positive.

    Source: the von Mises normaliser, Mardia and Jupp 2000.

    Example:
        >>> circle = Circle(jnp.zeros(2), 1.0)
        >>> circle.denoise(jnp.array([[3.0, 0.0]]), 0.1).round(3)
        Array([[0.998, 0.   ]], dtype=float32)
    """

    center: Any
    radius: Number = 1.0

    def __post_init__(self) -> None:
        center, radius = as_float(self.center), as_float(self.radius)
        if center.shape != (2,):
            raise ValueError(f"center must be a point [2], got {center.shape}.")
        if (value := concrete(radius)) is not None and not 0 < value < np.inf:
            raise ValueError(f"radius must be positive, got {value}.")
        set_fields(self, center=center, radius=radius)

    def log_prob(
        self, x: Float[Array, "b 2"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The exact log-density of the noised circle, `[b]`; of the line itself inf."""
        variance = jnp.broadcast_to(as_float(sigma) ** 2, x.shape[:1])
        positive = variance > 0
        safe = jnp.where(positive, variance, 1.0)
        r = self._distance(x)
        logs = (
            -((r - self.radius) ** 2) / (2 * safe)
            - jnp.log(2 * jnp.pi * safe)
            + jnp.log(i0e(r * self.radius / safe))
        )
        sharp = jnp.where(jnp.abs(r - self.radius) < 1e-6, jnp.inf, -jnp.inf)
        return jnp.where(positive, logs, sharp)

    def __call__(self, x: Float[Array, "b 2"], sigma: Sigma) -> Float[Array, "b 2"]:
        variance = jnp.broadcast_to(as_float(sigma) ** 2, x.shape[:1])
        positive = variance > 0
        safe = jnp.where(positive, variance, 1.0)
        z = self._distance(x) * self.radius / safe
        small = z < 1e-3  # I_1(z) / I_0(z) is z / 2 there
        ratio = jnp.where(small, 0.5, i1e(z) / (jnp.where(small, 1.0, z) * i0e(z)))
        pull = (self.radius**2 / safe * ratio - 1) / safe
        score = pull[:, None] * (x - self.center[None])
        return jnp.where(positive[:, None], score, 0.0)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n 2"]:
        """Points of the line, with noise."""
        key_angle, key_noise = jax.random.split(key)
        angle = jax.random.uniform(key_angle, (n,), maxval=2 * jnp.pi)
        line = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
        noise = as_float(sigma) * jax.random.normal(key_noise, (n, 2))
        return self.center[None] + self.radius * line + noise

    def _distance(self, x: Array) -> Array:
        away = x - self.center[None]
        square = inner(away, away)
        centred = square == 0  # where sqrt has no gradient
        return jnp.where(centred, 0.0, jnp.sqrt(jnp.where(centred, 1.0, square)))
