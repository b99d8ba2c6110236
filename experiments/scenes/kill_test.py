"""Kills the writing of a set again and again, and looks whether the set suffers.

    python -m experiments.scenes.kill_test --workdir=runs/kill_test --examples=10000

One set is written without disturbance.  The same set is written elsewhere while the
command and all its workers are killed (kill -9) at random moments, and started again
each time.  In the end every file must be the same, byte for byte, and every example
must be there once.  The verdict is printed, and the exit code is 0 if it is good.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from compjax import datasets
from experiments import launch


def main() -> None:
    """Runs the test and prints the verdict."""
    parser = launch.parser("experiments.scenes.kill_test", __doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="for the two sets")
    parser.add_argument("--examples", type=int, default=10_000, help="how many")
    parser.add_argument("--side", type=int, default=128, help="pixels, both ways")
    parser.add_argument("--shard", type=int, help="examples in a file")
    parser.add_argument("--workers", type=int, default=launch.cores(), help="processes")
    parser.add_argument("--kills", type=int, default=10, help="how often to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    arguments = [
        "--set=counts_one",
        f"--examples={options.examples}",
        f"--height={options.side}",
        f"--width={options.side}",
        f"--workers={options.workers}",
    ]
    arguments += [] if options.shard is None else [f"--shard={options.shard}"]
    whole, killed = options.workdir / "undisturbed", options.workdir / "killed"
    for place in (whole, killed):  # of an earlier test
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(place.with_name(place.name + ".partial"), ignore_errors=True)
    started = time.monotonic()
    undisturbed(arguments, whole)
    print(f"written without disturbance in {time.monotonic() - started:.0f} s")
    chance = random.Random(options.seed)
    kills = disturbed(arguments, killed, files(whole), options.kills, chance)
    complaints = compare(whole, killed, options.examples)
    for complaint in complaints:
        print(complaint)
    if kills < options.kills:
        complaints.append("")
        print(f"it was written before it could be killed {options.kills} times")
    verdict = "FAILED" if complaints else "passed"
    print(f"{verdict}: {options.examples} examples, killed {kills} times")
    sys.exit(bool(complaints))


def files(directory: Path) -> int:
    """How many files of examples there are."""
    return len(list(directory.glob("*.array_record-*-of-?????")))


def start(arguments: list[str], out: Path) -> subprocess.Popen:
    """The command, leader of a process group of its own."""
    command = [sys.executable, "-m", "experiments.scenes.generate", *arguments]
    return subprocess.Popen(
        [*command, f"--out={out}"], start_new_session=True, stdout=subprocess.DEVNULL
    )


def undisturbed(arguments: list[str], out: Path) -> None:
    """Runs the command to its end."""
    if start(arguments, out).wait():
        raise RuntimeError(f"the command failed: {arguments}")


def disturbed(
    arguments: list[str], out: Path, shards: int, kills: int, chance: random.Random
) -> int:
    """Runs the command until it succeeds, killing it when a random file is written.

    Args:
        arguments: Of the command.
        out: Directory of the set.
        shards: Number of its files.
        kills: How often to kill.
        chance: Decides when: after how many files, and how long after the last.

    Returns:
        How often it was killed.
    """
    partial = out.with_name(out.name + ".partial")
    moments = sorted(chance.randrange(max(shards - 1, 1)) for _ in range(kills))
    done = 0
    for moment in moments:
        process = start(arguments, out)
        while process.poll() is None and files(partial) < moment:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        if process.poll() is not None:
            return done
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        there = files(out) or files(partial)
        print(f"killed with {there} of {shards} files", flush=True)
        if out.exists():  # it was killed between its last act and its end
            return done
        try:
            datasets.open_set(out)
        except ValueError:
            continue
        raise RuntimeError(f"{out} can be opened although it is not whole")
    undisturbed(arguments, out)
    return done


def compare(whole: Path, killed: Path, examples: int) -> list[str]:
    """What is wrong with the second set, given the first."""
    names = {path.name for path in whole.iterdir()}
    complaints = [
        f"only in one of the sets: {name}"
        for name in names ^ {path.name for path in killed.iterdir()}
    ]
    complaints += [
        f"differs: {name}"
        for name in sorted(names)
        if not complaints
        and (whole / name).read_bytes() != (killed / name).read_bytes()
    ]
    numbers = [int(record["index"]) for record in datasets.open_set(killed)]
    if numbers != list(range(examples)):
        complaints.append("examples are lost or doubled")
    if killed.with_name(killed.name + ".partial").exists():
        complaints.append("something was left behind")
    return complaints


if __name__ == "__main__":
    main()
