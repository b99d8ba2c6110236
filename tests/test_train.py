"""The command that trains: configurations, errors, and one small run."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from compjax import networks, training
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


def local(label, tile=8, reach=4, condition_reach=4):
    config = laptop.get_config()
    config.data.set, config.data.label = "counts_one", label
    config.network.patch, config.network.channel_mult = 4, (1,)
    config.network.local.tile, config.network.local.reach = tile, reach
    config.network.local.condition_reach = condition_reach
    return train.with_preset(config)


@pytest.mark.parametrize(
    ("label", "tile", "reach", "condition_reach", "channels"),
    [
        ("locations_of_one", 8, 4, 4, 2 + 3),
        ("locations_of_some", 16, 8, 0, 2 + 3),
        ("bumps_of_all", 8, 0, 0, 2 + 3),
        ("locations_of_all", 8, None, 4, 2 + 3),
        ("locations_of_one", 8, 4, None, 16 * 16 * 2 + 3),
        ("locations_of_one", 8, None, None, 16 * 16 * 2 + 3),
    ],
)
def test_windows_fit_every_label_that_is_an_image(
    label, tile, reach, condition_reach, channels
):
    config = local(label, tile, reach, condition_reach)
    run = train.build(config)
    assert isinstance(run.module, networks.Local)
    assert run.module.net.condition_channels == channels
    x0, condition = jax.eval_shape(run.stream, jax.random.key(0))
    make = lambda key, x, c: run.module.init_with_output(key, x, 1.0, c)
    out, _ = jax.eval_shape(make, jax.random.key(0), x0, condition)
    assert out.shape == x0.shape and train.flops(config, run) > 0
    # Trained on its own, one window of the network is an image of its own.
    assert run.module.net.image == (
        (32 if reach is None else tile + 2 * reach),
    ) * 2 + (3,)


@pytest.mark.parametrize("label", ["vector_of_one", "vector_of_some", "vector_of_all"])
def test_vectors_are_for_global_networks(label):
    run = train.build(local(label, None, None, None))
    assert (run.module.label_dim, run.module.condition_channels) == (257, 0)
    with pytest.raises(ValueError, match=r"local.tile = 8 needs a label that is a"):
        train.build(local(label))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tile": 12}, "tile = 12 does not divide images of side 32"),
        ({"tile": None}, "give a tile"),
        ({"reach": 5}, r"\(18, 18, 3\): their height and width must be multiples"),
        ({"condition_reach": 8}, "condition_reach = 8 lies outside of the crops"),
        ({"tile": -8}, "tile = -8"),
        ({"reach": -1}, "reach"),
    ],
)
def test_windows_that_do_not_fit_are_told(changes, message):
    with pytest.raises(ValueError, match=r"config.network.local.*" + message):
        train.build(local("locations_of_one", **changes))


def test_cells_that_are_no_whole_pixels_are_told():
    config = local("locations_of_one")
    config.data.size = 24
    with pytest.raises(ValueError, match="size = 24 is no multiple of the label's 16"):
        train.build(config)


def test_a_run_from_before_there_were_windows_is_one_without():
    """Weights of older runs are exported from their own config.json."""
    config = train.with_preset(laptop.get_config())
    with config.unlocked():
        del config.network.local
    assert isinstance(train.build(config).module, networks.UNet)


@pytest.mark.slow
def test_a_local_network_trains_and_is_sampled(tmp_path):
    config = local("locations_of_one")
    config.data.size, config.data.batch = 16, 4
    config.network.channels = 4
    config.train.steps, config.train.snapshot_every = 1, 0
    config.sample.images, config.sample.steps = 2, 2
    train.main(config, tmp_path)
    assert "samples/std" in training.read_metrics(tmp_path)[-1]


def test_an_error_of_the_disk_is_said_in_words():
    full = OSError(28, "No space left on device", "metrics.jsonl")
    assert launch.explain(full) == "[Errno 28] No space left on device: 'metrics.jsonl'"
