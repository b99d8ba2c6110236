"""How close our pictures come to Blender's, measured and drawn.

    python -m experiments.scenes.fidelity --references=FOLDER --out=runs/fidelity

FOLDER holds `scenes.json` and its pictures, as `experiments.scenes.blender` writes
them.  With `--silhouettes=FILE`, from `experiments/scenes/silhouettes.py`, the outlines
of objects are compared as well.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compjax import scenes
from experiments import launch
from experiments.scenes import references

SIZE = (128, 128)
MASK_SIZE = (240, 320)
WORST = 5
FEWEST = 20
"""Pixels below which a silhouette is left out: one more or less would decide."""


def main(arguments: list[str] | None = None) -> None:
    """Measures both presets, prints a table, writes `results.json` and a figure."""
    parser = launch.parser("experiments.scenes.fidelity", __doc__)
    parser.add_argument("--references", type=Path, required=True, help="folder")
    parser.add_argument("--silhouettes", type=Path, help="file of outlines")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    asked = parser.parse_args(arguments)
    try:
        measure(asked.references, asked.silhouettes, asked.out)
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))


def measure(folder: Path, silhouettes: Path | None, out: Path) -> None:
    """Everything, for one folder of references."""
    found, truth = references.load(folder, SIZE)
    batch = references.stack(found)
    shown = owners(batch, SIZE)
    results: dict[str, Any] = {"images": len(found), "size": SIZE}
    drawn = {}
    for preset in ("fast", "faithful"):
        draw = jax.jit(lambda scene, preset=preset: scenes.render(scene, SIZE, preset))
        drawn[preset] = np.stack(
            [np.asarray(draw(scene)) for scene in launch.progress(found, preset)]
        )
        results[preset] = {
            "psnr": psnr(drawn[preset], truth).tolist(),
            "colors": color_errors(drawn[preset], truth, shown, batch),
        }
        report(preset, results[preset])
    if silhouettes is not None:
        with np.load(silhouettes) as file:
            overlap = intersection_over_union(file["silhouettes"], batch)
        results["iou"] = overlap.tolist()
        low, worst = np.quantile(overlap, 0.05), overlap.min()
        print(
            f"silhouettes: IoU mean {overlap.mean():.4f}, 5 % {low:.4f}, worst"
            f" {worst:.4f} over {len(overlap)} objects"
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results))
    draw_figure(drawn, truth, results, out / "fidelity.png")
    print(f"numbers: {out / 'results.json'}; figure: {out / 'fidelity.png'}")


def psnr(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """`[n]`: peak signal over noise of each picture, in dB."""
    return -10 * np.log10(((images - truth) ** 2).mean(axis=(1, 2, 3)))


def owners(batch: scenes.Scene, size: tuple[int, int]) -> np.ndarray:
    """`[n, h, w]`: which object each pixel shows, 10 for none."""
    show = jax.jit(lambda some: jax.lax.map(lambda s: scenes.object_map(s, size), some))
    return np.asarray(show(batch))


def color_errors(
    images: np.ndarray, truth: np.ndarray, shown: np.ndarray, batch: scenes.Scene
) -> dict[str, dict[str, float]]:
    """Errors in grey levels (of 255), over the objects of each material and color.

    `mean color` is the error of an object's mean color, averaged over channels and
    objects; `pixels` the error of single pixels, edges and mirror images included.
    """
    table = {}
    away = 255 * (images - truth)
    for m, material in enumerate(scenes.MATERIALS):
        for c, color in enumerate(scenes.COLORS):
            chosen = batch.present & (batch.material == m) & (batch.color == c)
            bodies = [shown[i] == k for i, k in np.argwhere(chosen)]
            found = [
                away[i][body]
                for (i, _), body in zip(np.argwhere(chosen), bodies, strict=True)
                if body.sum() >= FEWEST
            ]
            if found:
                table[f"{color} {material}"] = {
                    "objects": len(found),
                    "mean color": float(
                        np.mean([np.abs(body.mean(axis=0)).mean() for body in found])
                    ),
                    "pixels": float(np.abs(np.concatenate(found)).mean()),
                }
    return table


def intersection_over_union(masks: np.ndarray, batch: scenes.Scene) -> np.ndarray:
    """For every object that shows, our silhouette against Blender's, at 320 x 240."""
    ours = owners(batch, MASK_SIZE)
    overlap = []
    for i, k in np.argwhere(batch.present):
        # A file numbers the objects as they come; they fill the first slots.
        mine, theirs = ours[i] == k, masks[i] == k
        if theirs.sum() >= FEWEST:
            overlap.append((mine & theirs).sum() / (mine | theirs).sum())
    return np.array(overlap)


def report(preset: str, results: dict[str, Any]) -> None:
    """Prints the rows of one preset."""
    level = np.array(results["psnr"])
    worst = np.argsort(level)[:WORST]
    low = np.quantile(level, 0.05)
    listed = ", ".join(f"{level[i]:.1f} (scene {i})" for i in worst)
    print(f"{preset}: PSNR mean {level.mean():.1f} dB, 5 % {low:.1f}, worst {listed}")
    print(f"  {'error in grey levels':22}{'objects':>9}{'mean color':>12}{'pixels':>8}")
    for name, row in results["colors"].items():
        count, mean, pixels = row["objects"], row["mean color"], row["pixels"]
        print(f"  {name:22}{count:9}{mean:12.1f}{pixels:8.1f}")


def draw_figure(
    drawn: dict[str, np.ndarray],
    truth: np.ndarray,
    results: dict[str, Any],
    file: Path,
) -> None:
    """The distribution of both presets, and the worst five of the faithful one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(9, 11), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 4))
    axes = top.subplots()
    levels = {name: np.array(results[name]["psnr"]) for name in drawn}
    edges = np.arange(
        np.floor(min(map(np.min, levels.values()))),
        np.ceil(max(map(np.max, levels.values()))) + 1,
    )
    for name, color in (("fast", "tab:orange"), ("faithful", "tab:blue")):
        label = f"{name}, mean {levels[name].mean():.1f} dB"
        axes.hist(levels[name], edges, color=color, alpha=0.6, label=label)
    axes.set(
        xlabel="PSNR against Blender at 128 x 128 (dB)",
        ylabel="scenes",
        title=f"{len(truth)} scenes with 0 to 10 objects",
    )
    axes.legend()
    worst = np.argsort(levels["faithful"])[:WORST]
    grid = bottom.subplots(WORST, 4)
    titles = ("fast", "faithful", "Blender", "4 x (faithful - Blender)")
    for row, i in zip(grid, worst, strict=False):
        difference = np.clip(0.5 + 4 * (drawn["faithful"][i] - truth[i]), 0, 1)
        pictures = (drawn["fast"][i], drawn["faithful"][i], truth[i], difference)
        for cell, picture in zip(row, pictures, strict=True):
            cell.imshow(np.clip(picture, 0, 1), aspect=3 / 4)
            cell.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"scene {i}\n{levels['faithful'][i]:.1f} dB")
    for cell, title in zip(grid[0], titles, strict=True):
        cell.set_title(title)
    bottom.suptitle("The worst five of the faithful preset")
    figure.savefig(file, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
