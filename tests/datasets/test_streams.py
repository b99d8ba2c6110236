"""Streams draw what their recipes say, and label it as their labels say."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax import datasets, scenes
from compjax.datasets import SingleObject, Stream

SIZE = (32, 32)
MESH = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
draw = jax.jit(lambda stream, key: stream(key))


def test_three_kinds_of_example_say_what_is_there():
    stream = SingleObject(SIZE, 48, empty=0.4, null=0.4)
    x0, condition = map(np.asarray, draw(stream, jax.random.key(0)))
    bump, unknown = condition[..., 0].max((1, 2)), condition[..., 1].min((1, 2))
    shows_object = np.abs(x0).max((1, 2, 3)) > 0.1
    is_null, is_located = unknown == 1, bump > 0.5
    is_empty = ~is_null & ~is_located
    assert is_empty.sum() > 5 and is_null.sum() > 5 and is_located.sum() > 5
    assert not (is_null & is_located).any()
    # Empty images are zero, for the empty scene is subtracted.
    np.testing.assert_allclose(x0[is_empty], 0, atol=1e-5)
    assert (condition[is_empty] == 0).all()
    assert shows_object[is_null | is_located].all()
    # The bump peaks on the object.
    for image, c in zip(x0[is_located], condition[is_located], strict=True):
        row, column = np.unravel_index(c[..., 0].argmax(), SIZE)
        near = np.abs(image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2])
        assert near.max() > 0.05


def test_probabilities_do_not_retrace_and_are_obeyed():
    x0, _ = draw(SingleObject(SIZE, 48, empty=1, null=0), jax.random.key(1))
    assert float(jnp.abs(x0).max()) < 1e-5
    _, condition = draw(SingleObject(SIZE, 48, empty=0, null=1), jax.random.key(2))
    np.testing.assert_array_equal(
        condition, np.broadcast_to(scenes.null(condition), condition.shape)
    )


def test_images_invert():
    stream = SingleObject(SIZE, 48)
    x0, _ = draw(stream, jax.random.key(2))
    images = np.asarray(stream.images(x0))
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(
        float(stream.scale) * (images - np.asarray(stream.background)), x0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"empty": -0.1}, "probability"),
        ({"null": 2}, "probability"),
        ({"batch": 0}, "1"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        SingleObject(**({"size": SIZE, "batch": 2} | change))


def test_a_recipe_draws_its_counts_equally_often_and_labels_what_is_there():
    stream = Stream(datasets.COUNTS_ALL, SIZE, 120, jitter=0.0, null=0.0)
    x0, condition = map(np.asarray, draw(stream, jax.random.key(4)))
    images, objects = jax.jit(lambda stream, key: stream.pictures(key))(
        stream, jax.random.split(jax.random.key(4))[0]
    )
    np.testing.assert_allclose(x0, 2 * np.asarray(images) - 1, atol=1e-6)
    np.testing.assert_allclose(stream.images(x0), images, atol=1e-6)
    np.testing.assert_array_equal(condition, datasets.locations_of_all(objects))
    count = np.asarray(objects.present).sum(axis=1)
    assert set(count) == {1, 2, 3}
    # Binomial counts of 120: 5 standard deviations.
    sigma = np.sqrt(120 * (1 / 3) * (2 / 3))
    assert np.abs(np.bincount(count)[1:] - 40).max() < 5 * sigma
    # Two objects may share a cell, but none is missing and none is made up.
    cells = condition[..., 0].sum(axis=(1, 2))
    assert (cells <= count).all() and (cells >= 1).all() and cells.mean() > 1.9


def test_the_background_is_empty_and_says_so():
    stream = Stream(datasets.BACKGROUND, SIZE, 4, jitter=0.0, null=1.0)
    x0, condition = draw(stream, jax.random.key(5))
    np.testing.assert_array_equal(condition, scenes.empty(condition))
    np.testing.assert_allclose(
        stream.images(x0)[0], SingleObject(SIZE, 1).background, atol=1e-5
    )
    np.testing.assert_array_equal(x0, np.broadcast_to(x0[:1], x0.shape))


def test_jitter_moves_the_camera():
    stream = Stream(datasets.BACKGROUND, SIZE, 4)
    x0, _ = draw(stream, jax.random.key(5))
    assert np.abs(np.diff(x0, axis=0)).max(axis=(1, 2, 3)).min() > 0.01


def test_a_stream_draws_by_the_function_it_is_given():
    stream = Stream(
        datasets.SINGLE, SIZE, 16, draw=datasets.streams.sample_plain, null=0.0
    )
    pictures = jax.jit(lambda stream, key: stream.pictures(key))
    _, objects = pictures(stream, jax.random.key(6))
    assert (np.asarray(objects.radius) == np.float32(0.7)).all()
    assert (np.asarray(objects.material) == 0).all()


def test_objects_at_places_share_none_and_like_all():
    """6000 scenes of three: 1125 +- 34 objects a place, within 4.5 standard errors."""
    draw = lambda key: datasets.streams.sample_at_places(key, 3, 3)
    keys = jax.random.split(jax.random.key(7), 6000)
    xy = np.asarray(jax.jit(jax.vmap(draw))(keys).xy)
    away = np.abs(xy[:, :, None] - datasets.streams.ground_places()).max(-1)
    assert away.min(-1).max() < 0.05 + 1e-6  # float32
    place = away.argmin(-1)
    assert (np.diff(np.sort(place, axis=1), axis=1) > 0).all()
    counts = np.bincount(place.ravel(), minlength=16)
    assert np.abs(counts - 1125).max() < 4.5 * np.sqrt(1125 * 13 / 16)
    # And over all of the little square: a uniform coordinate has the variance h^2 / 3.
    nearest = datasets.streams.ground_places()[place]
    assert np.var(xy - nearest) == pytest.approx(0.05**2 / 3, rel=0.05)


def test_devices_draw_their_parts_of_the_same_batch():
    whole = Stream(datasets.COUNTS_ONE, SIZE, 8)
    split = dataclasses.replace(whole, mesh=MESH)
    one = jax.jit(whole)(jax.random.key(9))
    four = jax.jit(split)(jax.random.key(9))
    assert four[0].sharding.shard_shape(four[0].shape)[0] == 2
    # The same program, which XLA may order otherwise: units of float32's last place.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, four)


def test_a_stream_is_reproducible_and_differs_between_keys():
    stream = Stream(datasets.BACKGROUND, SIZE, 4)
    one, two = draw(stream, jax.random.key(7)), draw(stream, jax.random.key(7))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert np.abs(one[0] - draw(stream, jax.random.key(8))[0]).max() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"empty": -0.1}, "probability"),
        ({"null": 2}, "probability"),
        ({"batch": 0}, "1"),
        ({"batch": 6, "mesh": MESH}, "6 does not split over 4 devices"),
    ],
)
def test_bad_streams_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Stream(**({"recipe": datasets.SINGLE, "size": SIZE, "batch": 2} | change))
