"""A run that is interrupted ends as if it had not been."""

import random
import sys
from pathlib import Path

import pytest

from experiments import survive

SURVIVOR = Path(__file__).parent / "training" / "survivor.py"


@pytest.mark.multiprocess
def test_interrupted_runs_lose_nothing(tmp_path, capfd):
    counts = {"kill": 3, "term": 1, "truncate": 1}
    harms = survive.draw_harms(counts, 150, random.Random(0))
    command = [sys.executable, str(SURVIVOR), "150"]
    assert survive.survive(command, tmp_path, harms) == []
    shown = capfd.readouterr().out
    assert shown.count(" at step ") == 5
    assert "lines of metrics" in shown
    assert len(survive.read_lines(tmp_path / "interrupted")) == 150


def test_a_run_that_lost_something_is_seen(tmp_path):
    """The judge of the test above is itself judged."""
    (tmp_path / "log").write_text("no checkpoint in x: starting from step 0")
    assert survive.wrong_start(tmp_path, 0) == []
    assert survive.wrong_start(tmp_path, 3) == [
        "expected to go on from step 3, but: starting from step 0"
    ]
    (tmp_path / "log").write_text("resuming from step 3 in x")
    assert survive.wrong_start(tmp_path, 3) == []
    assert len(survive.wrong_start(tmp_path, 6)) == 1


def test_runs_that_end_differently_are_told_apart(tmp_path):
    import jax.numpy as jnp

    from compjax.training.checkpoint import Checkpoints
    from compjax.training.posthoc import save_snapshot

    for name, x, line in (("a", 1.0, "{}"), ("b", 1.0, "{}"), ("c", 1.5, "{ }")):
        with Checkpoints(tmp_path / name / "checkpoints") as checkpoints:
            checkpoints.save(4, {"x": jnp.full(3, x), "y": jnp.zeros(())})
        save_snapshot(tmp_path / name / "snapshots", 2, {0.1: {"x": jnp.full(3, x)}})
        (tmp_path / name / "metrics.jsonl").write_text(line + "\n")
        (tmp_path / name / "figures").mkdir()
        (tmp_path / name / "figures" / "2.png").write_text(line)
    assert survive.differences(tmp_path / "a", tmp_path / "b") == []
    assert survive.differences(tmp_path / "a", tmp_path / "c") == [
        "the metrics differ",
        "differs: ['x']",
        "differs: figure 2.png",
        "differs: snapshot 0000000002['0.1']['x']",
    ]
    [complaint] = survive.differences(tmp_path / "a", tmp_path / "none")
    assert complaint.startswith("ended at steps 4 and None: see ")
