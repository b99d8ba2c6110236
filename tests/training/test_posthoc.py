import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.training.averaging import PowerFunction, std_to_exp, update_average
from compjax.training.mesh import make_mesh, over_batch
from compjax.training.posthoc import (
    reconstruct,
    reconstruction_weights,
    save_snapshot,
    snapshots,
)

STDS = (0.05, 0.1)


def profile(std, steps):
    """How much each of the updates counts: the integral of t^gamma over it."""
    return np.diff((np.arange(steps + 1) / steps) ** (std_to_exp(std) + 1))


@pytest.fixture(scope="module")
def trajectory():
    """64 parameters that walk at random for 4000 updates, of order 1 at the end."""
    steps = np.random.default_rng(0).normal(size=(4000, 64))
    return steps.cumsum(0) / 4000**0.5


@pytest.mark.parametrize("std", [0.07, 0.13, 0.2])
def test_reconstruction_is_the_average_that_was_not_kept(trajectory, std):
    end = len(trajectory)
    exact = profile(std, end) @ trajectory
    errors = []
    for number in (4, 16, 64):
        times = [end * (i + 1) // number for i in range(number) for _ in STDS]
        kept = list(STDS) * number
        weights = reconstruction_weights(times, kept, end, std)
        assert weights.sum() == pytest.approx(1)
        pairs = zip(kept, times, strict=True)
        inputs = [profile(s, t) @ trajectory[:t] for s, t in pairs]
        errors.append(np.sqrt(np.mean((weights @ inputs - exact) ** 2)))
    # The figures that were seen at 64: 2e-6 for 0.07 and 0.13, 5e-5 for 0.2, which is
    # wider than both averages that were kept.
    assert errors[-1] < 1e-4
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


@given(st.integers(1, 5), st.sampled_from(STDS), st.floats(0.1, 10))
def test_what_was_kept_is_reconstructed_from_itself(number, std, unit):
    times = [unit * (i + 1) for i in range(number) for _ in STDS]
    kept = list(STDS) * number
    weights = reconstruction_weights(times, kept, times[-1], std)
    expected = np.zeros(2 * number)
    expected[-2 + STDS.index(std)] = 1
    # The system is solved in float64; its condition number stays below 1e6.
    np.testing.assert_allclose(weights, expected, atol=1e-8)


@pytest.fixture(scope="module")
def kept(tmp_path_factory, trajectory):
    """Snapshots of a run, as training makes them: in float32, one update at a time."""
    directory = tmp_path_factory.mktemp("snapshots")
    mesh = make_mesh(batch=4)

    def tree(params):
        split = jax.device_put(params.astype(np.float32), over_batch(mesh))
        return {"layer": {"weight": split}, "gain": jnp.float32(params[0])}

    kinds, run = [PowerFunction(std) for std in STDS], trajectory[:80]
    averages = [tree(run[0]) for _ in kinds]
    for step, params in enumerate(run, start=1):
        averages = [
            update_average(average, tree(params), kind.share(step))
            for average, kind in zip(averages, kinds, strict=True)
        ]
        if step % 10 == 0:
            save_snapshot(directory, step, dict(zip(STDS, averages, strict=True)))
    return directory


@pytest.mark.parametrize("end", [40, 80])
def test_snapshots_of_a_run_give_its_other_averages(kept, trajectory, end):
    assert snapshots(kept) == [10, 20, 30, 40, 50, 60, 70, 80]
    params = reconstruct(kept, 0.08, end)
    exact = profile(0.08, end) @ trajectory[:end]
    error = np.abs(params["layer"]["weight"] - exact).max()
    # Eight or four snapshots of a walk of this length: entries of 0.15, found to 1 %.
    assert error < 0.01 * np.abs(exact).max()
    assert params["gain"] == params["layer"]["weight"][0]
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(params))


def test_last_snapshot_is_the_default(kept):
    last, default = reconstruct(kept, 0.08, 80), reconstruct(kept, 0.08)
    jax.tree.map(np.testing.assert_array_equal, last, default)


def test_what_is_half_written_is_no_snapshot_and_what_is_there_stays(tmp_path):
    tree = {"w": jnp.ones(3)}
    save_snapshot(tmp_path, 10, {0.1: tree})
    (tmp_path / "0000000020.orbax-checkpoint-tmp").mkdir()
    assert snapshots(tmp_path) == [10]
    save_snapshot(tmp_path, 10, {0.1: {"w": jnp.zeros(3)}})
    np.testing.assert_allclose(reconstruct(tmp_path, 0.1)["w"], 1, rtol=1e-6)


def test_errors_say_what_there_is(kept, tmp_path):
    with pytest.raises(ValueError, match="holds no snapshots"):
        reconstruct(tmp_path / "nothing", 0.1)
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(ValueError, match=r"of step 15 .* there are \[10, 20"):
        reconstruct(kept, 0.1, 15)
    with pytest.raises(ValueError, match=r"got 0\.3"):
        reconstruct(kept, 0.3)
    for step, size in ((10, 3), (20, 1)):  # which would broadcast
        save_snapshot(tmp_path, step, {0.1: {"w": jnp.ones(size)}})
    assert reconstruct(tmp_path, 0.1, 10)["w"].shape == (3,)
    with pytest.raises(ValueError, match="different networks"):
        reconstruct(tmp_path, 0.1)
    with pytest.raises(ValueError, match="got step 0 and 1 averages"):
        save_snapshot(tmp_path, 0, {0.1: {}})
    with pytest.raises(ValueError, match="got step 5 and 0 averages"):
        save_snapshot(tmp_path, 5, {})
    with pytest.raises(ValueError, match=r"got 0\.5"):
        save_snapshot(tmp_path, 5, {0.5: {}})
    with pytest.raises(ValueError, match="positive"):
        reconstruction_weights([0, 1], STDS, 1, 0.1)


def largest(snapshot):
    """The file that holds the arrays of a snapshot."""
    files = [path for path in snapshot.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: flip(largest(place)),
        lambda place: largest(place).unlink(),
        lambda place: [file.unlink() for file in place.glob("*") if file.is_file()],
    ],
    ids=["flipped bit", "no arrays", "no metadata"],
)
def test_a_damaged_snapshot_is_named_and_not_used(tmp_path, harm):
    noise = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for step in (10, 20):
        save_snapshot(tmp_path, step, {0.1: {"w": noise}})
    harm(tmp_path / "0000000010")
    with pytest.raises(ValueError, match=r"snapshot .*0000000010 is damaged .*: put"):
        reconstruct(tmp_path, 0.1)
    shutil.rmtree(tmp_path / "0000000010")  # the remedy that is told
    np.testing.assert_allclose(reconstruct(tmp_path, 0.1)["w"], noise, rtol=1e-6)


def test_an_entry_that_changed_is_found_though_the_file_is_well_formed(tmp_path):
    for directory, w in (("a", 1.0), ("b", 1.5)):
        save_snapshot(tmp_path / directory, 10, {0.1: {"w": np.full(3, w)}})
    a, b = (tmp_path / name / "0000000010" for name in "ab")
    shutil.rmtree(a / "state")
    shutil.copytree(b / "state", a / "state")
    with pytest.raises(ValueError, match=r"\['w'\] is not what was saved"):
        reconstruct(tmp_path / "a", 0.1)


def test_a_snapshot_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"snapshot of step 10 could not .* start"):
        save_snapshot(tmp_path / "file" / "snapshots", 10, {0.1: {"w": np.ones(3)}})
