"""Length generalisation on CLEVR: settings A, B, C and ours, one to nine objects.

    python -m experiments.projective.clevr --workdir=runs/clevr
        --config=configs/projective/clevr_laptop.py

Trains the networks, samples every setting with k = 0, ..., 9 requested places, counts
objects, and draws.  What is there already is not made again: the same command goes on
where it was stopped.
"""

import functools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, scenes, training
from experiments import launch, results
from experiments.models import Model, images_seen, sample_images, trained
from experiments.projective import pictures
from experiments.projective.places import PLACES, Requests, draw_requests, strength
from experiments.projective.windows import Windowed, windows


def everywhere(composition: Any, places: np.ndarray, config: ConfigDict) -> Any:
    """The composition, whose conditions act on every pixel."""
    del places, config
    return composition


def in_windows(composition: Any, places: np.ndarray, config: ConfigDict) -> Any:
    """The composition with a window of its own for every condition."""
    side = config.common.data.size
    own = windows(places, (side, side), config.sample.window * side)
    return Windowed(composition, own[: len(composition.weights)])


class Setting(NamedTuple):
    """What is composed over what.

    Args:
        name: For tables and pictures.
        model: Whose conditions are composed.
        background: A model of its own that knows no object, or a condition of the same.
        weight: Of every condition.
        reach: Of the conditions: `everywhere` or `in_windows`.
    """

    name: str
    model: str
    background: str | Callable[[Any], Any]
    weight: float = 1.0
    reach: Callable[..., Any] = everywhere


SETTINGS = {
    "A": Setting("A: empty background", "single", scenes.empty),
    "B": Setting("B: unconditional background", "single", scenes.null),
    "C": Setting("C: cluttered background", "cluttered", scenes.null),
    "D": Setting("D: A in windows", "single", scenes.empty, reach=in_windows),
    "A2": Setting("A, two networks", "single", "background"),
    "C2": Setting("C, weight 2", "cluttered", scenes.null, 2.0),
    "C4": Setting("C, weight 4", "cluttered", scenes.null, 4.0),
    "C7.5": Setting("C, weight 7.5", "cluttered", scenes.null, 7.5),
}
"""A, B and C are those of Bradley et al. 2025, figure 3; whether their empty background
is a network of its own, as in A2, is not known.  D is ours.  C with larger weights is
how Liu et al. 2022 sample."""

MODELS = ("background", "single", "cluttered")


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, samples, counts and draws what is not there yet."""
    check(config)
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    stages = {"training": 0.0, "sampling": 0.0}
    for seed in config.seeds:
        begun = time.monotonic()
        models = trained(config, workdir, MODELS, seed)
        stages["training"] += time.monotonic() - begun
        begun = time.monotonic()
        sample_all(config, workdir, models, seed)
        certify_all(config, workdir, models, seed)
        stages["sampling"] += time.monotonic() - begun
    requests = draw_requests(config, models["single"].stream)
    rows = [
        row | certificates(config, workdir, row["key"], row["k"])
        for row in count_all(config, workdir, requests)
    ]
    numbers = {
        "rows": rows,
        "stages": {name: round(seconds, 1) for name, seconds in stages.items()},
        "images_seen": images_seen(config, MODELS),
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    load = functools.partial(stacked, config, workdir)
    renders = lambda _, k: requests.renders(k)
    for name, figure in pictures.all_of(rows, load, renders, requests.xy).items():
        figure.savefig(workdir / "figures" / f"{name}.png")
    print(pictures.table(rows))
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


FREE = ("sample.together", "sample.chunk")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail after hours."""
    least = {"images": 2, "steps": 2, "together": 1, "chunk": 1}
    for name, number in least.items():
        if config.sample[name] < number:
            raise ValueError(
                f"config.sample.{name} must be at least {number}, got "
                f"{config.sample[name]}."
            )
    if not config.seeds:
        raise ValueError("config.seeds is empty: give at least one training seed.")


def sample_all(
    config: ConfigDict, workdir: Path, models: dict[str, Model], seed: int
) -> None:
    """Samples of every setting and k, each a file that is made once."""
    wanted = [
        (key, k, cell_file(workdir, seed, key, k))
        for key in SETTINGS
        for k in range(PLACES + 1)
    ]
    missing = [cell for cell in wanted if not cell[2].exists()]
    if not missing:
        return
    requests = draw_requests(config, models["single"].stream)
    for key, k, file in launch.progress(missing, f"seed {seed}: sampling"):
        images = sample_cell(config, models, SETTINGS[key], requests, k, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with scenes.files.whole(file) as draft, draft.open("wb") as opened:
            np.save(opened, images)


def cell_file(workdir: Path, seed: int, key: str, k: int) -> Path:
    """Where the samples of a setting with k requests are."""
    return workdir / "cells" / f"seed-{seed}" / f"{key}-{k}.npy"


def sample_cell(
    config: ConfigDict,
    models: dict[str, Model],
    setting: Setting,
    requests: Requests,
    k: int,
    seed: int,
) -> np.ndarray:
    """Images `[n, h, w, 3]`, as bytes, that were asked for the first k requests."""
    ask = lambda some: compose(config, models, setting, requests, some, k)
    return sample_images(config, models[setting.model].stream, ask, seed)


CERTIFIED = (2, 5, 9)
"""The numbers of requests k whose certificate is taken."""


def certify_all(
    config: ConfigDict, workdir: Path, models: dict[str, Model], seed: int
) -> None:
    """The bias certificate of every setting at some k, each a file made once.

    Weights compare samples of one composition: all ask for the places of image 0.
    """
    wanted = {
        (key, k): certificate_file(workdir, seed, key, k)
        for key in SETTINGS
        for k in CERTIFIED
    }
    missing = [cell for cell, file in wanted.items() if not file.exists()]
    if not missing:
        return
    stream = models["single"].stream
    requests = draw_requests(config, stream)
    s = config.sample
    n = min(s.images, s.together)
    sigmas = cj.karras_sigmas(2 * s.steps, s.sigma_min, s.sigma_max)
    mesh = training.make_mesh(n)
    for key, k in launch.progress(missing, f"seed {seed}: certifying"):
        composed = compose(config, models, SETTINGS[key], requests, slice(0, 1), k)
        found = analysis.certificate(
            jax.random.fold_in(jax.random.key(config.seed + 2), seed),
            jax.device_put(composed, training.everywhere(mesh)),
            (n, *stream.size, 3),
            sigmas,
            sharding=training.over_batch(mesh),
        )
        file = wanted[key, k]
        file.parent.mkdir(parents=True, exist_ok=True)
        numbers = {
            "v_integral": float(found.integral),
            "effective_sample_size": float(found.effective_sample_size),
            "kl_bound": float(found.kl_bound),
        }
        training.write_json(file, numbers)


def certificate_file(workdir: Path, seed: int, key: str, k: int) -> Path:
    """Where the certificate of a setting with k requests is."""
    return workdir / "certificates" / f"seed-{seed}" / f"{key}-{k}.json"


def certificates(
    config: ConfigDict, workdir: Path, key: str, k: int
) -> dict[str, float]:
    """The mean over training seeds of what a certificate says, where one is taken."""
    if k not in CERTIFIED:
        return {}
    files = [certificate_file(workdir, seed, key, k) for seed in config.seeds]
    found = [json.loads(file.read_text()) for file in files]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def compose(
    config: ConfigDict,
    models: dict[str, Model],
    setting: Setting,
    requests: Requests,
    some: slice,
    k: int,
) -> Any:
    """The composition of the first k requests of some images.

    With the background they are padded to whole chunks, by conditions of weight 0, so
    that all k with as many calls of the network share one compiled program.
    """
    chunk = config.sample.chunk
    asked = min(PLACES, chunk * math.ceil((k + 1) / chunk) - 1) or 1
    network = models[setting.model].network
    conditions = requests.conditions(some)[:asked]
    like = conditions[0]
    if isinstance(setting.background, str):
        nothing = scenes.empty(like[:1])
        background = cj.condition(models[setting.background].network, nothing)
    else:
        background = setting.background(like[:1])
    weights = setting.weight * (jnp.arange(asked) < k)
    composition = cj.compose_conditions(
        network, background, conditions, weights, chunk=chunk
    )
    return setting.reach(composition, requests.xy[some], config)


def count_all(
    config: ConfigDict, workdir: Path, requests: Requests
) -> list[dict[str, Any]]:
    """One row for every setting and k >= 1, counted over all training seeds."""
    radius, n = scenes.hit_radius(requests.stream.size), len(config.seeds)
    find = lambda images: scenes.valid_xy(scenes.detect(np.float32(images) / 255))
    load = functools.cache(functools.partial(stacked, config, workdir))
    empty = requests.empty
    times = lambda array: np.concatenate([array] * n)
    xy, elsewhere = times(requests.xy), times(requests.elsewhere)
    groups = np.repeat(config.seeds, config.sample.images)
    rows = []
    found_at_0 = {key: find(load(key, 0)) for key in SETTINGS}
    for k in launch.progress(range(1, PLACES + 1), "counting k ="):
        renders = requests.renders(k)
        truly = find(renders) * n
        truth = strength(renders, empty, requests.xy[:, :k], radius)
        for key, setting in SETTINGS.items():
            images = load(key, k)
            found, asked, rest = find(images), xy[:, :k], xy[:, k:]
            row = analysis.tally(
                found,
                truly,
                asked,
                radius,
                training_seeds=groups,
                elsewhere=elsewhere[:, :k],
            )
            rows.append(
                {
                    "setting": setting.name,
                    "key": key,
                    "k": k,
                    **row._asdict(),
                    "unrequested": held(found, rest, radius),
                    "unrequested_at_0": held(found_at_0[key], rest, radius),
                    "strength": strength(images, empty, asked, radius) / truth,
                }
            )
    return rows


def held(found: list[np.ndarray], places: np.ndarray, radius: float) -> float | None:
    """The share of places that hold an object; None where there is no place."""
    if not places.shape[1]:
        return None
    pairs = zip(found, places, strict=True)
    return float(np.mean([scenes.match(xy, to, radius).mean() for xy, to in pairs]))


def stacked(config: ConfigDict, workdir: Path, key: str, k: int) -> np.ndarray:
    """The samples of a setting with k requests, of all training seeds."""
    files = [cell_file(workdir, seed, key, k) for seed in config.seeds]
    return np.concatenate([np.load(file) for file in files])


if __name__ == "__main__":
    launch.run(main, "projective/clevr_laptop.py")
