"""Draws scenes as we render them, as Blender does, and what the detector sees in them.

    python -m experiments.scenes.gallery
    python -m experiments.scenes.gallery --references=FOLDER

The first draws random scenes.  The second takes those of a folder that
`experiments.scenes.blender` wrote, and sets Blender's pictures and the differences
beside ours.  Either writes one PNG.
"""

from pathlib import Path

import jax
import numpy as np

from compjax import scenes
from experiments import launch
from experiments.scenes import references

SIZE = (240, 320)
PAINT = {
    "gray": "#c8c8c8",
    "red": "#ff5050",
    "blue": "#5a8cff",
    "green": "#4fd35b",
    "brown": "#d89a5b",
    "purple": "#d07cff",
    "cyan": "#4fe6e6",
    "yellow": "#ffee33",
}
"""Lines that show on the picture of an object of that color."""


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and draws."""
    parser = launch.parser("experiments.scenes.gallery", __doc__)
    parser.add_argument("--references", type=Path, help="Blender's pictures")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gallery.png"), help="PNG"
    )
    parser.add_argument("--count", type=int, default=5, help="how many scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of scenes")
    asked = parser.parse_args(arguments)
    try:
        if asked.count < 1:
            raise ValueError(f"--count={asked.count}: give at least 1 scene.")
        if asked.references is None:
            draw(drawn(asked.seed, asked.count), None, asked.out)
        else:
            draw(*chosen(asked.references, asked.seed, asked.count), asked.out)
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))
    print(f"figure: {asked.out}")


def drawn(seed: int, count: int) -> list[scenes.Scene]:
    """Random scenes of three to ten objects."""
    keys = jax.random.split(jax.random.key(seed), count)
    sample = jax.jit(lambda key: scenes.sample_visible(key, 3, 10))
    return [sample(key) for key in keys]


def chosen(
    folder: Path, seed: int, count: int
) -> tuple[list[scenes.Scene], np.ndarray]:
    """Scenes of a folder that have objects, and Blender's pictures of them."""
    found, pictures = references.load(folder, SIZE)
    some = [i for i, scene in enumerate(found) if scene.present.sum() >= 3]
    if len(some) < count:
        raise ValueError(
            f"--count={count}: {folder} has {len(some)} scenes of 3 objects or more."
        )
    picked = np.random.default_rng(seed).permutation(some)[:count]
    return [found[i] for i in picked], pictures[picked]


def draw(found: list[scenes.Scene], blender: np.ndarray | None, file: Path) -> None:
    """One row a scene: fast, faithful, then Blender and the difference if there is."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = {}
    for preset in ("fast", "faithful"):
        render = jax.jit(lambda s, preset=preset: scenes.render(s, SIZE, preset))
        pictures = [np.asarray(render(s)) for s in launch.progress(found, preset)]
        columns[f"compjax, {preset}"] = np.stack(pictures)
    faithful = columns["compjax, faithful"]
    if blender is not None:
        columns["Blender Cycles"] = blender
        columns["4 x (faithful - Blender)"] = 0.5 + 4 * (faithful - blender)
    seen = "compjax, fast" if blender is None else "Blender Cycles"
    boxes = f"detector on {seen}"
    columns[boxes] = columns[seen]
    rows = len(found)
    figure, axes = plt.subplots(
        rows,
        len(columns),
        figsize=(3.2 * len(columns), 2.5 * rows + 0.5),
        layout="constrained",
        squeeze=False,
    )
    for cells, (title, pictures) in zip(axes.T, columns.items(), strict=True):
        cells[0].set_title(title)
        for cell, picture in zip(cells, pictures, strict=True):
            cell.imshow(np.clip(picture, 0, 1))
            cell.set(xticks=[], yticks=[])
    found_objects = scenes.detect(columns[seen])
    for i in range(rows):
        mark(axes[i, -1], found_objects, i)
        if blender is not None:
            error = ((faithful[i] - blender[i]) ** 2).mean()
            axes[i, 3].set_xlabel(f"PSNR {-10 * np.log10(error):.1f} dB")
        count, true = int(found_objects.valid[i].sum()), int(found[i].present.sum())
        axes[i, -1].set_xlabel(f"{count} found, {true} there")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def mark(cell, found: scenes.Detections, row: int) -> None:
    """Draws a box around each object found in one picture, as large as it looks."""
    from matplotlib.patches import Rectangle

    kept = np.asarray(found.valid[row])
    for xy, radius, color, shape in zip(
        np.asarray(found.xy[row])[kept],
        np.asarray(found.size[row])[kept],
        np.asarray(found.color[row])[kept],
        np.asarray(found.shape[row])[kept],
        strict=True,
    ):
        half = apparent_radius(xy, radius)
        line = PAINT[scenes.COLORS[color]]
        corner = xy[0] - half, xy[1] - half
        box = Rectangle(corner, 2 * half, 2 * half, fill=False, ec=line, lw=1.5)
        cell.add_patch(box)
        label = f"{scenes.COLORS[color]} {scenes.SHAPES[shape]}"
        back = {"fc": "black", "alpha": 0.5, "lw": 0, "pad": 0.6}
        cell.text(*corner, label, color=line, fontsize=6.5, va="bottom", bbox=back)


def apparent_radius(xy: np.ndarray, radius: float) -> float:
    """How many pixels an object of this radius spans, where it stands on the ground.

    Seen from CLEVR's camera before jitter, as a detection does not know it.
    """
    from compjax.scenes.camera import FOCAL_LENGTH, camera_rays
    from compjax.scenes.scene import CAMERA

    inside = (xy / np.array([SIZE[1], SIZE[0]]))[None].astype(np.float32)
    origin, ray = camera_rays(np.array(CAMERA, np.float32), (1, 1), inside)
    reach = (radius - origin.z) / ray.z
    return 1.3 * radius * FOCAL_LENGTH * SIZE[1] / float(reach[0, 0, 0])


if __name__ == "__main__":
    main()
