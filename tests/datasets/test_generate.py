"""Whatever happens while a set is written, it is whole and the same, or not there."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from datasets_cases import SMALL, recorded
from tensorflow_datasets.core.dataset_info import DatasetInfoFileError

from compjax import datasets
from compjax.datasets.builder import ClevrScenes, shard_name
from compjax.datasets.generate import PLAN, generate
from compjax.datasets.records import Plan
from experiments.scenes import kill_test

pytestmark = pytest.mark.multiprocess

ROOT = Path(__file__).parents[2]
EMPTY = Plan(0, 0, examples=24, height=8, width=8, shard=4)


def quiet(done, files):
    pass


def content(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def arguments(plan):
    """The options of the command for a background set."""
    return [
        "--set=background",
        f"--examples={plan.examples}",
        f"--height={plan.height}",
        f"--width={plan.width}",
        f"--shard={plan.shard}",
        "--workers=2",
    ]


def command(plan, out, before="pass"):
    """The command, after some Python."""
    script = f"{before}; import experiments.scenes.generate as it; it.main()"
    return subprocess.run(
        [sys.executable, "-c", script, *arguments(plan), f"--out={out}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        # No program is so slow to compile that it is kept: JAX would keep what it can
        # write of it, even if that is not all.
        env=os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000000"},
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A set of the plan `EMPTY`, written by one worker."""
    return generate(EMPTY, tmp_path_factory.mktemp("sets") / "whole", 1, quiet)


def test_bytes_do_not_depend_on_the_number_of_workers(whole, tmp_path):
    progress = []
    report = lambda *numbers: progress.append(numbers)
    three = generate(EMPTY, tmp_path / "three", 3, report)
    assert content(three) == content(whole)
    assert progress == [(done, 6) for done in range(7)]
    assert list(tmp_path.iterdir()) == [three]


def test_a_set_is_what_tensorflow_datasets_itself_writes(tmp_path):
    ours = generate(SMALL, tmp_path / "ours", 2, quiet)
    builder = ClevrScenes(plan=SMALL, data_dir=tmp_path)
    builder.download_and_prepare()
    theirs = Path(builder.data_dir)
    same = lambda path: ".array_record" not in path.name and path.name != PLAN
    for path in filter(same, ours.iterdir()):
        assert path.read_bytes() == (theirs / path.name).read_bytes(), path.name
    assert {p.name for p in ours.iterdir()} == {p.name for p in theirs.iterdir()} | {
        PLAN
    }
    plain = tfds.builder_from_directory(ours).as_data_source("train")
    for one, two, drawn in zip(
        plain, builder.as_data_source("train"), recorded(), strict=True
    ):
        assert str(one) == str(two) == str(drawn)
        np.testing.assert_array_equal(one["image"], two["image"])
        np.testing.assert_array_equal(one["image"], drawn["image"])


@pytest.mark.slow
def test_a_set_survives_being_killed_ten_times(tmp_path):
    import random

    options = arguments(dataclasses.replace(EMPTY, examples=320, shard=10))
    kill_test.undisturbed(options, tmp_path / "whole")
    killed, chance = tmp_path / "killed", random.Random(0)
    assert kill_test.disturbed(options, killed, 32, 10, chance) == 10
    assert kill_test.compare(tmp_path / "whole", killed, 320) == []


def test_the_comparison_of_sets_sees_what_is_wrong(whole, tmp_path):
    import shutil

    copy = lambda name: Path(shutil.copytree(whole, tmp_path / name))
    assert kill_test.compare(whole, copy("same"), 24) == []
    changed = copy("changed") / "metadata.json"
    changed.write_text(changed.read_text().replace("24", "25"))
    assert kill_test.compare(whole, changed.parent, 24) == ["differs: metadata.json"]
    (copy("more") / "more").write_text("")
    assert kill_test.compare(whole, tmp_path / "more", 24) == [
        "only in one of the sets: more"
    ]
    doubled = copy("doubled")
    shutil.copy(doubled / shard_name(EMPTY, 0), doubled / shard_name(EMPTY, 1))
    assert len(kill_test.compare(whole, doubled, 24)) == 2


def running(plan, out):
    """The command, once its first file is written."""
    process = kill_test.start(arguments(plan), out)
    partial = out.with_name(out.name + ".partial")
    while process.poll() is None and not kill_test.files(partial):
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be disturbed"
    return process, partial


def children(pid):
    return [
        int(pid) for pid in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


LONG = dataclasses.replace(EMPTY, examples=40_000, shard=4)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_workers_end_with_the_parent_and_the_parent_with_a_worker(tmp_path):
    process, partial = running(LONG, tmp_path / "out")
    workers = children(process.pid)
    assert len(workers) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlive the command"
        time.sleep(0.05)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="is not whole yet"):
        datasets.open_set(tmp_path / "out")
    for directory in (partial, tmp_path / "out"):
        with pytest.raises(DatasetInfoFileError):
            tfds.builder_from_directory(directory)

    again = subprocess.Popen(
        [sys.executable, "-m", "experiments.scenes.generate", *arguments(LONG)]
        + [f"--out={tmp_path / 'out'}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    before = kill_test.files(partial)
    while again.poll() is None and kill_test.files(partial) < before + 2:
        time.sleep(0.01)
    with pytest.raises(ValueError, match="being written by another process"):
        generate(LONG, tmp_path / "out", 1, quiet)
    os.kill(children(again.pid)[0], signal.SIGKILL)
    _, said = again.communicate()
    assert again.returncode == 2
    assert said.splitlines()[-1].startswith("error: a worker was killed by signal 9")
    assert not list(partial.glob("*.tmp"))


def test_files_that_are_cut_off_are_written_again(whole, tmp_path):
    out = tmp_path / "out"
    partial = tmp_path / "out.partial"
    partial.mkdir()
    for name, written in content(whole).items():
        if "array_record" in name or name == PLAN:
            (partial / name).write_bytes(written)
    cut = partial / shard_name(EMPTY, 2)
    cut.write_bytes(cut.read_bytes()[:1000])
    (partial / shard_name(EMPTY, 4)).unlink()
    (partial / f"{shard_name(EMPTY, 4)}.123.tmp").write_bytes(b"half")
    progress = []
    generate(EMPTY, out, 1, lambda *numbers: progress.append(numbers))
    assert progress == [(4, 6), (5, 6), (6, 6)]
    assert content(out) == content(whole)


def test_another_set_is_refused_and_left_alone(whole, tmp_path):
    other = dataclasses.replace(EMPTY, seed=1)
    before = content(whole)
    with pytest.raises(ValueError, match=r"another set \(seed: 0 there, 1 now\)"):
        generate(other, whole, 1, quiet)
    assert generate(EMPTY, whole, 1, quiet) == whole  # nothing to do
    assert content(whole) == before

    partial = tmp_path / "out.partial"
    partial.mkdir()
    for name in (PLAN, shard_name(EMPTY, 0)):
        (partial / name).write_bytes(before[name])
    held = content(partial)
    with pytest.raises(ValueError, match=r"out.partial holds another set \(seed"):
        generate(other, tmp_path / "out", 1, quiet)
    altered = before[PLAN].replace(b'"jax": "', b'"jax": "0.')
    (partial / PLAN).write_bytes(altered)
    with pytest.raises(ValueError, match=r"holds another set \(versions: "):
        generate(EMPTY, tmp_path / "out", 1, quiet)
    assert content(partial) == held | {PLAN: altered}

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    with pytest.raises(ValueError, match="holds something else"):
        generate(EMPTY, tmp_path / "mine", 1, quiet)
    assert content(tmp_path / "mine") == {"thesis.tex": b"all of it"}
    with pytest.raises(ValueError, match="workers = 0"):
        generate(EMPTY, tmp_path / "new", 0, quiet)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_that_looks_whole(whole, tmp_path):
    # Files may not grow beyond this; shards have 64 KiB at least.
    limit = "from resource import *; setrlimit(RLIMIT_FSIZE, (30_000, 30_000))"
    done = command(EMPTY, tmp_path / "out", limit)
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert "was not written" in line and "make room" in line
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial"]
    assert [path.name for path in (tmp_path / "out.partial").iterdir()] == [PLAN]
    done = command(EMPTY, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "out") == content(whole)


def test_a_device_that_is_missing_is_said_and_another_can_be_tried(whole, tmp_path):
    plan = dataclasses.replace(EMPTY, platform="abacus")
    with pytest.raises(OSError, match="platform = 'abacus': JAX finds no such device"):
        generate(plan, tmp_path / "out", 1, quiet)
    assert content(generate(EMPTY, tmp_path / "out", 1, quiet)) == content(whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set=all"], "invalid choice: 'all'"),
        (["--set=single", "--examples=0"], "examples = 0: give at least 1."),
        (["--set=single", "--size=3"], "unrecognized arguments: --size=3"),
        (["--set=single", "--workers=0"], "workers = 0: give at least 1."),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(options, message, tmp_path, capsys):
    from experiments.scenes import generate as script

    with pytest.raises(SystemExit) as ended:
        script.main([*options, f"--out={tmp_path / 'out'}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and message in said
    assert not list(tmp_path.iterdir())
