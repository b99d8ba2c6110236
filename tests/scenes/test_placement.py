"""CLEVR's placement rules hold for every scene that is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax.scenes import SIZES, first, pixel_coords, sample, sample_apart
from compjax.scenes.relations import DIRECTIONS
from compjax.scenes.scene import CAMERA, LAMP_POSITIONS


@functools.cache
def crowd():
    keys = jax.random.split(jax.random.key(0), 300)
    return jax.jit(jax.vmap(lambda key: sample(key, 3, 10)))(keys)


def pairs(scene):
    """Differences of all pairs of present objects, and the sums of their radii."""
    xy, size = np.asarray(scene.xy), np.asarray(scene.size)
    present = np.asarray(scene.present)
    both = present[:, :, None] & present[:, None, :] & ~np.eye(xy.shape[1], dtype=bool)
    offset = xy[:, :, None] - xy[:, None]
    return offset[both], (size[:, :, None] + size[:, None])[both]


def test_objects_keep_clevrs_distances():
    offset, radii = pairs(crowd())
    assert len(offset) > 5000
    assert (np.linalg.norm(offset, axis=-1) - radii).min() >= 0.25 - 1e-5
    assert np.abs(offset @ np.array(DIRECTIONS["right"][:2])).min() >= 0.4 - 1e-5
    assert np.abs(offset @ np.array(DIRECTIONS["behind"][:2])).min() >= 0.4 - 1e-5


def test_everything_is_drawn_from_clevrs_ranges():
    scene = crowd()
    count = scene.present.sum(axis=1)
    assert set(np.unique(count)) == set(range(3, 11))
    filled = np.arange(10)[None] < np.asarray(count)[:, None]
    np.testing.assert_array_equal(scene.present, filled)
    assert jnp.abs(scene.xy).max() <= 3.0
    assert set(np.unique(scene.size)) == set(np.float32(SIZES))
    for values, number in ((scene.shape, 3), (scene.color, 8), (scene.material, 2)):
        assert set(np.unique(values)) == set(range(number))
    camera = np.abs(np.asarray(scene.camera) - np.array(CAMERA))
    lamps = np.abs(np.asarray(scene.lamps) - np.array(LAMP_POSITIONS))
    assert 0.45 < camera.max() <= 0.5 + 1e-5
    assert 0.9 < lamps.max() <= 1.0 + 1e-5


def test_a_batch_is_its_scenes_one_by_one():
    keys = jax.random.split(jax.random.key(0), 300)
    draw = jax.jit(lambda key: sample(key, 3, 10))
    for i in (0, 7, 299):
        alone = draw(keys[i])
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(crowd()), strict=True):
            np.testing.assert_allclose(a, b[i], rtol=1e-6, atol=1e-6)


def test_different_keys_give_different_scenes():
    xy = np.asarray(crowd().xy)[:, 0]
    assert len(np.unique(xy, axis=0)) == len(xy)


def test_no_jitter_leaves_camera_and_lamps_in_place():
    scene = sample(jax.random.key(3), 0, 1, jitter=0.0)
    np.testing.assert_allclose(scene.camera, CAMERA)
    np.testing.assert_allclose(scene.lamps, LAMP_POSITIONS)


def test_a_single_slot_serves_zero_and_one_objects():
    assert not sample(jax.random.key(0), 0, 0).present.any()
    draw = jax.jit(jax.vmap(lambda key: sample(key, 0, 1)))
    scene = draw(jax.random.split(jax.random.key(1), 100))
    assert scene.xy.shape == (100, 1, 2)
    assert 25 < int(scene.present.sum()) < 75


def test_apart_means_apart_in_the_picture_for_every_prefix():
    keys = jax.random.split(jax.random.key(5), 100)
    scene = jax.jit(jax.vmap(lambda key: sample_apart(key, 6, 0.14)))(keys)
    assert scene.present.all()
    seen = np.asarray(jax.vmap(lambda s: pixel_coords(s, (64, 64)))(scene))[..., :2]
    away = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
    assert away[:, ~np.eye(6, dtype=bool)].min() >= 0.14 * 64 - 1e-3
    offset, radii = pairs(scene)
    assert (np.linalg.norm(offset, axis=-1) - radii).min() >= 0.25 - 1e-5
    two = first(jax.tree.map(lambda leaf: leaf[0], scene), 2)
    np.testing.assert_array_equal(two.present, [True, True] + [False] * 4)


def test_what_cannot_fit_is_left_out():
    scene = jax.jit(lambda key: sample_apart(key, 3, 0.95))(jax.random.key(0))
    np.testing.assert_array_equal(scene.present, [True, False, False])


@pytest.mark.parametrize(("fewest", "most"), [(-1, 3), (4, 3), (0, 11)])
def test_bad_counts_are_refused(fewest, most):
    with pytest.raises(ValueError, match="give 0 <= min_objects"):
        sample(jax.random.key(0), fewest, most)


@pytest.mark.parametrize("objects", [0, 11])
def test_bad_numbers_of_separate_objects_are_refused(objects):
    with pytest.raises(ValueError, match=f"objects = {objects}"):
        sample_apart(jax.random.key(0), objects, 0.1)
