import signal

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_task as task

from compjax.training import HostBatches, LastUpdates, make_mesh, read_metrics, train


def run(workdir, steps, batch=None, **options):
    return train(
        jax.random.key(0),
        task.module,
        task.optimizer,
        batch or task.batch,
        task.law,
        steps=steps,
        workdir=workdir,
        save_every=2,
        log_every=1,
        **options,
    )


def test_interrupted_run_ends_where_the_uninterrupted_one_does(tmp_path, capfd):
    whole = run(tmp_path / "whole", 6)
    half = run(tmp_path / "parts", 3)
    assert int(half.step) == 3
    resumed = run(tmp_path / "parts", 6)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    lines = read_metrics(tmp_path / "whole")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines == read_metrics(tmp_path / "parts")
    shown = capfd.readouterr().err
    assert f"no checkpoint in {tmp_path / 'parts'}" in shown
    assert f"resuming from step 3 in {tmp_path / 'parts'}" in shown


def test_finished_run_returns_its_state_without_training(tmp_path, monkeypatch):
    first = run(tmp_path, 2)

    def forbidden(state, key, batch):
        raise AssertionError("a finished run was trained")

    monkeypatch.setattr(
        "compjax.training.loop.make_train_step", lambda *args, **options: forbidden
    )
    jax.tree.map(np.testing.assert_array_equal, first, run(tmp_path, 2))
    with pytest.raises(AssertionError, match="was trained"):
        run(tmp_path, 3)
    with pytest.raises(ValueError, match="at step 2, beyond steps = 1"):
        run(tmp_path, 1)


def test_diverged_run_stops_and_keeps_its_last_good_checkpoint(tmp_path):
    good = run(tmp_path, 2)

    def poisoned(key):
        x0, condition = task.batch(key)
        return jnp.nan * x0, condition

    with pytest.raises(FloatingPointError, match="nan at step 3"):
        run(tmp_path, 6, poisoned)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["2"]
    jax.tree.map(np.testing.assert_array_equal, good, run(tmp_path, 2))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]


def test_parameter_that_is_not_finite_stops_the_run(tmp_path):
    """The update breaks what the loss of the same step has not seen yet."""
    breaking = optax.chain(
        task.optimizer,
        optax.stateless(lambda updates, _: jax.tree.map(lambda u: u / 0, updates)),
    )
    with pytest.raises(FloatingPointError, match="not finite after step 1"):
        train(
            jax.random.key(0),
            task.module,
            breaking,
            task.batch,
            task.law,
            steps=4,
            workdir=tmp_path,
            save_every=1,
        )
    assert not list((tmp_path / "checkpoints").iterdir())


def test_sigterm_saves_and_the_run_goes_on_as_if_nothing_had_been(tmp_path, capfd):
    def terminate(step, state):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
        yield "seen", step

    options = {"evaluators": [terminate], "evaluate_every": 3}
    half = run(tmp_path / "parts", 7, **options)
    assert int(half.step) == 4  # the wish is granted after the step that follows
    assert "SIGTERM: saving step 4" in capfd.readouterr().err
    resumed = run(tmp_path / "parts", 7, **options)
    whole = run(tmp_path / "whole", 7)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    seen = [line for line in read_metrics(tmp_path / "parts") if "seen" in line]
    assert [line["step"] for line in seen] == [3, 6, 7]


def centre(key, rows):
    return rows - jnp.float32(1.5), None


def host_batches():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(40, 4)).astype(np.float32)
    source = grain.MapDataset.source(rows).seed(1).shuffle().repeat().batch(8)
    batches = iter(source.map(lambda row: (row,)).to_iter_dataset())
    return HostBatches(batches, centre, make_mesh(8))


def test_batches_that_the_host_reads_go_on_where_they_were(tmp_path):
    whole = run(tmp_path / "whole", 9, host_batches())
    run(tmp_path / "parts", 4, host_batches())
    resumed = run(tmp_path / "parts", 9, host_batches())
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    other = run(tmp_path / "other", 9)
    assert float(other.params["scale"]) != float(whole.params["scale"])


def test_what_is_no_data_is_refused():
    with pytest.raises(ValueError, match="iterator of such, got 3"):
        run("nowhere", 2, 3)


def test_milestones_are_saved_and_kept_whatever_else_is(tmp_path):
    run(tmp_path, 11, keep=1, milestone_every=3)  # beside save_every = 2
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert kept == [3, 6, 9, 11]


def test_snapshots_without_a_profile_are_refused_at_once():
    with pytest.raises(ValueError, match="snapshot_every = 2 saves averages by Power"):
        run("nowhere", 4, averages=[LastUpdates(2, 4)], snapshot_every=2)
