"""Checkpoints and SIGTERM where two processes train together."""

import os
import signal
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax.training.checkpoint import restore

pytestmark = pytest.mark.multiprocess

# A line break before what is printed: the processes' connections print as well.
PROCESS = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from compjax.training.checkpoint import Checkpoints
from compjax.training.interruption import catch_sigterm
address, rank, directory, act = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(rank))
mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
shardings = {"split": jax.P("data"), "whole": jax.P()}
shardings = {name: jax.NamedSharding(mesh, spec) for name, spec in shardings.items()}

def arrays(step):
    return {"split": jnp.arange(8000.0).reshape(8, -1) + step, "whole": jnp.ones(3)}

class Data:
    n = 0
    def get_state(self):
        return {"next": self.n, "text": "x" * int(rank)}
    def set_state(self, state):
        self.n = state["next"]

state_of, data = jax.jit(arrays, out_shardings=shardings), Data()

def save(checkpoints):
    for step in (2, 4):
        data.n = 10 * step + int(rank)
        checkpoints.save(step, state_of(step), data)

def read(checkpoints):
    step, state = checkpoints.restore(state_of(0), data)
    for name, whole in arrays(step).items():
        for shard in state[name].addressable_shards:
            np.testing.assert_array_equal(shard.data, np.asarray(whole)[shard.index])
    print("\\nrestored", step, data.n)

def train(checkpoints):
    with catch_sigterm() as stop:
        for step in range(5, 100_000):
            state_of(step)["whole"].block_until_ready()
            time.sleep(0.001 + 0.002 * int(rank))
            if step == 10:
                print("\\ntraining", flush=True)
            if stop(step):
                checkpoints.save(step, state_of(step), data)
                print("\\nstopped", step)
                return

with Checkpoints(directory) as checkpoints:
    globals()[act](checkpoints)
"""


def processes(directory, act):
    """The two processes, at work on the same checkpoints."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    environment = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="2")
    return [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(rank), directory, act],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def ended(both):
    """What each of them has printed, and its errors, when they are done."""
    try:
        outputs = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:  # a process in JAX's service does not end by SIGTERM
            process.kill()
    for process, (_, errors) in zip(both, outputs, strict=True):
        assert process.returncode == 0, errors
    return outputs


def words(output, first):
    """The words of the one line that begins with `first`."""
    lines = [line.split() for line in output.splitlines() if line.startswith(first)]
    assert len(lines) == 1, output
    return lines[0]


def test_they_agree_on_what_is_damaged_though_only_one_can_see_it(tmp_path):
    ended(processes(tmp_path, "save"))
    parts = [
        [file for file in folder.glob("d/*") if file.is_file()]
        for folder in sorted((tmp_path / "4" / "state").glob("ocdbt.process_*"))
    ]
    assert len(parts) == 2
    for file in parts[1]:  # which hold the part of the second process
        os.truncate(file, file.stat().st_size // 2)
    outputs = ended(processes(tmp_path, "read"))
    assert [words(out, "restored") for out, _ in outputs] == [
        ["restored", "2", "20"],
        ["restored", "2", "21"],
    ]
    assert "WARNING: the checkpoint of step 4 is damaged" in outputs[0][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "damaged"]

    # The same in one process.
    like = {"split": jnp.zeros((8, 1000)), "whole": jnp.zeros(3)}
    state = restore(tmp_path, jax.eval_shape(lambda: like))
    expected = np.arange(8000.0).reshape(8, -1) + 2
    np.testing.assert_array_equal(state["split"], expected)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_both_at_the_same_step(tmp_path, rank):
    both = processes(tmp_path, "train")
    for line in both[rank].stdout:
        if line.strip() == "training":
            break
    both[rank].send_signal(signal.SIGTERM)
    steps = {words(out, "stopped")[1] for out, _ in ended(both)}
    assert len(steps) == 1
    assert [path.name for path in tmp_path.iterdir()] == list(steps)
