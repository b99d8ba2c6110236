"""Measures the detector; see configs/scenes/evaluate_detector.py."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from compjax import scenes, training
from compjax.scenes.visible import MIN_PIXELS
from experiments import launch
from experiments.scenes import pool, references

COLUMNS = ("images", "exact", "recall", "precision", "color", "shape", "size")


def main(config: ConfigDict, workdir: Path) -> None:
    """Prints the table and writes `results.json`."""
    for name, most in (
        ("plain", 10**6),
        ("scenes", 10**6),
        ("faithful", config.scenes),
    ):
        if not 1 <= config[name] <= most:
            raise ValueError(
                f"config.{name} must be from 1 to {most}, got {config[name]}."
            )
    blender = load_references(Path(config.references)) if config.references else None
    workdir = training.open_workdir(workdir, config.to_dict())
    table = renders(config) | plain_scenes(config)
    if blender is not None:
        images, truth = blender
        for side in config.sides:
            found = scenes.detect(scenes.resize(images, (side, side)))
            name = f"Blender, {side} px"
            table[name] = score(found, truth, (side, side))
            print_row(name, table[name])
    training.write_json(workdir / "results.json", table)
    print(f"numbers: {workdir / 'results.json'}")


def renders(config: ConfigDict) -> dict[str, dict[str, float]]:
    """Rows for scenes that obey CLEVR's rule, in both presets."""
    print(f"{'':26}" + "".join(f"{name:>11}" for name in COLUMNS))
    drawn = pool.held_out(config.seed, config.scenes)
    table = {}
    for preset, count in (("fast", config.scenes), ("faithful", config.faithful)):
        some = jax.tree.map(lambda x, count=count: x[:count], drawn)
        truth = pool.labels(some)
        for side in config.sides:
            images = pool.pictures(some, (side, side), preset)
            name = f"{preset}, {side} px"
            table[name] = score(scenes.detect(images), truth, (side, side))
            print_row(name, table[name])
    return table


def plain_scenes(config: ConfigDict) -> dict[str, dict[str, float]]:
    """The row of the quickstart's scenes."""
    key = jax.random.fold_in(jax.random.key(config.seed), pool.HELD_OUT)
    drawn = pool.draw_scenes(key, pool.plain, config.plain, 1.0)
    truth, size = pool.labels(drawn), (config.plain_side,) * 2
    name = f"plain, {size[0]} px"
    row = score(scenes.detect(pool.pictures(drawn, size)), truth, size)
    print_row(name, row)
    return {name: row}


def load_references(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Blender's pictures at 128 x 128 by averaging, and what there is to find in them.

    Args:
        folder: holds `scenes.json` in CLEVR's format, and the pictures it names.
    """
    drawn, images = references.load(folder, (pool.SIDE, pool.SIDE))
    return images, pool.labels(references.stack(drawn))


def score(
    found: scenes.Detections, truth: dict[str, np.ndarray], size: tuple[int, int]
) -> dict[str, float]:
    """How well detections tell what is there, looks included; see `score_xy`."""
    row = score_xy(scenes.valid_xy(found), truth, size)
    radii = np.array(scenes.SIZES)
    looks = {
        "color": np.asarray(found.color),
        "shape": np.asarray(found.shape),
        "size": np.argmin(np.abs(np.asarray(found.size)[..., None] - radii), axis=-1),
    }
    right: dict[str, list[bool]] = {name: [] for name in looks}
    for i, xy in enumerate(scenes.valid_xy(found)):
        seen = np.flatnonzero(truth["present"][i] & (truth["visible"][i] >= MIN_PIXELS))
        places = truth["xy"][i, seen] * size[::-1]
        for j, k in scenes.pairs(xy, places, scenes.hit_radius(size)):
            for name, values in looks.items():
                # Valid detections come first, so j counts among all candidates.
                right[name].append(values[i, j] == truth[name][i, seen[k]])
    return row | {
        name: float(np.mean(values)) if values else float("nan")
        for name, values in right.items()
    }


def score_xy(
    found: list[np.ndarray], truth: dict[str, np.ndarray], size: tuple[int, int]
) -> dict[str, float]:
    """How well locations tell where objects are.

    Recall is over objects of which 200 pixels of 320 x 240 are visible, precision
    counts every object that is there, and the count is exact where it is that of all
    objects, in images in which all of these can be seen.

    Args:
        found: b arrays `[m, 2]` in pixels.
        truth: `pool.labels` of the b scenes.
        size: height and width of the images, in pixels.
    """
    radius = scenes.hit_radius(size)
    hits, wanted, right, answers, exact = 0, 0, 0, 0, []
    for i, xy in enumerate(found):
        present = truth["present"][i]
        seen = present & (truth["visible"][i] >= MIN_PIXELS)
        places = truth["xy"][i] * size[::-1]
        hits += scenes.match(xy, places[seen], radius).sum()
        wanted += seen.sum()
        right += len(scenes.pairs(xy, places[present], radius))
        answers += len(xy)
        if seen.sum() == present.sum():
            exact.append(len(xy) == present.sum())
    return {
        "images": len(found),
        "exact": float(np.mean(exact)),
        "recall": float(hits / max(wanted, 1)),
        "precision": float(right / max(answers, 1)),
    }


def print_row(name: str, row: dict[str, Any]) -> None:
    """A line of the table."""
    cells = [f"{row['images']:>11}"]
    cells += [f"{row[c]:>11.2%}" if c in row else f"{'-':>11}" for c in COLUMNS[1:]]
    print(f"{name:26}" + "".join(cells), flush=True)


if __name__ == "__main__":
    launch.run(main, "scenes/evaluate_detector.py")
