"""Checkpoints: nothing is lost, nothing damaged is used, nothing starts anew."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax.training.checkpoint import Checkpoints, restore
from compjax.training.record import position

# Threads of tensorstore report to an event loop that orbax has closed after an error.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def state_of(step):
    """A state with every kind of leaf, no two steps alike."""
    return {
        "params": {"w": jnp.arange(6.0).reshape(2, 3) + step, "b": jnp.ones(4) / step},
        "key": jax.random.key(step),
        "step": jnp.int32(step),
    }


class Counter:
    """The least that is an iterator with a position."""

    def __init__(self, n=0):
        self.n = n

    def get_state(self):
        return {"next": self.n}

    def set_state(self, state):
        self.n = state["next"]


def saved(directory, *steps, **kwargs):
    """Writes checkpoints of these steps."""
    with Checkpoints(directory, **kwargs) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), Counter(10 * step))
        checkpoints.wait()
        return checkpoints.steps


def assert_is_step(found, step):
    assert found[0] == step
    assert jax.tree.structure(found[1]) == jax.tree.structure(state_of(step))
    pairs = zip(jax.tree.leaves(found[1]), jax.tree.leaves(state_of(step)), strict=True)
    for a, b in pairs:
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_what_is_saved_is_restored_with_the_position_of_the_data(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [] and checkpoints.restore(state_of(1)) is None
        checkpoints.save(3, state_of(3), Counter(7))
        data = Counter()
        assert_is_step(checkpoints.restore(state_of(1), data), 3)
        assert data.n == 7
        for step in (2, 3):
            with pytest.raises(ValueError, match=f"at step 3, so step {step} cannot"):
                checkpoints.save(step, state_of(step))
    like = jax.eval_shape(lambda: state_of(1))  # shapes without shardings will do
    assert_is_step((3, restore(tmp_path, like)), 3)


def test_what_is_saved_survives_the_donation_of_its_buffers(tmp_path):
    x = jnp.arange(1000.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, x)
        jax.jit(lambda x: x + 1, donate_argnums=0)(x)
        np.testing.assert_array_equal(checkpoints.restore(x)[1], np.arange(1000.0))


def test_the_last_ones_and_the_milestones_are_kept(tmp_path):
    steps = (1, 2, 3, 4, 5, 6, 7)
    assert saved(tmp_path / "a", *steps, keep=2, milestone_every=3) == [3, 6, 7]
    assert saved(tmp_path / "b", *steps, keep=1) == [7]


@pytest.mark.parametrize("before,after", [((4,), (2,)), ((2, 2), (1,)), ((1,), (4,))])
def test_it_restores_onto_another_number_of_devices(tmp_path, before, after):
    x = jnp.arange(32.0).reshape(8, 4)

    def layout(shape):
        auto = (jax.sharding.AxisType.Auto,) * len(shape)
        devices = jax.devices()[: np.prod(shape)]
        mesh = jax.make_mesh(shape, ("a", "b")[: len(shape)], auto, devices=devices)
        return jax.NamedSharding(mesh, jax.P(*mesh.axis_names))

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"x": jax.device_put(x, layout(before))})
        like = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout(after))
        _, state = checkpoints.restore({"x": like})
    assert state["x"].sharding == layout(after)
    np.testing.assert_array_equal(state["x"], x)


# ---------------------------------------------------------------- damage


def files(directory):
    return sorted(p for p in directory.rglob("*") if p.is_file())


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


def removed(path):
    path.unlink()


def altered(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncated, emptied, removed, altered])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, harm, capfd):
    """Whichever file is harmed, the state is right, and a change of step is said."""
    source = tmp_path / "source"
    saved(source, 2, 4)
    for n, file in enumerate(files(source / "4")):
        copy = tmp_path / str(n)
        shutil.copytree(source, copy)
        harm(copy / file.relative_to(source))
        capfd.readouterr()
        with Checkpoints(copy) as checkpoints:
            data = Counter()
            step, state = checkpoints.restore(state_of(1), data)
            assert_is_step((step, state), step)
            assert data.n == 10 * step
            shown = capfd.readouterr().err
            if step == 4:  # orbax can do without this file
                assert "WARNING" not in shown
                continue
            assert re.search(r"WARNING: the checkpoint of step 4 is damaged \(", shown)
            assert "step 2 is used in its place" in shown
            assert (copy / "damaged" / "4").is_dir()
            assert checkpoints.steps == [2]
            checkpoints.save(4, state_of(4))  # that step can be made again
        assert sorted(p.name for p in copy.iterdir()) == ["2", "4", "damaged"]
        with Checkpoints(copy) as checkpoints:
            assert_is_step(checkpoints.restore(state_of(1)), 4)


def test_numbers_that_orbax_reads_without_complaint_are_damage(tmp_path):
    """A checkpoint of other numbers in the place of the right ones."""
    saved(tmp_path, 2, 4)
    saved(tmp_path / "other", 5)
    (tmp_path / "4" / "state").rename(tmp_path / "old")
    (tmp_path / "other" / "5" / "state").rename(tmp_path / "4" / "state")
    with Checkpoints(tmp_path) as checkpoints:
        assert_is_step(checkpoints.restore(state_of(1)), 2)


def test_where_all_are_damaged_nothing_starts_anew(tmp_path, capfd):
    saved(tmp_path, 2, 4)
    for step in ("2", "4"):
        for file in files(tmp_path / step / "state"):
            truncated(file)
    for _ in range(2):  # a second attempt finds what the first one found
        with Checkpoints(tmp_path) as checkpoints:
            with pytest.raises(ValueError, match=r"No checkpoint .* read \(step 4:"):
                checkpoints.restore(state_of(1))
            assert checkpoints.steps == [2, 4]
    with pytest.raises(ValueError, match="put back a copy of it, or give another work"):
        restore(tmp_path, state_of(1))


def test_reading_for_inference_leaves_a_damaged_one_where_it_is(tmp_path, capfd):
    saved(tmp_path, 2, 4)
    truncated(tmp_path / "4" / "state" / "manifest.ocdbt")
    assert_is_step((2, restore(tmp_path, state_of(1))), 2)
    assert "WARNING: the checkpoint of step 4" in capfd.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "4"]


def test_a_step_that_is_asked_for_is_read_or_refused(tmp_path):
    saved(tmp_path, 2, 4, 6, keep=3)
    assert_is_step((4, restore(tmp_path, state_of(1), step=4)), 4)
    with pytest.raises(ValueError, match=r"of step 5: choose one of \[2, 4, 6\]"):
        restore(tmp_path, state_of(1), step=5)
    truncated(tmp_path / "4" / "state" / "manifest.ocdbt")
    with pytest.raises(ValueError, match=r"can be read \(step 4:"):
        restore(tmp_path, state_of(1), step=4)


def test_another_network_is_an_error_and_not_damage(tmp_path):
    saved(tmp_path, 2)
    like = state_of(1)
    like["params"]["w"] = jnp.zeros((3, 3))
    with Checkpoints(tmp_path) as checkpoints:
        wrong = r"\['w'\] is float32\[2, 3\] there and float32\[3, 3\] here \(1 arrays"
        with pytest.raises(ValueError, match=wrong):
            checkpoints.restore(like)
        del like["params"]["w"]
        with pytest.raises(ValueError, match="absent here"):
            checkpoints.restore(like)
        assert checkpoints.steps == [2]


def test_a_position_of_other_processes_is_refused_unless_they_agree(tmp_path):
    assert position({"positions": ['{"n": 3}'] * 2}, tmp_path) == {"n": 3}
    with pytest.raises(ValueError, match="positions of 2 processes, and now there are"):
        position({"positions": ['{"n": 3}', '{"n": 4}']}, tmp_path)


@pytest.mark.parametrize("kwargs", [{"keep": 0}, {"milestone_every": 0}])
def test_wrong_numbers_are_refused_before_anything_is_made(tmp_path, kwargs):
    with pytest.raises(ValueError, match="must be at least 1"):
        Checkpoints(tmp_path / "new", **kwargs)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_no_checkpoint_is_an_error_that_names_the_directory(tmp_path, exists):
    directory = tmp_path if exists else tmp_path / "absent"
    with pytest.raises(ValueError, match=f"{directory} holds no checkpoint; train"):
        restore(directory, {})
    assert directory.exists() == exists


# ---------------------------------------------------------------- no room, no time

FULL = """
import resource, signal, sys
import jax.numpy as jnp
from compjax.training.checkpoint import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
x = jnp.sin(jnp.arange(100_000.0))
def save_at_limit(checkpoints, limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    checkpoints.save(2, x)
for limit in (0, 1_000, 100_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    for attempt in ("wait", "close", "save"):
        try:
            with Checkpoints(sys.argv[1]) as checkpoints:
                if not checkpoints.steps:
                    checkpoints.save(1, x)
                    checkpoints.wait()
                save_at_limit(checkpoints, limit)
                if attempt == "wait": checkpoints.wait()
                if attempt == "save": checkpoints.save(3, x)
        except OSError as error:
            print(error)
        else:
            print("nothing was said")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
with Checkpoints(sys.argv[1]) as checkpoints:
    step, y = checkpoints.restore(x)
    print(step, checkpoints.steps, bool((x == y).all()))
"""


@pytest.mark.multiprocess
def test_a_full_disk_is_said_and_the_one_before_remains(tmp_path):
    out = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path], capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    *errors, last = out.stdout.splitlines()
    assert last == "1 [1] True"
    assert len(errors) == 9
    for error in errors:
        assert error.startswith(f"Step 2 could not be saved in {tmp_path} (")
        assert "File too large" in error and error.endswith("goes on from step 1.")


KILLED = """
import os, signal, sys, threading, time
import jax.numpy as jnp
from compjax.training.checkpoint import Checkpoints
x = jnp.sin(jnp.arange(300_000.0))
with Checkpoints(sys.argv[1]) as checkpoints:
    found = checkpoints.restore(x)
    start = 0 if found is None else found[0]
    assert found is None or bool((found[1] == x + start).all())
    print(start, flush=True)
    delay = float(sys.argv[2])
    for step in range(start + 1, start + 4):
        if step == start + 3:
            checkpoints.wait()
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
        checkpoints.save(step, x + step)
time.sleep(60)
"""


@pytest.mark.multiprocess
def test_a_save_that_is_killed_leaves_nothing_that_looks_whole(tmp_path):
    """Each start finds a right state, and that no older than what was whole before."""
    starts = []
    for delay in (0.0, 0.01, 0.03):
        out = subprocess.run(
            [sys.executable, "-c", KILLED, tmp_path, str(delay)],
            capture_output=True,
            text=True,
        )
        assert out.returncode == -9, out.stderr
        assert "WARNING" not in out.stderr
        starts.append(int(out.stdout))
    assert starts[0] == 0
    assert all(b - a in (2, 3) for a, b in itertools.pairwise(starts)), starts


def test_an_error_in_training_is_not_hidden_by_one_in_saving(tmp_path, monkeypatch):
    with pytest.raises(ZeroDivisionError):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, state_of(1))

            class Failed:
                def result(self):
                    raise ValueError("no space left")

            checkpoints._under_way = (1, Failed())
            raise ZeroDivisionError


def test_the_record_is_plain_json(tmp_path):
    saved(tmp_path, 2)
    record = json.loads((tmp_path / "2" / "_CHECKPOINT_METADATA").read_text())
    record = record["custom_metadata"]
    assert record["positions"] == ['{"next": 20}']
    assert record["arrays"]["['step']"][0] == "int32[]"
