"""The machine on rendered scenes: places, machines against brute force, a tiny run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax import datasets, densities, scenes
from compjax.testing import assert_close
from configs.local import clevr_machine as defaults
from experiments.local import clevr_machine, clevr_requests

DEFAULT = defaults.get_config()
CELLS = DEFAULT.sample.cells


def tiny():
    config = defaults.get_config()
    config.seeds = (0,)
    config.data.size, config.data.batch, config.data.images = 16, 4, 6
    config.machine.window, config.machine.chunk = 3, 4
    config.sample.images = config.sample.together = config.sample.steps = 2
    config.sample.requests, config.sample.controls = (0, 1, 4), (0, 1, 4)
    return config


def stream(size=32):
    return datasets.Stream(
        datasets.COUNTS_ONE,
        (size, size),
        2,
        draw=datasets.streams.sample_small,
        null=0.0,
        jitter=0.0,
    )


def test_places_are_the_middles_of_their_cells():
    cells = np.array(DEFAULT.sample.cells)
    ground = clevr_machine.ground(tiny())
    asked = clevr_requests.draw_requests(tiny(), stream(), ground)
    places = np.concatenate([asked.xy, asked.rest], axis=1)
    middles = 2 * cells[:, ::-1] + 1
    for one in places:  # every image has its own order
        away = np.linalg.norm(one[:, None] - middles[None], axis=-1)
        # There and back in float32, coordinates of about 10, some dozen roundings.
        assert (away.min(0) < 1e-4).all() and (away.min(1) < 1e-4).all()
    np.testing.assert_array_equal(
        asked.conditions(datasets.locations_of_one, slice(0, 2), 10).sum((1, 2, 3)), 10
    )
    # From the middle of a cell its corners are hits, so any object that stands in it.
    assert np.hypot(1, 1) < scenes.hit_radius((32, 32))


def test_the_places_of_the_default_do_not_crowd():
    cells = np.array(DEFAULT.sample.cells)
    clevr_machine.check_cells(DEFAULT)
    ground = np.asarray(clevr_machine.ground(DEFAULT))
    others = ~np.eye(len(cells), dtype=bool)
    away = np.linalg.norm(ground[:, None] - ground[None], axis=-1)[others]
    assert away.min() - 2 * min(scenes.SIZES) >= 0.25  # CLEVR's own rule
    # The window of a place's own cell holds no other place.
    apart = np.abs(cells[:, None] - cells[None]).max(-1)[others]
    assert apart.min() > DEFAULT.machine.condition_window // 2


def test_the_ideal_machine_is_the_posterior_over_whole_images():
    """Of the images whose labels are nearest to the request, by brute force."""
    config = tiny()
    x0 = jax.random.normal(jax.random.key(0), (9, 4, 4, 3))
    told = jax.random.bernoulli(jax.random.key(1), 0.5, (9, 2, 2, 2)).astype(float)
    ask = jax.random.bernoulli(jax.random.key(2), 0.5, (2, 2, 2, 2)).astype(float)
    x, sigma = jax.random.normal(jax.random.key(3), (2, 4, 4, 3)), 2.0
    score = clevr_machine.machine(config, "ideal", x0, told)(x, sigma, ask)
    for i in range(2):
        gap = np.asarray(((told - ask[i : i + 1]) ** 2).sum((1, 2, 3)))
        near = x0[np.flatnonzero(gap == gap.min())]
        assert len(near) < 9
        expected = densities.Empirical(near)(x[i : i + 1], sigma)
        assert_close(score[i : i + 1], expected, 1e-5)


def test_a_deaf_machine_hears_nothing_and_the_other_two_do():
    config = tiny()
    x0 = jax.random.normal(jax.random.key(0), (6, 4, 4, 3))
    told = jnp.eye(6).reshape(6, 2, 3, 1)[:, :, :2]
    x = jax.random.normal(jax.random.key(1), (1, 4, 4, 3))
    for name in clevr_machine.MACHINES:
        score = clevr_machine.machine(config, name, x0, told)
        first, second = (score(x, 1.0, told[i : i + 1]) for i in (0, 3))
        assert jnp.array_equal(first, second) == (name == "local"), name


def test_one_image_for_every_label_gives_samples_of_its_patches():
    """Where a window holds one asked place, the image that names it is the only one."""
    config, data = tiny(), stream()
    cells = config.sample.cells
    ground = clevr_machine.ground(config)
    requests = clevr_requests.draw_requests(config, data, ground)
    x0 = jax.random.uniform(jax.random.key(0), (len(cells), 32, 32, 3), minval=-0.9)
    told = np.zeros((len(cells), 16, 16, 2), np.float32)
    told[np.arange(len(cells)), *np.transpose(cells), 0] = 1
    score = clevr_machine.machine(config, "conditional", x0, jnp.asarray(told))
    drawn = clevr_machine.sample(config, data, requests, score, 10, 0)["images"]
    asked = requests.conditions(datasets.locations_of_one, slice(0, 2), 10)
    expected = np.round(255 * np.asarray(data.images(x0)))
    compared = 0
    for image, ask in zip(drawn, np.asarray(asked)[..., 0], strict=True):
        for row, column in np.ndindex(32, 32):
            near = np.abs(np.array(cells) - (row // 2, column // 2)).max(1) <= 1
            named = near & ask[tuple(np.transpose(cells))].astype(bool)
            if named.sum() == 1:
                # Bytes: rounding may tip over.
                wanted = expected[named][0, row, column]
                assert np.abs(image[row, column] - wanted).max() <= 1
                compared += 1
    assert compared > 2 * 10 * 4  # more than the cells of the places themselves


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data.images": 1}, "data.images must be at least 2, got 1"),
        ({"sample.images": 1}, "sample.images must be at least 2, got 1"),
        ({"sample.requests": (0, 11)}, "numbers of places from 0 to 10"),
        ({"sample.controls": (0,)}, "not 0 alone"),
        ({"seeds": ()}, "seeds is empty"),
        ({"data.draw": "clevr"}, "draw = 'clevr'"),
        ({"data.jitter": 1.0}, "jitter = 1.0"),
        ({"data.label": "vector_of_one"}, "'vector_of_one' is no grid"),
        ({"data.label": "bumps_of_one"}, "'bumps_of_one' is no grid"),
        ({"data.size": 24}, "cells divide"),
        ({"machine.window": 4}, "must be odd, got 4"),
        ({"machine.condition_window": 2}, "must be odd, got 2"),
        ({"sample.cells": CELLS[:10]}, "give 11 to 20 cells"),
        (
            {"sample.cells": (*CELLS, CELLS[0])},
            "each once",
        ),
        ({"sample.cells": (*CELLS, (0, 0))}, "off the ground"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(tmp_path, change, message):
    config = tiny()
    ((path, value),) = change.items()
    *parts, field = path.split(".")
    node = config
    for part in parts:
        node = node[part]
    node[field] = value
    with pytest.raises(ValueError, match=message):
        clevr_machine.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_ends_and_goes_on(tmp_path, monkeypatch, capsys):
    config, workdir = tiny(), tmp_path / "run"
    clevr_machine.main(config, workdir)
    numbers = json.loads((workdir / "machine.json").read_text())
    rows = {(row["model"], row["k"]): row for row in numbers["rows"]}
    assert set(rows) == {
        (name, k) for name in clevr_machine.MACHINES for k in (0, 1, 4)
    }
    assert rows["local", 1]["objects"] == rows["local", 4]["objects"]
    assert {"commit", "versions", "seconds", "unseen"} <= numbers.keys()
    assert numbers["unseen"]["0"] == 0 <= numbers["unseen"]["4"] <= 1
    assert (workdir / "figures" / "machine.png").stat().st_size > 10_000
    out = capsys.readouterr().out
    assert "samples 7/7" in out and "conditional-local machine" in out

    made = {f: f.stat().st_mtime_ns for f in workdir.rglob("samples/*")}
    assert len(made) == 7  # the deaf machine once, the others for three k
    gone = clevr_machine.file(workdir, "conditional", 0, 4)
    before = np.load(gone)["images"]
    gone.unlink()
    clevr_machine.main(config, workdir)
    assert "samples 1/1" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(gone)["images"], before)
    for file, time in made.items():
        assert file == gone or file.stat().st_mtime_ns == time
    again = json.loads((workdir / "machine.json").read_text())
    assert again["rows"] == numbers["rows"]

    for drawing in ("shown", "sample"):  # nothing is left to be drawn
        monkeypatch.setattr(clevr_machine, drawing, pytest.fail)
    clevr_machine.main(config, workdir)
    config.sample.steps = 3
    with pytest.raises(ValueError, match="another config"):
        clevr_machine.main(config, workdir)
