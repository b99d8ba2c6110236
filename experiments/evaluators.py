"""What a training run looks at on the way: errors on new examples, grids of samples.

Each function here makes an evaluator, `(step, state) -> (name, value) ...`.
"""

import dataclasses
from collections.abc import Iterator
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

    @jax.jit
    def errors(params: Any, x0: Any, condition: Any, key: Any) -> Any:
        eps = jax.random.normal(key, x0.shape)

        def error(sigma: Any) -> Any:
            levels = jnp.full(x0.shape[0], sigma)
            found = training.loss_at(params, run.module, x0, condition, levels, eps)
            return found[1]["error"]

        return jax.lax.map(error, jnp.array(LEVELS))

    def evaluate(step: int, state: training.TrainState) -> Iterator[tuple[str, float]]:
        key_examples, key_noise = jax.random.split(jax.random.key(config.seed + 1))
        x0, condition = examples(config, run, key_examples)
        found = errors(state.average, x0, condition, key_noise)
        for level, error in zip(LEVELS, found.tolist(), strict=True):
            yield f"error/sigma={level}", error

    return evaluate


def sample_grid(config: ConfigDict, run: Any, folder: Path) -> training.Evaluator:
    """Samples beneath the examples whose conditions they were given, as a picture."""
    s = config.sample
    sigmas = cj.karras_sigmas(s.steps, s.sigma_min, s.sigma_max)

    @jax.jit
    def draw(key: Any, params: Any, condition: Any) -> Any:
        score = cj.condition(cj.Network(run.module, params), condition)
        shape = (s.images, *run.module.image)
        return cj.sample(key, score, cj.samplers.Heun(), shape, sigmas)[0]

    def evaluate(step: int, state: training.TrainState) -> Iterator[tuple[str, float]]:
        key_examples, key_samples = jax.random.split(jax.random.key(config.seed + 2))
        x0, condition = examples(config, run, key_examples)
        x = draw(key_samples, state.average, condition)
        shown = run.stream.images(x0), run.stream.images(x)
        shown = process_allgather(shown, tiled=True)
        if jax.process_index() == 0:
            rows = {"examples": np.asarray(shown[0]), "samples": np.asarray(shown[1])}
            folder.mkdir(exist_ok=True)
            figure = plotting.image_rows(rows, title=f"step {step}")
            figure.savefig(folder / f"samples_{step:07d}.png")
        yield "samples/std", float(np.std(shown[1]))

    return evaluate


def examples(config: ConfigDict, run: Any, key: Any) -> tuple[Any, Any]:
    """A few examples, as the stream draws them, every device all of them."""
    few = dataclasses.replace(run.stream, batch=config.sample.images, mesh=None)
    whole = training.everywhere(run.mesh)
    return jax.jit(lambda stream, key: stream(key), out_shardings=whole)(few, key)
