"""Interrupts a training run again and again, and looks whether anything is lost.

    python -m experiments.survive --workdir=runs/survive --kills=20

A small run is trained without interruption.  The same run is trained elsewhere, while
it is killed (kill -9) at random moments, every other time during a save, and started
again each time.  With `--terms=N` it is sent SIGTERM as well, after which it has to
save and end by itself; with `--truncations=N` it is killed and its newest checkpoint
cut short.  No start may go on from an earlier checkpoint than the newest whole one, and
in the end all arrays, snapshots, metrics and figures must be the same, bit by bit.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import launch

SMALL = {
    "data.size": 8,
    "data.batch": 8,
    "network.channels": 8,
    "network.num_blocks": 0,
    "sample.images": 2,
    "sample.steps": 2,
    "train.log_every": 1,
    "train.save_every": 4,
    "train.snapshot_every": 4,
    "train.evaluate_every": 50,
}
"""What makes a run of the laptop's config a matter of seconds."""


CUT = "cut"
"""A file by which this test knows the checkpoints that it damaged."""


class Harm(NamedTuple):
    """What is done to a run.

    Args:
        name: `kill`, `term` or `truncate`.
        step: After which it is done.
        delay: Seconds that are waited then.
        saving: Whether a save is waited for.
    """

    name: str
    step: int
    delay: float
    saving: bool


def main() -> None:
    """Runs the test and prints the verdict."""
    parser = launch.parser("experiments.survive", __doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="for the two runs")
    parser.add_argument("--kills", type=int, default=20, help="how often to kill")
    parser.add_argument("--terms", type=int, default=0, help="how often to ask to end")
    parser.add_argument(
        "--truncations", type=int, default=0, help="how often to damage a checkpoint"
    )
    parser.add_argument("--steps", type=int, default=400, help="updates of the run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    command = [
        *(sys.executable, "-m", "experiments.train"),
        "--config=configs/train/laptop.py",
        f"--config.train.steps={options.steps}",
        *(f"--config.{name}={value}" for name, value in SMALL.items()),
    ]
    counts = {
        "kill": options.kills,
        "term": options.terms,
        "truncate": options.truncations,
    }
    harms = draw_harms(counts, options.steps, random.Random(options.seed))
    complaints = survive(command, options.workdir, harms)
    for complaint in complaints:
        print(complaint)
    told = ", ".join(f"{count} x {name}" for name, count in counts.items() if count)
    print(f"{'FAILED' if complaints else 'passed'}: {options.steps} steps, {told}")
    sys.exit(bool(complaints))


def draw_harms(counts: dict[str, int], steps: int, chance: random.Random) -> list[Harm]:
    """The harms in the order of their moments.

    Args:
        counts: How often each is done, by its name.
        steps: Updates of the run, in the first nine tenths of which they are done.
        chance: Decides when.
    """
    names = [name for name, count in counts.items() for _ in range(count)]
    chance.shuffle(names)
    moments = sorted(chance.randrange(9 * steps // 10) for _ in names)
    return [
        Harm(name, moment, chance.uniform(0, 0.3), saving=i % 2 == 1)
        for i, (name, moment) in enumerate(zip(names, moments, strict=True))
    ]


def survive(command: Sequence[str], workdir: Path, harms: Sequence[Harm]) -> list[str]:
    """What goes wrong when a run is interrupted; nothing if all is well.

    Args:
        command: Trains a run to its end, or from where it was; `--workdir=` is added.
            It writes a line of metrics for every step.
        workdir: For the two runs.
        harms: In the order of their steps.
    """
    whole, harmed = workdir / "undisturbed", workdir / "interrupted"
    for place in (whole, harmed):  # of an earlier test
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    started = time.monotonic()
    start(command, whole).wait()
    print(f"undisturbed in {time.monotonic() - started:.0f} s", flush=True)
    complaints, expected = [], 0
    for harm in harms:
        complaint, expected = interrupted(command, harmed, harm, expected)
        complaints += complaint
    start(command, harmed).wait()
    return [*complaints, *wrong_start(harmed, expected), *differences(whole, harmed)]


def start(command: Sequence[str], workdir: Path) -> subprocess.Popen:
    """The command; what it says goes to `workdir`/log."""
    with (workdir / "log").open("w") as log:
        return subprocess.Popen(
            [*command, f"--workdir={workdir}"], stdout=log, stderr=log
        )


def interrupted(
    command: Sequence[str], workdir: Path, harm: Harm, expected: int
) -> tuple[list[str], int]:
    """Starts a run and interrupts it.

    Args:
        command: See `survive`.
        workdir: Of the run.
        harm: What is done.
        expected: The step from which it has to go on.

    Returns:
        What went wrong, and the step from which the next start has to go on.
    """
    process = start(command, workdir)
    while process.poll() is None and reached(workdir) < harm.step:
        time.sleep(0.002)
    time.sleep(harm.delay)
    while (
        process.poll() is None
        and harm.saving
        and not (began(workdir) and saving(workdir))
    ):
        time.sleep(0.0005)
    alive = process.poll() is None
    process.send_signal(signal.SIGTERM if harm.name == "term" else signal.SIGKILL)
    process.wait()
    complaints = wrong_start(workdir, expected)
    if harm.name == "term" and alive and process.returncode not in (0, -15):
        complaints.append(f"SIGTERM: it ended with code {process.returncode}")
    there = steps_of(workdir)
    print(
        f"{harm.name:8} at step {reached(workdir):4}, checkpoints {there}"
        f"{'' if began(workdir) else ', before it went on'}"
        f"{', during a save' if began(workdir) and saving(workdir) else ''}"
        f"{'' if alive else ', but it had ended before'}",
        flush=True,
    )
    if harm.name == "term" and alive and process.returncode == 0:
        complaints += [
            f"SIGTERM at step {reached(workdir)} left checkpoints {there}"
            for last in there[-1:]
            if last != reached(workdir)
        ]
    if harm.name == "truncate" and len(there) > 1:
        truncate(workdir / "checkpoints" / str(there.pop()))
    return complaints, max(steps_of(workdir), default=0)


def truncate(checkpoint: Path) -> None:
    """Cuts the largest file of a checkpoint in half, and marks the checkpoint."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    (checkpoint / CUT).touch()


def reached(workdir: Path) -> int:
    """The last step of which there is a line of metrics."""
    lines = read_lines(workdir)
    return json.loads(lines[-1])["step"] if lines else 0


def read_lines(workdir: Path) -> list[str]:
    """The whole lines of `metrics.jsonl`."""
    file = workdir / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [line for line in lines if line.endswith("\n")]


def saving(workdir: Path) -> bool:
    """Whether a save is under way, or was when the run was killed."""
    return any((workdir / "checkpoints").glob("*tmp*"))


def steps_of(workdir: Path) -> list[int]:
    """The steps of which there is a checkpoint that nobody cut."""
    return sorted(
        int(place.name)
        for place in (workdir / "checkpoints").glob("*")
        if place.name.isdigit() and not (place / CUT).exists()
    )


def began(workdir: Path) -> re.Match[str] | None:
    """Where the last start says from which step it goes on, if it came so far."""
    log = (workdir / "log").read_text()
    return re.search(r"resuming from step (\d+)|starting from step (0)", log)


def wrong_start(workdir: Path, expected: int) -> list[str]:
    """A complaint if the last start did not go on from the step that is expected."""
    found = began(workdir)
    if found is None or int(found[1] or found[2]) == expected:
        return []  # it was killed before it had said so, or all is well
    return [f"expected to go on from step {expected}, but: {found[0]}"]


def differences(whole: Path, harmed: Path) -> list[str]:
    """What distinguishes the ends of two runs."""
    step, other = (max(steps_of(run), default=None) for run in (whole, harmed))
    if step is None or step != other:
        return [f"ended at steps {step} and {other}: see {harmed / 'log'}"]
    complaints = []
    if read_lines(whole) != read_lines(harmed):
        complaints.append("the metrics differ")
    first, second = (saved(run, step) for run in (whole, harmed))
    complaints += [
        f"differs: {name}"
        for name in sorted(first.keys() | second.keys())
        if not same(first.get(name), second.get(name))
    ]
    print(f"compared {len(first)} arrays and {len(read_lines(whole))} lines of metrics")
    return complaints


def saved(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """The arrays of the last checkpoint and of all snapshots, and the figures."""
    found = arrays(workdir / "checkpoints" / str(step))
    for place in sorted((workdir / "snapshots").glob("*")):
        if place.name.isdigit():
            of_one = arrays(place)
            found |= {f"snapshot {place.name}{name}": a for name, a in of_one.items()}
    for place in sorted((workdir / "figures").glob("*")):
        found[f"figure {place.name}"] = np.frombuffer(place.read_bytes(), np.uint8)
    return found


def arrays(checkpoint: Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint, on the host, by their paths."""
    from orbax.checkpoint import v1 as ocp

    place = str(checkpoint.absolute())
    like: Any = ocp.metadata(place).metadata
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    leaves = jax.tree_util.tree_leaves_with_path(ocp.load(place, like))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    """Whether two arrays are there and have the same bits."""
    if a is None or b is None:
        return False
    return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())


if __name__ == "__main__":
    main()
