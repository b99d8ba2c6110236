"""The renderer: geometry against exact oracles, light against ranges and laws."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes_cases import a_scene

from compjax.scenes import COLORS, pixel_coords, render, sample
from compjax.scenes.camera import ASPECT, FOCAL_LENGTH
from compjax.scenes.scene import CAMERA
from compjax.scenes.shapes import FAR, bodies, hit
from compjax.scenes.vectors import Vec, vec

SIZE = (96, 128)


@functools.cache
def renderer():
    """One compiled program for every scene of two slots, and its value as an array."""
    draw = jax.jit(lambda scene: render(scene, SIZE))
    return lambda scene: np.asarray(draw(scene))


def two(present=(True, False), **changes):
    return a_scene(**({"xy": np.zeros((2, 2)), "present": present} | changes))


def mask(scene):
    """Where a picture in red differs in hue from the grey empty scene."""
    image = renderer()(scene)
    return image[..., 0] - image[..., 2] > 0.06


def centroid(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


def test_an_empty_scene_shows_no_object():
    empty = renderer()(two((False, False)))
    assert np.ptp(empty, axis=-1).max() < 0.06  # grey all over
    assert np.abs(np.diff(empty, axis=0)).max() < 0.03  # and without edges
    assert np.abs(np.diff(empty, axis=1)).max() < 0.03
    assert 0.35 < empty.min() < empty.max() < 0.7
    elsewhere = two((False, False), xy=[[1.0, 2.0], [-2.0, 0.0]])
    np.testing.assert_array_equal(renderer()(elsewhere), empty)


@pytest.mark.parametrize("shape", [0, 1, 2])
@pytest.mark.parametrize("xy", [(2.0, -2.0), (-2.5, 1.0), (0.5, 2.5)])
def test_an_object_appears_where_it_projects(shape, xy):
    scene = two(xy=[xy, (0.0, 0.0)], shape=[shape, 0])
    expected = np.asarray(pixel_coords(scene, SIZE))[0, :2]
    assert np.linalg.norm(centroid(mask(scene)) - expected) < 1.5


@pytest.mark.parametrize("radius", [0.7, 0.35])
@pytest.mark.parametrize("xy", [(2.0, -1.0), (-2.5, -2.0), (0.0, 0.0)])
def test_a_sphere_fills_its_exact_silhouette(radius, xy):
    scene = two(xy=[xy, (0.0, 0.0)], size=[radius, 0.7])
    # A ray meets the sphere iff its angle to the centre is below asin(r / distance).
    camera = np.array(CAMERA)
    backward = camera / np.linalg.norm(camera)
    right = np.cross([0, 0, 1], backward)
    right /= np.linalg.norm(right)
    x = ((np.arange(SIZE[1]) + 0.5) / SIZE[1] - 0.5)[None, :, None] / FOCAL_LENGTH
    y = (0.5 - (np.arange(SIZE[0]) + 0.5) / SIZE[0])[:, None, None]
    ray = right * x + np.cross(backward, right) * y / (FOCAL_LENGTH * ASPECT) - backward
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    centre = np.array([*xy, radius]) - camera
    angle = np.arccos(ray @ centre / np.linalg.norm(centre))
    inside = angle < np.arcsin(radius / np.linalg.norm(centre))
    seen = mask(scene)
    rim = np.sqrt(inside.sum() * 4 * np.pi)
    assert (inside != seen).sum() < 0.5 * rim
    assert abs(seen.sum() / inside.sum() - 1) < 0.12


@pytest.mark.parametrize(("shape", "inner", "power"), [(0, 0.75, 3), (1, 0.0, 2)])
def test_rays_stop_on_the_surface(shape, inner, power):
    """The oracle is the implicit surface of CLEVR's mesh, evaluated in NumPy."""
    scene = a_scene(shape=[shape], rotation=[0.4])
    body = jax.tree.map(lambda leaf: leaf[0], bodies(scene))
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2000, 3))
    start = 6 * start / np.linalg.norm(start, axis=1, keepdims=True)
    start[:, 2] += 0.7
    target = rng.uniform(-0.7, 0.7, size=(2000, 3)) + [0, 0, 0.7]
    d = (target - start) / np.linalg.norm(target - start, axis=1, keepdims=True)
    t = np.asarray(hit(body, _vec(start), _vec(d)))
    assert (t < FAR).mean() > 0.7
    p = (start + d * t[:, None] - [0, 0, 0.7])[t < FAR] / 0.7
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    p[:, :2] = p[:, :2] @ turn
    q = np.maximum(np.abs(p) - inner, 0) / (1 - inner)
    value = (q**power).sum(axis=1)
    assert np.quantile(np.abs(value - 1), 0.98) < 5e-3
    assert np.abs(value - 1).max() < 0.03
    # Rays aimed well inside must hit; those that miss must pass outside.
    core = np.linalg.norm(target - [0, 0, 0.7], axis=1) < 0.6
    assert (t[core] < FAR).all()


def _vec(points):
    return Vec(*(jnp.asarray(points[:, i], jnp.float32) for i in range(3)))


def test_the_nearer_object_hides_the_farther():
    blue = COLORS.index("blue")
    towards = np.array(CAMERA[:2]) / np.linalg.norm(CAMERA[:2])
    near, far = 1.5 * towards, -0.5 * towards
    places = {"xy": [near, far], "color": [1, blue], "present": (True, True)}
    x, y = np.asarray(pixel_coords(two(**places), SIZE))[0, :2].astype(int)
    red_in_front = renderer()(two(**places))[y, x]
    blue_in_front = renderer()(two(**(places | {"xy": [far, near]})))
    x, y = np.asarray(pixel_coords(two(**places), SIZE))[0, :2].astype(int)
    assert red_in_front[0] > red_in_front[2] + 0.2
    assert blue_in_front[y, x, 2] > blue_in_front[y, x, 0] + 0.2


@pytest.mark.parametrize("material", [0, 1])
@pytest.mark.parametrize("color", range(len(COLORS)))
def test_objects_show_their_color(color, material):
    from compjax.scenes.scene import COLOR_RGB

    scene = two(color=[color, 0], material=[material, 0], shape=[0, 0])
    x, y = np.asarray(pixel_coords(scene, SIZE))[0, :2].astype(int)
    patch = renderer()(scene)[y - 2 : y + 3, x - 2 : x + 3].mean(axis=(0, 1)) ** 2.2
    paint = np.array(COLOR_RGB[color])
    cosine = patch @ paint / np.linalg.norm(patch) / np.linalg.norm(paint)
    assert cosine > 0.98


def test_objects_cast_shadows_and_only_darken_the_ground():
    scene = two()
    change = renderer()(scene) - renderer()(two((False, False)))
    ground = ~mask(scene)
    assert change[ground].max() < 0.06
    assert change[ground].min() < -0.1


def test_pictures_are_finite_and_in_range_and_vmap_agrees_with_one_by_one():
    keys = jax.random.split(jax.random.key(0), 8)
    scenes = jax.jit(jax.vmap(lambda key: sample(key, 0, 2)))(keys)
    batch = np.asarray(jax.jit(jax.vmap(lambda s: render(s, SIZE)))(scenes))
    assert np.isfinite(batch).all()
    assert batch.min() >= 0.0 and batch.max() <= 1.0
    for i in range(8):
        alone = renderer()(jax.tree.map(lambda leaf, i=i: leaf[i], scenes))
        # Rounding may decide which of two equally near points a pixel shows.
        assert (np.abs(alone - batch[i]) > 2e-3).mean() < 1e-3


@pytest.mark.slow
def test_gradients_are_finite_and_agree_with_differences():
    scene = two((True, True), xy=[[1.0, -1.0], [-1.0, 1.0]], material=[0, 1])

    def brightness(scene):
        return render(scene, SIZE).mean()

    gradient = jax.jit(jax.grad(brightness, allow_int=True))(scene)
    for name in ("xy", "rotation", "size", "camera", "lamps"):
        assert np.isfinite(np.asarray(getattr(gradient, name))).all(), name
    # The key lamp moves away: darker, by as much as differences say.
    slope = (gradient.lamps[0] * scene.lamps[0]).sum()
    near, far = (
        dataclasses.replace(scene, lamps=scene.lamps.at[0].multiply(factor))
        for factor in (0.99, 1.01)
    )
    difference = (renderer()(far).mean() - renderer()(near).mean()) / 0.02
    np.testing.assert_allclose(slope, difference, rtol=0.05)
    assert slope < 0


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="preset = 'nice': choose fast, faithful"):
        render(a_scene(), (8, 8), "nice")
    with pytest.raises(ValueError, match="size ="):
        render(a_scene(), (0, 8))


def test_vectors_are_right_handed():
    from compjax.scenes.vectors import cross

    z = cross(vec((1.0, 0.0, 0.0)), vec((0.0, 1.0, 0.0)))
    assert (float(z.x), float(z.y), float(z.z)) == (0.0, 0.0, 1.0)
