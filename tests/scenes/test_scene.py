"""Scene, the projection and the condition encodings."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes_cases import a_scene

from compjax.scenes import pixel_coords, sample

REFERENCES = (
    Path(__file__).parents[2].parent / "shared/data/clevr_reference/scenes.json"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xy": np.zeros((11, 2))}, "11 slots; give 1 to 10"),
        ({"xy": np.zeros((2, 3))}, r"xy has shape \(2, 3\); give \(2, 2\)"),
        ({"rotation": np.zeros(2)}, "rotation has shape"),
        ({"camera": np.zeros(2)}, "camera has shape"),
        ({"lamps": np.zeros((2, 3))}, "lamps has shape"),
        ({"xy": [[np.nan, 0.0]]}, "xy = .* is not finite"),
        ({"lamps": np.full((3, 3), np.inf)}, "(?s)lamps = .* is not finite"),
        ({"size": [0.0]}, "not positive"),
        ({"shape": [3]}, "0 to 2 into SHAPES"),
        ({"color": [-1]}, "0 to 7 into COLORS"),
        ({"material": [2]}, "0 to 1 into MATERIALS"),
    ],
)
def test_bad_scenes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        a_scene(**changes)


def test_a_scene_is_a_pytree_of_arrays_and_traces():
    scene = a_scene()
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(scene))
    moved = jax.jit(lambda xy: a_scene(xy=xy))(jnp.ones((1, 2)))
    np.testing.assert_array_equal(moved.xy, [[1.0, 1.0]])


@pytest.mark.skipif(
    not REFERENCES.exists(), reason=f"no reference scenes at {REFERENCES}"
)
def test_projection_agrees_with_every_reference_scene():
    project = jax.jit(lambda scene: pixel_coords(scene, (240, 320)))
    objects = 0
    for record in json.loads(REFERENCES.read_text())["scenes"]:
        if not record["objects"]:
            continue
        # Padding keeps one compiled program.
        places = np.array([o["3d_coords"] for o in record["objects"]])
        padding = np.tile(places[:1], (10 - len(places), 1))
        padded = np.concatenate([places, padding])
        scene = a_scene(
            xy=padded[:, :2], size=padded[:, 2], camera=record["camera_location"]
        )
        got = np.asarray(project(scene))[: len(places)]
        expected = np.array([o["pixel_coords"] for o in record["objects"]])
        # CLEVR rounds, and rounds y twice.
        assert np.abs(got[:, :2] - expected[:, :2]).max() <= 0.5 + 1e-3
        np.testing.assert_allclose(got[:, 2], expected[:, 2], rtol=1e-6)
        objects += len(places)
    assert objects > 400


def test_image_size_only_scales_the_frame():
    scene = sample(jax.random.key(1), 4, 4)
    wide, square = pixel_coords(scene, (240, 320)), pixel_coords(scene, (64, 64))
    np.testing.assert_allclose(square[:, 0], wide[:, 0] * 64 / 320, rtol=1e-5)
    np.testing.assert_allclose(square[:, 1], wide[:, 1] * 64 / 240, rtol=1e-5)


@pytest.mark.parametrize("size", [(0, 64), (64, -1)])
def test_bad_sizes_are_refused(size):
    with pytest.raises(ValueError, match=r"size = .*give \(height, width\)"):
        pixel_coords(a_scene(), size)
