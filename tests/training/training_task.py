"""A training task that compiles at once: what `train` and `make_train_step` take."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from compjax.noise import LogNormal, align
from compjax.scores import edm_preconditioning


class Shrink(nn.Module):
    """The smallest denoiser with a head for its uncertainty."""

    sigma_data: float = 0.5

    def setup(self):
        self.scale = self.param("scale", nn.initializers.ones, ())
        self.weight = self.param("weight", nn.initializers.normal(), (3, 2))
        self.level = self.param("level", nn.initializers.zeros, ())

    def log_variance(self, sigma):
        return self.level + 0 * sigma

    def __call__(self, x, sigma, condition=None):
        sigma = jnp.broadcast_to(sigma, x.shape[:1])
        coefficients = edm_preconditioning(sigma, self.sigma_data)
        c_skip, c_out, c_in, _ = (align(c, x) for c in coefficients)
        F = self.scale * jnp.tanh(c_in * x) + 0.1 * jnp.sin(self.weight).mean()
        if self.is_initializing():
            self.log_variance(1.0)
        return c_skip * x + c_out * F


module = Shrink()
optimizer = optax.adam(1e-2, b1=0.9, b2=0.99)
law = LogNormal(-0.8, 1.6)


def batch(key):
    return 0.5 * jax.random.normal(key, (8, 4)), None
