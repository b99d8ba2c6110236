"""Scenes whose labels are sets of colours: local in pixels, or in features?

    python -m experiments.local.colors --workdir=runs/local_colors
        --config=configs/local/colors.py

A colour says nothing of the place, so what its label changes is not to be local in
pixels (Bradley 2025); whether labels are apart in the features that a network learns is
measured by the cosines of the shifts that they cause there, beside the cosines of the
same shifts of images, and beside which colours compose with yellow
(`experiments.projective.colors`).  Definitions are ours where `color_probes` says so.
What is there already is not made again: the same command goes on where it was stopped.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from compjax import datasets, scenes, training
from experiments import launch, results, train
from experiments.local import color_pictures, color_probes, color_rows
from experiments.local.color_statistics import least_rho
from experiments.models import images_seen, model_config, trained

COMPOSED = Path(__file__).parents[1] / "projective" / "results" / "colors.json"
"""Which colours compose with yellow: numbers that are there already."""

LABELS = {
    "colors": (datasets.colors_of_all,),
    "places": (datasets.vector_of_all, datasets.locations_of_all),
}
"""The networks, and labels of them that tell of all objects."""

FREE = ("seeds", "sample.together")
"""Fields that may change when the command goes on: parts do not depend on them."""

Arrays = dict[str, np.ndarray]


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, probes, samples and counts what is not there yet; then draws."""
    streams = check(config)
    composed = {row["color"]: row for row in json.loads(COMPOSED.read_text())["rows"]}
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    parts = workdir / "parts"
    drawn = kept(parts / "scenes.npz", lambda: color_probes.draw(config, streams))
    measured = {name: [] for name in streams}
    cells = [(name, seed) for name in streams for seed in config.seeds]
    for name, seed in launch.progress(cells, "models"):
        measured[name].append(measure(config, workdir, drawn, name, seed))
    truth = kept(parts / "truth.npz", lambda: color_probes.truth(config, streams))
    rows = {
        "locality": color_rows.locality(config, drawn, measured),
        "cosines": color_rows.cosines(config, drawn, measured["colors"], composed),
        "requests": color_rows.requests(config, truth, measured["colors"]),
    }
    numbers = rows | {
        "composed": {name: row["both"] for name, row in composed.items()},
        "least_rho": least_rho(len(composed) - 1),
        "seeds": list(config.seeds),
        "images_seen": images_seen(config, list(streams)),
        **results.provenance(config.seed, started),  # the seconds of the last start
    }
    training.write_json(workdir / "results.json", numbers)
    for name, figure in color_pictures.all_of(config, numbers, drawn, measured).items():
        figure.savefig(workdir / "figures" / f"{name}.png")
    print(color_pictures.table(config, numbers))
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


def measure(
    config: ConfigDict, workdir: Path, drawn: Arrays, name: str, seed: int
) -> dict[str, Arrays]:
    """All parts of a model; it is trained, or read, if one of them is not there."""
    model = functools.cache(lambda: trained(config, workdir, (name,), seed)[name])
    file = lambda part: workdir / "parts" / f"{part}-{name}-{seed}.npz"
    found = {
        "locality": kept(
            file("locality"),
            lambda: color_probes.locality(config, model(), drawn, name),
        )
    }
    if name == "colors":
        found["features"] = kept(
            file("features"), lambda: color_probes.features(config, model(), drawn)
        )
        found["samples"] = kept(
            file("samples"), lambda: color_probes.samples(config, model(), seed)
        )
    return found


def kept(file: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in a file; they are made and written first if it is not there."""
    if not file.exists():
        made = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        with scenes.files.whole(file) as draft, draft.open("wb") as opened:
            np.savez_compressed(opened, **made)
    with np.load(file) as opened:
        return dict(opened)


def check(config: ConfigDict) -> dict[str, datasets.Stream]:
    """The training set of every model.

    Raises:
        ValueError: For what would otherwise fail after hours.
    """
    least = {
        "sample.images": 2,
        "sample.steps": 2,
        "sample.together": 1,
        "locality.scenes": 2,
        "features.scenes": 4,
    }
    for name, number in least.items():
        section, field = name.split(".")
        if (value := config[section][field]) < number:
            raise ValueError(f"config.{name} must be at least {number}, got {value}.")
    if not config.seeds:
        raise ValueError("config.seeds is empty: give at least one training seed.")
    ks, n = config.sample.requests, len(scenes.COLORS)
    if not ks or min(ks) < 0 or not 1 <= max(ks) <= n:
        raise ValueError(
            f"config.sample.requests = {ks}: give numbers of colours from 0 to {n}, not"
            " 0 alone."
        )
    f = config.features
    for name, levels in (("locality", config.locality.sigmas), ("features", f.sigmas)):
        if not levels or min(levels) <= 0:
            raise ValueError(
                f"config.{name}.sigmas = {levels}: give noise levels above 0."
            )
    if f.layer not in f.layers or f.sigma not in f.sigmas:
        raise ValueError(
            f"config.features: layer = {f.layer!r} must be one of {f.layers}, and "
            f"sigma = {f.sigma} one of {f.sigmas}."
        )
    if "colors" not in config.models or set(config.models) - set(LABELS):
        raise ValueError(
            f"config.models has {', '.join(config.models)}: give colors, and places or "
            "not."
        )
    return {name: check_model(config, name) for name in LABELS if name in config.models}


def check_model(config: ConfigDict, name: str) -> datasets.Stream:
    """The training set of a model.

    Raises:
        ValueError: If its probes could not be made, or would mean something else.
    """
    of_model = train.with_preset(model_config(config, name, 0))
    run = train.build(of_model)
    if run.stream.recipe.label not in LABELS[name]:
        choices = " or ".join(label.__name__ for label in LABELS[name])
        raise ValueError(
            f"config.models.{name}.data.label = {run.stream.recipe.label.__name__!r}: "
            f"give {choices}."
        )
    if of_model.data.jitter:
        raise ValueError(
            f"config.common.data.jitter = {of_model.data.jitter}: give 0; shifts are "
            "measured from the empty scene, which is then one image."
        )
    if name == "colors":
        if not of_model.data.empty:
            raise ValueError(
                "config.models.colors.data.empty = 0: give a share above 0, or no "
                "network knows the empty scene, from which shifts are measured."
            )
        try:
            jax.eval_shape(
                functools.partial(color_probes.untrained, config, run.module),
                jax.random.key(0),
            )
        except ValueError as error:
            raise ValueError(f"config.features.layers: {error}") from error
    return run.stream


if __name__ == "__main__":
    launch.run(main, "local/colors.py")
