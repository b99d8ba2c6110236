"""The experiment on colours: statistics beside hand-made answers, and a tiny run."""

import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax import datasets, scenes
from configs.local import colors as colors_config
from experiments import models
from experiments.local import (
    color_pictures,
    color_probes,
    color_rows,
    color_statistics,
    colors,
)
from experiments.models import Model
from experiments.projective.colors import both_found


def tiny():
    config = colors_config.get_config()
    config.seeds = (0,)
    config.common.data.size, config.common.data.batch = 16, 2
    config.common.network.channels = config.common.network.channels_per_head = 4
    config.common.train.steps = config.models.places.train.steps = 1
    config.common.train.evaluate_every = 1
    config.common.sample.images = config.common.sample.steps = 2
    config.locality.scenes, config.locality.sigmas = 3, (0.5, 5.0)
    config.features.scenes, config.features.sigmas = 4, (1.0,)
    config.sample.images = config.sample.steps = 2
    config.sample.requests = (0, 1, 5)
    return config


def stream(label=datasets.colors_of_all):
    return datasets.Stream(
        datasets.COUNTS_ALL._replace(label=label),
        (16, 16),
        1,
        draw=datasets.streams.sample_plain,
        jitter=0.0,
        offset=datasets.empty_scene((16, 16)),
    )


@pytest.fixture(scope="module")
def drawn():
    streams = {"colors": stream(), "places": stream(datasets.vector_of_all)}
    return color_probes.draw(tiny(), streams)


def test_orthogonal_shifts_have_cosine_zero_whatever_noise_they_share():
    """Shifts along axes, in noise of length 0.3 that is the same for all."""
    f = 10_000
    rng = np.random.default_rng(0)
    lengths = np.array([2.0, 1.0, 3.0])
    shifts = np.zeros((2, 3, f))
    shifts[:, np.arange(3), np.arange(3)] = lengths
    noise = rng.normal(size=(2, 1, f)) * 0.3 / np.sqrt(f)
    # <noise, noise'> has the deviation 0.09 / sqrt(f) = 0.0009, the product of a shift
    # and noise 3 * 0.3 / sqrt(f) = 0.009: over lengths of 1 or more, 0.05 is 5 times.
    found = color_statistics.crossed_cosines(shifts + noise)
    np.testing.assert_allclose(found, np.eye(3), atol=0.05)
    one = shifts[0] + 30 * noise[0]
    naive = (
        one @ one.T / np.linalg.norm(one, axis=1) / np.linalg.norm(one, axis=1)[:, None]
    )
    assert naive[0, 1] > 0.8  # what is avoided: the noise is 9 long


def test_cosines_of_known_shifts():
    shifts = np.array([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0]])
    found = color_statistics.crossed_cosines(np.stack([shifts, 3 * shifts]))
    root = np.sqrt(0.5)
    expected = [[1, root, -1], [root, 1, -root], [-1, -root, 1]]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    lost = color_statistics.crossed_cosines(np.stack([shifts, -shifts]))
    assert np.isnan(lost).all()  # the halves contradict each other


def test_pooling_is_the_mean_over_places():
    grid = np.arange(2 * 8 * 4 * 3.0).reshape(2, 8, 2, 2, 3)
    pooled = color_rows.pool(grid.reshape(2, 8, -1), 3)
    np.testing.assert_allclose(pooled, grid.mean((2, 3)))


def test_ranks_and_their_exact_p():
    """Against scipy's coefficient, and orders counted by hand."""
    assert color_statistics.ranking([1, 2, 3], [10, 20, 30]) == (1.0, 2 / 6)
    shares = [0.5, 0.1, 0.2, 0.0]
    found = color_statistics.ranking([0.1, 0.9, 0.3, 0.8], shares)
    # Ranks 1 4 2 3 and 4 2 3 1: 1 - 6 (9 + 4 + 1 + 4) / (4 * 15) = -0.8.
    assert found.rho == pytest.approx(-0.8)
    rhos = [
        1 - 6 * sum((a - b) ** 2 for a, b in zip(order, range(4), strict=True)) / 60
        for order in itertools.permutations(range(4))
    ]
    assert found.p == np.mean(np.abs(rhos) >= 0.8 - 1e-9)
    assert np.isnan(color_statistics.ranking([1, 1], [1, 2])).all()
    # The tables of Spearman's test: 0.786 for 7 pairs, two-sided.
    assert color_statistics.least_rho(7) == pytest.approx(0.786, abs=1e-3)


def test_errors_over_seeds():
    mean, error = color_statistics.over_seeds([[1.0], [2.0], [3.0]])
    assert mean == 2 and error == pytest.approx(1 / np.sqrt(3))
    assert color_statistics.half_width(error, 3) == pytest.approx(4.303 * error, 1e-3)
    assert np.isnan(color_statistics.over_seeds([[1.0]]).error)
    assert np.isnan(color_statistics.half_width(0.0, 1))


def test_rates_lie_between_chance_and_ceiling():
    met, chance = np.repeat([1, 0], [30, 10]), np.repeat([1, 0], [10, 30])
    ceiling, seeds = np.ones(40), np.arange(40) % 2
    row = color_statistics.rates(met, chance, ceiling, seeds, 0)
    assert row["met"] == 0.75 and row["chance"] == 0.25
    assert row["corrected"] == pytest.approx((0.75 - 0.25) / 0.75)
    # 40 images of rate 3/4: a standard deviation of 0.068, of which intervals take
    # about 2 to either side; the bootstrap itself errs by a tenth of that.
    assert row["met_low"] == pytest.approx(0.75 - 2 * 0.068, abs=0.03)
    assert row["met_high"] == pytest.approx(0.75 + 2 * 0.068, abs=0.03)
    assert row["corrected_low"] < row["corrected"] < row["corrected_high"]
    nothing = color_statistics.rates(met, chance, chance, seeds, 0)
    assert nothing["corrected_low"] is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([1], True),
        ([1, 2], True),  # the far object of colour 2 counts
        ([2, 3], True),
        ([1, 3], False),  # 1 and 3 are patches of one object
        ([4], False),
    ],
)
def test_requests_are_met_by_objects_that_stand_apart(asked, expected):
    xy = np.array([[0.0, 0.0], [1.0, 0.0], [20.0, 0.0], [0.5, 0.5], [9.0, 9.0]])
    seen = np.array([1, 2, 2, 3, -1])
    assert color_statistics.meets(xy, seen, np.array(asked), 5.0) is expected


@pytest.mark.slow
def test_colours_are_found_as_in_the_compositions():
    config = tiny()
    config.common.data.size = 32
    images = color_probes.truth(config, {"colors": stream()})["images_5"]
    found = color_probes.detected(images, 5)
    for color in range(8):
        seen = (found["color_5"] == color).any(1)
        np.testing.assert_array_equal(seen, both_found(images, color)["other"])


def test_scenes_hold_what_their_labels_say(drawn):
    assert drawn["pair_x0"].shape == (3, 16, 16, 3)
    both, one = drawn["pair_both_colors"], drawn["pair_one_colors"]
    # One colour less, whatever the objects: no two have the same.
    np.testing.assert_array_equal((both - one).sum(1), 1)
    assert set(both.sum(1)) <= {2.0, 3.0} and not both[:, -1].any()
    places = drawn["pair_both_places"] - drawn["pair_one_places"]
    np.testing.assert_array_equal(places.sum(1), 1)
    # The place taken away is that of the object from which distances are: the centre of
    # its cell, a pixel here, is less than 2 pixels from where it shows.
    cells = places[:, :-1].reshape(-1, 16, 16) > 0
    assert drawn["pair_distance"][..., 0][cells].max() < 2
    # Where the first object shows, its own colour changes the empty scene.
    mask = drawn["pair_distance"][..., 0] == 0
    assert mask.any((1, 2)).all()
    assert (np.abs(drawn["pair_x0"]).max(-1)[mask] > 0.02).mean() > 0.9
    assert np.abs(drawn["empty_x0"]).max() < 1e-5
    # The same places in all colours: red and cyan differ nowhere but on the object.
    differs = np.ptp(drawn["single_x0"], axis=1).max(-1) > 1e-3
    assert differs.any((1, 2)).all() and differs.mean() < 0.5


def test_halves_and_backgrounds_of_mean_images(drawn):
    means = color_probes.mean_images(drawn)
    empty, any_, one = (
        color_probes.shifts(means, name).reshape(2, 8, 16, 16, 3)
        for name in ("empty", "any", "one")
    )
    first = drawn["single_x0"][::2, 3].mean(0) - drawn["empty_x0"][0]
    np.testing.assert_allclose(empty[0, 3], first, atol=1e-6)
    other = drawn["any_x0"][1::2].mean(0) - drawn["empty_x0"][0]
    np.testing.assert_allclose((empty - any_)[1, 5], other, atol=1e-6)
    np.testing.assert_allclose(one.sum(1), 0, atol=1e-5)
    # Eight orthogonal shifts have these cosines from their mean.
    axes = np.concatenate([np.eye(8), np.zeros((2, 8))])
    apart = color_probes.shifts(np.stack([axes, axes]), "one")
    expected = (8 * np.eye(8) - 1) / 7
    np.testing.assert_allclose(
        color_statistics.crossed_cosines(apart), expected, atol=1e-12
    )


def told_places(radius):
    """A score that changes by one inside of a disc about the object, and its model."""

    def score(x, sigma, condition):
        near = jnp.asarray(DISTANCE) <= radius
        return condition[:, :1, None, None] * near - x / sigma**2

    return Model(cj.as_score(score), stream())


DISTANCE = np.hypot(*np.mgrid[-4:12, -6:10])[None, ..., None]


@pytest.mark.parametrize(("radius", "beyond"), [(2.0, 0.0), (3.0, None), (99.0, None)])
def test_a_change_in_a_disc_is_found_there(drawn, radius, beyond):
    """The share beyond the margin of 2 pixels is a count of the disc's pixels."""
    config = tiny()
    n = len(drawn["pair_x0"])
    mine = drawn | {
        "pair_distance": np.repeat(DISTANCE, n, 0),
        "pair_both_colors": np.ones((n, 1), np.float32),
        "pair_one_colors": np.zeros((n, 1), np.float32),
    }
    part = color_probes.locality(config, told_places(radius), mine, "colors")
    found = color_rows.locality(config, mine, {"colors": [{"locality": part}]})
    expected = ((DISTANCE > 2) & (DISTANCE <= radius)).sum() / (
        DISTANCE <= radius
    ).sum()
    for row in found["rows"]:
        assert row["beyond"] == pytest.approx(expected, abs=1e-6)
        assert row["error"] == pytest.approx(0, abs=1e-6)  # all scenes are the same
    inside = part["maps"] > 1e-6
    np.testing.assert_array_equal(inside, np.repeat(DISTANCE[..., 0] <= radius, 2, 0))
    if beyond is not None:
        assert expected == beyond
    uniform = found["nulls"]["uniform"]["beyond"]
    assert uniform == pytest.approx((DISTANCE > 2).mean(), abs=1e-6)
    if radius == 99.0:
        assert uniform == pytest.approx(found["rows"][0]["beyond"], abs=1e-6)


def test_spread_follows_the_squares_that_it_is_given(drawn):
    squares = np.zeros((1, 16, 16, 1))
    squares[0, 3, 4], squares[0, 8, 8] = 1.0, 4.0
    report = color_probes.spread(drawn, squares)
    distance = drawn["pair_distance"][..., 0]
    radius = np.median(distance[:, 8, 8])  # the two pixels differ for some scene
    far = distance > radius
    expected = (far[:, 3, 4] + 4 * far[:, 8, 8]) / 5
    assert 0 < expected.mean() < 1
    found = report.beyond(radius).score.mean[0]
    assert found == pytest.approx(expected.mean(), rel=1e-5)


def one_axis_a_color(x, sigma, condition):
    """Activations: noise, and of a colour, if it is told, the axis that is its own."""
    return x.reshape(len(x), -1)[:, :9] + 5 * condition


def test_features_with_an_axis_for_every_colour_are_orthogonal(drawn, monkeypatch):
    """Told their own colour shifts are orthogonal; told nothing, they are images'."""
    config = tiny()
    config.features.layers, config.features.sigmas = ("decoder1_in1",), (1.0, 2.0)
    monkeypatch.setattr(
        color_probes,
        "activations",
        lambda net, layers, x, sigma, told: [one_axis_a_color(x, sigma, told)],
    )

    def first_channels(x, sigma, c):  # null changes all three
        return (c[:, :3] + c[:, -1:])[:, None, None] - x / sigma**2

    model = Model(cj.as_score(first_channels), stream())
    found = color_probes.features(config, model, drawn)
    means = found["decoder1_in1"]
    assert means.shape == (2, 2, 2, 10, 9)
    own, nothing = means[:, 0]
    # Noise is the same for all colours, and cancels in their shifts from empty: what
    # is left are the corner pixels, where single objects are not seen.
    shifts = color_probes.shifts(own, "empty")
    axes = 5 * np.eye(8)[None].repeat(2, 0)
    np.testing.assert_allclose(shifts[:, :, :8], axes, atol=0.3)
    cosines = color_statistics.crossed_cosines(shifts)
    np.testing.assert_allclose(cosines, np.eye(8), atol=0.1)
    assert np.abs(color_probes.shifts(nothing, "empty")).max() < 0.3
    # Of the empty scene, told as that, all is noise: other in each half, and as large
    # as its level.
    of_noise = means[0, :, :, color_probes.EMPTY]
    np.testing.assert_allclose(of_noise[1], 2 * of_noise[0], rtol=1e-5)
    assert np.abs(of_noise[0, 0] - of_noise[0, 1]).max() > 0.1
    # The score of a colour changes channel 0, 1 or 2, or nothing that is seen.
    from_empty, from_any = found["score"][:, 0]
    np.testing.assert_allclose(from_empty[:3, :3], np.eye(3), atol=1e-5)
    assert not from_empty[3:].any()
    np.testing.assert_allclose(from_any[3:, 3:], 1, atol=1e-5)


def test_rows_say_which_colours_cosines_rank():
    matrix = np.eye(8)
    shares = dict(zip(scenes.COLORS, np.linspace(0, 0.7, 8), strict=True))
    matrix[7, :7] = matrix[:7, 7] = -np.linspace(0.7, 0.1, 7)
    row = color_rows.cosine_row(np.stack([matrix] * 3), shares, shown=True, of="test")
    assert row["rho"] == pytest.approx(-1) and row["p"] == pytest.approx(2 / 5040)
    # Blue, purple and cyan are colours 2, 5 and 6.
    assert row["compatible"] == pytest.approx((0.5 + 0.2 + 0.1) / 3, abs=1e-4)
    assert row["incompatible"] == pytest.approx((0.7 + 0.6 + 0.4 + 0.3) / 4, abs=1e-4)
    assert row["of"] == "test" and row["matrix_width"][7][0] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sample.images": 1}, "sample.images must be at least 2, got 1"),
        ({"features.scenes": 3}, "features.scenes must be at least 4, got 3"),
        ({"sample.requests": (0,)}, "not 0 alone"),
        ({"sample.requests": (9,)}, "numbers of colours from 0 to 8"),
        ({"seeds": ()}, "at least one training seed"),
        ({"locality.sigmas": (0.0,)}, "noise levels above 0"),
        ({"features.sigma": 3.0}, "sigma = 3.0 one of"),
        ({"features.layer": "middle"}, "layer = 'middle' must be one of"),
        (
            {"features.layers": ("decoder1_in1", "middle")},
            "config.features.layers: 0 modules .* 'middle'; choose",
        ),
        (
            {"features.layers": ("decoder1_in1", "out_conv")},
            "config.features.layers: 'out_conv' is no block",
        ),
        ({"models.colors.data.label": "color_of_one"}, "give colors_of_all"),
        ({"models.colors.data.empty": 0.0}, "data.empty = 0: give a share"),
        ({"common.data.jitter": 1.0}, "jitter = 1.0: give 0"),
        ({"models": {"places": {}}}, "config.models has places: give colors"),
    ],
)
def test_mistakes_are_told_before_any_training(tmp_path, change, message):
    config = tiny()
    ((path, value),) = change.items()
    *parts, field = path.split(".")
    node = config
    for part in parts:
        node = node[part]
    with config.unlocked():
        if isinstance(value, dict):
            del node[field]
        node[field] = value
    with pytest.raises(ValueError, match=message):
        colors.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_requests_share_no_colour_with_those_that_chance_is_counted_of():
    asked = color_probes.orders(tiny())
    assert (np.sort(asked, axis=1) == np.arange(8)).all()
    for k in range(1, 5):
        assert not (asked[:, :k, None] == asked[:, None, -k:]).any()


@pytest.mark.slow
def test_a_run_ends_and_goes_on(tmp_path, monkeypatch, capsys):
    config, workdir = tiny(), tmp_path / "run"
    monkeypatch.setattr(colors.launch, "progress", lambda items, label: items)
    colors.main(config, workdir)
    numbers = json.loads((workdir / "results.json").read_text())
    assert {"commit", "versions", "images_seen", "least_rho"} <= numbers.keys()
    assert [row["k"] for row in numbers["requests"]] == [0, 1, 5]
    assert len(numbers["locality"]["rows"]) == 2 * 2
    kinds = {(row["of"], row["background"]) for row in numbers["cosines"]}
    assert len(kinds) == 1 + 2 + 3 * (1 + len(config.features.layers))
    for name in ("colors_pixels", "colors_features"):
        assert (workdir / "figures" / f"{name}.png").stat().st_size > 10_000
    assert "all found" in capsys.readouterr().out
    made = {f: f.stat().st_mtime for f in (workdir / "parts").iterdir()}
    assert len(made) == 2 + 3 + 1
    lost = workdir / "parts" / "locality-places-0.npz"
    before = np.load(lost)["mass"]
    lost.unlink()
    trained = []
    go_on = models.train.go_on
    monkeypatch.setattr(
        models.train, "go_on", lambda *a: trained.append(a) or go_on(*a)
    )
    colors.main(config, workdir)
    # Only the model whose part was gone is read again, and answers the same.
    assert len(trained) == 1
    np.testing.assert_array_equal(np.load(lost)["mass"], before)
    for file, time in made.items():
        assert file == lost or file.stat().st_mtime == time
    config.sample.images = 3
    with pytest.raises(ValueError, match="another config"):
        colors.main(config, workdir)


def test_the_figure_of_features_says_which_background_it_is_over():
    """Matrices of both backgrounds; points only where there is a cosine."""
    config = tiny()
    row = {
        "yellow": [0.5] * 7 + [1.0],
        "yellow_width": [None] * 8,
        "matrix": np.eye(8).tolist(),
        "rho": -0.9,
        "p": 0.01,
    }
    f = config.features
    rows = [
        row | {"of": of, "pooled": True, "sigma": f.sigma, "told": "own"} | over
        for over in ({"background": "empty"}, {"background": "any"})
        for of in ("shift", "image", "score", f.layer)
    ]
    numbers = {
        "cosines": rows,
        "composed": dict.fromkeys(scenes.COLORS, 0.1),
        "least_rho": 0.786,
    }
    figure = color_pictures.features(config, numbers)
    labels = {ax.get_ylabel() for ax in figure.axes}
    assert {"shifts from the empty scene", "shifts from any scene"} <= labels
