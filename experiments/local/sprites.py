"""Experiments 1, 2 and 3 on exact sprites, in a 2 x 2 design and with controls.

    python -m experiments.local.sprites --workdir=runs/local_sprites

Trains every network of the configuration, samples it with 0 to 10 requested places,
counts objects, and measures how local it is.  What is there already is not made again:
the same command goes on where it was stopped.
"""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import scenes, training
from experiments import launch, results
from experiments.local import pictures, probes
from experiments.local.counts import count
from experiments.local.models import Model, trained
from experiments.local.switching import switched
from experiments.local.world import World, draw_requests, make_world


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, samples, counts and probes what is not there yet; then draws."""
    numbers, world, workdir = run(config, workdir)
    load = functools.partial(samples, workdir)
    figures = pictures.all_of(config, world, numbers, load)
    figures["maps"] = pictures.maps(
        {name: map_once(config, world, workdir, name) for name in mapped(config)},
        config.world.pixels,
    )
    for name, figure in figures.items():
        figure.savefig(workdir / "figures" / f"{name}.png")
    print(pictures.table(numbers))
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


def run(config: ConfigDict, workdir: Path) -> tuple[dict[str, Any], World, Path]:
    """Every model of a configuration, trained, sampled, counted and probed.

    Returns:
        What is in `results.json`, the world, and the opened work directory.
    """
    check(config)
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    world = make_world(config)
    every = lambda workdir, name: [samples(workdir, name, s) for s in config.seeds]
    cells = [(name, seed) for seed in config.seeds for name in config.models]
    for name, seed in launch.progress(cells, "models"):
        measure(config, world, workdir, name, seed)
    numbers = {
        "rows": [
            row
            for name in config.models
            for row in count(config, world, name, every(workdir, name))
        ],
        "models": {
            name: [read(workdir, name, seed) for seed in config.seeds]
            for name in config.models
        },
        "nulls": probes.nulls(config, world),
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    return numbers, world, workdir


FREE = ("seeds", "machine")
"""Fields that may change when a run is resumed."""


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail after an hour."""
    places = config.world.places**2
    if not config.seeds:
        raise ValueError("config.seeds is empty: give at least one training seed.")
    if max(config.sample.requests) > places:
        raise ValueError(
            f"config.sample.requests has {max(config.sample.requests)}, and there are "
            f"{places} places."
        )
    for name, least in (("images", 2), ("steps", 2)):
        if (value := config.sample[name]) < least:
            raise ValueError(f"config.sample.{name} must be at least {least}: {value}.")


def measure(
    config: ConfigDict, world: World, workdir: Path, name: str, seed: int
) -> None:
    """Trains a model, then writes its samples and its probes, each once."""
    images = workdir / "samples" / f"{name}-{seed}.npz"
    report = workdir / "probes" / f"{name}-{seed}.json"
    if images.exists() and report.exists():
        return
    begun = time.monotonic()
    model = trained(config, world, workdir, name, seed)
    trained_in = time.monotonic() - begun
    if not images.exists():
        found = {f"k{k}": draw(config, world, model, k) for k in config.sample.requests}
        images.parent.mkdir(parents=True, exist_ok=True)
        with scenes.files.whole(images) as draft, draft.open("wb") as opened:
            np.savez_compressed(opened, **found)
    numbers = {"loss": model.loss, "train_seconds": round(trained_in, 1)}
    numbers |= probes.probe(config, world, model, name)
    if name in config.switch.models:
        numbers["switched"] = switched(config, world, model)
    numbers["seconds"] = round(time.monotonic() - begun, 1)
    report.parent.mkdir(parents=True, exist_ok=True)
    training.write_json(report, numbers)


def mapped(config: ConfigDict) -> list[str]:
    """The models of which there are maps."""
    return [name for name in pictures.MAPPED if name in config.models]


def map_once(
    config: ConfigDict, world: World, workdir: Path, name: str
) -> dict[str, np.ndarray]:
    """The maps of a model of the first training seed, made once."""
    seed = config.seeds[0]
    file = workdir / "maps" / f"{name}-{seed}.npz"
    if not file.exists():
        model = trained(config, world, workdir, name, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with scenes.files.whole(file) as draft, draft.open("wb") as opened:
            np.savez(opened, **probes.maps(config, world, model, name))
    with np.load(file) as opened:
        return dict(opened)


def draw(config: ConfigDict, world: World, model: Model, k: int) -> np.ndarray:
    """Images `[n, h, w, 1]` for requests of k places, from the same noise for all."""
    s = config.sample
    requests = draw_requests(world, s.images, k, config.seed)
    start, sigmas = beginning(config, world)
    score = cj.condition(model.network, model.encode(jnp.asarray(requests.named)))
    x, _ = cj.sample(
        jax.random.key(config.seed),
        score,
        cj.samplers.DPMSolverPP(),
        start.shape,
        sigmas,
        start=start,
    )
    return np.asarray(x, np.float16)


def beginning(config: ConfigDict, world: World) -> tuple[Any, Any]:
    """Where all samples start, `[n, h, w, 1]`, and their noise levels."""
    s = config.sample
    sigmas = cj.karras_sigmas(s.steps, s.sigma_min, s.sigma_max)
    shape = (s.images, world.side, world.side, 1)
    return sigmas[0] * jax.random.normal(jax.random.key(config.seed), shape), sigmas


def samples(workdir: Path, name: str, seed: int) -> dict[int, np.ndarray]:
    """What a model drew, by the number of requests."""
    with np.load(workdir / "samples" / f"{name}-{seed}.npz") as file:
        return {int(k[1:]): np.float32(file[k]) for k in file.files}


def read(workdir: Path, name: str, seed: int) -> dict[str, Any]:
    """What was measured of a model."""
    return json.loads((workdir / "probes" / f"{name}-{seed}.json").read_text())


if __name__ == "__main__":
    launch.run(main, "local/sprites.py")
