"""One update of the parameters: the only program that training compiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from compjax.networks.magnitude import normalize_weights
from compjax.noise import NoiseLaw
from compjax.training.averaging import Average, PowerFunction, update_average
from compjax.training.gradients import mean_gradient, split_parts
from compjax.training.loss import draw_noise, loss_at
from compjax.training.mesh import keep_sharded, split_batch
from compjax.training.state import TrainState
from compjax.types import PRNGKey

Batch = Callable[[PRNGKey], tuple[Any, Any]]
"""`key -> (x0, condition)`: a function that draws or renders one batch, or a pytree
that carries the batch and prepares it: scales it, drops conditions."""

TrainStep = Callable[[TrainState, PRNGKey, Batch], tuple[TrainState, dict[str, Array]]]
"""`(state, key, batch) -> (state, metrics)`; the key is the same at every step."""


class Normalization(NamedTuple):
    """When the weights return to their spheres; see `normalize_weights`.

    Args:
        before: Is applied to the parameters before the gradients are taken.
        after: Is applied to the updated parameters, before they are averaged.
    """

    before: Callable[[PyTree], PyTree]
    after: Callable[[PyTree], PyTree]


def _as_they_are(params: PyTree) -> PyTree:
    return params


BEFORE = Normalization(normalize_weights, _as_they_are)
"""EDM2's: weights and averages are those that the update left, off the sphere."""

AFTER = Normalization(_as_they_are, normalize_weights)
"""Bradley et al. 2025, section 10.2: weights and averages of them are on the sphere."""


def make_train_step(
    module: Any,
    optimizer: optax.GradientTransformation,
    noise_law: NoiseLaw,
    *,
    averages: Sequence[Average] = (PowerFunction(0.1),),
    normalization: Normalization = AFTER,
    noise_draws: int = 1,
    accumulate: int = 1,
    mesh: jax.sharding.Mesh | None = None,
) -> TrainStep:
    """The compiled function that makes one update.

    The batch is made inside the step, on the device, from a key that depends only on
    the run's key and on `state.step`; a resumed run therefore repeats an uninterrupted
    one bit by bit.  The old state is donated and must not be used again.  Gradients
    that are not finite count as zero, and are counted.

    Args:
        module: A preconditioned denoiser; see `loss_at`.
        optimizer: Any optax optimizer.
        noise_law: The law of the noise levels.
        averages: What is averaged: the parameters, with these profiles.
        normalization: `AFTER` the update or `BEFORE` the gradients.
        noise_draws: How many noise levels every example of a batch serves; more than 1
            pays where an example costs more than a step of the network.
        accumulate: In how many parts the gradients of a batch are taken, one after the
            other, where memory is short; the update is the same, up to rounding and to
            what the network drops.
        mesh: Over which batch and state are split, as `make_mesh` makes it; None leaves
            everything where the state is.

    Returns:
        `step(state, key, batch) -> (state, metrics)`, where `batch` is a plain function
        or a pytree callable `key -> (x0 [b, *d], condition)`, whose arrays are
        arguments of the program and not constants in it.  Metrics are scalars: those of
        `loss_at`; `gradient_norm` and `parameter_norm`; `nonfinite_gradients`, the
        number of entries that were zeroed in all updates so far.

    Raises:
        ValueError: If `noise_draws` or `accumulate` is less than 1; when it is traced,
            if the batch does not split into `accumulate` parts.

    Source: Karras et al. 2024 (EDM2, 2312.02696).

    Example:
        >>> from compjax.networks import UNet
        >>> from compjax.noise import LogNormal
        >>> from compjax.training.state import init_state
        >>> def batch(key):
        ...     return jax.random.normal(key, (2, 4, 4, 1)), None
        >>> module = UNet(channels=4, channel_mult=(1,), num_blocks=1)
        >>> optimizer, key = optax.adam(1e-2), jax.random.key(0)
        >>> step = make_train_step(module, optimizer, LogNormal(-0.8, 1.6))
        >>> example = jax.eval_shape(batch, key)
        >>> state = jax.eval_shape(
        ...     lambda key: init_state(key, module, optimizer, example), key
        ... )
        >>> state, metrics = jax.eval_shape(
        ...     lambda state, key: step(state, key, batch), state, key
        ... )
        >>> sorted(metrics)[:3]
        ['error', 'gradient_norm', 'log_variance']
    """
    for name, value in (("noise_draws", noise_draws), ("accumulate", accumulate)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    drops = getattr(module, "dropout", 0.0) > 0

    def loss(params: PyTree, part: Any) -> tuple[Array, dict[str, Array]]:
        x0, condition, sigma, eps, key = part
        key = key if drops else None
        return loss_at(params, module, x0, condition, sigma, eps, key)

    @partial(jax.jit, donate_argnums=0)
    def step(
        state: TrainState,
        key: PRNGKey,
        batch: Batch,
        noise_law: NoiseLaw,
        averages: tuple[Average, ...],
    ) -> tuple[TrainState, dict[str, Array]]:
        # The shardings of the state: kept, so that its buffers can be donated.
        place = (
            (lambda tree: tree) if mesh is None else partial(keep_sharded, mesh=mesh)
        )
        key_batch, key_noise, key_drop = jax.random.split(
            jax.random.fold_in(key, state.step), 3
        )
        examples = batch(key_batch)
        if mesh is not None:
            examples = split_batch(examples, mesh)
        x0, condition = repeat(examples, noise_draws)
        sigma, eps = draw_noise(key_noise, x0, noise_law)
        if mesh is not None:
            sigma, eps = split_batch((sigma, eps), mesh)
        params = place(normalization.before(state.params))
        split = split_parts(
            (x0, condition, sigma, eps), key_drop, accumulate, mesh.size if mesh else 1
        )
        grads, metrics = mean_gradient(loss, params, split, mesh)
        grads, nonfinite = zero_nonfinite(grads)
        # Saturated: a large network has more entries than an int32 counts often.
        room = jnp.iinfo(jnp.int32).max - state.nonfinite
        nonfinite = state.nonfinite + jnp.minimum(nonfinite, room)
        updates, opt_state = optimizer.update(grads, state.opt_state, params)
        params = normalization.after(optax.apply_updates(params, updates))
        new = TrainState(
            step=state.step + 1,
            params=params,
            averages=tuple(
                update_average(old, params, average.share(state.step + 1))
                for old, average in zip(state.averages, averages, strict=True)
            ),
            opt_state=opt_state,
            nonfinite=nonfinite,
        )
        metrics |= {
            "gradient_norm": optax.tree.norm(grads),
            "parameter_norm": optax.tree.norm(params),
            "nonfinite_gradients": nonfinite,
        }
        return place(new), metrics

    averages = tuple(averages)
    return lambda state, key, batch: step(
        state, key, as_batch(batch), noise_law, averages
    )


def as_batch(batch: Batch) -> Batch:
    """A batch function as a pytree: plain functions are lifted, others as they are.

    Args:
        batch: `key -> (x0, condition)`.

    Example:
        >>> jax.tree.leaves(as_batch(lambda key: (jax.random.normal(key, (2,)), None)))
        []
    """
    return jax.tree_util.Partial(batch) if jax.tree_util.all_leaves([batch]) else batch


def repeat(tree: PyTree, times: int) -> PyTree:
    """Every leaf `[b, ...]` as `[b * times, ...]`, those that lead with 1 as they are.

    Args:
        tree: Of arrays that lead with b or 1.
        times: How often each example occurs.

    Example:
        >>> repeat((jnp.arange(2), jnp.zeros((1, 3))), 2)[0]
        Array([0, 0, 1, 1], dtype=int32)
    """
    if times == 1:
        return tree
    size = max(leaf.shape[0] for leaf in jax.tree.leaves(tree))
    return jax.tree.map(
        lambda leaf: jnp.repeat(leaf, times, 0) if leaf.shape[0] == size else leaf, tree
    )


def zero_nonfinite(grads: PyTree) -> tuple[PyTree, Array]:
    """Gradients with 0 for every entry that is not finite, and the number of those.

    Args:
        grads: Any tree of arrays.

    Example:
        >>> zero_nonfinite(jnp.array([1.0, jnp.nan, jnp.inf]))
        (Array([1., 0., 0.], dtype=float32), Array(2, dtype=int32))
    """
    counts = [(~jnp.isfinite(g)).sum() for g in jax.tree.leaves(grads)]
    grads = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), grads)
    return grads, jnp.sum(jnp.stack(counts))
