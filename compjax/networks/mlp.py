"""A residual network on vectors: the denoiser of the two-dimensional benchmarks."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.scores import edm_preconditioning
from compjax.types import Condition, Sigma, align, as_float


class MLP(nn.Module):
    r"""A preconditioned residual network on events of one axis, `[d]`.

    Blocks $h + W_2\,\mathrm{silu}(W_1 h + E\,e(\sigma))$ with a sinusoidal embedding e
    of the noise level.  The last layer begins at zero, so that the untrained denoiser
    is $c_{skip}\,x$, the best affine one for data of mean 0 and this deviation.

    Args:
        sigma_data: Standard deviation of the data.
        width: Hidden units.
        depth: Residual blocks.
        frequencies: Of the noise embedding.

    Source: Du et al. 2023 (2302.11552), whose two-dimensional networks have four blocks
        of 128; preconditioning of Karras et al. 2022.

    Example:
        >>> import jax
        >>> module, x = MLP(sigma_data=1.0, width=8), jnp.ones((3, 2))
        >>> params = module.init(jax.random.key(0), x, 1.0, None)["params"]
        >>> module.apply({"params": params}, x, 1.0, None)[0]
        Array([0.5, 0.5], dtype=float32)
    """

    sigma_data: float = 0.5
    width: int = 128
    depth: int = 4
    frequencies: int = 16

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d"], sigma: Sigma, condition: Condition = None
    ) -> Float[Array, "b d"]:
        """`E[x0 | x]`; conditions, if any, are vectors `[b or 1, n]`."""
        level = align(sigma, x).reshape(-1)  # one for all is embedded once
        c_skip, c_out, c_in, c_noise = (
            c.reshape(-1, 1) for c in edm_preconditioning(level, self.sigma_data)
        )
        octaves = 2.0 ** jnp.linspace(-2, 4, self.frequencies)
        angles = 2 * jnp.pi * c_noise * octaves[None]
        embedding = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
        h = c_in * x
        if condition is not None:
            told = jnp.broadcast_to(condition, (len(x), condition.shape[-1]))
            h = jnp.concatenate([h, told], axis=1)
        h = nn.Dense(self.width)(h)
        for _ in range(self.depth):
            inside = nn.silu(nn.Dense(self.width)(h) + nn.Dense(self.width)(embedding))
            h = h + nn.Dense(self.width)(inside)
        F = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros)(nn.silu(h))
        return c_skip * x + c_out * F

    def log_variance(self, sigma: Sigma) -> Float[Array, " b"]:
        """Zeros: EDM's own weights of the loss, which `training.loss_at` asks for."""
        return jnp.zeros_like(jnp.atleast_1d(as_float(sigma)))
