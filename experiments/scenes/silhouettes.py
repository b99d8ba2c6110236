"""Which object each pixel shows, by Blender's ray casting on the generator's meshes.

    python experiments/scenes/silhouettes.py \
        --scenes=scenes.json --assets=image_generation/data --out=silhouettes.npz

The oracle of `compjax.scenes.object_map`.  It needs an interpreter with `bpy` and
NumPy, not compjax; `experiments.scenes.fidelity` reads what it writes.
"""

import argparse
import json
import runpy
import sys
from pathlib import Path

import numpy as np

SIZE = (240, 320)
FOCAL_LENGTH = 35 / 32
WORKER = Path(__file__).parents[2] / "compjax/scenes/blender_worker.py"


def main() -> None:
    """Casts a ray through the middle of every pixel of every scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("scenes", "assets", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asked = parser.parse_args()
    worker = runpy.run_path(str(WORKER))
    records = json.loads(asked.scenes.read_text())["scenes"]
    masks = np.zeros((len(records), *SIZE), np.uint8)
    for number, record in enumerate(records):
        masks[number] = silhouettes(worker, asked.assets, record)
        print(f"{number + 1}/{len(records)} scenes", file=sys.stderr, flush=True)
    np.savez_compressed(asked.out, silhouettes=masks)


def silhouettes(worker: dict, assets: Path, record: dict) -> np.ndarray:
    """`[h, w]`: the number of the object each pixel shows, 255 where there is none."""
    bpy = worker["blender"]()
    bpy.ops.wm.open_mainfile(
        filepath=str(assets / "base_scene.blend"), load_ui=False, use_scripts=False
    )
    camera = record["camera_location"]
    worker["place_stage"]({"camera": camera, "lamps": record["lamp_locations"]})
    for entry in record["objects"]:
        thing = {
            "shape": entry["shape"],
            "material": entry["material"],
            "rgb": [0.0, 0.0, 0.0],
            "xyz": entry["3d_coords"],
            "rotation": entry["rotation"],
        }
        before = set(bpy.data.objects)
        worker["add_object"](assets, thing)
        (added,) = set(bpy.data.objects) - before
        added["number"] = record["objects"].index(entry)
    depsgraph = bpy.context.evaluated_depsgraph_get()
    cast = bpy.context.scene.ray_cast
    mask = np.full(SIZE, 255, np.uint8)
    origin, directions = rays(np.array(camera))
    for row, column in np.ndindex(*SIZE):
        met, _, _, _, body, _ = cast(depsgraph, origin, directions[row, column])
        if met and "number" in body.keys():
            mask[row, column] = body["number"]
    return mask


def rays(camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The camera's place, and the directions through the middles of its pixels."""
    height, width = SIZE
    back = camera / np.linalg.norm(camera)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    x = ((np.arange(width) + 0.5) / width - 0.5) / FOCAL_LENGTH
    y = (0.5 - (np.arange(height) + 0.5) / height) * height / width / FOCAL_LENGTH
    directions = right * x[None, :, None] + np.cross(back, right) * y[:, None, None]
    directions = directions - back
    return camera, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


if __name__ == "__main__":
    main()
