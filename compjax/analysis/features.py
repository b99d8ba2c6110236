r"""Locality in features: through an invertible map, or inside of a network.

Concepts that share pixels, such as a style and a subject, can be local only in other
coordinates.  Every probe of `locality` takes what is made here in place of a score.
"""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import Array, Float

from compjax.compose import Pullback, pullback
from compjax.scores import Network, check_score
from compjax.types import Bijection, Condition, ScoreFn, Sigma, pytree, static


@pytree
class _Inverse:
    """A bijection, the other way round."""

    bijection: Any

    def forward(self, z: Array) -> Array:
        return self.bijection.inverse(z)

    def inverse(self, x: Array) -> Array:
        return self.bijection.forward(x)

    def log_det(self, z: Array) -> Array:
        return -self.bijection.log_det(self.bijection.inverse(z))


def seen_through(score: ScoreFn, bijection: Bijection) -> Pullback:
    r"""The score of $z = A(x)$, where x has the given one.

    $$s_z(z) = J^T s_x(A^{-1}(z)) + \nabla \log \lvert\det J\rvert, \qquad
      J = J_{A^{-1}}(z)$$

    Noise stays where it is, in x: only for orthogonal A is it the noise of z as well.

    Args:
        score: Of x, `[b, *d]`.
        bijection: $z = A(x)$.

    Returns:
        A score of z.

    Raises:
        ValueError: If the score is a plain function.

    Source: Bradley 2025, feature space; the identity is that of `cj.pullback`.

    Example:
        >>> import jax.numpy as jnp
        >>> from compjax.densities import Gaussian
        >>> from compjax.testing import Affine
        >>> halve = Affine(0.5 * jnp.eye(1), jnp.zeros(1))
        >>> p = Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> seen_through(p, halve)(jnp.ones((1, 1)), 0.0)  # z has the variance 1/4
        Array([[-4.]], dtype=float32)
    """
    return pullback(check_score(score, "the score"), _Inverse(bijection))


@pytree
class NetworkFeatures:
    """What a module inside of a network returns, `(x, sigma, condition) -> [b, f]`.

    Args:
        network: A `cj.Network` of a linen module.
        name: Of the module inside, such as `decoder0_in1` of `UNet`, its middle.

    Raises:
        ValueError: When it is called, if no module, or more than one, has the name.

    Source: Ours; Bradley 2025 measures in features of a network that we do not know.

    Example:
        >>> import jax.numpy as jnp
        >>> from compjax.networks import UNet
        >>> module = UNet(channels=8, channel_mult=(1,), num_blocks=0, label_dim=2)
        >>> x, one = jnp.ones((3, 4, 4, 1)), jnp.eye(2)[:1]
        >>> params = module.init(jax.random.key(0), x, 1.0, one)["params"]
        >>> middle = NetworkFeatures(Network(module, params), "decoder0_in1")
        >>> middle(x, 1.0, one).shape
        (3, 128)
    """

    network: Network
    name: str = static()

    def __call__(
        self, x: Float[Array, "b *d"], sigma: Sigma, condition: Condition = None
    ) -> Float[Array, "b f"]:
        _, state = self.network.module.apply(
            {"params": self.network.params},
            x,
            sigma,
            condition,
            capture_intermediates=lambda module, _: module.name == self.name,
            mutable=["intermediates"],
        )
        found = jax.tree.leaves(state)
        if len(found) != 1:
            modules = sorted(self.network.params)
            raise ValueError(
                f"{len(found)} modules of the network are called {self.name!r}; choose "
                f"one of {', '.join(modules)}."
            )
        return found[0].reshape(len(x), -1)
