"""One training on one device, and on four or eight in every layout."""

import jax
import numpy as np
import optax
import pytest

from compjax.networks import UNet
from compjax.noise import LogNormal
from compjax.training import (
    init_state,
    make_mesh,
    make_train_step,
    sharded,
)

MODULE = UNet(channels=16, channel_mult=(1, 2), num_blocks=0, condition_channels=1)
OPTIMIZER = optax.adam(optax.linear_schedule(0.0, 1e-2, 100), b1=0.9, b2=0.99)


def batch(key):
    key_x, key_c = jax.random.split(key)
    x0 = 0.5 * jax.random.normal(key_x, (8, 4, 4, 1))
    return x0, jax.random.normal(key_c, (8, 4, 4, 1))


EXAMPLE = jax.eval_shape(batch, jax.random.key(0))


def initialize(key):
    return init_state(key, MODULE, OPTIMIZER, EXAMPLE)


def train(mesh, steps=20):
    placed = sharded(jax.eval_shape(initialize, jax.random.key(0)), mesh)
    state = jax.jit(initialize, out_shardings=placed)(jax.random.key(1))
    step = make_train_step(
        MODULE, OPTIMIZER, LogNormal(-0.8, 1.0), noise_draws=2, mesh=mesh
    )
    losses = []
    for _ in range(steps):
        # One step at a time: queues of all-reduces can stall virtual CPU devices.
        state, metrics = jax.block_until_ready(step(state, jax.random.key(2), batch))
        losses.append(metrics["loss"])
    return state, np.array(losses)


@pytest.fixture(scope="module")
def on_one_device():
    return train(make_mesh(1))


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_same_training_on_one_device_and_on_four_in_every_layout(on_one_device, fsdp):
    mesh = make_mesh(8, fsdp)
    assert mesh.size == 4
    _, losses = on_one_device
    state, losses_of_four = train(mesh)
    np.testing.assert_allclose(losses_of_four, losses, rtol=1e-5)
    for leaf, place in zip(
        jax.tree.leaves(state), jax.tree.leaves(sharded(state, mesh)), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)
