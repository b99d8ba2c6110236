"""The CLEVR experiment: its algebra, its places, its scales, and a tiny run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax import analysis, datasets, networks, scenes
from configs.projective import clevr_laptop, clevr_one_gpu, clevr_paper
from configs.train import bradley
from experiments import models, train
from experiments.projective import clevr, colors, places, windows

pytestmark = pytest.mark.slow


def tiny():
    config = clevr_laptop.get_config()
    config.common.data.size, config.common.data.batch = 16, 2
    config.common.network.channels = 4
    config.common.train.steps = config.models.background.train.steps = 1
    config.common.train.evaluate_every = 1
    config.common.sample.images = config.common.sample.steps = 2
    config.sample.images = config.sample.steps = 2
    return config


@pytest.fixture(scope="module")
def requests():
    config = tiny()
    stream = datasets.Stream(
        datasets.Recipe(1, 1, datasets.bumps_of_one, 0),
        (16, 16),
        1,
        draw=datasets.streams.sample_plain,
        jitter=0.0,
    )
    return config, places.draw_requests(config, stream)


@pytest.fixture(scope="module")
def random_models(requests):
    """Networks of random weights: the algebra holds for any score."""
    _, asked = requests
    module = networks.UNet(
        image=(16, 16, 3),
        channels=4,
        channel_mult=(1,),
        num_blocks=0,
        patch=4,
        attn_resolutions=(),
        condition_channels=2,
    )
    x, condition = jnp.zeros((1, 16, 16, 3)), asked.conditions(slice(0, 1))[0]

    def model(seed):
        params = module.init(jax.random.key(seed), x, 1.0, condition)["params"]
        noise = lambda leaf: leaf + jax.random.normal(jax.random.key(seed), leaf.shape)
        return models.Model(cj.Network(module, jax.tree.map(noise, params)), None)

    return {name: model(seed) for seed, name in enumerate(clevr.MODELS)}


@pytest.mark.parametrize("k", [1, 2])
def test_b_is_a_with_one_request_and_with_no_more(requests, random_models, k):
    """s_b + (s_1 - s_b) = s_1 over any background; with two the background counts."""
    config, asked = requests
    x = jax.random.normal(jax.random.key(7), (2, 16, 16, 3))
    score = lambda key: clevr.compose(
        config, random_models, clevr.SETTINGS[key], asked, slice(0, 2), k
    )(x, 0.7)
    over_empty, over_null = score("A"), score("B")
    # The weight of the background is exactly zero for k = 1; networks round alike.
    gap = float(jnp.abs(over_empty - over_null).max() / jnp.abs(over_empty).max())
    assert gap < 1e-5 if k == 1 else gap > 1e-2


def test_weights_of_zero_leave_the_background(requests, random_models):
    config, asked = requests
    x = jax.random.normal(jax.random.key(8), (2, 16, 16, 3))
    setting = clevr.SETTINGS["A2"]
    composed = clevr.compose(config, random_models, setting, asked, slice(0, 2), 0)
    nothing = scenes.empty(asked.conditions(slice(0, 1))[0])
    alone = cj.condition(random_models["background"].network, nothing)
    scale = float(jnp.abs(alone(x, 0.7)).max())
    assert jnp.abs(composed(x, 0.7) - alone(x, 0.7)).max() < 1e-5 * scale


def test_windows_are_a_partition_and_leave_nothing_to_correct(requests, random_models):
    """Theorem N: V is zero where the deltas do not overlap, whatever the scores."""
    config, asked = requests
    side = config.common.data.size
    own = windows.windows(asked.xy, (side, side), 100.0)
    assert (own.sum(axis=0) == 1).all()
    x = jax.random.normal(jax.random.key(9), (2, 16, 16, 3))
    value = lambda key: analysis.criterion(
        clevr.compose(
            config, random_models, clevr.SETTINGS[key], asked, slice(0, 2), 9
        ),
        x,
        0.7,
    )
    # V is a difference of two sums, each of which rounds relative to its size.
    assert jnp.abs(value("D")).max() < 1e-4 * jnp.abs(value("A")).max()


def test_every_image_asks_for_the_nine_places_in_an_order_of_its_own(requests):
    _, asked = requests
    ground = np.sort(np.asarray(asked.scene.xy).reshape(2, 9, 2), axis=1)
    assert (ground[0] == ground[1]).all()
    assert not (asked.scene.xy[0] == asked.scene.xy[1]).all()
    # A place is told as the label of a scene that holds one object there.
    seen = np.asarray(asked.conditions(slice(0, 2))[4, 1, :, :, 0])
    row, column = np.unravel_index(seen.argmax(), seen.shape)
    assert np.abs(np.array([column, row]) + 0.5 - asked.xy[1, 4]).max() <= 0.5 + 1e-4


def test_strength_is_that_of_what_is_there(requests):
    """True renders over themselves are 1, half of their contrast is a half."""
    _, asked = requests
    radius = scenes.hit_radius((16, 16))
    renders = np.float32(asked.renders(3)) / 255
    half = 0.5 * renders + 0.5 * asked.empty
    of = lambda images: places.strength(
        np.round(255 * images).astype(np.uint8), asked.empty, asked.xy[:, :3], radius
    )
    # Rounding to bytes moves a mean of contrasts by less than 1/510 of white.
    assert of(half) == pytest.approx(of(renders) / 2, abs=1 / 255)
    assert of(renders) > 0.05


@pytest.mark.parametrize("module", [clevr_laptop, clevr_one_gpu, clevr_paper])
def test_every_scale_has_networks_for_its_datasets(module):
    config = module.get_config()
    for name in config.models:
        of_model = train.with_preset(models.model_config(config, name, 0))
        run = train.build(of_model)
        x0, condition = jax.eval_shape(run.stream, jax.random.key(0))
        assert x0.shape[1:] == run.module.image
        objects = run.stream.recipe.min_objects, run.stream.recipe.max_objects
        counts = {"background": (0, 0), "cluttered": (1, 5)}
        assert objects == counts.get(name, (1, 1))
        assert (of_model.data.empty > 0) == (name in ("single", "colored"))
        if name == "colored":
            assert condition.shape[1:] == (9,)


def test_the_papers_networks_are_those_of_the_papers_command():
    """What `experiments.train` trained under Slurm is found, not trained again."""
    by_command = bradley.get_config()
    by_command.data.set = "cluttered"
    config = models.model_config(clevr_paper.get_config(), "cluttered", 0)
    assert config.to_dict() == by_command.to_dict()


def test_mistakes_are_told_before_any_training(tmp_path):
    config = tiny()
    config.sample.images = 1
    with pytest.raises(ValueError, match=r"sample.images must be at least 2, got 1"):
        clevr.main(config, tmp_path / "run")
    config = tiny()
    config.seeds = ()
    with pytest.raises(ValueError, match="at least one training seed"):
        clevr.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_yellow_differs_from_gray_in_blue_alone():
    """Figure 5's premise, on our renderer: 0.15 is far above the noise of a mean."""
    config = tiny()
    config.sample.images = 16
    stream = train.build(
        train.with_preset(models.model_config(config, "colored", 0))
    ).stream
    stream = dataclasses.replace(stream, size=(32, 32))
    shift = colors.color_shifts(config, stream)[colors.YELLOW]
    assert shift[2] < -0.15 and np.abs(shift[:2]).max() < 0.06


def test_a_run_ends_and_goes_on(tmp_path, monkeypatch, capsys):
    config, workdir = tiny(), tmp_path / "run"
    monkeypatch.setattr(clevr.launch, "progress", lambda items, label: items)
    clevr.main(config, workdir)
    numbers = json.loads((workdir / "results.json").read_text())
    assert len(numbers["rows"]) == 9 * len(clevr.SETTINGS)
    for name in ("figure_2", "figure_3", "strength", "weights"):
        assert (workdir / "figures" / f"{name}.png").stat().st_size > 10_000
    cell = clevr.cell_file(workdir, 0, "C", 4)
    before, kept = np.load(cell), clevr.cell_file(workdir, 0, "A", 1).stat().st_mtime
    cell.unlink()
    clevr.main(config, workdir)
    assert (np.load(cell) == before).all()
    assert clevr.cell_file(workdir, 0, "A", 1).stat().st_mtime == kept
    assert "unconditional background" in capsys.readouterr().out


def test_colors_run(tmp_path, monkeypatch):
    monkeypatch.setattr(colors.launch, "progress", lambda items, label: items)
    colors.main(tiny(), tmp_path)
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert [row["color"] for row in numbers["rows"]] == list(scenes.COLORS)
    assert (tmp_path / "figures" / "colors.png").stat().st_size > 10_000
