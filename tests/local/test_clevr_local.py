"""The experiments on rendered scenes: requests, labels, configurations, a tiny run."""

import json

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from compjax import datasets, networks, scenes
from configs.local import clevr_laptop, clevr_one_gpu, clevr_paper
from experiments import models, train
from experiments.local import clevr, clevr_pictures, clevr_requests

SCALES = [
    clevr_laptop,
    pytest.param(clevr_one_gpu, marks=pytest.mark.slow),
    pytest.param(clevr_paper, marks=pytest.mark.slow),
]


def tiny():
    config = clevr_laptop.get_config()
    config.seeds = (0,)
    config.common.data.size, config.common.data.batch = 16, 2
    config.common.network.channels = 4
    config.models.local.network.channels = 4
    config.common.train.steps = 1
    config.common.train.evaluate_every = 1
    config.common.sample.images = config.common.sample.steps = 2
    config.sample.images = config.sample.steps = 2
    config.sample.requests = (0, 1, 4, 10)
    config.prediction.k, config.prediction.resamples = 4, 20
    config.probe.images, config.probe.sigmas = 2, (1.0,)
    return config


def stream(recipe, size=(32, 32)):
    return datasets.Stream(
        recipe, size, 1, draw=datasets.streams.sample_plain, jitter=0.0
    )


@pytest.fixture(scope="module")
def requests():
    return clevr_requests.draw_requests(tiny(), stream(datasets.COUNTS_ONE))


def test_every_image_asks_for_ten_of_the_same_places_in_an_order_of_its_own(requests):
    asked = requests
    assert asked.xy.shape == (2, 10, 2) and asked.rest.shape == (2, 6, 2)
    every = np.concatenate([asked.xy, asked.rest], axis=1)
    first, second = (one[np.lexsort(one.T.round(3))] for one in every)
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert not np.allclose(asked.xy[0], asked.xy[1])
    assert asked.unasked(4).shape == (2, 12, 2)
    # Apart by more than two hits, so that no object answers two requests.
    radius = scenes.hit_radius(asked.size)
    away = np.linalg.norm(every[0][:, None] - every[0], axis=-1) + 99 * np.eye(16)
    assert away.min() > 2 * radius
    # And large objects do not touch: CLEVR's own rule, gaps of 0.25 in the world.
    ground = np.asarray(asked.scene.xy[0])
    away = np.linalg.norm(ground[:, None] - ground, axis=-1) + 99 * np.eye(10)
    assert away.min() - 2 * max(scenes.SIZES) >= 0.25 and np.abs(ground).max() <= 3


@pytest.mark.parametrize("label", clevr_requests.TOLD, ids=lambda label: label.__name__)
@pytest.mark.parametrize("k", [0, 1, 10])
def test_k_places_are_told_as_labels_tell_them(requests, label, k):
    said = np.asarray(requests.conditions(label, slice(0, 2), k))
    fractions = requests.xy[:, :k] / np.array([32, 32])
    grid = scenes.locations(fractions, np.ones((2, k), bool))
    wanted = datasets.flat(grid) if said.ndim == 2 else grid
    np.testing.assert_array_equal(said, wanted)
    assert said.sum() == 2 * k  # no two places share a cell


@pytest.mark.slow
def test_true_renders_show_the_first_k(requests):
    empty = np.asarray(datasets.empty_scene(requests.size))
    assert np.abs(requests.renders(0) / 255 - empty).max() < 1 / 255
    found = clevr.find(requests.renders(3))
    radius = scenes.hit_radius(requests.size)
    for xy, asked in zip(found, requests.xy[:, :3], strict=True):
        assert scenes.match(xy, asked, radius).all()


def test_base_rates_are_those_of_who_is_not_named(requests):
    """Nobody is left unnamed by complete labels; elsewhere counts give the rates."""
    rate = lambda recipe: clevr_requests.base_rate(
        stream(recipe), requests, scenes.hit_radius(requests.size)
    )
    assert rate(datasets.COUNTS_ALL) == 0
    one, some = rate(datasets.COUNTS_ONE), rate(datasets.COUNTS_SOME)
    # Of 1, 2 or 3 objects 0, 1, 2 are unnamed by one label, half as many by some.  The
    # places are disjoint discs; 4096 scenes hold about 4096 unnamed objects, of which
    # a fifth or more stand on a place: 5 standard deviations are a fifth of the rate.
    assert some == pytest.approx(one / 2, rel=0.2) and one > 0.01


@pytest.mark.parametrize("module", SCALES)
def test_every_scale_has_the_four_cells_and_the_controls(module):
    config = module.get_config()
    told, objects = {}, {}
    for name in config.models:
        of_model = train.with_preset(models.model_config(config, name, 0))
        run = train.build(of_model)
        told[name] = run.stream.recipe.label.__name__
        objects[name] = run.stream.recipe.max_objects
        assert isinstance(run.module, networks.Local) == (name == "local")
        assert of_model.data.empty == 0 and of_model.data.jitter == 0
    assert told == {
        "complete_many": "vector_of_all",
        "incomplete_one": "vector_of_one",
        "complete_one": "vector_of_all",
        "incomplete_many": "vector_of_some",
        "channel": "locations_of_one",
        "local": "locations_of_one",
    }
    assert {name for name, most in objects.items() if most == 1} == {"complete_one"}
    assert set(told) == set(clevr_pictures.NAMES) == set(clevr_pictures.STYLES)


WIDE = ConfigDict({"local": {"tile": 5, "reach": 0, "condition_reach": 0}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample.images": 1}, r"sample.images must be at least 2, got 1"),
        ({"sample.requests": (0, 11)}, r"numbers of places from 0 to 10"),
        ({"sample.requests": ()}, r"numbers of places"),
        ({"sample.requests": (0,)}, r"not 0 alone"),
        ({"sample.requests": (0, 1)}, r"must hold 1 and config.prediction.k = 4"),
        ({"seeds": ()}, "at least one training seed"),
        (
            {"models.channel.data.label": "bumps_of_one"},
            r"models.channel.data.label = 'bumps_of_one' cannot tell of several",
        ),
        ({"models.channel.network": WIDE}, "tile = 5 does not divide"),
    ],
)
def test_mistakes_are_told_before_any_training(tmp_path, change, message):
    config = tiny()
    ((path, value),) = change.items()
    *parts, field = path.split(".")
    node = config
    for part in parts:
        node = node[part]
    node[field] = value
    with pytest.raises(ValueError, match=message):
        clevr.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def row(model, k, corrected):
    return {
        "model": model,
        "k": k,
        "unrequested": 0.1,
        "base_rate": 0.05,
        "histogram": [1, 2, 1],
    } | (
        {}
        if not k
        else {"corrected": corrected, "corrected_low": 0.1, "corrected_high": 0.9}
    )


def test_the_table_has_a_line_for_every_model_and_says_what_is_not_known():
    rows = [row("local", k, None if k == 4 else 0.5) for k in (0, 1, 4)]
    head, line = clevr_pictures.table(rows).splitlines()
    assert head.split()[-2:] == ["k=1", "k=4"]
    assert line.startswith("Experiment 3") and line.split()[-2:] == ["50", "-"]


@pytest.mark.slow
def test_a_run_ends_and_goes_on(tmp_path, monkeypatch, capsys):
    config, workdir = tiny(), tmp_path / "run"
    for name in set(config.models) - {"incomplete_one", "local"}:
        del config.models[name]  # they differ in their labels, and cost a minute each
    monkeypatch.setattr(clevr.launch, "progress", lambda items, label: items)
    clevr.main(config, workdir)
    numbers = json.loads((workdir / "results.json").read_text())
    assert len(numbers["rows"]) == 4 * len(config.models)
    assert {"commit", "versions", "images_seen", "model_seconds"} <= numbers.keys()
    for one in numbers["rows"]:
        assert sum(one["histogram"]) == 2
    (probe,) = numbers["models"]["local"]
    assert {"loss", "sigmas", "pixels", "conditions"} == probe.keys()
    for name in ("figure_1", "hits", "counts", "locality"):
        assert (workdir / "figures" / f"{name}.png").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert "Experiment 2" in said
    # After one step labels change nothing yet.
    assert "no study: of 2 networks" in said
    made = {f: f.stat().st_mtime for f in workdir.rglob("samples/*")}
    images, found = clevr.files(workdir, "local", 0)
    assert len(made) == 2 * len(config.models) and images in made
    before = np.load(images)["k4"]
    images.unlink()
    trained = []
    go_on = models.train.go_on
    monkeypatch.setattr(
        models.train, "go_on", lambda *a: trained.append(a) or go_on(*a)
    )
    clevr.main(config, workdir)
    # Only the model whose samples were gone is read again, and draws the same.
    assert len(trained) == 1
    np.testing.assert_array_equal(np.load(images)["k4"], before)
    for file, time in made.items():
        assert file in (images, found) or file.stat().st_mtime == time
    clevr.main(config, workdir)
    assert len(trained) == 1
    config.sample.images = 3
    with pytest.raises(ValueError, match="another config"):
        clevr.main(config, workdir)


def test_conditions_are_those_of_the_seen_part_alone(requests):
    both = requests.conditions(datasets.vector_of_one, slice(0, 2), 2)
    last = requests.conditions(datasets.vector_of_one, slice(1, 2), 2)
    np.testing.assert_array_equal(both[1:], last)
    assert jax.tree.structure(both) == jax.tree.structure(last)
