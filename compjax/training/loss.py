"""EDM2's denoising loss: every noise level weighted by its estimated uncertainty."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from compjax.noise import NoiseLaw, align
from compjax.types import Condition, PRNGKey


def draw_noise(
    key: PRNGKey, x0: Float[Array, "b *d"], noise_law: NoiseLaw
) -> tuple[Float[Array, " b"], Float[Array, "b *d"]]:
    """Noise levels from a law, one for every example, and standard normal noise.

    Args:
        key: Draws both.
        x0: `[b, *d]` clean data, of which only the shape matters.
        noise_law: The law of the noise levels.

    Returns:
        `(sigma [b], eps [b, *d])`, which `loss_at` takes.

    Example:
        >>> from compjax.noise import LogNormal
        >>> x0, law = jnp.ones((4, 2, 2, 1)), LogNormal(0.0, 1e-6)
        >>> sigma, eps = draw_noise(jax.random.key(0), x0, law)
        >>> sigma.round(2), eps.shape
        (Array([1., 1., 1., 1.], dtype=float32), (4, 2, 2, 1))
    """
    key_sigma, key_noise = jax.random.split(key)
    sigma = noise_law.sample(key_sigma, x0.shape[0])
    return sigma, jax.random.normal(key_noise, x0.shape, x0.dtype)


def loss_at(
    params: PyTree,
    module: Any,
    x0: Float[Array, "b *d"],
    condition: Condition,
    sigma: Float[Array, " b"],
    eps: Float[Array, "b *d"],
    key: PRNGKey | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    r"""The loss of a preconditioned denoiser, and what to report about it.

    $$L = \frac1b \sum_n \sum_j \Bigl[ \frac{\lambda(\sigma_n)}{e^{u(\sigma_n)}}
        \bigl(D(x_0 + \sigma_n\epsilon, \sigma_n) - x_0\bigr)_{nj}^2 + u(\sigma_n)
        \Bigr], \qquad
        \lambda(\sigma) = \frac{\sigma^2 + \sigma_d^2}{(\sigma\,\sigma_d)^2}$$

    where n runs over the batch and j over all pixels and channels.  The minimum over u
    is the logarithm of the mean of $\lambda\,(D - x_0)^2$ at that noise level, so that
    every level contributes gradients of the same size.

    Args:
        params: Parameters of the module.
        module: A denoiser with `sigma_data` and a method `log_variance(sigma)`.
        x0: `[b, *d]` clean data, of standard deviation `module.sigma_data`.
        condition: What the module is given; every leaf leads with b or 1.
        sigma: `[b]` noise levels.
        eps: `[b, *d]` standard normal noise.
        key: Draws what the module drops; None drops nothing.

    Returns:
        The loss L, a scalar, and scalars to look at: `loss`, which is L per pixel and
        channel; `error`, the mean of $\lambda\,(D - x_0)^2$, which is about 1 for an
        untrained network; `log_variance`, the mean of u.

    Source: Karras et al. 2024 (EDM2, 2312.02696).

    Example:
        >>> class Zero:
        ...     sigma_data = 0.5
        ...     def apply(self, variables, x, *rest, method=None):
        ...         return jnp.zeros_like(x)  # both the image and the log-variance
        >>> x0, eps, sigma = jnp.ones((1, 2, 2, 1)), jnp.ones((1, 2, 2, 1)), jnp.ones(1)
        >>> loss, metrics = loss_at({}, Zero(), x0, None, sigma, eps)
        >>> float(loss), float(metrics["loss"])
        (20.0, 5.0)
    """
    x = x0 + align(sigma, x0) * eps
    dropping = {} if key is None else {"rngs": {"dropout": key}}
    D = module.apply({"params": params}, x, sigma, condition, **dropping)
    u = module.apply({"params": params}, sigma, method="log_variance")
    weight = (sigma**2 + module.sigma_data**2) / (sigma * module.sigma_data) ** 2
    # The sum over pixels comes first: both factors depend on the noise level alone.
    pixels = x0[0].size
    error = weight * jnp.square(D - x0).reshape(x0.shape[0], pixels).mean(1)
    loss = (error / jnp.exp(u) + u).mean()
    metrics = {"loss": loss, "error": error.mean(), "log_variance": u.mean()}
    return pixels * loss, metrics
