"""The networks of an experiment, trained where they are not yet, and their samples."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import datasets, training
from experiments import evaluators, train


class Model(NamedTuple):
    """A trained network and the stream that it was trained on.

    Args:
        network: The conditional score.
        stream: Labels objects, and turns data into images.
    """

    network: cj.Network
    stream: datasets.Stream


def trained(
    config: ConfigDict, workdir: Path, names: Sequence[str], seed: int
) -> dict[str, Model]:
    """The models of these names; each is trained first, from where it was left.

    Args:
        config: With `common`, a configuration of `experiments.train`, and in `models`
            what differs from it for each name.
        workdir: Model `name` is kept in `models/name-seed`, a work directory of
            `experiments.train`.
        names: Which models.
        seed: Of the training.

    Raises:
        ValueError: If training was interrupted, so that there is no model yet.
    """
    if jax.process_count() > 1:
        raise ValueError(
            "this experiment runs in one process: train the models in many with "
            "experiments.train, and start it when they are finished."
        )
    return {name: _trained(config, workdir, name, seed) for name in names}


def sample_images(
    config: ConfigDict,
    stream: datasets.Stream,
    ask: Callable[[slice], Any],
    seed: int,
    sampler: Any = None,
) -> np.ndarray:
    """Images `[n, h, w, 3]` of a score, as bytes.

    Whatever is sampled, the noise is the same: scores differ in nothing else.

    Args:
        config: With `sample`, which says how many and how.
        stream: Turns data into images.
        ask: The score, often a composition, for some of the images.
        seed: Of the training.
        sampler: Of `cj.samplers`; Heun's method if None.
    """
    s = config.sample
    key = jax.random.fold_in(jax.random.key(config.seed + 1), seed)
    sigmas = cj.karras_sigmas(s.steps, s.sigma_min, s.sigma_max)
    parts = []
    for begin in range(0, s.images, s.together):
        n = min(s.together, s.images - begin)
        mesh = training.make_mesh(n)  # not that of the training, whose batch differs
        x, _ = cj.sample(
            jax.random.fold_in(key, begin),
            jax.device_put(ask(slice(begin, begin + n)), training.everywhere(mesh)),
            cj.samplers.Heun() if sampler is None else sampler,
            (n, *stream.size, 3),
            sigmas,
            sharding=training.over_batch(mesh),
        )
        parts.append(np.asarray(stream.images(x)))
    return np.round(255 * np.concatenate(parts)).astype(np.uint8)


def images_seen(config: ConfigDict, names: Sequence[str]) -> dict[str, int]:
    """Noisy images that each of these networks is trained on."""
    runs = {name: model_config(config, name, 0) for name in names}
    return {
        name: run.train.steps * run.data.batch * run.train.noise_draws
        for name, run in runs.items()
    }


def model_config(config: ConfigDict, name: str, seed: int) -> ConfigDict:
    """The configuration that `experiments.train` has for a model."""
    of_model = config.common.copy_and_resolve_references()
    of_model.update(config.models[name])
    of_model.seed = seed
    return of_model


def mean_loss(folder: Path, steps: int) -> float:
    """The mean training loss of the last tenth of the steps, of a work directory."""
    lines = [line for line in training.read_metrics(folder) if "loss" in line]
    return float(np.mean([ln["loss"] for ln in lines if ln["step"] > 0.9 * steps]))


def _trained(config: ConfigDict, workdir: Path, name: str, seed: int) -> Model:
    of_model, folder = model_config(config, name, seed), workdir / "models"
    print(f"model {name}, training seed {seed}", flush=True)
    run, state = train.go_on(of_model, folder / f"{name}-{seed}")
    step = int(state.step)
    if step < of_model.train.steps:
        raise ValueError(
            f"training stopped at step {step} of {of_model.train.steps}; the same "
            "command goes on from there."
        )
    params: Any = evaluators.average(run, step, state)
    return Model(cj.Network(run.module, params), run.stream)
