"""Sprites, their labels, and the experiment on them in small."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax import analysis
from configs.local import sprites as defaults
from experiments.local import models, sprites
from experiments.local.world import (
    ENCODINGS,
    Sprites,
    draw_requests,
    make_world,
)


def small():
    """Nine places of 4 pixels, three networks of a few steps."""
    config = defaults.get_config()
    config.world.places, config.world.pixels, config.network.patch = 3, 4, 4
    config.network.channels = config.network.local_channels = 8
    config.network.channels_per_head = 8
    config.seeds = (0,)
    config.train.batch, config.train.save_every = 8, 4
    config.sample.images, config.sample.steps = 8, 4
    config.sample.requests = (0, 1, 4)
    config.probe.images, config.probe.sigmas = 4, (0.5, 2.0)
    config.switch.images, config.switch.sigmas = 4, (1.0,)
    for name in config.models:
        config.models[name].steps = 4
        window = config.models[name].window
        for kind in ("pixels", "conditions") if window else ():
            if window[kind]:
                window[kind] = 4
    config.models.window_12.window.pixels = (
        config.models.window_12.window.conditions
    ) = 4
    return config


def stream(completeness, most=3, encoding="vector", batch=4000, null=0.0):
    world = make_world(small())
    law = np.full(most, 1 / most)
    encode = ENCODINGS[encoding]
    return Sprites(
        world.templates, law, completeness, null, world.scale, 3, batch, encode
    ), world


def test_images_are_vectors_place_by_place():
    world = make_world(small())
    x = jnp.arange(2 * 144.0).reshape(2, 144)
    images = world.image(x)
    np.testing.assert_array_equal(world.vector(images), x)
    np.testing.assert_array_equal(images[0, 4:8, 8:, 0].ravel(), x[0, 5 * 16 : 6 * 16])
    law = world.density((3,), [0.5, 0.5])
    found = world.score(law)(images[:1] / 100, 0.7)
    expected = world.image(law(x[:1] / 100, 0.7))
    np.testing.assert_array_equal(found, expected)


def test_the_optimum_of_windows_is_that_of_the_theory():
    """`windowed_family` has one law for every set of places; here they are images."""
    world = make_world(small())
    law = [0.0, 1.0, 1.0, 1.0]
    optimum, family = (
        world.optimum(law, 0.9),
        analysis.windowed_family(world.density((), law), 0.9),
    )
    x = jax.random.normal(jax.random.key(0), (2, 12, 12, 1))
    for places in ((), (4,), (0, 2, 3, 8)):
        named = np.isin(np.arange(9), places).reshape(1, 3, 3, 1).astype(float)
        expected = world.image(family.given(places)(world.vector(x), 0.7))
        found = optimum(x, 0.7, jnp.asarray(named))
        # One exact law in two orders of summation.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("completeness", [0.0, 0.5, 1.0])
def test_labels_have_their_law(completeness):
    """1 to 3 objects; one is named, and each other with this probability."""
    data, world = stream(completeness)
    x0, named = data.draw(jax.random.key(0), 4000)
    present = world.strength(x0) > 0.5
    named = np.asarray(named).reshape(4000, -1)
    assert not (named & ~present).any() and (named.any(1)).all()
    count, told = present.sum(1), named.sum(1)
    error = 4.5 / np.sqrt(4000)
    for n in (1, 2, 3):
        assert abs((count == n).mean() - 1 / 3) < error * 0.5
        expected = 1 + completeness * (n - 1)
        assert abs(told[count == n].mean() - expected) < error * np.sqrt(3)
    # Every place alike: 2 of 9 hold an object.
    assert np.abs(present.mean(0) - 2 / 9).max() < error * 0.45


def test_withheld_labels_are_no_labels():
    data, _ = stream(1.0, null=0.25)
    _, condition = data(jax.random.key(0))
    withheld = (np.asarray(condition) == 0).all(1).mean()
    assert withheld == pytest.approx(0.25, abs=4.5 * 0.43 / np.sqrt(4000))


def test_encodings():
    named = jnp.zeros((1, 3, 3), bool).at[0, 1, 2].set(True).at[0, 0, 0].set(True)
    one = jnp.zeros((9,)).at[5].set(1.0).at[0].set(1.0)
    np.testing.assert_array_equal(ENCODINGS["vector"](named)[0], one)
    np.testing.assert_array_equal(ENCODINGS["mean"](named)[0], one / 2)
    np.testing.assert_array_equal(ENCODINGS["mean"](named & False), jnp.zeros((1, 9)))
    assert ENCODINGS["channel"](named)[0, 1, 2, 0] == 1


def test_requests_are_met_by_true_scenes():
    world = make_world(small())
    requests = draw_requests(world, 50, 4, 0)
    present = world.strength(requests.true) > 0.5
    np.testing.assert_array_equal(present, requests.named.reshape(50, 9))
    assert (requests.named.sum((1, 2)) == 4).all()
    assert len(np.unique(requests.named, axis=0)) > 10


def test_every_model_can_be_made():
    config = small()
    world = make_world(config)
    for name in config.models:
        module = models.make_module(config, world, config.models[name])
        data = models.make_stream(config, world, config.models[name])
        x0, condition = jax.eval_shape(data, jax.random.key(0))
        shapes = jax.eval_shape(module.init, jax.random.key(0), x0, 1.0, condition)
        D = jax.eval_shape(module.apply, shapes, x0, 1.0, condition)
        assert D.shape == x0.shape, name


def test_a_placebo_tells_every_tile_of_another():
    order = models.placebo(9, 0)
    assert sorted(order) == list(range(9)) and all(i != j for i, j in enumerate(order))


@pytest.mark.slow
def test_the_experiment_in_small_is_resumed_and_drawn(tmp_path, capsys):
    config = small()
    keep = ("complete_many", "incomplete_one", "local")
    for name in set(config.models) - set(keep):
        del config.models[name]
    sprites.main(config, tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    assert {row["k"] for row in found["rows"]} == {0, 1, 4}
    assert set(found["nulls"]) == {"exact_1", "exact_2", "gaussian"}
    exact = found["nulls"]["exact_1"]["pixels"]["score"]["beyond"]
    tied = found["nulls"]["exact_2"]["pixels"]["score"]["beyond"]
    assert max(exact) < 1e-6 < max(tied)
    local = found["models"]["local"][0]["pixels"]["denoiser"]
    assert max(local["radius"]) <= 4
    assert len(found["models"]["local"][0]["switched"]) == 4
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert {"hits.png", "locality.png", "maps.png"} <= figures
    with np.load(tmp_path / "maps" / "local-0.npz") as maps:
        # A place of 4 pixels with windows of 4 around: 12 x 12 pixels, centre and all.
        seen = np.argwhere(maps["pixels"][0] > 0)
        assert seen.min() >= 11 - 4 and seen.max() < 11 + 4 + 4
    times = lambda: [f.stat().st_mtime_ns for f in sorted(tmp_path.glob("samples/*"))]
    before = times()
    capsys.readouterr()
    sprites.main(config, tmp_path)
    assert "compiling" not in capsys.readouterr().out
    assert times() == before


def test_bad_input():
    config = small()
    config.sample.requests = (10,)
    with pytest.raises(ValueError, match="has 10, and there are 9 places"):
        sprites.check(config)
    with pytest.raises(ValueError, match="completeness must be in"):
        stream(1.5)
    config = small()
    config.seeds = ()
    with pytest.raises(ValueError, match="seeds is empty"):
        sprites.check(config)
