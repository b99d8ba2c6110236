"""Which object a pixel shows, CLEVR's rule of 200 pixels, and relations of pairs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes_cases import a_scene

from compjax.scenes import (
    RELATIONS,
    first,
    object_map,
    relationships,
    sample,
    sample_visible,
    visible_pixels,
)
from compjax.scenes.relations import DIRECTIONS
from compjax.scenes.scene import CAMERA
from compjax.scenes.visible import everything_shows

SIZE = (60, 80)
draw = jax.jit(lambda seed: sample(jax.random.key(seed), 2, 6))
shown = jax.jit(lambda scene: object_map(scene, SIZE))
counted = jax.jit(lambda scene: visible_pixels(scene, SIZE))


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**20))
def test_pixels_belong_to_one_object_or_the_ground(seed):
    scene = draw(seed)
    pixels, count = np.asarray(shown(scene)), np.asarray(counted(scene))
    np.testing.assert_array_equal(np.bincount(pixels.ravel(), minlength=7)[:6], count)
    assert not count[~np.asarray(scene.present)].any()
    # Taking away the last object uncovers others and never covers one.
    fewer = np.asarray(counted(first(scene, 1)))
    assert fewer[0] >= count[0]
    assert not fewer[1:].any()


def test_a_sphere_covers_the_solid_angle_it_should():
    """Pixels are squares in the image plane; the silhouette there is an ellipse."""
    scene = a_scene(xy=[[0.0, 0.0]])
    camera = np.asarray(scene.camera, float)
    offset = np.array([0.0, 0.0, 0.7]) - camera
    distance, depth = np.linalg.norm(offset), -offset @ camera / np.linalg.norm(camera)
    # A cone of half-angle a about a line at angle t from the axis meets the plane in an
    # ellipse of area pi sin(a)^2 cos(a) cos(t) / (cos(t)^2 - sin(a)^2)^(3/2).
    sine, cosine = 0.7 / distance, depth / distance
    area = np.pi * sine**2 * np.sqrt(1 - sine**2) * cosine
    area /= (cosine**2 - sine**2) ** 1.5
    pixels = area * (35 / 32 * 320) ** 2
    # A disc's grid points miss its area by about the square root of its rim.
    got = int(visible_pixels(scene)[0])
    assert abs(got - pixels) < 2 * np.sqrt(2 * np.sqrt(np.pi * pixels))


def test_scenes_that_show_everything_keep_camera_and_count():
    keys = lambda: jax.random.split(jax.random.key(4), 12)
    plain = jax.lax.map(lambda key: sample(jax.random.split(key)[1], 9, 10), keys())
    scenes = jax.jit(lambda keys: jax.lax.map(lambda k: sample_visible(k, 9, 10), keys))
    scenes = scenes(keys())
    count = np.asarray(jax.lax.map(visible_pixels, scenes))
    present = np.asarray(scenes.present)
    assert (count[present] >= 200).all()
    np.testing.assert_array_equal(present, plain.present)
    np.testing.assert_array_equal(scenes.camera, plain.camera)
    hidden = np.asarray(jax.lax.map(visible_pixels, plain))
    hidden = ((hidden < 200) & np.asarray(plain.present)).any(axis=1)
    assert 0 < hidden.sum() < 12  # some were drawn again, some were not
    same = (np.asarray(scenes.xy) == np.asarray(plain.xy)).all(axis=(1, 2))
    np.testing.assert_array_equal(same, ~hidden)


def test_the_rule_is_200_pixels():
    """A small sphere goes behind a large one: it shows less and less."""
    towards = np.array(CAMERA[:2]) / np.linalg.norm(CAMERA[:2])
    aside = np.array([-towards[1], towards[0]])
    steps = np.linspace(0.3, 1.2, 60)
    hidden = -1.5 * towards + steps[:, None] * aside
    xy = np.stack([np.zeros((60, 2)), hidden], axis=1).astype(np.float32)
    pair = a_scene(xy=np.zeros((2, 2)), size=[0.7, 0.35])

    def look(xy):
        scene = dataclasses.replace(pair, xy=xy)
        return visible_pixels(scene)[1], everything_shows(scene)

    count, shows = jax.jit(lambda xy: jax.lax.map(look, xy))(xy)
    count = np.asarray(count)
    np.testing.assert_array_equal(shows, count >= 200)
    assert ((count > 170) & (count < 200)).any()
    assert ((count >= 200) & (count < 230)).any()


def test_a_pixel_shows_what_its_middle_shows():
    """A ray meets the sphere iff its angle to the centre is small enough."""
    scene = a_scene(xy=[[1.5, -1.0]])
    camera = np.asarray(scene.camera, float)
    back = camera / np.linalg.norm(camera)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    x = ((np.arange(80) + 0.5) / 80 - 0.5)[None, :, None] / (35 / 32)
    y = (0.5 - (np.arange(60) + 0.5) / 60)[:, None, None] * 3 / 4 / (35 / 32)
    ray = right * x + np.cross(back, right) * y - back
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    centre = np.array([1.5, -1.0, 0.7]) - camera
    distance = np.linalg.norm(centre)
    inside = ray @ centre > np.sqrt(distance**2 - 0.7**2)
    # float32 may decide a ray along the rim either way.
    assert (np.asarray(shown(scene)) == 0)[inside].sum() >= inside.sum() - 2
    assert (np.asarray(shown(scene)) == 0)[~inside].sum() <= 2


@settings(deadline=None, max_examples=60)
@given(
    xy=st.lists(
        st.tuples(st.floats(-1, 1, width=32), st.floats(-1, 1, width=32)),
        min_size=4,
        max_size=4,
    ),
    present=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_relations_are_those_of_clevrs_definition(xy, present):
    """Brute force over pairs, in float64; pairs on the edge may fall either way."""
    related = np.asarray(relationships(a_scene(xy=xy, present=present)))
    xy = np.array(xy)
    for r, name in enumerate(RELATIONS):
        direction = np.array(DIRECTIONS[name][:2])
        for i in range(4):
            for j in range(4):
                along = (xy[j] - xy[i]) @ direction
                if abs(along - 0.2) > 1e-5:
                    exists = present[i] and present[j]
                    assert related[r, i, j] == (along > 0.2 and exists)


def test_an_empty_scene_shows_the_ground():
    nothing = dataclasses.replace(a_scene(), present=jnp.array([False]))
    assert (np.asarray(object_map(nothing, SIZE)) == 1).all()


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="size ="):
        object_map(a_scene(), (0, 8))
