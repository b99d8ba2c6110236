"""Small networks for every density of the benchmarks, all trained at once."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization

import compjax as cj
from compjax import networks, training
from compjax.training.loss import draw_noise, loss_at
from experiments import launch
from experiments.benchmarks2d.methods import SIGMA_MAX, SIGMA_MIN

MODULE = networks.MLP(sigma_data=0.6, width=64)
LAW = cj.noise.LogNormal(-2.0, 2.0)
BATCH = 512
PART = 250
"""Steps between two lines of progress."""


def learned(densities: dict[str, Any], steps: int, seed: int, file: Path) -> Any:
    """A network for every density: scores by name.

    Training goes on where the file says that it stopped.

    Args:
        densities: What they learn, by name.
        steps: Of training, each on 512 fresh samples.
        seed: Of data, noise and first parameters.
        file: Where the state of training is kept.

    Returns:
        Scores by name, with the mean of the last parameters, weighted as by a power
        function.
    """
    names = sorted(densities)
    keys = jax.random.split(jax.random.key(seed), len(names))
    init = jax.vmap(lambda key: MODULE.init(key, jnp.zeros((1, 2)), 1.0)["params"])
    params = jax.jit(init)(keys)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 2e-3, steps // 30, steps, 1e-5)
    optimizer = optax.adam(schedule)
    state = params, jax.vmap(optimizer.init)(params), params, jnp.int32(0)
    if file.exists():
        state = serialization.from_bytes(state, file.read_bytes())
    done = int(state[3])
    todo = range(-(-done // PART), -(-steps // PART))
    for part in launch.progress(todo, "training") if todo else ():
        key = jax.random.fold_in(jax.random.key(seed + 1), part)
        key_data, key_noise = jax.random.split(key)
        n = min(PART, steps - part * PART)
        data = [
            densities[name].sample(k, n * BATCH).reshape(n, BATCH, 2)
            for name, k in zip(
                names, jax.random.split(key_data, len(names)), strict=True
            )
        ]
        state = _steps(state, jnp.stack(data, axis=1), key_noise, optimizer)
        half = file.with_suffix(".part")
        half.write_bytes(serialization.to_bytes(state))
        half.replace(file)
    one = lambda i: jax.tree.map(lambda leaf: jnp.asarray(leaf)[i], state[2])
    return {name: cj.Network(MODULE, one(i)) for i, name in enumerate(names)}


@partial(jax.jit, static_argnames="optimizer")
def _steps(state, data, key, optimizer):
    average = training.PowerFunction(0.05)

    def loss(params, x0, key):
        sigma, eps = draw_noise(key, x0, LAW)
        return loss_at(params, MODULE, x0, None, sigma, eps)[0]

    def step(state, inputs):
        params, moments, mean, done = state
        x0, key = inputs
        keys = jax.random.split(key, len(x0))
        grads = jax.vmap(jax.grad(loss))(params, x0, keys)
        updates, moments = jax.vmap(optimizer.update)(grads, moments, params)
        params = optax.apply_updates(params, updates)
        mean = training.update_average(mean, params, average.share(done + 1))
        return (params, moments, mean, done + 1), None

    keys = jax.random.split(key, len(data))
    return jax.lax.scan(step, state, (data, keys))[0]


def score_error(density: Any, network: Any, seed: int = 0) -> float:
    r"""$\sqrt{E\,|\sigma (s_\theta - s)|^2}$ per coordinate, over the levels of a grid.

    In units of the noise that the network predicts: 0 is exact, 1 knows nothing.
    """
    levels = cj.karras_sigmas(24, SIGMA_MIN, SIGMA_MAX)[:-1]
    keys = jax.random.split(jax.random.key(seed), len(levels))

    @jax.jit
    def at(key, sigma):
        x = density.sample(key, 2000, sigma)
        away = sigma * (network(x, sigma) - density(x, sigma))
        return (away**2).mean()

    errors = [at(key, sigma) for key, sigma in zip(keys, levels, strict=True)]
    return float(np.sqrt(np.mean(errors)))
