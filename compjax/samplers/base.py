"""`sample` and `trajectory`: one `lax.scan` of a sampler's step, jitted at the edge."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from compjax.noise import check_sigmas
from compjax.scores import check_score
from compjax.types import PRNGKey, Sampler, ScoreFn, as_float


class State(NamedTuple):
    """What the samplers of this package carry: the sample alone."""

    x: Float[Array, "b *d"]


class Info(NamedTuple):
    """What they report of a step: how often they evaluated the score."""

    evaluations: Int[Array, ""]


def sample(
    key: PRNGKey,
    score: ScoreFn,
    sampler: Sampler,
    shape: tuple[int, ...],
    sigmas: Float[Array | np.ndarray, " levels"],
    *,
    start: Float[Array, "b *d"] | None = None,
    sharding: Any = None,
) -> tuple[Float[Array, "b *d"], Any]:
    """Samples drawn by following a score down a grid of noise levels.

    Compiled once for each shape, number of steps, and *structure* of score and
    sampler: new parameters, weights, levels and sampler numbers do not retrace.

    Args:
        key: A typed PRNG key.
        score: The score to follow.
        sampler: One of `compjax.samplers`, or any object with `init` and `step`.
        shape: `[b, *d]`, the shape of the samples.
        sigmas: Decreasing noise levels; only the last may be 0.
        start: Where to start; `sigmas[0]` times standard normal noise if None.
        sharding: A `jax.sharding.Sharding` for the samples; None leaves it to XLA.

    Returns:
        `(x, info)`: x of shape `shape`, and the sampler's info stacked over steps.

    Raises:
        ValueError: If sigmas are not such a grid, `score` is a plain function, or
            `start` does not have shape `shape`; if samples are not finite.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.ones(2), 0.01 * jnp.eye(2))
        >>> grid = cj.karras_sigmas(16, 0.01, 10.0)
        >>> x, info = sample(jax.random.key(0), p, cj.samplers.Heun(), (512, 2), grid)
        >>> x.shape, int(info.evaluations.sum())
        ((512, 2), 31)
        >>> bool(jnp.allclose(x.mean(0), 1.0, atol=0.05))
        True
    """
    start, sigmas = check_run(score, sampler, shape, sigmas, start)
    x, _, info = _run(
        _nothing, key, score, sampler, tuple(shape), sigmas, start, sharding
    )
    _check_finite(x)
    return x, info


def trajectory(
    key: PRNGKey,
    score: ScoreFn,
    sampler: Sampler,
    shape: tuple[int, ...],
    sigmas: Float[Array | np.ndarray, " levels"],
    *,
    start: Float[Array, "b *d"] | None = None,
    sharding: Any = None,
) -> tuple[Float[Array, "levels b *d"], Any]:
    """The whole path of `sample`: x at every noise level of the grid.

    Args:
        key: A typed PRNG key.
        score: The score to follow.
        sampler: One of `compjax.samplers`, or any object with `init` and `step`.
        shape: `[b, *d]`, the shape of the samples.
        sigmas: Decreasing noise levels; only the last may be 0.
        start: Where to start; `sigmas[0]` times standard normal noise if None.
        sharding: A `jax.sharding.Sharding` for the samples; None leaves it to XLA.

    Returns:
        `(xs, info)`: xs `[n + 1, *shape]`, whose last is what `sample` returns.

    Raises:
        ValueError: As `sample`.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Gaussian(jnp.ones(2), jnp.eye(2))
        >>> grid = cj.karras_sigmas(4)
        >>> trajectory(jax.random.key(0), p, cj.samplers.Euler(), (8, 2), grid)[0].shape
        (5, 8, 2)
    """
    start, sigmas = check_run(score, sampler, shape, sigmas, start)
    _, path, info = _run(
        _position, key, score, sampler, tuple(shape), sigmas, start, sharding
    )
    _check_finite(path[-1])
    return path, info


def _nothing(state):
    return None


def _position(state):
    return state.x


@partial(jax.jit, static_argnames=("record", "shape", "sharding"))
def _run(record, key, score, sampler, shape, sigmas, start, sharding):
    """The sample, what `record` reads of every state, and the info."""
    key_start, key_init, key_steps = jax.random.split(key, 3)
    if start is not None:
        state = sampler.init(key_init, start, sigmas)
    elif hasattr(sampler, "start"):  # it knows better where this score starts
        state = sampler.start(key_start, score, shape, sigmas)
    else:
        start = sigmas[0] * jax.random.normal(key_start, shape, sigmas.dtype)
        state = sampler.init(key_init, start, sigmas)
    returned = jax.eval_shape(score, state.x, sigmas[0]).shape
    if returned != shape:
        raise ValueError(f"The score returned shape {returned} for x of shape {shape}.")
    if sharding is not None:
        x = jax.lax.with_sharding_constraint(state.x, sharding)
        state = state._replace(x=x)

    def step(state, inputs):
        key, sigma, sigma_next = inputs
        state, info = sampler.step(key, state, score, sigma, sigma_next)
        return state, (info, record(state))

    keys = jax.random.split(key_steps, len(sigmas) - 1)
    first = record(state)
    state, (info, rest) = jax.lax.scan(step, state, (keys, sigmas[:-1], sigmas[1:]))
    path = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
    return state.x, path, info


def check_run(
    score: Any, sampler: Any, shape: tuple[int, ...], sigmas: Any, start: Any
) -> tuple[Any, Array]:
    """Raises a ValueError for what can be wrong, before anything is compiled.

    Args:
        score: As for `sample`, and so the others.
        sampler: The sampler.
        shape: Of the samples.
        sigmas: The grid.
        start: Where to start, or None.

    Returns:
        `(start, sigmas)` as float arrays.
    """
    check_score(score, "the score")
    if isinstance(sampler, type) or not hasattr(sampler, "step"):
        raise ValueError(
            f"{sampler!r} is no sampler, which has init and step; construct one, as in "
            "cj.samplers.Heun()."
        )
    if len(shape) < 1 or any(int(n) != n or n < 1 for n in shape):
        raise ValueError(f"shape must be [b, *d] with positive sizes, got {shape}.")
    check_sigmas(sigmas)
    if start is not None:
        start = as_float(start)
        if start.shape != tuple(shape):
            raise ValueError(f"start has shape {start.shape}, but shape is {shape}.")
    sigmas = as_float(sigmas)
    if hasattr(sampler, "check"):
        sampler.check(score, sigmas)
    return start, sigmas


def _check_finite(x: Array) -> None:
    """Raises a ValueError where samples are not numbers; not while tracing."""
    if isinstance(x, Tracer) or jnp.isfinite(x).all():
        return
    lost = (~jnp.isfinite(x)).any(tuple(range(1, x.ndim)))
    raise ValueError(
        f"{int(lost.sum())} of {len(x)} samples are not finite: the score returned "
        "values that are not numbers; or the composition is no density at some noise "
        "level (its precision is negative), so that samples escape; or it is empty "
        "there, so that every particle has weight zero (a density with edges is empty "
        "where it ends: let sigmas end above 0)."
    )
