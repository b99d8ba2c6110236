"""The command of the README, at the size of a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = [
    "--config.size=16",
    "--config.data.scenes=2",
    "--config.network.channels=8",
    "--config.train.steps=3",
    "--config.train.warmup=1",
    "--config.sample.images=2",
    "--config.sample.steps=2",
]


def quickstart(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.quickstart", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_quickstart_runs_resumes_and_guards_its_directory(tmp_path):
    workdir = tmp_path / "run"
    first = quickstart(f"--workdir={workdir}", *TINY)
    assert first.returncode == 0, first.stderr
    results = json.loads((workdir / "results.json").read_text())
    assert len(results["rows"]) == 24
    assert {row["k"] for row in results["rows"]} == set(range(1, 7))
    assert (workdir / "figures" / "length_generalisation.png").stat().st_size > 10_000
    assert "A: empty background" in first.stdout

    before = (workdir / "results.json").read_bytes()
    (workdir / "figures" / "length_generalisation.png").unlink()
    again = quickstart(f"--workdir={workdir}", *TINY)
    assert again.returncode == 0 and "finished run" in again.stdout
    assert (workdir / "figures" / "length_generalisation.png").exists()

    other = quickstart(f"--workdir={workdir}", *TINY, "--config.seed=1")
    assert other.returncode == 2 and "Traceback" not in other.stderr
    assert "seed: 0 there, 1 now" in other.stderr
    assert (workdir / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.train.stepz=3", "--workdir=x"], "stepz"),
        (["--config.train.steps=many", "--workdir=x"], "many"),
        ([], "--workdir"),
        (["--workdir=x", "surplus"], "surplus"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message, tmp_path):
    done = quickstart(*[a.replace("=x", f"={tmp_path / 'x'}") for a in arguments])
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "x").exists()
