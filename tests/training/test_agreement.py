"""An error that one of two processes has ends both."""

import os
import re
import socket
import subprocess
import sys

import pytest

from compjax.training.agreement import in_first_process, raise_everywhere

PROCESS = """
import os, sys
from pathlib import Path
import jax, numpy as np
from compjax.training import MetricsWriter, open_workdir
from compjax.training.agreement import raise_everywhere
from compjax.training.posthoc import save_snapshot, snapshots

address, rank, place = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
jax.distributed.initialize(address, num_processes=2, process_id=rank)

def told(action):
    try:
        print("\\nTOLD", action())
    except Exception as error:
        kind = "OSError" if isinstance(error, OSError) else type(error).__name__
        print("\\nTOLD", kind, error)

def full(_):
    raise OSError("the disk is full")

told(lambda: open_workdir(place / "file" / "run", {"steps": 1}))
told(lambda: open_workdir(place / "run", {"steps": 1}).name)
told(lambda: open_workdir(place / "run", {"steps": 2}))
told(lambda: open_workdir(place / "run", {"steps": rank}))
told(lambda: MetricsWriter(place / "nothing", 0))
writer, fsync = MetricsWriter(place / "run", 0), os.fsync
told(lambda: writer.check())
os.fsync = full
told(lambda: writer.write(1, {"loss": 1.0}))
os.fsync = fsync
told(lambda: writer.check())
told(lambda: raise_everywhere(OSError("of the second") if rank == 1 else None))

# The second process does not see the snapshot that is there.
averages = {0.1: {"w": np.ones(3, np.float32)}}
save_snapshot(place / "snapshots", 10, averages)
if rank == 1:
    Path.exists = lambda self: False
told(lambda: save_snapshot(place / "snapshots", 10, averages))
told(lambda: snapshots(place / "snapshots"))
"""


@pytest.mark.multiprocess
def test_two_processes_end_with_the_same_error(tmp_path):
    (tmp_path / "file").touch()
    with socket.socket() as found:
        found.bind(("localhost", 0))
        address = f"localhost:{found.getsockname()[1]}"
    environment = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES="1")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, address, str(rank), tmp_path],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    lines = []
    for process, (out, errors) in zip(both, outputs, strict=True):
        assert process.returncode == 0, errors
        lines.append(re.findall(r"^TOLD (.*)", out, re.MULTILINE))
    expected = [
        r"OSError .*file.*",
        r"run",
        r"ValueError .*run with another config \(steps: 1 there, 2 now\).*",
        r"ValueError The processes were given different configs.*",
        r"OSError .*nothing/metrics.jsonl.*",
        r"None",
        r"None",  # no process waits for another at a line of metrics
        r"OSError .*metrics.jsonl could not be written \(the disk is full\).*",
        r"OSError of the second",
        r"None",
        r"\[10\]",
    ]
    for told in lines:
        assert len(told) == len(expected), told
        for pattern, line in zip(expected, told, strict=True):
            assert re.fullmatch(pattern, line)
    assert lines[0] == lines[1]


def test_one_process_raises_what_was_raised():
    for error in (OSError("a"), ValueError("b"), KeyError("c")):
        with pytest.raises(type(error)) as raised:
            raise_everywhere(error)
        assert raised.value is error

    def fail():
        raise FileNotFoundError(2, "not there")

    with pytest.raises(FileNotFoundError, match="not there"):
        in_first_process(fail)
