"""Experiments 1, 2 and 3 on rendered scenes, in a 2 x 2 design, 0 to 10 locations.

    python -m experiments.local.clevr --workdir=runs/local_clevr
        --config=configs/local/clevr_laptop.py

Trains every network of the configuration, samples it with the same noise and the same
requests as the others, counts objects, measures how local it is, asks whether that
foretells the counts (see `experiments.local.prediction`), and draws.  What is there
already is not made again: the same command goes on where it was stopped.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, datasets, scenes, training
from experiments import launch, results, train
from experiments.local import clevr_locality, clevr_pictures, pictures, prediction
from experiments.local.clevr_requests import (
    MOST,
    TOLD,
    Requests,
    base_rate,
    draw_requests,
)
from experiments.models import (
    Model,
    images_seen,
    mean_loss,
    model_config,
    sample_images,
    trained,
)

FREE = ("seeds", "sample.together")
"""Fields that may change when the command goes on: cells do not depend on them."""


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, samples and counts what is not there yet; then draws."""
    streams = check(config)
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    requests = draw_requests(config, next(iter(streams.values())))
    cells = [(name, seed) for seed in config.seeds for name in config.models]
    for name, seed in launch.progress(cells, "models"):
        measure(config, workdir, requests, name, seed)
    truth = {k: find(requests.renders(k)) for k in config.sample.requests}
    found = lambda name: [read(workdir, name, seed)["found"] for seed in config.seeds]
    rows = [
        row
        for name in config.models
        for row in count(config, requests, streams[name], truth, name, found(name))
    ]
    seconds = {
        name: [read(workdir, name, seed)["seconds"] for seed in config.seeds]
        for name in config.models
    }
    numbers = {
        "rows": rows,
        "models": {
            name: [read(workdir, name, seed)["probes"] for seed in config.seeds]
            for name in config.models
        },
        "seeds": list(config.seeds),
        "images_seen": images_seen(config, list(config.models)),
        "model_seconds": seconds,  # of each training seed
        **results.provenance(config.seed, started),  # the seconds of the last start
    }
    families = {name: clevr_pictures.NAMES[name] for name in config.models}
    prediction.study(config, numbers, families, workdir)
    training.write_json(workdir / "results.json", numbers)
    load = functools.partial(samples, workdir, seed=config.seeds[0])
    renders = {k: requests.renders(k) for k in config.sample.requests}
    figures = clevr_pictures.all_of(rows, load, renders, requests.xy)
    figures["locality"] = pictures.curves(numbers)
    for name, figure in figures.items():
        figure.savefig(workdir / "figures" / f"{name}.png")
    print(clevr_pictures.table(rows))
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


def check(config: ConfigDict) -> dict[str, datasets.Stream]:
    """The training set of every model.

    Raises:
        ValueError: For what would otherwise fail after hours.
    """
    for name, least in {"images": 2, "steps": 2, "together": 1}.items():
        if config.sample[name] < least:
            raise ValueError(
                f"config.sample.{name} must be at least {least}, got "
                f"{config.sample[name]}."
            )
    if not config.seeds:
        raise ValueError("config.seeds is empty: give at least one training seed.")
    ks = config.sample.requests
    if not ks or min(ks) < 0 or not 1 <= max(ks) <= MOST:
        raise ValueError(
            f"config.sample.requests = {ks}: give numbers of places from 0 to {MOST},"
            " not 0 alone."
        )
    if not {1, config.prediction.k} <= set(ks):
        raise ValueError(
            f"config.sample.requests = {ks} must hold 1 and config.prediction.k = "
            f"{config.prediction.k}, from which the study takes its outcome."
        )
    streams = {}
    for name in config.models:
        of_model = train.with_preset(model_config(config, name, 0))
        streams[name] = train.build(of_model).stream
        if streams[name].recipe.label not in TOLD:
            labels = ", ".join(label.__name__ for label in TOLD)
            raise ValueError(
                f"config.models.{name}.data.label = {of_model.data.label!r} cannot "
                f"tell of several places; choose one of {labels}."
            )
    return streams


def measure(
    config: ConfigDict, workdir: Path, requests: Requests, name: str, seed: int
) -> None:
    """Trains a model, samples it, and finds the objects; each is done once."""
    images, report = files(workdir, name, seed)
    if images.exists() and report.exists():
        return
    begun = time.monotonic()
    model = trained(config, workdir, (name,), seed)[name]
    trained_in = time.monotonic() - begun
    drawn = {k: draw(config, model, requests, k, seed) for k in config.sample.requests}
    images.parent.mkdir(parents=True, exist_ok=True)
    with scenes.files.whole(images) as draft, draft.open("wb") as opened:
        np.savez_compressed(opened, **{f"k{k}": x for k, x in drawn.items()})
    folder = workdir / "models" / f"{name}-{seed}"
    numbers = {
        "probes": {
            "loss": mean_loss(folder, config.common.train.steps),
            **clevr_locality.probe(config, model),
        },
        "found": {str(k): [xy.tolist() for xy in find(x)] for k, x in drawn.items()},
        # Of this start: less where training had begun before.
        "seconds": {
            "training": round(trained_in, 1),
            "all": round(time.monotonic() - begun, 1),
        },
    }
    training.write_json(report, numbers)


def files(workdir: Path, name: str, seed: int) -> tuple[Path, Path]:
    """Where the samples of a model are, and the objects that were found in them."""
    folder = workdir / "samples"
    return folder / f"{name}-{seed}.npz", folder / f"{name}-{seed}.json"


def draw(
    config: ConfigDict, model: Model, requests: Requests, k: int, seed: int
) -> np.ndarray:
    """Images `[n, h, w, 3]`, as bytes, that were asked for the first k places."""
    label = model.stream.recipe.label
    ask = lambda some: cj.condition(model.network, requests.conditions(label, some, k))
    return sample_images(config, model.stream, ask, seed, cj.samplers.DPMSolverPP())


def find(images: np.ndarray) -> list[np.ndarray]:
    """The places of the objects in each image, in pixels."""
    return scenes.valid_xy(scenes.detect(np.float32(images) / 255))


def samples(workdir: Path, name: str, k: int, *, seed: int) -> np.ndarray:
    """What a model drew for k requests."""
    with np.load(files(workdir, name, seed)[0]) as file:
        return file[f"k{k}"]


def read(workdir: Path, name: str, seed: int) -> dict[str, Any]:
    """What was found in the samples of a model, by k, and how long it all took."""
    numbers = json.loads(files(workdir, name, seed)[1].read_text())
    found = {
        int(k): [np.reshape(xy, (-1, 2)) for xy in images]
        for k, images in numbers["found"].items()
    }
    return numbers | {"found": found}


def count(
    config: ConfigDict,
    requests: Requests,
    stream: datasets.Stream,
    truth: dict[int, list[np.ndarray]],
    name: str,
    by_seed: list[dict[int, list[np.ndarray]]],
) -> list[dict[str, Any]]:
    """One row for every k, counted over all training seeds of a model.

    `unrequested` is the share of the other places that hold an object, and
    `base_rate` what it is for unnamed objects in the training scenes.

    Args:
        config: With `seed`, `seeds` and `sample.images`.
        requests: What was asked for.
        stream: The training scenes.
        truth: The objects in true renders of k requests, by k.
        name: Of the model.
        by_seed: For each training seed the objects in its samples, by k.
    """
    n, radius = len(config.seeds), scenes.hit_radius(requests.size)
    found = {
        k: list(itertools.chain.from_iterable(one[k] for one in by_seed))
        for k in by_seed[0]
    }
    times = lambda array: np.concatenate([array] * n)
    extra = {
        k: analysis.extra_objects(found[k], times(requests.xy[:, :k]), radius).mean()
        for k in (0, 1)
        if k in found
    }
    own = (float(extra[0]), float(extra[1])) if len(extra) == 2 else None
    base = base_rate(stream, requests, radius)
    rows = []
    for k in sorted(found):
        counts = np.array([len(xy) for xy in found[k]])
        pairs = zip(found[k], times(requests.unasked(k)), strict=True)
        held = [scenes.match(xy, rest, radius).mean() for xy, rest in pairs]
        row = {
            "model": name,
            "k": k,
            "unrequested": float(np.mean(held)),
            "base_rate": base,
            "objects": float(counts.mean()),
            "histogram": np.bincount(counts).tolist(),
        }
        if k:
            tally = analysis.tally(
                found[k],
                truth[k] * n,
                times(requests.xy[:, :k]),
                radius,
                config.seed,
                training_seeds=np.repeat(config.seeds, config.sample.images),
                elsewhere=times(requests.elsewhere[:, :k]),
                own_extra=own,
            )
            row |= tally._asdict()
            row["by_seed"] = [
                analysis.tally(
                    one[k],
                    truth[k],
                    requests.xy[:, :k],
                    radius,
                    config.seed,
                    elsewhere=requests.elsewhere[:, :k],
                ).corrected
                for one in by_seed
            ]
        rows.append(row)
    return rows


if __name__ == "__main__":
    launch.run(main, "local/clevr_laptop.py")
