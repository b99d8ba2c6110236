"""A run of a moment: what `experiments.survive` interrupts in the tests."""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import training_task as task

from compjax.training import Prepared, train


class Rows:
    """An iterator of batches whose position counts."""

    def __init__(self):
        self.position = 0

    def __next__(self):
        self.position += 1
        time.sleep(0.01)  # so that it can be interrupted
        rows = jnp.sin(jnp.arange(32.0) + self.position).reshape(8, 4)
        return Prepared((rows,), noisy)

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


def noisy(key, rows):
    """The rows, and noise from the run's key."""
    return rows + 0.1 * jax.random.normal(key, rows.shape), None


if __name__ == "__main__":
    steps, workdir = int(sys.argv[1]), Path(sys.argv[2].removeprefix("--workdir="))
    train(
        jax.random.key(0),
        task.module,
        task.optimizer,
        Rows(),
        task.law,
        steps=steps,
        workdir=workdir,
        save_every=3,
        snapshot_every=30,
        log_every=1,
    )
