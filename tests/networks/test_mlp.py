"""The network of the two-dimensional benchmarks."""

import jax
import jax.numpy as jnp
import numpy as np

import compjax as cj
from compjax import networks

MODULE = networks.MLP(sigma_data=0.7, width=16, depth=2)


def params(condition=None):
    x = jnp.ones((3, 2))
    return MODULE.init(jax.random.key(0), x, 1.0, condition)["params"]


def random_params(condition=None):
    leaves, tree = jax.tree.flatten(params(condition))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    draw = lambda key, leaf: 0.3 * jax.random.normal(key, leaf.shape)
    return jax.tree.unflatten(tree, list(map(draw, keys, leaves)))


def test_untrained_it_is_the_best_affine_denoiser():
    """Of N(0, 0.7^2): then the score is that of the Gaussian."""
    network = cj.Network(MODULE, params())
    exact = cj.densities.Gaussian(jnp.zeros(2), 0.49 * jnp.eye(2))
    x = jax.random.normal(jax.random.key(2), (5, 2))
    for sigma in (0.01, 1.0, 30.0):
        error = jnp.abs(network(x, sigma) - exact(x, sigma)).max()
        assert error < 1e-5 * max(1.0, 1 / sigma**2)


def test_one_level_for_all_is_one_for_each():
    network = cj.Network(MODULE, random_params())
    x = jax.random.normal(jax.random.key(3), (4, 2))
    one, each = network(x, 0.3), network(x, jnp.full(4, 0.3))
    # D - x loses 1e-7 of |x|, and is divided by sigma^2.
    np.testing.assert_allclose(one, each, atol=2e-6 / 0.3**2)


def test_conditions_enter():
    told = jnp.array([[1.0, 2.0, 3.0]])
    network = cj.Network(MODULE, random_params(told))
    x = jnp.ones((4, 2))
    a, b = (network(x, 0.5, c) for c in (told, -told))
    assert jnp.abs(a - b).max() > 1e-2
    np.testing.assert_allclose(a, network(x, 0.5, jnp.tile(told, (4, 1))), atol=1e-5)
