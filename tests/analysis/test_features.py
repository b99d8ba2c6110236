"""Locality in features, and maps of influence seen from their tiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.analysis import (
    NetworkFeatures,
    delta_cosines,
    influence,
    interaction,
    locality,
    recentred,
    seen_through,
)
from compjax.densities import Gaussian, Independent
from compjax.networks import UNet
from compjax.testing import Affine
from compjax.windows import Reach, Windows

ROTATION = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (4, 4)))[0]


def blocks():
    block = lambda m: Gaussian(jnp.array([m, 0.0]), jnp.array([[1.0, 0.6], [0.6, 1.0]]))
    return Independent(((0, 1), (2, 3)), (block(0.0), block(2.0)))


def test_what_is_local_in_features_is_so_only_there():
    """z has independent blocks, x = z A^T has not: the probe is to be told of A."""
    there = Affine(ROTATION, jnp.zeros(4))
    x_score = cj.pullback(blocks(), there)
    tiles = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    windows = Windows(tiles, Reach(1 - tiles))
    z0 = blocks().sample(jax.random.key(1), 8)
    x0 = jax.vmap(there.inverse)(z0)
    far = locality(jax.random.key(2), x_score, x0, [0.5], windows).beyond(0.0)
    features = seen_through(x_score, there)
    near = locality(jax.random.key(2), features, z0, [0.5], windows).beyond(0.0)
    assert far.score.mean[0] > 0.05 and near.score.mean[0] < 1e-6
    np.testing.assert_allclose(features(z0, 0.5), blocks()(z0, 0.5), atol=1e-4)


def test_the_score_of_features_is_the_gradient_of_their_law():
    """A shear and a scale: the determinant does not depend on x, but the score does."""
    A = jnp.array([[2.0, 1.0], [0.0, 0.5]])
    p = Gaussian(jnp.array([1.0, -1.0]), jnp.eye(2))
    shift = jnp.array([0.5, 0.0])
    z = jax.random.normal(jax.random.key(3), (5, 2))
    law = Gaussian(A @ p.mean + shift, A @ (1.25 * jnp.eye(2)) @ A.T)
    found = seen_through(p, Affine(A, shift))(z, 0.5)
    np.testing.assert_allclose(found, law(z, 0.0), rtol=1e-4, atol=1e-4)


def network():
    module = UNet(channels=8, channel_mult=(1,), num_blocks=0, label_dim=3)
    x = jnp.ones((2, 4, 4, 1))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, 1.0, jnp.eye(3)[:1])
    leaves, tree = jax.tree.flatten(shapes["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    values = [
        jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return cj.Network(module, jax.tree.unflatten(tree, values))


def test_features_of_a_network_depend_on_its_condition_and_take_every_probe():
    net, x = network(), jax.random.normal(jax.random.key(2), (2, 4, 4, 1))
    middle = NetworkFeatures(net, "decoder0_in1")
    one, two = jnp.eye(3)[:1], jnp.eye(3)[1:2]
    # The output is a function of the last features: out_conv of the last block's.
    assert middle(x, 1.0, one).shape == (2, 4 * 4 * 8)
    assert not np.allclose(middle(x, 1.0, one), middle(x, 1.0, two), atol=1e-3)
    none = jnp.zeros((1, 3))
    cosines = delta_cosines(jax.jit(middle), x, 1.0, none, [one, two])
    np.testing.assert_allclose(cosines[:, 0, 0], 1.0, atol=1e-5)
    assert interaction(jax.jit(middle), x, 1.0, none, one, two, one + two).mean > 1e-3
    # The features of the last layer are F, up to preconditioning: D = a x + b F.
    last = NetworkFeatures(net, "out_conv")(x, 1.0, one).reshape(x.shape)
    c_skip, c_out, *_ = cj.scores.edm_preconditioning(1.0, 0.5)
    D = c_skip * x + c_out * last
    np.testing.assert_allclose(net.denoise(x, 1.0, one), D, rtol=1e-5, atol=1e-5)


def test_maps_are_seen_from_their_tiles():
    """A score that looks two pixels to the right does so from every tile."""
    right = cj.as_score(lambda x, sigma: jnp.roll(x, -2, axis=2))
    tiles = cj.windows.square((3, 5), 1).tiles
    keep = np.array([t[:, :3].any() for t in np.asarray(tiles)])  # it does not wrap
    found = influence(right, jnp.ones((1, 3, 5, 1)), 1.0, tiles[keep])
    mean = recentred(found.squares.score, tiles[keep])
    assert mean.shape == (5, 9) and mean[2, 4 + 2] == 1
    assert np.nansum(mean) == 1


def test_bad_input():
    with pytest.raises(ValueError, match=r"0 modules .* 'middle'; choose .* decoder0"):
        NetworkFeatures(network(), "middle")(jnp.ones((1, 4, 4, 1)), 1.0)
    with pytest.raises(ValueError, match="lift it"):
        seen_through(lambda x, sigma: x, Affine(jnp.eye(2), jnp.zeros(2)))
    with pytest.raises(ValueError, match="1 maps of 2 axes, 2 tiles"):
        recentred(np.ones((1, 2, 2, 1)), np.ones((2, 2, 2, 1)))
