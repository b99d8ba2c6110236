import jax
import numpy as np
import optax
import pytest

from compjax.networks import UNet
from compjax.noise import LogNormal
from compjax.training import data_mesh, everywhere, init_state, make_train_step

MODULE = UNet(channels=4, channel_mult=(1,), num_blocks=0, condition_channels=1)
OPTIMIZER = optax.adam(1e-2)


def batch(key):
    key_x, key_c = jax.random.split(key)
    x0 = 0.5 * jax.random.normal(key_x, (8, 4, 4, 1))
    return x0, jax.random.normal(key_c, (8, 4, 4, 1))


def train(devices):
    mesh = data_mesh(devices)
    example = jax.eval_shape(batch, jax.random.key(0))
    start = jax.jit(
        lambda key: init_state(key, MODULE, OPTIMIZER, example),
        out_shardings=everywhere(mesh),
    )
    step = make_train_step(
        MODULE, OPTIMIZER, batch, LogNormal(-0.8, 1.0), noise_draws=2, mesh=mesh
    )
    state = start(jax.random.key(1))
    losses = []
    for _ in range(4):
        # One step at a time: queues of all-reduces can stall virtual CPU devices.
        state, metrics = jax.block_until_ready(step(state, jax.random.key(2)))
        losses.append(metrics["loss"])
    return state, np.array(losses)


def test_same_training_on_one_and_four_devices():
    one, losses = train(1)
    four, losses_of_four = train(4)
    # The same numbers are added in another order: float32 over four steps of Adam.
    np.testing.assert_allclose(losses_of_four, losses, rtol=1e-4)
    for a, b in zip(
        jax.tree.leaves(one.params), jax.tree.leaves(four.params), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-3)
    leaf = jax.tree.leaves(four.params)[0]
    assert leaf.sharding.num_devices == 4 and leaf.sharding.is_fully_replicated


@pytest.mark.parametrize(("size", "devices"), [(8, 4), (6, 3), (5, 1), (None, 4)])
def test_mesh_takes_as_many_devices_as_divide_the_batch(size, devices):
    assert data_mesh(size).shape["data"] == devices
