"""`experiments.export` takes the weights that the run ended with."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest

from compjax import training
from compjax.training.posthoc import reconstruct, save_snapshot
from configs.train import laptop
from experiments import train
from experiments.export import begun, export_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The files of a run of four updates, the numbers of which are made up."""
    config = laptop.get_config()
    config.data.set = "background"
    config.data.size, config.data.batch = 8, 2
    config.network.channels, config.network.num_blocks = 4, 0
    config.train.steps, config.train.average_stds = 4, (0.1, 0.05)
    workdir = tmp_path_factory.mktemp("run")
    training.open_workdir(workdir, config.to_dict())
    parts = train.build(config)
    example = jax.eval_shape(parts.stream, jax.random.key(0))
    state = jax.jit(
        lambda key: training.init_state(key, parts.module, parts.optimizer, example, 2)
    )(jax.random.key(0))
    with training.Checkpoints(workdir / "checkpoints") as checkpoints:
        for step in (2, 4):
            averages = tuple(
                moved(tree, step + n / 8) for n, tree in enumerate(state.averages)
            )
            now = dataclasses.replace(state, step=state.step + step, averages=averages)
            checkpoints.save(step, now)
            widths = dict(zip((0.1, 0.05), averages, strict=True))
            save_snapshot(workdir / "snapshots", step, widths)
    return workdir, parts.module, now


def moved(tree, distance):
    return jax.tree.map(lambda leaf: leaf + distance, tree)


def assert_same(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, jax.tree.map(np.asarray, other))


def test_the_first_average_of_the_newest_checkpoint_is_exported(run, tmp_path):
    workdir, module, state = run
    assert export_run(workdir, tmp_path / "out") == 4
    network = training.load(tmp_path / "out")
    assert network.module == module
    assert_same(network.params, state.averages[0])


def test_another_step_and_another_average(run, tmp_path):
    workdir, _, state = run
    assert export_run(workdir, tmp_path / "two", step=2) == 2
    loaded = training.load(tmp_path / "two").params
    expected = moved(state.averages[0], -2)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), loaded, expected)
    assert export_run(workdir, tmp_path / "std", std=0.07) == 4
    loaded = training.load(tmp_path / "std").params
    assert_same(loaded, reconstruct(workdir / "snapshots", 0.07))


def test_mistakes_are_one_line(run, tmp_path):
    workdir = run[0]
    with pytest.raises(ValueError, match=r"holds no run \(config.json is missing\)"):
        export_run(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match=r"of step 3: choose one of \[2, 4\]"):
        export_run(workdir, tmp_path / "out", step=3)
    with pytest.raises(ValueError, match="No snapshot of step 3"):
        export_run(workdir, tmp_path / "out", step=3, std=0.1)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file is there already"):
        export_run(workdir, tmp_path / "file")


def test_a_mean_that_has_not_begun_is_not_exported(capsys):
    mean, power = training.LastUpdates(3, until=10), training.PowerFunction(0.1)
    assert begun((power,), 1) == begun((power, mean), 5) == 0
    assert begun((mean, power), 9) == begun((mean, power), 10) == begun((mean,), 9) == 0
    assert begun((training.LastUpdates(1, until=10),), 10) == 0
    assert not capsys.readouterr().err
    for step in (1, 7, 8):  # at 8 it is of one update: the parameters as they are
        told = f"at step {step} the mean of updates 8 to 10 is no average"
        if step > 1:
            assert begun((mean, power), step) == 1
            shown = capsys.readouterr().err
            assert shown == f"{told}: PowerFunction(std=0.1) is exported instead\n"
        with pytest.raises(ValueError, match=rf"{told}: choose a later --step, or"):
            begun((mean,), step)
