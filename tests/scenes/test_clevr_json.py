"""CLEVR's scene files, both ways, and what is said of bad ones."""

import copy
import json
import resource
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compjax.scenes import (
    COLORS,
    from_record,
    load,
    pixel_coords,
    sample,
    save,
    solve_camera,
    to_record,
)
from compjax.scenes.camera import project
from compjax.scenes.scene import CAMERA, LAMP_POSITIONS

REFERENCES = Path(__file__).parents[3] / "shared/data/clevr_reference/scenes.json"
needs_references = pytest.mark.skipif(
    not REFERENCES.exists(), reason=f"no reference scenes at {REFERENCES}"
)
draw = jax.jit(lambda seed: sample(jax.random.key(seed), 0, 10))


def a_record(**changes):
    thing = {
        "shape": "cube",
        "size": "large",
        "material": "metal",
        "color": "cyan",
        "3d_coords": [1.0, -2.0, 0.7],
        "rotation": 3.0,
    }
    return {"objects": [thing | changes]}


@settings(deadline=None, max_examples=25)
@given(seeds=st.lists(st.integers(0, 2**20), min_size=1, max_size=3))
def test_scenes_survive_a_file_exactly(tmp_path_factory, seeds):
    path = tmp_path_factory.mktemp("scenes") / "scenes.json"
    scenes = [draw(seed) for seed in seeds]
    save(path, scenes)
    for before, after in zip(scenes, load(path), strict=True):
        kept = np.asarray(before.present)
        n = kept.sum()
        np.testing.assert_array_equal(after.present, np.arange(10) < n)
        for name in ("xy", "rotation", "size", "shape", "color", "material"):
            np.testing.assert_array_equal(
                np.asarray(getattr(after, name))[:n],
                np.asarray(getattr(before, name))[kept],
            )
        np.testing.assert_array_equal(after.camera, before.camera)
        np.testing.assert_array_equal(after.lamps, before.lamps)


@needs_references
def test_reference_scenes_are_written_as_they_were_read():
    records = json.loads(REFERENCES.read_text())["scenes"]
    compared = 0
    for record, scene in zip(records, load(REFERENCES), strict=True):
        written = to_record(scene, record["split"], record["image_index"])
        assert written["image_filename"] == record["image_filename"]
        assert written["directions"] == record["directions"]
        lamps = [record["lamp_locations"][name] for name in ("key", "fill", "back")]
        np.testing.assert_allclose(scene.lamps, lamps, rtol=2**-23)
        np.testing.assert_allclose(
            written["camera_location"], record["camera_location"], rtol=2**-23
        )
        for got, expected in zip(written["objects"], record["objects"], strict=True):
            for name in ("shape", "size", "material", "color"):
                assert got[name] == expected[name]
            for name in ("3d_coords", "rotation"):  # float32 keeps 24 bits
                np.testing.assert_allclose(got[name], expected[name], rtol=2**-23)
            pixel, true = np.array(got["pixel_coords"]), expected["pixel_coords"]
            # Rounded as CLEVR rounds; float32 projection may cross a half.
            assert np.abs(pixel[:2] - true[:2]).max() <= 1
            assert abs(pixel[2] - true[2]) < 1e-5
            compared += (pixel[:2] != true[:2]).any()
    assert compared <= 2


@needs_references
def test_the_camera_is_solved_back_from_pixel_coordinates():
    for record in json.loads(REFERENCES.read_text())["scenes"]:
        if len(record["objects"]) < 3:
            continue  # two depths leave one direction to rounded pixels
        stored = np.array(record.pop("camera_location"))
        np.testing.assert_allclose(from_record(record).camera, stored, atol=1e-2)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**20), frame=st.sampled_from([(240, 320), (320, 480)]))
def test_the_camera_is_solved_in_both_of_clevrs_frames(seed, frame):
    """The frame of the released dataset is 3:2, with the same width of view."""
    rng = np.random.default_rng(seed)
    n = rng.integers(3, 11)
    points = np.c_[rng.uniform(-3, 3, (n, 2)), rng.choice([0.7, 0.35], n)]
    camera = np.array(CAMERA) + rng.uniform(-0.5, 0.5, 3)
    height, width = frame
    seen = np.asarray(project(points, camera.astype(np.float32)), float)
    x = seen[:, 0] * width
    y = height / 2 + (seen[:, 1] - 0.5) * width * 3 / 4
    pixels = np.c_[np.round(x), np.round(y), seen[:, 2]]
    # Depths are known to 1e-6 here, in float32; nearly collinear points blow it up.
    spread = np.linalg.svd(points - points.mean(0))[1][1]
    solved, error = solve_camera(points, pixels, frame)
    np.testing.assert_allclose(solved, camera, atol=1e-2 if spread > 1 else 0.1)
    assert error < 0.71


@needs_references
def test_the_camera_is_solved_from_the_objects_that_tell(tmp_path):
    records = json.loads(REFERENCES.read_text())["scenes"]
    record = next(r for r in records if len(r["objects"]) == 5)
    stored = np.array(record.pop("camera_location"))
    del record["objects"][2]["pixel_coords"]
    np.testing.assert_allclose(from_record(record).camera, stored, atol=1e-2)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(FileNotFoundError, match="is no file; give a CLEVR"):
            load(path)
    nowhere = tmp_path / "no" / "scenes.json"
    with pytest.raises(OSError, match=r"scenes\.json was not written: No such file"):
        save(nowhere, [])


def test_what_is_not_stored_has_the_defaults():
    scene = from_record(a_record())
    np.testing.assert_allclose(scene.camera, CAMERA)
    np.testing.assert_allclose(scene.lamps, LAMP_POSITIONS)
    assert COLORS[int(scene.color[0])] == "cyan"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"color": "mauve"}, "color = 'mauve' is unknown; choose gray, red"),
        ({"shape": 3}, "shape = 3 has a wrong type; give str"),
        ({"size": "huge"}, "size = 'huge' is unknown; choose large, small"),
        ({"rotation": "3"}, "rotation = '3' has a wrong type; give int or float"),
        ({"rotation": float("nan")}, "rotation = nan is no angle"),
        ({"rotation": True}, "rotation = True has a wrong type"),
        ({"3d_coords": [1.0, float("nan"), 0.7]}, "3d_coords = .*give 3 finite"),
        ({"3d_coords": [1.0, 10**400, 0.7]}, "3d_coords = .*give 3 finite"),
        ({"3d_coords": [1.0, 2.0]}, "3d_coords = .*give 3 finite"),
        ({"3d_coords": [1.0, 2.0, 1.5]}, "does not stand on the ground"),
        ({"3d_coords": "middle"}, "3d_coords = 'middle' has a wrong type; give list"),
        ({"pixel_coords": [1, 2]}, "pixel_coords = .*give 3 finite"),
        ({"pixel_coords": [9000, -40, 11.0]}, "pixel_coords fit no camera"),
    ],
)
def test_bad_objects_are_refused_by_name(tmp_path, change, message):
    path = tmp_path / "scenes.json"
    path.write_text(json.dumps({"scenes": [{"objects": []}, a_record(**change)]}))
    with pytest.raises(ValueError, match=message) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: scene 1: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", list(a_record()["objects"][0]))
def test_missing_entries_are_named(name):
    record = copy.deepcopy(a_record())
    del record["objects"][0][name]
    with pytest.raises(ValueError, match=f"object 0: '{name}' is missing"):
        from_record(record)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"scenes": [{"obj', "not a whole JSON file"),
        ("[]", "no dictionary; give one that has 'scenes'"),
        ('{"info": {}}', "'scenes' is missing; it has"),
        ('{"scenes": {}}', "scenes = {} has a wrong type; give list"),
        ('{"scenes": [3]}', "scene 0: 3 is no dictionary"),
        ('{"scenes": [{"objects": [5]}]}', "scene 0: object 0: 5 is no dictionary"),
        (
            json.dumps({"scenes": [{"objects": a_record()["objects"] * 11}]}),
            "11 objects; a scene holds at most 10",
        ),
        (
            '{"scenes": [{"objects": [], "camera_location": [0, 0]}]}',
            r"camera_location = \[0, 0\]; give 3 finite",
        ),
        (
            '{"scenes": [{"objects": [], "lamp_locations": {"key": [0, 0, 1]}}]}',
            "lamp_locations: 'fill' is missing",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    path = tmp_path / "scenes.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_what_a_file_cannot_hold_is_not_written(tmp_path):
    path = tmp_path / "scenes.json"
    scene = sample(jax.random.key(0), 1, 1)
    batch = jax.tree.map(lambda leaf: leaf[None], scene)
    with pytest.raises(ValueError, match="give one scene"):
        save(path, [batch])
    odd = jax.tree.map(lambda leaf: leaf, scene)
    object.__setattr__(odd, "size", odd.size * 1.1)
    with pytest.raises(ValueError, match=r"size = .* of object 0"):
        save(path, [scene, odd])
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """A limit on the size of files stands for the disk: both fail in `write`."""
    path = tmp_path / "scenes.json"
    one = sample(jax.random.key(0), 3, 3)
    save(path, [one])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OSError, match="was not written"):
            save(path, [one] * 10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_pixel_coordinates_are_clevrs():
    scene = sample(jax.random.key(3), 5, 5)
    exact = np.asarray(pixel_coords(scene, (240, 320)))
    for entry, pixel in zip(to_record(scene)["objects"], exact, strict=True):
        assert np.abs(np.array(entry["pixel_coords"][:2]) - pixel[:2]).max() <= 0.5
        assert abs(entry["pixel_coords"][2] - pixel[2]) < 1e-5
