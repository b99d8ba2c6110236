"""CLEVR's scene files: reading them into scenes, and writing scenes into them.

The format is that of the released dataset.  A scene may carry two more entries, the
`camera_location` and the `lamp_locations` it was rendered with; the generator throws
them away.  `rotation` is in radians, whatever the dataset's notes say of degrees: it is
the number Blender was given.  `pixel_coords` are rounded to whole pixels in 320 x 240.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from compjax.scenes.camera import pixel_coords, solve_camera
from compjax.scenes.files import whole
from compjax.scenes.relations import DIRECTIONS, RELATIONS, relationships
from compjax.scenes.scene import (
    COLORS,
    LAMPS,
    MATERIALS,
    MAX_OBJECTS,
    SHAPES,
    SIZE_NAMES,
    SIZES,
    Scene,
    check_single,
)

FILE_SIZE = (240, 320)
"""Height and width of the frame in which `save` counts pixels: the generator's."""

RELEASED_SIZE = (320, 480)
"""Height and width of the released dataset's pictures."""

WORST_FIT = 1.5
"""Root mean square of pixel errors beyond which coordinates belong to another frame."""

ON_GROUND = 1e-3
"""How far an object's centre may be from its radius above the ground, world units."""


def load(path: str | os.PathLike) -> list[Scene]:
    """The scenes of a CLEVR scene file.

    Every scene has ten slots, its objects in the first, so that scenes stack into a
    batch.  A scene without `camera_location` has its camera solved from the
    `pixel_coords` of its objects (`solve_camera`); without these it gets CLEVR's camera
    before jitter, and without `lamp_locations` the lamps before jitter.

    Args:
        path: a file as the generator writes it, `{"info": ..., "scenes": [...]}`.

    Returns:
        A list of Scenes, in the order of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON, or an entry is missing, of a wrong type, not
            finite, no known name, or describes what no scene can hold; the message
            names the file, the scene, the object and the entry.

    Source: CLEVR, Johnson et al. 2017, scene files of the dataset.

    Example:
        >>> import tempfile
        >>> from compjax.scenes import sample
        >>> scene = sample(jax.random.key(0), 3, 3)
        >>> path = Path(tempfile.mkdtemp()) / "scenes.json"
        >>> save(path, [scene])
        >>> same = load(path)[0]
        >>> same.present.shape, bool((same.xy[:3] == scene.xy).all())
        ((10,), True)
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give a CLEVR scene file.")
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a whole JSON file ({error}); if it is cut off, fetch or"
            " write it again."
        ) from None
    with _inside(str(path)):
        records = _entry(content, "scenes", list)
    scenes = []
    for number, record in enumerate(records):
        with _inside(f"{path}: scene {number}"):
            scenes.append(from_record(record))
    return scenes


def save(path: str | os.PathLike, scenes: Sequence[Scene], split: str = "new") -> None:
    """Writes scenes as a CLEVR scene file, with camera and lamps.

    The file appears under its name only when it is complete.

    Args:
        path: where; an existing file is replaced.
        scenes: Scenes, each as it is; slots without an object are left out.
        split: the name that CLEVR calls a part of the dataset by.

    Raises:
        ValueError: if an object's radius is neither of CLEVR's two, or a scene is a
            batch.
        OSError: if the file cannot be written, for example on a full disk; an earlier
            file of that name is still there.

    Example:
        >>> import tempfile
        >>> from compjax.scenes import sample
        >>> path = Path(tempfile.mkdtemp()) / "scenes.json"
        >>> save(path, [sample(jax.random.key(0), 1, 1)])
        >>> sorted(json.loads(path.read_text())["scenes"][0])[:3]
        ['camera_location', 'directions', 'image_filename']
    """
    path = Path(path)
    if isinstance(scenes, Scene):
        raise ValueError(f"scenes is a Scene; give a list of them, to write to {path}.")
    content = {
        "info": {
            "date": time.strftime("%m/%d/%Y"),
            "version": "1.0",
            "split": split,
            "license": "Creative Commons Attribution (CC-BY 4.0)",
        },
        "scenes": [
            to_record(scene, split, index) for index, scene in enumerate(scenes)
        ],
    }
    with whole(path) as draft:
        draft.write_text(json.dumps(content))


def from_record(record: Any) -> Scene:
    """The scene that one entry of a scene file's `scenes` describes.

    Args:
        record: a dictionary as the generator writes it.

    Returns:
        A Scene with ten slots.

    Raises:
        ValueError: as `load`, naming the object and the entry.

    Example:
        >>> from_record({"objects": []}).present.any()
        Array(False, dtype=bool)
    """
    objects = _entry(record, "objects", list)
    if len(objects) > MAX_OBJECTS:
        raise ValueError(
            f"{len(objects)} objects; a scene holds at most {MAX_OBJECTS} of them."
        )
    rows = []
    for number, entry in enumerate(objects):
        with _inside(f"object {number}"):
            rows.append(_object(entry))
    rows += [_NOTHING] * (MAX_OBJECTS - len(rows))
    stage = {}
    if "camera_location" in record:
        stage["camera"] = _numbers(record, "camera_location", 3)
    elif seen := [entry for entry in objects if "pixel_coords" in entry]:
        stage["camera"] = _solved(seen)
    if "lamp_locations" in record:
        lamps = _entry(record, "lamp_locations", dict)
        with _inside("lamp_locations"):
            stage["lamps"] = [_numbers(lamps, name, 3) for name in LAMPS]
    columns = {name: [row[name] for row in rows] for name in _NOTHING}
    return Scene(**columns, **stage)


def to_record(scene: Scene, split: str = "new", index: int = 0) -> dict[str, Any]:
    """One scene as an entry of a scene file's `scenes`.

    Args:
        scene: one scene.
        split: as for `save`.
        index: the number of its image.

    Returns:
        A dictionary of plain numbers, strings and lists.

    Raises:
        ValueError: as `save`.

    Example:
        >>> from compjax.scenes import sample
        >>> record = to_record(sample(jax.random.key(0), 2, 2), "val", 7)
        >>> record["image_filename"], len(record["objects"])
        ('CLEVR_val_000007.png', 2)
    """
    check_single(scene)
    scene, pixels, related = jax.tree.map(np.asarray, _with_pairs(scene))
    kept = np.flatnonzero(scene.present).tolist()
    related = related[:, kept][:, :, kept]
    return {
        "split": split,
        "image_index": index,
        "image_filename": f"CLEVR_{split}_{index:06d}.png",
        "objects": [_described(scene, slot, pixels[slot]) for slot in kept],
        "relationships": {
            name: [np.flatnonzero(row).tolist() for row in rows]
            for name, rows in zip(RELATIONS, related, strict=True)
        },
        "directions": {name: list(values) for name, values in DIRECTIONS.items()},
        "camera_location": scene.camera.tolist(),
        "lamp_locations": dict(zip(LAMPS, scene.lamps.tolist(), strict=True)),
    }


@jax.jit
def _with_pairs(scene: Scene) -> tuple[Scene, Array, Array]:
    return scene, pixel_coords(scene, FILE_SIZE), relationships(scene)


_NOTHING = {
    "xy": [0.0, 0.0],
    "rotation": 0.0,
    "size": SIZES[0],
    "shape": 0,
    "color": 0,
    "material": 0,
    "present": False,
}


def _object(entry: Any) -> dict[str, Any]:
    size = SIZES[_name(entry, "size", SIZE_NAMES)]
    x, y, z = _numbers(entry, "3d_coords", 3)
    if abs(z - size) > ON_GROUND:
        raise ValueError(
            f"3d_coords = [{x}, {y}, {z}] does not stand on the ground; the third is"
            f" the radius, {size}."
        )
    rotation = _entry(entry, "rotation", (int, float))
    if not _is_finite(rotation):
        raise ValueError(f"rotation = {rotation} is no angle; give finite radians.")
    return {
        "xy": [x, y],
        "rotation": rotation,
        "size": size,
        "shape": _name(entry, "shape", SHAPES),
        "color": _name(entry, "color", COLORS),
        "material": _name(entry, "material", MATERIALS),
        "present": True,
    }


def _described(scene: Scene, slot: int, pixel: np.ndarray) -> dict[str, Any]:
    radius = float(scene.size[slot])
    near = np.isclose(radius, SIZES, rtol=1e-5)
    if not near.any():
        raise ValueError(
            f"size = {radius} of object {slot}: a CLEVR file knows {SIZES[0]} (large)"
            f" and {SIZES[1]} (small) only."
        )
    which = int(near.argmax())
    return {
        "shape": SHAPES[scene.shape[slot]],
        "size": SIZE_NAMES[which],
        "material": MATERIALS[scene.material[slot]],
        "3d_coords": [*scene.xy[slot].tolist(), SIZES[which]],
        "rotation": float(scene.rotation[slot]),
        "pixel_coords": [
            round(float(pixel[0])),
            round(float(pixel[1])),
            float(pixel[2]),
        ],
        "color": COLORS[scene.color[slot]],
    }


def _solved(objects: list[dict[str, Any]]) -> np.ndarray:
    """The camera, from a frame of the generator's size or of the released dataset's."""
    points = np.array([entry["3d_coords"] for entry in objects], float)
    pixels = np.array([_numbers(entry, "pixel_coords", 3) for entry in objects])
    fits = [solve_camera(points, pixels, size) for size in (FILE_SIZE, RELEASED_SIZE)]
    camera, error = min(fits, key=lambda fit: fit[1])
    if not error < WORST_FIT:
        raise ValueError(
            f"pixel_coords fit no camera (best within {error:.1f} pixels); they count"
            " in 320 x 240 or 480 x 320, for other sizes give camera_location."
        )
    return camera


@contextmanager
def _inside(place: str) -> Iterator[None]:
    """Puts where it was in front of what was wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _entry(record: Any, name: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(record, dict):
        raise ValueError(
            f"{_short(record)} is no dictionary; give one that has {name!r}."
        )
    if name not in record:
        raise ValueError(f"{name!r} is missing; it has {sorted(record)}.")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(k.__name__ for k in kinds)
        raise ValueError(f"{name} = {_short(value)} has a wrong type; give {wanted}.")
    return value


def _numbers(record: Any, name: str, count: int) -> list[float]:
    values = _entry(record, name, list)
    if len(values) != count or not all(map(_is_finite, values)):
        raise ValueError(f"{name} = {_short(values)}; give {count} finite numbers.")
    return [float(value) for value in values]


def _is_finite(value: Any) -> bool:
    # JSON knows integers of any length; those beyond float64 are no numbers here.
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and abs(value) < 1e30
    )


def _name(record: Any, name: str, choices: Sequence[str]) -> int:
    value = _entry(record, name, str)
    if value not in choices:
        raise ValueError(f"{name} = {value!r} is unknown; choose {', '.join(choices)}.")
    return choices.index(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
