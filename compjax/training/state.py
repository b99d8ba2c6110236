"""What training carries from one step to the next."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PyTree

from compjax.networks.magnitude import normalize_weights
from compjax.types import PRNGKey, pytree


@pytree
class TrainState:
    """The number of updates made, and all that they have changed.

    Args:
        step: Number of updates.
        params: The parameters that are trained.
        averages: Averages of them over the updates, one for every `Average`.
        opt_state: The optimizer's state.
        nonfinite: Entries of gradients that were not finite, in all updates.
    """

    step: Int[Array, ""]
    params: PyTree
    averages: tuple[PyTree, ...]
    opt_state: PyTree
    nonfinite: Int[Array, ""]

    @property
    def average(self) -> PyTree:
        """The first average, which is what one samples with."""
        return self.averages[0]


def init_state(
    key: PRNGKey,
    module: Any,
    optimizer: optax.GradientTransformation,
    example: PyTree,
    averages: int = 1,
) -> TrainState:
    """The state before the first step.

    Args:
        key: Draws the parameters.
        module: A linen module, a preconditioned denoiser.
        optimizer: Any optax optimizer.
        example: `(x0, condition)` as the batches will be; only shapes and dtypes
            matter, so that `jax.eval_shape` of the batch function will do.
        averages: How many averages of the parameters are kept.

    Example:
        >>> from compjax.networks import UNet
        >>> module = UNet(channels=4, channel_mult=(1,), num_blocks=1)
        >>> example = (jnp.zeros((1, 4, 4, 1)), None)
        >>> def start(key):
        ...     return init_state(key, module, optax.adam(1e-2), example)
        >>> state = jax.eval_shape(start, jax.random.key(0))  # jax.jit to run it
        >>> state.step
        ShapeDtypeStruct(shape=(), dtype=int32)
    """
    # One example is enough: the parameters do not depend on the size of the batch.
    x0, condition = jax.tree.map(
        lambda a: jnp.zeros((1, *a.shape[1:]), a.dtype), example
    )
    params = module.init(key, x0, jnp.ones(1), condition)["params"]
    params = normalize_weights(params)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # Copies: the step donates its state, and no buffer can be donated twice.
        averages=tuple(jax.tree.map(jnp.copy, params) for _ in range(averages)),
        opt_state=optimizer.init(params),
        nonfinite=jnp.zeros((), jnp.int32),
    )
