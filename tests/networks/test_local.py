"""Local networks: what lies outside of a window is not there, at any noise level."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.networks import Local, UNet

SIDE, TILE, CELLS = 6, 2, 3


def unet(n):
    return UNet(
        channels=8,
        channel_mult=(1,),
        num_blocks=0,
        attn_resolutions=(),
        channels_per_head=8,  # attention: the network itself is global in its crop
        condition_channels=n,
    )


def made(module, seed=0):
    """A network whose parameters are random, gains included."""
    x, condition = draw(1)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, 1.0, condition)
    leaves, tree = jax.tree.flatten(shapes["params"])
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    values = [
        jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)
    ]
    return cj.Network(module, jax.tree.unflatten(tree, values))


def draw(b=2, seed=1):
    keys = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(keys[0], (b, SIDE, SIDE, 1))
    return x, jax.random.normal(keys[1], (b, CELLS, CELLS, 1))


@jax.jit
def dependence(network, sigma):
    """`[h, w, h, w]` and `[h, w, H, W]`: where the Jacobian of D is not zero."""
    x, condition = draw(1)
    D = lambda x, c: network.denoise(x, sigma, c)[0, :, :, 0]
    by_pixels, by_cells = jax.jacobian(D, (0, 1))(x, condition)
    return by_pixels[:, :, 0, :, :, 0] != 0, by_cells[:, :, 0, :, :, 0] != 0


def expected(reach, cells=SIDE):
    """Which pixels (or cells, by their nearest pixel) are within reach of a tile."""
    side = SIDE // cells

    def off(p, q):
        first = p - p % TILE
        return min(
            max(first - r, r - first - TILE + 1, 0)
            for r in range(q * side, (q + 1) * side)
        )

    far = np.array([[off(p, q) for q in range(cells)] for p in range(SIDE)])
    both = np.maximum(far[:, None, :, None], far[None, :, None, :])
    return both <= (np.inf if reach is None else reach)


@pytest.mark.parametrize(
    ("reach", "condition_reach"), [(0, 0), (1, 0), (2, 2), (3, 1), (2, None), (None, 1)]
)
@pytest.mark.parametrize("sigma", [0.02, 50.0])
def test_windows_are_exact(reach, condition_reach, sigma):
    n = 3 + (CELLS**2 if condition_reach is None else 1)
    network = made(Local(unet(n), TILE, reach, condition_reach))
    pixels, cells = dependence(network, jnp.float32(sigma))
    np.testing.assert_array_equal(pixels, expected(reach))
    np.testing.assert_array_equal(cells, expected(condition_reach, CELLS))


def near_only(sigma):
    return jnp.where(sigma > 1, 2.0, 0.0)


def test_windows_may_grow_with_the_noise():
    network = made(Local(unet(4), TILE, 2, 2, radius=near_only))
    for sigma, radius in ((0.5, 0), (5.0, 2)):
        pixels, cells = dependence(network, jnp.float32(sigma))
        np.testing.assert_array_equal(pixels, expected(radius))
        np.testing.assert_array_equal(cells, expected(radius, CELLS))


def test_the_placebo_is_as_sparse_and_wrong():
    tiles = (SIDE // TILE) ** 2
    order = tuple(np.random.default_rng(0).permutation(tiles).tolist())
    network = made(Local(unet(4), TILE, 1, 0, told=order))
    pixels, cells = dependence(network, jnp.float32(1.0))
    np.testing.assert_array_equal(pixels, expected(1))
    right = expected(0, CELLS)
    of_tile = right[::TILE, ::TILE].reshape(tiles, CELLS, CELLS)
    wrong = np.asarray(cells)[::TILE, ::TILE].reshape(tiles, CELLS, CELLS)
    np.testing.assert_array_equal(wrong, of_tile[np.array(order)])


def test_a_window_does_not_know_what_others_hold():
    """The same crop and conditions elsewhere: only coordinates tell tiles apart."""
    network = made(Local(unet(4), TILE, 1, 1))
    x, condition = draw(1)
    D = network.denoise(x, 1.0, condition)
    cut = lambda a, n: a[:, :n, :n]
    small = x.at[:, TILE + 1 :].set(9.0).at[:, :, TILE + 1 :].set(-9.0)
    told = condition.at[:, 2:].set(3.0).at[:, :, 2:].set(3.0)
    np.testing.assert_array_equal(
        cut(network.denoise(small, 1.0, told), TILE), cut(D, TILE)
    )


def test_it_is_the_network_itself_where_one_tile_is_the_image():
    inner = unet(4)
    network = made(Local(inner, SIDE, 0, 0))
    x, condition = draw()
    planes = [jnp.repeat(jnp.repeat(condition, 2, 1), 2, 2)]
    at = jnp.linspace(-1, 1, SIDE)
    planes += [
        jnp.broadcast_to(a[None, ..., None], x.shape)
        for a in (*jnp.meshgrid(at, at, indexing="ij"), jnp.ones((SIDE, SIDE)))
    ]
    alone = cj.Network(inner, network.params["net"])
    np.testing.assert_array_equal(
        network.denoise(x, 0.7, condition),
        alone.denoise(x, 0.7, jnp.concatenate(planes, -1)),
    )
    own, its = (
        net.module.apply({"params": net.params}, 0.7, method="log_variance")
        for net in (network, alone)
    )
    np.testing.assert_array_equal(own, its)
    assert network.module.sigma_data == inner.sigma_data


def test_bad_input():
    x, condition = draw()
    with pytest.raises(ValueError, match="reach must be at least 0, got -1"):
        Local(unet(4), TILE, -1)
    with pytest.raises(ValueError, match="tile must be"):
        Local(unet(4), 0)
    with pytest.raises(ValueError, match="outside of the crops"):
        Local(unet(4), TILE, 1, 2)

    def run(module, condition=condition):
        jax.eval_shape(module.init, jax.random.key(0), x, 1.0, condition)

    with pytest.raises(ValueError, match="do not divide x"):
        run(Local(unet(4), 4))
    with pytest.raises(ValueError, match="permutation of the 9 tiles"):
        run(Local(unet(4), TILE, told=(0, 1)))
    with pytest.raises(ValueError, match="cells that divide"):
        run(Local(unet(4), TILE), jnp.zeros((2, 4, 4, 1)))
    with pytest.raises(ValueError, match="it must be 4"):
        run(Local(unet(5), TILE))
    with pytest.raises(ValueError, match="it must be 12"):
        run(Local(unet(4), TILE, 0, None))
