"""Training from beginning to end where two processes share state and batches."""

import os
import socket
import subprocess
import sys

import jax
import joint_training as joint
import numpy as np
import pytest

from compjax.training import read_metrics, reconstruct
from compjax.training.checkpoint import restore
from compjax.training.posthoc import snapshots

pytestmark = pytest.mark.multiprocess


def two_processes(*runs):
    """Both processes make these runs, `WORKDIR=STEPS`, and end well."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, joint.__file__, coordinator, str(rank), *runs],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:  # JAX catches SIGTERM where several are one run
            process.kill()
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0, error


def results(workdir):
    """The last state, and the reconstruction of an average between the two."""
    like = jax.eval_shape(joint.start, jax.random.key(0))
    average = reconstruct(workdir / "snapshots", 0.07)
    return restore(workdir / "checkpoints", like), average


def test_two_processes_train_as_one_and_resume_bit_by_bit(tmp_path):
    whole, parts, alone = (tmp_path / name for name in ("whole", "parts", "alone"))
    two_processes(f"{whole}=6", f"{parts}=3")
    two_processes(f"{parts}=6")
    jax.tree.map(np.testing.assert_array_equal, results(whole), results(parts))
    joint.run(alone, 6)

    lines, of_one = read_metrics(whole), read_metrics(alone)
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert [line["step"] for line in lines if "largest" in line] == [3, 6]
    assert lines == read_metrics(parts)
    for line, other in zip(lines, of_one, strict=True):
        # The same program on two devices, of which only the messages differ.
        assert line == pytest.approx(other, rel=1e-5)
    for workdir in (whole, parts, alone):
        assert snapshots(workdir / "snapshots") == [3, 6]
    for leaf, other in zip(
        *map(jax.tree.leaves, (results(whole)[1], results(alone)[1])), strict=True
    ):
        np.testing.assert_allclose(leaf, other, rtol=0, atol=1e-5 * abs(other).max())
