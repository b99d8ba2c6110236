"""The detector: its parts on hand-made input, and its error rates on renders."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compjax import scenes
from compjax.networks.heatmap import HeatMap, Maps
from compjax.scenes import detect, detector
from compjax.scenes.detector import MOST, WEIGHTS, decode, resampling, resize
from experiments.scenes import evaluate_detector, pool

REFERENCES = Path(__file__).parents[3] / "shared" / "data" / "clevr_reference"
SCENES = 64


def maps(*peaks, cells=16):
    """Heat-maps with peaks (x, y, heat, class) and offsets of a quarter cell."""
    heat = np.full((1, cells, cells), -9.0, np.float32)
    classes = np.zeros((1, cells, cells, 8), np.float32)
    for x, y, value, index in peaks:
        heat[0, y, x] = value
        classes[0, y, x, index] = 1.0
    offset = np.full((1, cells, cells, 2), 0.25, np.float32)
    split = [jnp.asarray(classes[..., :n]) for n in (8, 3, 2, 2)]
    return Maps(jnp.asarray(heat), jnp.asarray(offset), *split)


def test_peaks_become_objects_best_first():
    found = decode(maps((3, 5, 2.0, 1), (12, 5, 6.0, 0)), threshold=0.5)
    assert found.valid[0].sum() == 2 and found.xy.shape == (1, MOST, 2)
    # Cell (12, 5): its centre and a quarter of a cell, as fractions of 16 cells.
    np.testing.assert_allclose(
        found.xy[0, :2], np.array([[12.75, 5.75], [3.75, 5.75]]) / 16, rtol=1e-6
    )
    expected = 1 / (1 + np.exp(-np.array([6.0, 2.0])))
    np.testing.assert_allclose(found.score[0, :2], expected, rtol=1e-6)
    for looks in (found.color, found.shape, found.material):
        np.testing.assert_array_equal(looks[0, :2], [0, 1])
    np.testing.assert_array_equal(found.size[0, :2], np.float32(scenes.SIZES))


def test_only_the_highest_of_neighbours_is_an_object():
    beside = decode(maps((3, 5, 2.0, 0), (4, 6, 3.0, 0)), threshold=0.5)
    assert beside.valid.sum() == 1
    # Two cells are four pixels of 128: as close as visible centres come.
    apart = decode(maps((3, 5, 2.0, 0), (5, 5, 3.0, 0)), threshold=0.5)
    assert apart.valid.sum() == 2


@given(st.floats(-4, 4), st.floats(0.05, 0.95))
def test_what_scores_more_than_the_threshold_is_valid(heat, threshold):
    score = 1 / (1 + np.exp(-np.float64(heat)))
    found = decode(maps((8, 8, heat, 0)), threshold)
    if abs(score - threshold) > 1e-5:
        assert found.valid.sum() == (score > threshold)


@given(st.integers(1, 40), st.integers(1, 40))
def test_resampling_keeps_constants_and_averages(old, new):
    matrix = resampling(old, new).astype(float)
    # Sums of at most 40 numbers in float32, each rounded to 6e-8 of 1.
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=40 * 6e-8)
    assert (matrix >= 0).all()
    if new <= old:  # every pixel of old counts alike: the mean is kept
        np.testing.assert_allclose(matrix.sum(axis=0), new / old, atol=40 * 6e-8)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 100))
def test_shrinking_by_a_whole_factor_is_the_mean_of_blocks(factor, side, seed):
    image = np.random.default_rng(seed).uniform(size=(1, factor * side, side, 3))
    blocks = image.reshape(1, side, factor, side, 3).mean(axis=2)
    np.testing.assert_allclose(resize(image, (side, side)), blocks, atol=1e-6)


def test_growing_interpolates_a_ramp_between_centres_of_pixels():
    ramp = np.broadcast_to((np.arange(4) + 0.5)[:, None, None] / 4, (1, 4, 1, 3))
    grown = np.asarray(resize(ramp, (8, 1)))[0, :, 0, 0]
    inside = (np.arange(8) + 0.5)[1:-1] / 8
    np.testing.assert_allclose(grown[1:-1], inside, atol=1e-6)
    np.testing.assert_allclose(grown[[0, -1]], [1 / 8, 7 / 8], atol=1e-6)


@functools.cache
def held_out():
    """Scenes that are in no pool, and what there is to find in them."""
    drawn = pool.held_out(7, SCENES)
    return drawn, pool.labels(drawn)


@functools.cache
def some_pictures():
    drawn = jax.tree.map(lambda x: x[:5], held_out()[0])
    return np.asarray(pool.pictures(drawn, (64, 64)))


def assert_same(a, b):
    """The same objects; candidates that are not valid may be in another order.

    Convolutions add up in another order in another batch: 1e-3 pixels is far more.
    """
    a, b = (jax.tree.map(np.asarray, found) for found in (a, b))
    np.testing.assert_array_equal(a.valid, b.valid)
    np.testing.assert_allclose(a.score, b.score, atol=1e-4)
    kept = a.valid
    np.testing.assert_allclose(a.xy[kept], b.xy[kept], atol=1e-3)
    for x, y in zip(a[3:], b[3:], strict=True):
        np.testing.assert_array_equal(x[kept], y[kept])


def test_an_image_is_seen_the_same_in_any_batch_and_inside_jit():
    images = some_pictures()
    together = detect(images)
    alone = [detect(image[None]) for image in images]
    assert_same(together, jax.tree.map(lambda *x: np.concatenate(x), *alone))
    assert_same(together, jax.jit(detect)(images))
    assert together.valid.any()


def test_pixels_made_of_several_show_the_same():
    """The 128 x 128 that the network sees are averages of 256 x 384 then."""
    images = some_pictures()[:2]
    seen = np.asarray(resize(images, (128, 128)))
    finer = seen.repeat(2, axis=1).repeat(3, axis=2)
    small, large = detect(seen), detect(finer)
    assert_same(small, large._replace(xy=large.xy / np.array([[[3.0, 2.0]]])))


def test_values_a_little_outside_are_taken_as_the_nearest():
    images = 1.3 * some_pictures()[:2] - 0.1
    assert images.max() > 1 and images.min() > -0.5
    assert_same(detect(images), detect(np.clip(images, 0, 1)))


def test_no_images_have_no_objects():
    found = detect(np.zeros((0, 32, 32, 3)))
    assert found.xy.shape == (0, MOST, 2) and scenes.valid_xy(found) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32, 3)), r"image\[None\]"),
        (np.zeros((1, 32, 32, 4)), r"give \[b, h, w, 3\]"),
        (np.zeros((1, 0, 32, 3)), r"give \[b, h, w, 3\]"),
        (np.zeros((1, 32, 32, 3), np.uint8), "divided by 255"),
        (np.full((1, 32, 32, 3), np.nan), "not finite"),
        (np.full((1, 32, 32, 3), 200.0), "clipped"),
        (np.full((1, 32, 32, 3), -0.9), "clipped"),
    ],
)
def test_bad_input_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        detect(images)


def test_the_weights_are_small_and_are_those_of_the_network():
    assert WEIGHTS.stat().st_size <= 1_000_000
    params = detector._load(WEIGHTS)
    image = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
    like = jax.eval_shape(HeatMap().init, jax.random.key(0), image)["params"]
    shapes = lambda tree: jax.tree.map(lambda leaf: leaf.shape, tree)
    assert shapes(params) == shapes(like)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def at_least(share, claim, among):
    """Whether a share is compatible with the claim: a chance of one in a thousand."""
    return share >= stats.binom.ppf(1e-3, among, claim) / among


@pytest.mark.parametrize(
    ("side", "exact", "recall", "precision"),
    [(128, 0.95, 0.98, 0.98), (64, 0.95, 0.98, 0.98), (32, 0.90, 0.97, 0.97)],
)
def test_error_rates_on_scenes_it_has_not_seen(side, exact, recall, precision):
    drawn, truth = held_out()
    found = detect(pool.pictures(drawn, (side, side)))
    row = evaluate_detector.score(found, truth, (side, side))
    objects = int(truth["present"].sum())
    assert objects > 200
    assert at_least(row["exact"], exact, SCENES), row
    assert at_least(row["recall"], recall, objects), row
    assert at_least(row["precision"], precision, objects), row
    assert row["color"] > 0.9 and row["size"] > 0.9, row


def test_error_rates_on_blenders_pictures():
    if not (REFERENCES / "scenes.json").exists():
        pytest.skip(f"there are no reference renders in {REFERENCES}")
    images, truth = evaluate_detector.load_references(REFERENCES)
    row = evaluate_detector.score(detect(images), truth, (128, 128))
    assert row["recall"] >= 0.95 and row["precision"] >= 0.95, row


def test_scores_of_known_mistakes():
    """Two objects, one of them barely visible: found both, one, and one too many."""
    truth = {
        "xy": np.array([[[0.25, 0.5], [0.75, 0.5]]] * 3),
        "present": np.ones((3, 2), bool),
        "visible": np.array([[900, 900], [900, 900], [900, 50]]),
    }
    both, far = np.array([[16.0, 32.0], [48.0, 32.0]]), np.array([[60.0, 60.0]])
    found = [both, both[:1], np.concatenate([both, far])]
    row = evaluate_detector.score_xy(found, truth, (64, 64))
    # Visible: 5, of which one is missed.  Answers: 6, of which one is nothing; that
    # on the barely visible object is right.  Exact: two images count, one is.
    assert row["recall"] == 4 / 5 and row["precision"] == 5 / 6
    assert row["exact"] == 1 / 2
