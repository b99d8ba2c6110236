"""Experiment 3 on rendered scenes without a network: the conditional-local machine.

    python -m experiments.local.clevr_machine --workdir=runs/local_clevr_machine

Shows analytic machines scenes of one to three objects, one of which is named, asks them
for up to ten places, counts, and draws.  Nothing is trained.  What is there already is
not made again: the same command goes on where it was stopped.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import compjax as cj
from compjax import datasets, densities, plotting, scenes, training
from compjax.types import pytree
from experiments import launch, results, train
from experiments.local import clevr_pictures
from experiments.local.clevr import count, find
from experiments.local.clevr_requests import (
    MOST,
    TOLD,
    Requests,
    below_cells,
    draw_requests,
)
from experiments.local.machines import Deaf
from experiments.models import sample_images

MACHINES = {
    "conditional": "conditional-local machine",
    "local": "local machine, deaf to conditions",
    "ideal": "ideal machine, windows over all",
}
"""What machines are called."""

STYLES = {
    "conditional": ("D-", "tab:purple"),
    "local": ("v--", "tab:blue"),
    "ideal": ("s-", "tab:red"),
}

FREE = ("seeds", "machine.chunk", "sample.requests", "sample.controls")
"""Fields that may change when the command goes on: cells do not depend on them."""

GROUND = 3.0
"""Objects of CLEVR stand within this of the origin, along both axes."""

RADII = {"plain": max(scenes.SIZES), "small": min(scenes.SIZES)}
"""Ways to draw scenes whose objects are of one size, and that size."""


@pytree
class Whole:
    """A machine to which an image is one pixel of many channels, its grid one cell.

    With windows of side 1 that is `ConditionalMachine` with windows over all: the ideal
    conditional model of its images.

    Args:
        machine: Shown images and grids as `one_pixel` has them.
    """

    machine: Any

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Any, condition: Any
    ) -> Float[Array, "b h w c"]:
        score = self.machine(one_pixel(x), sigma, one_pixel(condition))
        return score.reshape(x.shape)


def one_pixel(images: Any) -> Any:
    """`[b, h, w, c]` as `[b, 1, 1, h * w * c]`."""
    return images.reshape(len(images), 1, 1, -1)


def main(config: ConfigDict, workdir: Path) -> None:
    """Samples what is not there yet, counts, and draws."""
    stream = check(config)
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    requests = draw_requests(config, stream, ground(config))
    make(config, workdir, stream, requests)
    ks = sorted({*config.sample.requests, *config.sample.controls})
    truth = {k: find(requests.renders(k)) for k in ks}
    rows = []
    for name in MACHINES:
        by_seed = [found(config, workdir, name, seed) for seed in config.seeds]
        rows += count(config, requests, stream, truth, name, by_seed)
    each = {cell: read(workdir, *cell) for cell in every_cell(config)}
    shares = {
        k: [each["conditional", seed, k]["unseen"] for seed in config.seeds]
        for k in config.sample.requests
    }
    numbers = {
        "rows": rows,
        "seeds": list(config.seeds),
        "unseen": {str(k): float(np.mean(of_k)) for k, of_k in shares.items()},
        "sampling_seconds": float(sum(cell["seconds"] for cell in each.values())),
        **results.provenance(config.seed, started),  # the seconds of the last start
    }
    training.write_json(workdir / "machine.json", numbers)
    draw_figure(config, workdir, requests, rows).savefig(
        workdir / "figures" / "machine.png"
    )
    print(clevr_pictures.table(rows, MACHINES))
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'machine.json'}")


def check(config: ConfigDict) -> datasets.Stream:
    """The scenes that machines are shown.

    Raises:
        ValueError: For what would otherwise fail late, or mean nothing.
    """
    least = {
        ("data", "images"): 2,
        ("sample", "images"): 2,
        ("sample", "together"): 1,
        ("sample", "steps"): 2,
    }
    for (section, field), number in least.items():
        if (value := config[section][field]) < number:
            raise ValueError(
                f"config.{section}.{field} must be at least {number}, got {value}."
            )
    if not config.seeds:
        raise ValueError("config.seeds is empty: give at least one seed.")
    for field in ("requests", "controls"):
        ks = config.sample[field]
        if not ks or min(ks) < 0 or not 1 <= max(ks) <= MOST:
            raise ValueError(
                f"config.sample.{field} = {ks}: give numbers of places from 0 to "
                f"{MOST}, not 0 alone."
            )
    d = config.data
    if d.draw not in RADII or d.jitter:
        raise ValueError(
            f"config.data has draw = {d.draw!r} and jitter = {d.jitter}: places are "
            "middles of cells for objects of one size and a camera that stands still; "
            f"give one of {', '.join(RADII)}, and 0."
        )
    stream = train.make_stream(config, training.make_mesh(d.batch))
    label = stream.recipe.label
    if label not in TOLD or label.__name__.startswith("vector"):
        raise ValueError(
            f"config.data.label = {label.__name__!r} is no grid that has windows; "
            "choose one of locations_of_one, locations_of_some, locations_of_all."
        )
    check_cells(config)
    x0, told = jax.eval_shape(stream, jax.random.key(0))
    for name in MACHINES:  # windows, and whether cells are whole pixels
        jax.eval_shape(
            lambda *shown, name=name: machine(config, name, *shown), x0, told
        )
    return stream


def ground(config: ConfigDict) -> Array:
    """Where the places are that can be asked for, `[m, 2]` in world units."""
    return below_cells(config.sample.cells, RADII[config.data.draw])


def check_cells(config: ConfigDict) -> None:
    """Raises a ValueError unless there are places to ask for, and some more."""
    cells = config.sample.cells
    if len(set(map(tuple, cells))) != len(cells) or not MOST < len(cells) <= 2 * MOST:
        raise ValueError(
            f"config.sample.cells = {cells}: give {MOST + 1} to {2 * MOST} cells, each "
            f"once; {MOST} are asked for, and the others tell what nobody asked for."
        )
    away = np.abs(np.asarray(ground(config))).max(axis=1)
    if away.max() > GROUND:
        outside = [cell for cell, far in zip(cells, away, strict=True) if far > GROUND]
        raise ValueError(
            f"config.sample.cells: {outside} are off the ground of CLEVR, more than "
            f"{GROUND} from its middle; leave them out."
        )


def machine(config: ConfigDict, name: str, x0: Array, told: Array) -> Any:
    """A machine by its name, a conditional score.

    Args:
        config: With `machine`.
        name: Of `MACHINES`.
        x0: The images that it is shown, `[N, h, w, 3]`.
        told: Their labels, grids `[N, H, W, 2]`.
    """
    m = config.machine
    shared = {"chunk": m.chunk}
    if name == "local":
        return Deaf(densities.LocalMachine(x0, m.window, **shared))
    if name == "ideal":
        images, labels = one_pixel(x0), one_pixel(told)
        return Whole(densities.ConditionalMachine(images, labels, 1, 1, **shared))
    return densities.ConditionalMachine(
        x0, told, m.window, m.condition_window, **shared
    )


def shown(config: ConfigDict, stream: datasets.Stream, seed: int) -> tuple[Any, Any]:
    """The images that machines of a seed are shown, and their labels."""
    key = jax.random.fold_in(jax.random.key(config.seed + 2), seed)
    draw, n = jax.jit(stream), config.data.images
    parts = [
        jax.tree.map(np.asarray, draw(jax.random.fold_in(key, begin)))
        for begin in range(0, n, stream.batch)
    ]
    x0, told = (np.concatenate(leaf)[:n] for leaf in zip(*parts, strict=True))
    return x0, told


def asked(config: ConfigDict, name: str) -> tuple[int, ...]:
    """The numbers of places that a machine is asked for."""
    sample = config.sample
    return tuple(sample.requests if name == "conditional" else sample.controls)


def heard(name: str, k: int) -> int:
    """How many of k places reach a machine: one that is deaf is sampled once."""
    return 0 if name == "local" else k


def every_cell(config: ConfigDict) -> list[tuple[str, int, int]]:
    """What is sampled: machine, seed, number of places."""
    return [
        (name, seed, k)
        for seed in config.seeds
        for name in MACHINES
        for k in sorted({heard(name, k) for k in asked(config, name)})
    ]


def file(workdir: Path, name: str, seed: int, k: int) -> Path:
    """Where the samples of a cell are."""
    return workdir / "samples" / f"{name}-{seed}-{k}.npz"


def read(workdir: Path, name: str, seed: int, k: int) -> dict[str, np.ndarray]:
    """Of a cell `images`, bytes, and `seconds`; of one machine `unseen` too."""
    with np.load(file(workdir, name, seed, k)) as opened:
        return dict(opened)


def found(
    config: ConfigDict, workdir: Path, name: str, seed: int
) -> dict[int, list[np.ndarray]]:
    """The objects in a machine's samples, by the number of places asked for."""
    samples = {k: heard(name, k) for k in asked(config, name)}
    places = {
        k: find(read(workdir, name, seed, k)["images"]) for k in set(samples.values())
    }
    return {k: places[at] for k, at in samples.items()}


def make(
    config: ConfigDict, workdir: Path, stream: datasets.Stream, requests: Requests
) -> None:
    """Samples every cell that is not there yet."""
    missing = [cell for cell in every_cell(config) if not file(workdir, *cell).exists()]
    data_of = functools.lru_cache(1)(functools.partial(shown, config, stream))
    for name, seed, k in launch.progress(missing, "samples"):
        score = machine(config, name, *data_of(seed))
        begun = time.monotonic()
        kept = sample(config, stream, requests, score, k, seed)
        if name == "conditional":
            kept["unseen"] = unseen(stream, requests, score, k)
        kept["seconds"] = np.array(round(time.monotonic() - begun, 1))
        path = file(workdir, name, seed, k)
        path.parent.mkdir(parents=True, exist_ok=True)
        with scenes.files.whole(path) as draft, draft.open("wb") as opened:
            np.savez_compressed(opened, **kept)


def sample(
    config: ConfigDict,
    stream: datasets.Stream,
    requests: Requests,
    score: Any,
    k: int,
    seed: int,
) -> dict[str, np.ndarray]:
    """Under `images` those that were asked for the first k places, as bytes."""
    label = stream.recipe.label
    ask = lambda some: cj.condition(score, requests.conditions(label, some, k))
    images = sample_images(config, stream, ask, seed, cj.samplers.DPMSolverPP())
    return {"images": images}


def unseen(
    stream: datasets.Stream,
    requests: Requests,
    score: densities.ConditionalMachine,
    k: int,
) -> np.ndarray:
    """The share of pixels whose window holds conditions that no image has."""
    asked = requests.conditions(stream.recipe.label, slice(None), k)
    return np.asarray((score.matches(asked) == 0).mean())


def draw_figure(
    config: ConfigDict,
    workdir: Path,
    requests: Requests,
    rows: clevr_pictures.Rows,
    examples: int = 2,
) -> Figure:
    """Samples of every machine for the same requests; hits and what nobody asked."""
    ks = [k for k in config.sample.controls if k and k in config.sample.requests]
    columns = [(k, i) for k in ks for i in range(examples)]
    of_seed = config.seeds[0]
    lines = {"true renders": requests.renders}
    for name, title in MACHINES.items():
        lines[title.replace(", ", ",\n")] = lambda k, name=name: read(
            workdir, name, of_seed, heard(name, k)
        )["images"]
    figure = Figure(figsize=(11.5, 10), dpi=150, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.3, 1))
    grid = top.subplots(len(lines), len(columns), squeeze=False)
    for (title, images), line in zip(lines.items(), grid, strict=True):
        for (k, i), ax in zip(columns, line, strict=True):
            plotting.requested(ax, images(k)[i], requests.xy[i, :k])
            for circle in ax.patches:  # else as wide as a large object
                circle.set_radius(scenes.hit_radius(requests.size))
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    for (k, _), ax in zip(columns, grid[0], strict=True):
        ax.set_title(f"k = {k}", fontsize=9)
    top.suptitle(
        "k locations asked for (circles, within which an object is a hit); machines "
        "were shown 1 to 3 objects, one of them named",
        fontsize=10,
    )
    clevr_pictures.curves(bottom, rows, MACHINES, STYLES)
    return figure


if __name__ == "__main__":
    launch.run(main, "local/clevr_machine.py")
