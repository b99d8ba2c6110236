"""The counter's own error rates, on pictures whose objects are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax.scenes import (
    find_objects,
    first,
    hit_radius,
    match,
    pixel_coords,
    render,
    sample_apart,
)

SCENES = 105


@functools.cache
def pictures(side):
    """Pictures of 0 to 6 separate objects, where those are, and the empty scene."""
    keys = jax.random.split(jax.random.key(11), SCENES)
    counts = jnp.arange(SCENES) % 7

    @jax.jit
    @jax.vmap
    def draw(key, count):
        scene = first(sample_apart(key, 6, 0.14, jitter=0.0), count)
        return render(scene, (side, side)), pixel_coords(scene, (side, side))

    images, places = draw(keys, counts)
    truth = [
        p[:k, :2] for p, k in zip(np.asarray(places), np.asarray(counts), strict=True)
    ]
    return np.asarray(images), truth, np.asarray(images[0])


def rates(images, truth, background):
    """Recall and precision of locations, and the share of exact counts."""
    radius = hit_radius(background.shape[:2])
    hits = found = exact = 0
    for image, places in zip(images, truth, strict=True):
        got = find_objects(image, background)
        hits += match(got, places, radius).sum()
        found += len(got)
        exact += len(got) == len(places)
    return hits / sum(map(len, truth)), hits / found, exact / len(images)


@pytest.mark.parametrize(
    ("side", "recall", "precision", "exact"),
    [(64, 0.99, 0.99, 0.97), (32, 0.95, 0.97, 0.90)],
)
def test_error_rates_on_separate_objects(side, recall, precision, exact):
    got = rates(*pictures(side))
    assert got[0] >= recall and got[1] >= precision and got[2] >= exact, got


def test_error_rates_on_noisy_pictures():
    images, truth, background = pictures(64)
    noise = 0.015 * np.random.default_rng(0).normal(size=images.shape)
    recall, precision, exact = rates((images + noise)[:70], truth[:70], background)
    assert recall >= 0.98 and precision >= 0.98 and exact >= 0.93


def test_locations_are_accurate_to_a_pixel_or_so():
    images, truth, background = pictures(64)
    errors = []
    for image, places in zip(images[:70], truth[:70], strict=True):
        found = find_objects(image, background)
        if len(found):
            away = np.linalg.norm(places[:, None] - found[None], axis=-1)
            errors.extend(away.min(axis=1))
    assert np.median(errors) < 1.0


def test_nothing_is_found_where_nothing_is():
    background = pictures(64)[2]
    assert find_objects(background, background).shape == (0, 2)
    # A cloud over the whole picture is a shadow, not an object.
    assert find_objects(0.85 * background, background).shape == (0, 2)


def test_matching_is_one_to_one_and_as_full_as_can_be():
    requested = np.array([[0.0, 0.0], [2.0, 0.0]])
    # The nearest pairing would give one hit: the middle object is near both.
    found = np.array([[0.9, 0.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(match(found, requested, 1.5), [True, True])
    np.testing.assert_array_equal(match(found[:1], requested, 1.5), [True, False])
    assert not match(np.zeros((0, 2)), requested, 1.5).any()
    assert match(found, np.zeros((0, 2)), 1.5).shape == (0,)


def test_the_hit_radius_is_six_pixels_at_128():
    assert hit_radius((128, 128)) == 6.0
    assert hit_radius((48, 64)) == 3.0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="radius = 0"):
        match(np.zeros((1, 2)), np.zeros((1, 2)), 0.0)
    with pytest.raises(ValueError, match="one size"):
        find_objects(np.zeros((8, 8, 3)), np.zeros((8, 9, 3)))
