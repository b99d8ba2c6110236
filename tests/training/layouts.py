"""One training in any layout: `python layouts.py FSDP ...` prints its losses.

Run by the tests in other processes, which see another number of devices.
"""

import json
import sys

import jax
import numpy as np
import optax

from compjax.networks import UNet
from compjax.noise import LogNormal
from compjax.training import (
    init_state,
    initialize,
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


def start(key):
    return init_state(key, MODULE, OPTIMIZER, jax.eval_shape(batch, jax.random.key(0)))


def train(mesh, steps=20):
    """The state and the losses of some steps."""
    places = sharded(jax.eval_shape(start, jax.random.key(0)), mesh)
    state = jax.jit(start, out_shardings=places)(jax.random.key(1))
    step = make_train_step(
        MODULE, OPTIMIZER, LogNormal(-0.8, 1.0), noise_draws=2, mesh=mesh
    )
    losses = []
    for _ in range(steps):
        # One step at a time: queues of all-reduces can stall virtual CPU devices.
        state, metrics = jax.block_until_ready(step(state, jax.random.key(2), batch))
        losses.append(metrics["loss"])
    return state, np.array(losses)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    if len(sys.argv) > 3:
        initialize(sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    for fsdp in map(int, sys.argv[2].split(",")):
        losses = train(make_mesh(8, fsdp))[1]
        # A line of its own: the connections of the processes print as well.
        print(
            "\n" + json.dumps([jax.device_count(), fsdp, losses.tolist()]), flush=True
        )
