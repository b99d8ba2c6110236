"""A training that several processes share: `WORKDIR=STEPS ...` are done in turn.

The state and every batch are split over all devices.
"""

import sys

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from compjax.noise import LogNormal
from compjax.training import (
    HostBatches,
    PowerFunction,
    init_state,
    initialize,
    make_mesh,
    train,
)

BATCH = 10


class Linear(nn.Module):
    """A denoiser with a weight that is large enough to be split."""

    sigma_data: float = 0.5

    @nn.compact
    def __call__(self, x, sigma, condition=None):
        wide = self.param("wide", nn.initializers.normal(0.1), (32, 32))
        return x / (1 + 4 * sigma[:, None] ** 2) + 0.1 * jnp.tanh(x) @ wide

    def log_variance(self, sigma):
        return 0 * sigma


module, averages = Linear(), (PowerFunction(0.05), PowerFunction(0.1))
optimizer = optax.adam(1e-2, b1=0.9, b2=0.99)


def start(key):
    example = (jnp.zeros((BATCH, 32)), None)
    return init_state(key, module, optimizer, example, len(averages))


def noisy(key, rows):
    return rows + 0.1 * jax.random.normal(key, rows.shape), None


def batches(mesh):
    """The same on any number of processes, each of which reads its part."""
    rows = np.random.default_rng(0).normal(size=(40, 32)).astype(np.float32)
    source = grain.MapDataset.source(rows).seed(1).shuffle().repeat()
    ours = source.map(lambda row: (row,)).batch(BATCH // jax.process_count())
    ours = ours.slice(slice(jax.process_index(), None, jax.process_count()))
    return HostBatches(iter(ours.to_iter_dataset()), noisy, mesh)


@jax.jit
def largest(params):
    return jnp.abs(params["wide"]).max()


def evaluate(step, state):
    yield "largest", float(largest(state.average))


def run(workdir, steps):
    mesh = make_mesh(BATCH, fsdp=2)
    assert mesh.size == 2
    return train(
        jax.random.key(0),
        module,
        optimizer,
        batches(mesh),
        LogNormal(-0.8, 1.0),
        steps=steps,
        workdir=workdir,
        averages=averages,
        mesh=mesh,
        save_every=3,
        snapshot_every=3,
        log_every=1,
        evaluate_every=3,
        evaluators=[evaluate],
    )


if __name__ == "__main__":
    initialize(sys.argv[1], 2, int(sys.argv[2]))
    for argument in sys.argv[3:]:
        workdir, steps = argument.split("=")
        state = run(workdir, int(steps))
        wide = state.params["wide"]
        assert not wide.is_fully_addressable
        assert wide.addressable_shards[0].data.shape == (32, 16)
