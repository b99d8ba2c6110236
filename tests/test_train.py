"""The command that trains: configurations, errors, and one small run."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from compjax import training
from configs.train import bradley, default, laptop, one_gpu
from experiments import launch, train

CONFIGS = [default, laptop, one_gpu, bradley]


def small() -> ConfigDict:
    config = laptop.get_config()
    config.data.set = "background"
    config.data.size, config.data.batch = 8, 4
    config.network.channels, config.network.num_blocks = 4, 0
    config.train.steps = 4
    config.train.save_every = config.train.snapshot_every = 2
    config.train.evaluate_every = 2
    config.sample.images, config.sample.steps = 4, 2
    return config


@pytest.mark.parametrize("module", CONFIGS, ids=lambda module: module.__name__)
def test_every_configuration_is_a_run(module):
    config = train.with_preset(module.get_config())
    run = train.build(config)
    x0, condition = jax.eval_shape(run.stream, jax.random.key(0))
    start = lambda key: training.init_state(
        key, run.module, run.optimizer, (x0, condition), len(run.averages)
    )
    state = jax.eval_shape(start, jax.random.key(0))
    assert len(state.averages) == len(run.averages)
    assert train.flops(config, run) > 0


def test_the_papers_run_is_edm2_xs_for_as_long():
    config = train.with_preset(bradley.get_config())
    assert config.train.steps * config.data.batch == 128 * 2**20
    run = train.build(config)
    assert run.averages[0] == training.LastUpdates(4096, 65_536)
    assert run.module.image == (128, 128, 3) and run.module.channels == 128
    # EDM2's count for 128 x 128 is 174.52e9 multiply-adds; a label adds a little.
    image = 174.52e9 * 6
    assert train.flops(config, run) == pytest.approx(2048 * image, rel=1e-3)


def test_a_run_writes_what_a_user_looks_at_and_goes_on(tmp_path, capsys):
    config = small()
    train.main(config, tmp_path / "whole")
    assert "finished" in capsys.readouterr().out
    folder = tmp_path / "whole"
    assert (folder / "figures" / "samples_0000004.png").stat().st_size > 1000
    assert (folder / "config.json").exists() and (folder / "results.json").exists()
    lines = training.read_metrics(folder)
    names = set().union(*lines)
    assert {"loss", "error/sigma=0.2", "samples/std", "nonfinite_gradients"} <= names
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert training.posthoc.snapshots(folder / "snapshots") == [2, 4]
    other = small()
    other.train.decay = 5
    with pytest.raises(ValueError, match=r"another .*train.decay: 1000 there, 5"):
        train.main(other, folder)
    config.train.steps = 5
    train.main(config, folder)
    assert training.read_metrics(folder)[-1]["step"] == 5
    config.train.steps = 3
    with pytest.raises(ValueError, match="at step 5, beyond steps = 3"):
        train.main(config, folder)


@pytest.mark.parametrize(
    ("section", "field", "value", "message"),
    [
        ("data", "set", "triple", "config.data.set is 'triple'; choose one of back"),
        ("data", "label", "shape", "config.data.label is 'shape'; choose one of loc"),
        ("data", "files", "nowhere", "nowhere holds no set"),
        ("data", "size", 4, "config.data.size must be at least 8, got 4"),
        ("network", "dtype", "float16", "choose one of float32, bfloat16"),
        ("network", "preset", "img64-tiny", "img64-tiny'; choose one of img512-xxs"),
        ("network", "dropout", 1.5, "dropout must lie in"),
        ("train", "average_last", 9, "average_last = 9 is more than the 4 steps"),
        ("train", "average_stds", (), "snapshot_every = 2 needs"),
        ("train", "normalization", "never", "choose one of after, before"),
        ("train", "steps", 0, "config.train.steps must be at least 1, got 0"),
        ("mesh", "fsdp", 3, "fsdp = 3 does not divide"),
    ],
)
def test_wrong_fields_are_named_before_anything_is_written(
    tmp_path, section, field, value, message
):
    config = small()
    with config.unlocked():
        config[section][field] = value
    with pytest.raises(ValueError, match=message):
        train.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_average_is_refused():
    config = small()
    config.train.average_stds, config.train.snapshot_every = (), 0
    with pytest.raises(ValueError, match="average_last or average_stds"):
        train.build(train.with_preset(config))


def test_numbers_that_are_not_given_are_the_presets():
    config = default.get_config()
    config.network.preset = "img64-m"
    config.network.channels = 8
    config = train.with_preset(config)
    assert (config.train.learning_rate, config.train.noise_std) == (0.009, 1.6)
    module = train.build(config).module
    assert (module.channels, module.dropout, module.num_blocks) == (8, 0.1, 3)


def test_another_layout_may_resume_a_run(tmp_path, capsys):
    config = small()
    config.mesh.fsdp = 2
    train.main(config, tmp_path)
    config.mesh.fsdp, config.train.keep = 1, 3
    train.main(config, tmp_path)
    assert "finished" in capsys.readouterr().out


@pytest.mark.parametrize("name", train.SETS)
def test_every_set_of_the_papers_fits_its_network(name):
    config = default.get_config()
    config.data.set = name
    run = train.build(train.with_preset(config))
    x0, condition = jax.eval_shape(run.stream, jax.random.key(0))
    start = lambda key, x0, condition: run.module.init(key, x0, 1.0, condition)
    params = jax.eval_shape(start, jax.random.key(0), x0, condition)["params"]
    told = (run.module.label_dim, run.module.condition_channels)
    assert told == ((0, 2) if condition.ndim == 4 else (condition.shape[1], 0))
    assert ("emb_label" in params) == (condition.ndim == 2)


def test_an_error_of_the_disk_is_said_in_words():
    full = OSError(28, "No space left on device", "metrics.jsonl")
    assert launch.explain(full) == "[Errno 28] No space left on device: 'metrics.jsonl'"
