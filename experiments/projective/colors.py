"""Composing colours on CLEVR: one yellow object and one of every other colour.

    python -m experiments.projective.colors --workdir=runs/colors
        --config=configs/projective/clevr_laptop.py

Figure 5 of Bradley et al. 2025: yellow over a gray scene differs from it in the blue
channel, so it is to compose with colours that leave this channel alone.  The picture
sets the share of scenes that hold both colours beside the shifts of colour.
"""

import dataclasses
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import compjax as cj
from compjax import datasets, scenes, training
from experiments import launch, results
from experiments.models import Model, images_seen, sample_images, trained
from experiments.projective.clevr import FREE, check

YELLOW = scenes.COLORS.index("yellow")
MODELS = ("colored",)
CHANNELS = ("tab:red", "tab:green", "tab:blue")


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, samples, counts and draws what is not there yet."""
    check(config)
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    for seed in config.seeds:
        models = trained(config, workdir, MODELS, seed)
        sample_all(config, workdir, models, seed)
    stream = models["colored"].stream
    renders = np.stack([true_pairs(config, stream, c) for c in colors()])
    shifts = color_shifts(config, stream)
    rows = [row(config, workdir, color, renders[color], shifts) for color in colors()]
    numbers = {
        "rows": rows,
        "images_seen": images_seen(config, MODELS),
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    images = {c: samples(config, workdir, c) for c in colors()}
    figure = draw(rows, images, shifts)
    figure.savefig(workdir / "figures" / "colors.png")
    print(table(rows))
    print(f"picture: {workdir / 'figures' / 'colors.png'}")
    print(f"numbers: {workdir / 'results.json'}")


def colors() -> range:
    """The indices of all colours."""
    return range(len(scenes.COLORS))


def sample_all(
    config: ConfigDict, workdir: Path, models: dict[str, Model], seed: int
) -> None:
    """Yellow composed with every colour, each a file that is made once."""
    files = {c: cell_file(workdir, seed, c) for c in colors()}
    missing = [c for c, file in files.items() if not file.exists()]
    for color in launch.progress(missing, f"seed {seed}: sampling"):
        images = sample_pair(config, models, color, seed)
        files[color].parent.mkdir(parents=True, exist_ok=True)
        with scenes.files.whole(files[color]) as draft, draft.open("wb") as opened:
            np.save(opened, images)


def cell_file(workdir: Path, seed: int, color: int) -> Path:
    """Where the samples of yellow and a colour are."""
    return workdir / "cells" / f"seed-{seed}" / f"yellow-{scenes.COLORS[color]}.npy"


def samples(config: ConfigDict, workdir: Path, color: int) -> np.ndarray:
    """The samples of yellow and a colour, of all training seeds."""
    files = [cell_file(workdir, seed, color) for seed in config.seeds]
    return np.concatenate([np.load(file) for file in files])


def sample_pair(
    config: ConfigDict, models: dict[str, Model], color: int, seed: int
) -> np.ndarray:
    """Images of yellow composed with a colour over the empty scene, as bytes."""
    model = models["colored"]
    pair = scenes.colors(jnp.array([[YELLOW], [color]]))[:, None]
    composed = cj.compose_conditions(model.network, scenes.empty(pair[0]), pair)
    return sample_images(config, model.stream, lambda _: composed, seed)


def scene_of(stream: datasets.Stream, key: Any, pair: tuple[int, ...]) -> scenes.Scene:
    """A random scene with one object of each of these colours."""
    scene = stream.draw(key, len(pair), len(pair), 0.0)
    return dataclasses.replace(scene, color=jnp.array(pair))


def true_pairs(config: ConfigDict, stream: datasets.Stream, color: int) -> np.ndarray:
    """True pictures of a yellow object and one of a colour, as bytes."""

    @functools.partial(jax.jit, static_argnums=0)
    def draw(color: int, keys: Any) -> Any:
        scene = lambda key: scene_of(stream, key, (YELLOW, color))
        picture = lambda key: scenes.render(scene(key), stream.size)
        return jax.lax.map(picture, keys)

    keys = jax.random.split(jax.random.key(config.seed), config.sample.images)
    return np.round(255 * np.asarray(draw(color, keys))).astype(np.uint8)


def color_shifts(config: ConfigDict, stream: datasets.Stream) -> np.ndarray:
    """`[8, 3]`: how the pixels of an object of each colour differ from the background.

    In RGB from 0 to 1, averaged over the object's pixels in random pictures.
    """
    size = stream.size
    empty = datasets.empty_scene(size)

    @jax.jit
    def shift(color: Any) -> Any:
        def one(key: Any) -> Any:
            scene = stream.draw(key, 1, 1, 0.0)
            scene = dataclasses.replace(scene, color=color[None])
            inside = scenes.object_map(scene, size) == 0
            away = scenes.render(scene, size) - empty
            return (away * inside[..., None]).sum((0, 1)), inside.sum()

        # The same scenes in every colour.
        key = jax.random.key(config.seed + 2)
        total, pixels = jax.lax.map(one, jax.random.split(key, config.sample.images))
        return total.sum(0) / pixels.sum()

    return np.stack([np.asarray(shift(jnp.int32(c))) for c in colors()])


def row(
    config: ConfigDict, workdir: Path, color: int, renders: np.ndarray, shifts: Any
) -> dict[str, Any]:
    """What the detector finds in the samples of yellow and a colour."""
    found = both_found(samples(config, workdir, color), color)
    truly = both_found(renders, color)
    rates = {name: float(values.mean()) for name, values in found.items()}
    rng = np.random.default_rng(config.seed)
    both = found["both"]
    means = rng.binomial(len(both), both.mean(), 2000) / len(both)
    low, high = np.quantile(means, (0.025, 0.975))
    yellow, other = shifts[YELLOW], shifts[color]
    cosine = yellow @ other / np.linalg.norm(yellow) / np.linalg.norm(other)
    return {
        "color": scenes.COLORS[color],
        **rates,
        "both_low": float(low),
        "both_high": float(high),
        "ceiling": float(truly["both"].mean()),
        "shift": [float(value) for value in other],
        "cosine_with_yellow": float(cosine),
        "images": len(both),
        "training_seeds": len(config.seeds),
    }


APART = 5 / 32
"""How far apart two objects are, as part of the width: about that of a large object.
Two patches of one object of a mixed colour are nearer, and are found as two."""


def both_found(images: np.ndarray, color: int) -> dict[str, np.ndarray]:
    """Per image: whether there is a yellow object, one of the colour, and both."""
    found = scenes.detect(np.float32(images) / 255)
    valid, seen, xy = (np.asarray(a) for a in (found.valid, found.color, found.xy))
    yellow, other = valid & (seen == YELLOW), valid & (seen == color)
    distance = np.linalg.norm(xy[:, :, None] - xy[:, None], axis=-1)
    apart = distance > APART * images.shape[2]
    pairs = yellow[:, :, None] & other[:, None] & apart
    return {
        "yellow": yellow.any(axis=1),
        "other": other.any(axis=1),
        "both": pairs.any(axis=(1, 2)),
        "objects": valid.sum(axis=1),
    }


def draw(
    rows: list[dict[str, Any]], images: dict[int, np.ndarray], shifts: np.ndarray
) -> Any:
    """Samples of every pair, the share that holds both, and the shifts of colour."""
    examples, n = 4, len(rows)
    figure = Figure(figsize=(1.25 * n + 1.2, 8.6), dpi=130, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[examples, 3.2])
    grid = top.subplots(examples, n, squeeze=False)
    for color, column in enumerate(grid.T):
        some = images[color][:: -(-len(images[color]) // examples)]  # of all seeds
        for image, ax in zip(some, column, strict=False):
            ax.imshow(image, interpolation="bicubic")
            ax.set(xticks=[], yticks=[])
        column[0].set_title(scenes.COLORS[color])
    top.suptitle("Yellow composed over the empty scene with one object that is ...")
    high, low = bottom.subplots(2, 1, sharex=True)
    x = np.arange(n)
    both = np.array([row["both"] for row in rows])
    spread = np.array([[row["both_low"], row["both_high"]] for row in rows]).T
    high.bar(x, both, color="tab:gray", yerr=np.abs(spread - both), capsize=3)
    high.plot(x, [row["ceiling"] for row in rows], "k_", ms=22, label="true renders")
    high.set(ylabel="share of images\nwith both objects", ylim=(0, 1.05))
    high.legend(fontsize=8)
    for channel, color in enumerate(CHANNELS):
        offset = 0.25 * (channel - 1)
        low.bar(x + offset, shifts[:, channel], 0.22, color=color)
    low.axhline(0, color="black", lw=0.8)
    low.set(ylabel="object less background,\nin R, G, B (0 to 1)")
    low.set_xticks(x, list(scenes.COLORS))
    return figure


def table(rows: list[dict[str, Any]]) -> str:
    """One line for every colour."""
    lines = [
        "yellow with  both [95 %]              yellow   other  objects  ceiling  "
        "cosine  shift of R, G, B"
    ]
    for r in rows:
        shift = " ".join(f"{value:+.2f}" for value in r["shift"])
        lines.append(
            f"{r['color']:11}  {r['both']:6.1%} [{r['both_low']:6.1%}, "
            f"{r['both_high']:6.1%}]  {r['yellow']:6.1%}  {r['other']:6.1%}  "
            f"{r['objects']:7.2f}  {r['ceiling']:7.1%}  "
            f"{r['cosine_with_yellow']:+6.2f}  {shift}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch.run(main, "projective/clevr_laptop.py")
