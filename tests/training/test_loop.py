import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_task as task

from compjax.training import read_metrics, train


def run(workdir, steps, batch=None):
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
    assert shown.startswith("initialising the parameters ...\ncompiling the train step")
    assert f"resuming from step 3 in {tmp_path / 'parts'}" in shown


def test_finished_run_returns_its_state_without_training(tmp_path):
    first = run(tmp_path, 2)

    def forbidden(key):
        if isinstance(key, jax.core.Tracer) and forbidden.armed:
            raise AssertionError("the batch function was traced again")
        return task.batch(key)

    forbidden.armed = False
    again = run(tmp_path, 2, forbidden)
    jax.tree.map(np.testing.assert_array_equal, first, again)
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
