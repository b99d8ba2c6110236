"""One update of the parameters: the only program that training compiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from compjax.networks.magnitude import normalize_weights
from compjax.noise import NoiseLaw
from compjax.training.averaging import power_function_beta, update_average
from compjax.training.loss import denoising_loss
from compjax.training.mesh import split_batch
from compjax.training.state import TrainState
from compjax.types import PRNGKey

Batch = Callable[[PRNGKey], tuple[Any, Any]]
"""`key -> (x0, condition)`: a pure function, which draws or renders one batch."""

TrainStep = Callable[[TrainState, PRNGKey], tuple[TrainState, dict[str, Array]]]
"""`(state, key) -> (state, metrics)`; the key is the same at every step."""


def make_train_step(
    module: Any,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    noise_law: NoiseLaw,
    *,
    average_std: float = 0.1,
    noise_draws: int = 1,
    mesh: jax.sharding.Mesh | None = None,
) -> TrainStep:
    """The compiled function that makes one update.

    The batch is made inside the step, on the device, from a key that depends only on
    the run's key and on `state.step`; a resumed run therefore repeats an uninterrupted
    one bit by bit.  The old state is donated and must not be used again.

    After the update every weight returns to its sphere (`normalize_weights`) and the
    average follows.  Gradients that are not finite count as zero, and are counted.

    Args:
        module: A preconditioned denoiser; see `denoising_loss`.
        optimizer: Any optax optimizer.
        batch: `key -> (x0 [b, *d], condition)`, a plain function or a pytree callable,
            whose arrays then are arguments of the program and not constants in it.
        noise_law: The law of the noise levels.
        average_std: Relative width of the average of the parameters.
        noise_draws: How many noise levels every example of a batch serves; more than 1
            pays where an example costs more than a step of the network.
        mesh: Over which the batch is split, as `data_mesh` makes it; None leaves
            everything where the state is.

    Returns:
        `step(state, key) -> (state, metrics)`, metrics being scalars: those of
        `denoising_loss`, `gradient_norm` and `nonfinite_gradients`, the number of
        entries that were zeroed.

    Raises:
        ValueError: If `noise_draws` is less than 1 or `average_std` is out of range.

    Source: Karras et al. 2024 (EDM2, 2312.02696).

    Example:
        >>> from compjax.networks import UNet
        >>> from compjax.noise import LogNormal
        >>> from compjax.training.state import init_state
        >>> def batch(key):
        ...     return jax.random.normal(key, (2, 4, 4, 1)), None
        >>> module = UNet(channels=4, channel_mult=(1,), num_blocks=1)
        >>> optimizer, key = optax.adam(1e-2), jax.random.key(0)
        >>> step = make_train_step(module, optimizer, batch, LogNormal(-0.8, 1.6))
        >>> example = jax.eval_shape(batch, key)
        >>> state = jax.eval_shape(
        ...     lambda key: init_state(key, module, optimizer, example), key
        ... )
        >>> state, metrics = jax.eval_shape(step, state, key)
        >>> sorted(metrics)[:3]
        ['error', 'gradient_norm', 'log_variance']
    """
    power_function_beta(average_std, 1)  # raises now rather than at the first step
    if noise_draws < 1:
        raise ValueError(f"noise_draws must be at least 1, got {noise_draws}.")
    lifted = (
        jax.tree_util.Partial(batch) if jax.tree_util.all_leaves([batch]) else batch
    )

    @partial(jax.jit, donate_argnums=0)
    def step(
        state: TrainState, key: PRNGKey, batch: Batch, noise_law: NoiseLaw
    ) -> tuple[TrainState, dict[str, Array]]:
        key_batch, key_noise = jax.random.split(jax.random.fold_in(key, state.step))
        examples = batch(key_batch)
        if mesh is not None:
            examples = split_batch(examples, mesh)
        x0, condition = repeat(examples, noise_draws)
        grads, metrics = jax.grad(denoising_loss, has_aux=True)(
            state.params, module, key_noise, x0, condition, noise_law
        )
        grads, nonfinite = zero_nonfinite(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = normalize_weights(optax.apply_updates(state.params, updates))
        beta = power_function_beta(average_std, state.step + 1)
        average = update_average(state.average, params, beta)
        metrics |= {
            "gradient_norm": optax.tree.norm(grads),
            "nonfinite_gradients": nonfinite,
        }
        return TrainState(state.step + 1, params, average, opt_state), metrics

    return lambda state, key: step(state, key, lifted, noise_law)


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
