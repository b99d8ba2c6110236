"""`sample` and `trajectory`: one `lax.scan` of a sampler's step, jitted at the edge."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.scores import check_score
from compjax.types import PRNGKey, Sampler, ScoreFn, as_float, concrete


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
            `start` does not have shape `shape`.

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
    start, sigmas = _checked(score, sampler, shape, sigmas, start)
    x, _, info = _run(
        _nothing, key, score, sampler, tuple(shape), sigmas, start, sharding
    )
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
    start, sigmas = _checked(score, sampler, shape, sigmas, start)
    _, path, info = _run(
        _position, key, score, sampler, tuple(shape), sigmas, start, sharding
    )
    return path, info


def _nothing(state):
    return None


def _position(state):
    return state.x


@partial(jax.jit, static_argnames=("record", "shape", "sharding"))
def _run(record, key, score, sampler, shape, sigmas, start, sharding):
    """The sample, what `record` reads of every state, and the info."""
    key_start, key_init, key_steps = jax.random.split(key, 3)
    if start is None:
        start = sigmas[0] * jax.random.normal(key_start, shape, sigmas.dtype)
    returned = jax.eval_shape(score, start, sigmas[0]).shape
    if returned != shape:
        raise ValueError(f"The score returned shape {returned} for x of shape {shape}.")
    if sharding is not None:
        start = jax.lax.with_sharding_constraint(start, sharding)

    def step(state, inputs):
        key, sigma, sigma_next = inputs
        state, info = sampler.step(key, state, score, sigma, sigma_next)
        return state, (info, record(state))

    keys = jax.random.split(key_steps, len(sigmas) - 1)
    state = sampler.init(key_init, start, sigmas)
    first = record(state)
    state, (info, rest) = jax.lax.scan(step, state, (keys, sigmas[:-1], sigmas[1:]))
    path = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)
    return state.x, path, info


def _checked(score, sampler, shape, sigmas, start):
    """Everything that can be wrong is said here, before anything is compiled."""
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
    return start, as_float(sigmas)


def check_sigmas(sigmas: Any) -> None:
    """Raises a ValueError unless sigmas decrease, of which only the last may be 0.

    Args:
        sigmas: A grid of at least two noise levels.  A tracer is checked for its shape.

    Example:
        >>> check_sigmas([1.0, 2.0, 0.0])
        Traceback (most recent call last):
        ...
        ValueError: sigmas must decrease; they go from 1.0 to 2.0 at step 0.
    """
    if np.ndim(sigmas) != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas must be [n + 1] with n >= 1, got {sigmas}.")
    values = concrete(sigmas)
    if values is None:
        return
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError(f"sigmas must be finite and not negative, got {values}.")
    if (rises := np.flatnonzero(np.diff(values) >= 0)).size:
        i = int(rises[0])
        raise ValueError(
            f"sigmas must decrease; they go from {values[i]} to {values[i + 1]} at "
            f"step {i}."
        )
