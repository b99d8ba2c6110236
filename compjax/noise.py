"""Noise levels: grids for sampling, laws for training, and changes of coordinates.

compjax works in variance-exploding (VE) coordinates, ``x = x0 + sigma * eps``.  A model
that was trained in variance-preserving or flow coordinates is the same model after a
rescaling of its input; the four maps at the end are those rescalings.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.types import (
    Number,
    PRNGKey,
    Sigma,
    align,
    as_float,
    concrete,
    pytree,
    set_fields,
)


def karras_sigmas(
    n: int, sigma_min: Number = 0.002, sigma_max: Number = 80.0, rho: Number = 7.0
) -> Float[Array, " levels"]:
    r"""The grid of EDM: n decreasing noise levels, then 0.

    $$\sigma_i = \bigl(\sigma_{max}^{1/\rho} + \tfrac{i}{n-1}
        (\sigma_{min}^{1/\rho} - \sigma_{max}^{1/\rho})\bigr)^\rho$$

    Args:
        n: Number of steps, at least 2.
        sigma_min: Last noise level before 0.
        sigma_max: First noise level.
        rho: 1 spaces levels evenly; larger values crowd them near `sigma_min`.

    Returns:
        `[n + 1]` levels from `sigma_max` down to `sigma_min`, then 0.

    Raises:
        ValueError: If `n < 2`, or not `0 < sigma_min < sigma_max`, or `rho <= 0`.

    Source: Karras et al. 2022 (2206.00364), eq. 5.

    Example:
        >>> karras_sigmas(3, 0.5, 8.0, rho=1.0)
        Array([8.  , 4.25, 0.5 , 0.  ], dtype=float32)
    """
    _check_range(n, sigma_min, sigma_max)
    rho = as_float(rho)
    if (value := concrete(rho)) is not None and not value > 0:
        raise ValueError(f"rho must be positive, got {value}.")
    return _from_ends(
        n, lambda s: s ** (1 / rho), lambda u: u**rho, sigma_min, sigma_max
    )


def log_snr_sigmas(
    n: int, sigma_min: Number = 0.002, sigma_max: Number = 80.0
) -> Float[Array, " levels"]:
    """The grid that is uniform in log-SNR (geometric in sigma), then 0.

    Args:
        n: Number of steps, at least 2.
        sigma_min: Last noise level before 0.
        sigma_max: First noise level.

    Returns:
        `[n + 1]` levels with a constant ratio from `sigma_max` to `sigma_min`, then 0.

    Raises:
        ValueError: If `n < 2` or not `0 < sigma_min < sigma_max`.

    Example:
        >>> [round(float(s), 4) for s in log_snr_sigmas(3, 0.1, 10.0)]
        [10.0, 1.0, 0.1, 0.0]
    """
    _check_range(n, sigma_min, sigma_max)
    return _from_ends(n, jnp.log, jnp.exp, sigma_min, sigma_max)


def _check_range(n: int, sigma_min: Number, sigma_max: Number) -> None:
    if n < 2:
        raise ValueError(f"A grid needs n >= 2 steps, got n = {n}.")
    low, high = concrete(sigma_min), concrete(sigma_max)
    if low is not None and not low > 0:
        raise ValueError(f"sigma_min must be positive, got {low}.")
    if low is not None and high is not None and not low < high < jnp.inf:
        raise ValueError(f"Need sigma_min < sigma_max < inf, got {low} and {high}.")


def _from_ends(n, warp, unwarp, sigma_min, sigma_max):
    """Even steps between the ends in the warped coordinate; the ends stay exact."""
    low, high = as_float(sigma_min), as_float(sigma_max)
    inner = unwarp(jnp.linspace(warp(high), warp(low), n))[1:-1]
    return jnp.concatenate([high[None], inner, low[None], jnp.zeros(1)])


@runtime_checkable
class NoiseLaw(Protocol):
    """A law of noise levels for training: `sample(key, n) -> [n]` positive sigmas."""

    def sample(self, key: PRNGKey, n: int) -> Float[Array, " n"]: ...


@pytree
class LogNormal:
    r"""$\ln\sigma \sim N(mean, std^2)$: the law of EDM and EDM2.

    Args:
        mean: EDM2's P_mean (-0.8 for 64 pixel images).
        std: EDM2's P_std (1.6 for 64 pixel images), positive.

    Source: Karras et al. 2022, table 1.

    Example:
        >>> LogNormal(-0.8, 1.6).sample(jax.random.key(0), 3).shape
        (3,)
    """

    mean: Number
    std: Number

    def __post_init__(self) -> None:
        set_fields(self, mean=as_float(self.mean), std=as_float(self.std))
        if (std := concrete(self.std)) is not None and not std > 0:
            raise ValueError(f"std must be positive, got {std}.")

    def sample(self, key: PRNGKey, n: int) -> Float[Array, " n"]:
        """`[n]` independent noise levels."""
        return jnp.exp(self.mean + self.std * jax.random.normal(key, (n,)))


def vp_from_ve(
    x: Float[Array, "b *d"], sigma: Sigma
) -> tuple[Float[Array, "b *d"], Array]:
    r"""Variance-preserving coordinates of a VE point.

    $x_{vp} = \alpha x$ with $\alpha = 1/\sqrt{1+\sigma^2}$, so that
    $x_{vp} = \alpha x_0 + \sqrt{1-\alpha^2}\,\epsilon$.  DDPM's $\bar\alpha$ is
    $\alpha^2$.

    Args:
        x: `[b, *d]` in VE coordinates.
        sigma: Its noise level.

    Returns:
        `(x_vp, alpha)`.

    Example:
        >>> x_vp, alpha = vp_from_ve(jnp.ones((1, 2)), 1.0)
        >>> round(float(alpha) ** 2, 6)
        0.5
    """
    alpha = 1 / jnp.sqrt(1 + as_float(sigma) ** 2)
    return align(alpha, x) * x, alpha


def ve_from_vp(
    x_vp: Float[Array, "b *d"], alpha: Sigma
) -> tuple[Float[Array, "b *d"], Array]:
    r"""The inverse of `vp_from_ve`: $(x, \sigma)$ from $(x_{vp}, \alpha)$.

    In float32, $1 - \alpha$ keeps sigma to a relative $2^{-24} / \sigma^2$ only.

    Args:
        x_vp: `[b, *d]` in variance-preserving coordinates.
        alpha: Its signal scale, in (0, 1].

    Returns:
        `(x, sigma)`.

    Example:
        >>> x, sigma = ve_from_vp(*vp_from_ve(jnp.ones((1, 2)), 3.0))
        >>> round(float(sigma), 4)
        3.0
    """
    alpha = as_float(alpha)
    variance = (1 - alpha) * (1 + alpha)
    zero = variance <= 0  # where sqrt has no gradient
    sigma = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, variance))) / alpha
    return x_vp / align(alpha, x_vp), sigma


def flow_from_ve(
    x: Float[Array, "b *d"], sigma: Sigma
) -> tuple[Float[Array, "b *d"], Array]:
    r"""Rectified-flow coordinates of a VE point.

    $x_t = (1-t)\,x$ with $t = \sigma/(1+\sigma)$, so that
    $x_t = (1-t)\,x_0 + t\,\epsilon$: data at t = 0, noise at t = 1.

    Args:
        x: `[b, *d]` in VE coordinates.
        sigma: Its noise level.

    Returns:
        `(x_t, t)`.

    Example:
        >>> x_t, t = flow_from_ve(jnp.ones((1, 2)), 3.0)
        >>> float(t)
        0.75
    """
    sigma = as_float(sigma)
    t = sigma / (1 + sigma)
    return x / align(1 + sigma, x), t


def ve_from_flow(
    x_t: Float[Array, "b *d"], t: Sigma
) -> tuple[Float[Array, "b *d"], Array]:
    r"""The inverse of `flow_from_ve`: $(x, \sigma)$ from $(x_t, t)$.

    Args:
        x_t: `[b, *d]` in flow coordinates.
        t: Its time, in [0, 1).

    Returns:
        `(x, sigma)`.

    Example:
        >>> x, sigma = ve_from_flow(jnp.ones((1, 2)), 0.75)
        >>> float(sigma)
        3.0
    """
    t = as_float(t)
    return x_t / align(1 - t, x_t), t / (1 - t)


def check_sigmas(sigmas: Any) -> None:
    """Raises a ValueError unless sigmas decrease, of which only the last may be 0.

    Args:
        sigmas: A grid of at least two noise levels.  A tracer is checked for its shape.

    Example:
        >>> check_sigmas([1.0, 2.0, 0.0])
        Traceback (most recent call last):
        ...
        ValueError: sigmas must decrease; they go from 1.0 to 2.0 at step 0.
    """
    if np.ndim(sigmas) != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas must be [n + 1] with n >= 1, got {sigmas}.")
    values = concrete(sigmas)
    if values is None:
        return
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"sigmas must be finite and not negative, got {values}.")
    if (rises := np.flatnonzero(np.diff(values) >= 0)).size:
        i = int(rises[0])
        raise ValueError(
            f"sigmas must decrease; they go from {values[i]} to {values[i + 1]} at "
            f"step {i}."
        )
