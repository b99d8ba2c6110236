"""What a training run looks at on the way: errors on new examples, grids of samples.

Each function here makes an evaluator, `(step, state) -> (name, value) ...`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from ml_collections import ConfigDict

import compjax as cj
from compjax import plotting, training

LEVELS = (0.05, 0.2, 0.8, 3.2)


def errors(config: ConfigDict, run: Any) -> training.Evaluator:
    """The weighted denoising error of the average, at four noise levels.

    The examples and the noise are the same at every step, and new to the training.
    """
    draw_examples = examples(config, run, config.seed + 1)

    @jax.jit
    def measure(params: Any, x0: Any, condition: Any) -> Any:
        eps = jax.random.normal(jax.random.key(config.seed + 1), x0.shape)

        def error(sigma: Any) -> Any:
            levels = jnp.full(x0.shape[0], sigma)
            found = training.loss_at(params, run.module, x0, condition, levels, eps)
            return found[1]["error"]

        return jax.lax.map(error, jnp.array(LEVELS))

    def evaluate(step: int, state: training.TrainState) -> Iterator[tuple[str, float]]:
        found = measure(average(run, step, state), *draw_examples())
        for level, error in zip(LEVELS, found.tolist(), strict=True):
            yield f"error/sigma={level}", error

    return evaluate


def sample_grid(config: ConfigDict, run: Any, folder: Path) -> training.Evaluator:
    """Samples beneath the examples whose conditions they were given, as a picture.

    No condition is withheld.
    """
    s = config.sample
    told = dataclasses.replace(run.stream, null=0.0)
    draw_examples = examples(config, run._replace(stream=told), config.seed + 2)
    sigmas = cj.karras_sigmas(s.steps, s.sigma_min, s.sigma_max)
    place = over_devices(config, run)

    @jax.jit
    def draw(params: Any, condition: Any) -> Any:
        score = cj.condition(cj.Network(run.module, params), condition)
        shape = (s.images, *run.stream.size, 3)
        key, heun = jax.random.key(config.seed + 2), cj.samplers.Heun()
        return cj.sample(key, score, heun, shape, sigmas, sharding=place)[0]

    def evaluate(step: int, state: training.TrainState) -> Iterator[tuple[str, float]]:
        x0, condition = draw_examples()
        x = draw(average(run, step, state), condition)
        shown = run.stream.images(x0), run.stream.images(x)
        shown = process_allgather(shown, tiled=True)
        if jax.process_index() == 0:
            rows = {"examples": np.asarray(shown[0]), "samples": np.asarray(shown[1])}
            folder.mkdir(exist_ok=True)
            figure = plotting.image_rows(rows, title=f"step {step}")
            figure.savefig(folder / f"samples_{step:07d}.png")
        yield "samples/std", float(np.std(shown[1]))

    return evaluate


def average(run: Any, step: int, state: training.TrainState) -> Any:
    """The average to look at: the plain one of the last updates once it has begun."""
    return state.averages[training.which_average(run.averages, step)]


def examples(config: ConfigDict, run: Any, seed: int) -> Callable[[], tuple[Any, Any]]:
    """A function that draws a few examples when it is first called."""
    few = dataclasses.replace(run.stream, batch=config.sample.images, mesh=None)
    place = over_devices(config, run)

    @functools.cache
    def draw() -> tuple[Any, Any]:
        make = jax.jit(lambda stream, key: stream(key), out_shardings=place)
        return make(few, jax.random.key(seed))

    return draw


def over_devices(config: ConfigDict, run: Any) -> jax.NamedSharding:
    """Where the few images are: split over the devices if they divide, else on all."""
    if config.sample.images % run.mesh.size:
        return training.everywhere(run.mesh)
    return training.over_batch(run.mesh)
