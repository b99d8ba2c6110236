"""One training on one device, on four and eight, and on two processes, in every layout.

The losses of twenty steps agree to a relative 1e-5: the same float32 numbers are added
in another order, an error of some 1e-7 a step, and the learning rate rises slowly
enough for it not to grow.
"""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import layouts
import numpy as np
import optax
import pytest

from compjax.networks import UNet
from compjax.noise import LogNormal
from compjax.training import (
    BEFORE,
    PowerFunction,
    edm2_adam,
    init_state,
    make_mesh,
    make_train_step,
    sharded,
)

SCRIPT = Path(layouts.__file__)


@pytest.fixture(scope="module")
def losses():
    """Of the training on one device."""
    return layouts.train(make_mesh(1))[1]


@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_same_training_on_one_device_and_on_four_in_every_layout(losses, fsdp):
    mesh = make_mesh(8, fsdp)
    assert mesh.size == 4
    state, losses_of_four = layouts.train(mesh)
    np.testing.assert_allclose(losses_of_four, losses, rtol=1e-5)
    for leaf, place in zip(
        jax.tree.leaves(state), jax.tree.leaves(sharded(state, mesh)), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(place, leaf.ndim)


class Steep(nn.Module):
    """A denoiser with a condition for all examples and one for each.

    The gradients of every third entry of `steep`, which is 0, are not finite.
    """

    sigma_data: float = 0.5

    @nn.compact
    def __call__(self, x, sigma, condition):
        entries = jnp.arange(1024.0).reshape(32, 32)
        steep = self.param("steep", lambda key: entries % 3)
        weight = self.param("weight", nn.initializers.normal(1.0), (32, 32))
        shift = self.param("shift", nn.initializers.ones, (1, 32))
        x = x + condition["each"] + shift * condition["all"]
        return (x @ weight + jnp.sqrt(steep).mean(0, keepdims=True)) / 32

    def log_variance(self, sigma):
        return 0 * sigma


def steep_batch(key):
    x0, each, one = (jax.random.normal(k, (8, 32)) for k in jax.random.split(key, 3))
    return x0, {"each": each, "all": one[:1]}


def two_updates(mesh):
    """State and metrics after two updates of all that a step can be asked for."""
    optimizer = optax.sgd(1e-2, momentum=0.9)
    averages = [PowerFunction(0.05), PowerFunction(0.1)]
    example = jax.eval_shape(steep_batch, jax.random.key(0))
    state = init_state(jax.random.key(1), Steep(), optimizer, example, len(averages))
    if mesh is not None:
        state = jax.device_put(state, sharded(state, mesh))
        assert state.params["steep"].sharding.shard_shape((32, 32)) == (32, 16)
    step = make_train_step(
        Steep(),
        optimizer,
        LogNormal(-0.8, 1.0),
        averages=averages,
        normalization=BEFORE,
        accumulate=2,
        mesh=mesh,
    )
    for _ in range(2):
        state, metrics = jax.block_until_ready(
            step(state, jax.random.key(2), steep_batch)
        )
    return jax.device_get((state, metrics))


def test_same_updates_by_parts_with_gradients_that_are_not_finite():
    one, one_metrics = two_updates(None)
    four, four_metrics = two_updates(make_mesh(fsdp=2))
    assert one_metrics["nonfinite_gradients"] == 2 * 342  # of the entries 0, 3 .. 1023
    # Sums of up to 32 + 8 products, each rounded by 6e-8 of the largest, added in
    # another order: some 2.4e-6 of the largest number of a leaf, and twice in a row.
    for name in one_metrics:
        np.testing.assert_allclose(four_metrics[name], one_metrics[name], rtol=5e-6)
    for four_leaf, leaf in zip(
        jax.tree.leaves(four), jax.tree.leaves(one), strict=True
    ):
        np.testing.assert_allclose(
            four_leaf, leaf, rtol=0, atol=5e-6 * np.abs(leaf).max()
        )


def start(*arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def read(process):
    try:
        out, error = process.communicate(timeout=500)
    finally:
        process.kill()  # JAX catches SIGTERM where several processes are one run
    assert process.returncode == 0, error.decode()
    lines = out.decode().splitlines()
    # The connections between the processes print lines too: "[Gloo] ...".
    return [json.loads(line) for line in lines if re.match(r"\[\d", line)]


@pytest.mark.multiprocess
def test_same_training_on_eight_devices_in_every_layout(losses):
    for devices, _, found in read(start(8, "1,2,8")):
        assert devices == 8
        np.testing.assert_allclose(found, losses, rtol=1e-5)


@pytest.mark.multiprocess
def test_same_training_on_two_processes_of_two_devices(losses):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    processes = [start(2, "1,2,4", coordinator, 2, i) for i in range(2)]
    for process in processes:
        found = read(process)
        assert [(devices, fsdp) for devices, fsdp, _ in found] == [
            (4, 1),
            (4, 2),
            (4, 4),
        ]
        for _, _, of_two in found:
            np.testing.assert_allclose(of_two, losses, rtol=1e-5)


def test_fully_sharded_state_leaves_one_part_to_each_device():
    """Of EDM2's XS and of this file's network, by bytes; nothing is allocated."""
    xs = UNet(label_dim=10, image=(64, 64, 3))
    optimizer = edm2_adam(0.01)
    example = (jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"), None)
    states = {
        "xs": jax.eval_shape(
            lambda key: init_state(key, xs, optimizer, example, 2), jax.random.key(0)
        ),
        "small": jax.eval_shape(layouts.start, jax.random.key(0)),
    }
    for name, state in states.items():
        mesh = make_mesh(fsdp=4)
        whole = sum(leaf.size * 4 for leaf in jax.tree.leaves(state))
        part = sum(
            4 * int(np.prod(place.shard_shape(leaf.shape)))
            for leaf, place in zip(
                jax.tree.leaves(state),
                jax.tree.leaves(sharded(state, mesh)),
                strict=True,
            )
        )
        assert part <= (1 / 4 + 0.05) * whole, name


@pytest.mark.parametrize(("size", "devices"), [(8, 4), (6, 3), (5, 1), (None, 4)])
def test_mesh_takes_as_many_devices_as_divide_the_batch(size, devices):
    assert make_mesh(size).size == devices


@pytest.mark.parametrize("fsdp", [0, 3])
def test_a_part_that_does_not_divide_the_devices_is_refused(fsdp):
    with pytest.raises(ValueError, match=f"fsdp = {fsdp} does not divide 4"):
        make_mesh(fsdp=fsdp)
