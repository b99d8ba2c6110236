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

import jax
import layouts
import numpy as np
import pytest

from compjax.networks import UNet
from compjax.training import edm2_adam, init_state, make_mesh, sharded

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
