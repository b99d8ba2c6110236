"""Pictures that Blender rendered, with their scenes, for comparison."""

import json
from pathlib import Path

import jax
import numpy as np

from compjax import scenes


def load(folder: Path, size: tuple[int, int]) -> tuple[list[scenes.Scene], np.ndarray]:
    """The scenes of a folder, and their pictures `[n, h, w, 3]` in [0, 1].

    Args:
        folder: holds `scenes.json` and the files it names, as `experiments.scenes.
            blender` writes them.
        size: height and width; pictures are resized by averaging boxes of pixels.

    Raises:
        ValueError: if `scenes.json` or a picture is not there.
    """
    from PIL import Image

    file = folder / "scenes.json"
    if not file.exists():
        raise ValueError(
            f"{file} is not there: render some with experiments.scenes.blender."
        )
    found = scenes.load(file)
    pictures = []
    for record in json.loads(file.read_text())["scenes"]:
        picture = folder / record["image_filename"]
        if not picture.exists():
            raise ValueError(f"{picture} is not there; {file} names it.")
        with Image.open(picture) as image:
            small = image.convert("RGB").resize(size[::-1], Image.Resampling.BOX)
        pictures.append(np.asarray(small, np.float32) / 255)
    return found, np.stack(pictures)


def stack(some: list[scenes.Scene]) -> scenes.Scene:
    """Scenes as one batch."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *some)
