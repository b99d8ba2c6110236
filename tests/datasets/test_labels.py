"""Labels tell what they say of the right objects, and nothing of others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from datasets_cases import stacked
from hypothesis import given, settings
from hypothesis import strategies as st

from compjax import datasets, scenes

SIZE = (32, 48)


def objects(places, present, chosen, color=None, named=None):
    """One example, with the batch axis."""
    n = len(present)
    named = present if named is None else named
    leaves = {
        "xy": np.array(places, np.float32),
        "radius": np.full(n, 0.7, np.float32),
        "shape": np.zeros(n, np.int32),
        "color": np.zeros(n, np.int32) if color is None else np.array(color, np.int32),
        "material": np.zeros(n, np.int32),
        "present": np.array(present),
        "chosen": np.int32(chosen),
        "named": np.array(named),
    }
    return datasets.Objects(**{k: v[None] for k, v in leaves.items()}, picture=SIZE)


def test_the_chosen_object_is_any_that_is_present():
    scene = scenes.sample(jax.random.key(0), 4, 4)
    holes = jnp.array([True, False, True, True])
    scene = jax.tree.map(lambda x: x, scene)
    leaves = {f: getattr(scene, f) for f in vars(scene)} | {"present": holes}
    scene = scenes.Scene(**leaves)
    n = 1200
    choose = jax.jit(jax.vmap(lambda key: datasets.observe(key, scene, SIZE).chosen))
    count = np.bincount(choose(jax.random.split(jax.random.key(1), n)), minlength=4)
    assert count[1] == 0
    # A binomial count stays within 5 standard deviations but once in a million.
    sigma = np.sqrt(n * (1 / 3) * (2 / 3))
    assert np.abs(count[[0, 2, 3]] - n / 3).max() < 5 * sigma


def test_named_are_the_chosen_one_and_others_by_coins():
    """The law of the set S, of n = 3 objects: |S| / (n 2^(n - 1))."""
    scene = scenes.sample(jax.random.key(0), 4, 4)
    scene = dataclasses.replace(scene, present=jnp.array([True, False, True, True]))
    n = 2400
    see = jax.jit(jax.vmap(lambda key: datasets.observe(key, scene, SIZE)))
    seen = see(jax.random.split(jax.random.key(1), n))
    named, chosen = np.asarray(seen.named), np.asarray(seen.chosen)
    assert named[np.arange(n), chosen].all() and not named[:, 1].any()
    sets, count = np.unique(named, axis=0, return_counts=True)
    assert len(sets) == 7  # all but the empty set
    p = sets.sum(axis=1) / (3 * 2**2)
    # Binomial counts stay within 5 standard deviations but once in a million.
    assert (np.abs(count - n * p) < 5 * np.sqrt(n * p * (1 - p))).all()
    # And the chosen one is any of them: that it is always named shows nothing of it.
    pairs = chosen[named.sum(axis=1) == 2]
    share = np.bincount(pairs, minlength=4)[[0, 2, 3]] / len(pairs)
    assert np.abs(share - 1 / 3).max() < 5 * np.sqrt(2 / 9 / len(pairs))


def test_nobody_is_named_where_nobody_is():
    scene = scenes.sample(jax.random.key(0), 0, 0)
    assert not datasets.observe(jax.random.key(1), scene, SIZE).named.any()


def test_objects_of_which_it_is_not_known_who_is_named_are_refused():
    one = dataclasses.replace(objects([(0.5, 0.5)], [True], 0), named=None)
    assert datasets.locations_of_all(one).any()
    with pytest.raises(ValueError, match="nobody drew which objects are named"):
        datasets.vector_of_some(one)


VECTORS = {
    datasets.vector_of_one: datasets.locations_of_one,
    datasets.vector_of_some: datasets.locations_of_some,
    datasets.vector_of_all: datasets.locations_of_all,
}


@pytest.mark.parametrize("label", VECTORS, ids=lambda label: label.__name__)
def test_vectors_are_the_cells_of_grids_row_by_row(label):
    places = [(0.1, 0.2), (0.7, 0.9), (0.4, 0.4)]
    there = objects(places, [True] * 3, 1, named=[True, True, False])
    said, grid = np.asarray(label(there)), np.asarray(VECTORS[label](there))
    assert said.shape == (1, 16 * 16 + 1)
    for row in range(16):
        for column in range(16):
            assert said[0, 16 * row + column] == grid[0, row, column, 0]
    told = {"one": [1], "some": [0, 1], "all": [0, 1, 2]}[label.__name__[10:]]
    cells = [16 * int(16 * y) + int(16 * x) for x, y in (places[i] for i in told)]
    assert np.flatnonzero(said[0]).tolist() == sorted(cells)
    # A one-hot has norm 1, as `UNet` wants it; null is one, empty is zero.
    assert np.linalg.norm(said) == pytest.approx(np.sqrt(len(told)))
    images = np.zeros((1, *SIZE, 3), np.float32)
    key = jax.random.key(0)
    null = np.asarray(datasets.labelled(key, images, there, label, 1.0)[1])
    np.testing.assert_array_equal(null, datasets.flat(scenes.null(grid)))
    assert np.linalg.norm(null) == 1 and null[0, -1] == 1
    np.testing.assert_array_equal(scenes.empty(said), np.zeros_like(said))


def test_observing_says_what_the_scene_holds():
    scene = scenes.sample(jax.random.key(2), 3, 3)
    seen = datasets.observe(jax.random.key(3), scene, SIZE)
    pixels = np.asarray(scenes.pixel_coords(scene, SIZE))[:, :2]
    fractions = pixels / np.array([48, 32])
    np.testing.assert_allclose(seen.xy, fractions, rtol=1e-5)
    for ours, theirs in (("radius", "size"), ("shape",) * 2, ("color",) * 2):
        np.testing.assert_array_equal(getattr(seen, ours), getattr(scene, theirs))
    assert seen.picture == SIZE


@settings(max_examples=15)
@given(st.data())
def test_telling_each_object_in_turn_tells_them_all(data):
    n = data.draw(st.integers(1, 4))
    where = st.tuples(*[st.floats(0, 1, allow_subnormal=False)] * 2)
    places = data.draw(st.lists(where, min_size=n, max_size=n))
    colors = data.draw(st.lists(st.integers(0, 7), min_size=n, max_size=n))
    present = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    turns = [objects(places, present, i, colors) for i in range(n) if present[i]] or [
        objects(places, present, -1, colors)
    ]
    for one, all_ in (
        (datasets.locations_of_one, datasets.locations_of_all),
        (datasets.vector_of_one, datasets.vector_of_all),
        (datasets.locations_of_one, datasets.locations_of_some),
        (datasets.bumps_of_one, datasets.bumps_of_all),
        (datasets.color_of_one, datasets.colors_of_all),
    ):
        union = np.max([one(turn) for turn in turns], axis=0)
        np.testing.assert_allclose(union, all_(turns[0]), atol=1e-6)
        assert (np.asarray(union)[..., -1] == 0).all()  # known


def test_a_label_of_one_object_is_that_of_a_scene_with_only_it():
    places, color = [(0.1, 0.2), (0.7, 0.9)], [3, 5]
    both = objects(places, [True, True], 1, color)
    alone = objects(places[1:], [True], 0, color[1:])
    for label in (
        datasets.location_of_one,
        datasets.locations_of_one,
        datasets.bumps_of_one,
        datasets.color_of_one,
    ):
        np.testing.assert_array_equal(label(both), label(alone))


def test_nothing_to_tell_is_the_empty_condition():
    nothing = objects([(0.5, 0.5)], [False], -1)
    for label in (
        datasets.location_of_one,
        datasets.locations_of_some,
        datasets.locations_of_all,
        datasets.vector_of_some,
        datasets.bumps_of_all,
        datasets.color_of_one,
        datasets.colors_of_all,
    ):
        said = label(nothing)
        np.testing.assert_array_equal(said, scenes.empty(said))


def test_withheld_labels_are_null_and_those_of_empty_scenes_stay():
    there, gone = objects([(0.5, 0.5)], [True], 0), objects([(0.5, 0.5)], [False], -1)
    many = jax.tree.map(lambda *x: np.concatenate(x), *[there, gone] * 400)
    images = np.zeros((800, *SIZE, 3), np.float32)
    label = datasets.color_of_one
    withheld = jax.jit(lambda key, p: datasets.labelled(key, images, many, label, p)[1])
    said = label(many)
    for null in (0.0, 1.0):
        condition = np.asarray(withheld(jax.random.key(0), null))
        np.testing.assert_array_equal(condition[1::2], scenes.empty(condition[1::2]))
        expected = scenes.null(said) if null else said
        np.testing.assert_array_equal(condition[::2], expected[::2])
    rate = np.asarray(withheld(jax.random.key(1), 0.25))[::2, -1].mean()
    # 400 of them: 5 standard deviations.
    assert abs(rate - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 400)


def test_bytes_and_fractions_are_the_same_data():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), np.uint8)
    both = stacked([objects([(0.5, 0.5)], [True], 0)] * 2)
    both = jax.tree.map(lambda x: x[:, 0], both)
    offset = np.full((4, 5, 3), 0.25, np.float32)
    run = lambda images: datasets.labelled(
        jax.random.key(0), images, both, datasets.color_of_one, 0.0, 4.0, offset
    )[0]
    x0 = run(images)
    np.testing.assert_allclose(
        x0, run(jnp.asarray(images / 255, jnp.float32)), atol=1e-6
    )
    np.testing.assert_allclose(x0, 4 * (images / 255 - 0.25), atol=1e-6)


@pytest.mark.parametrize("n", [1, 3])
def test_labels_trace(n):
    one = objects([(0.5, 0.5)] * n, [True] * n, 0)
    shapes = jax.eval_shape(datasets.location_of_one, one)
    assert shapes.shape == (1, 129)
