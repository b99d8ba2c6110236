"""The mean gradient over a batch, each device with its own examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from compjax.training.mesh import AXES, sharded
from compjax.types import PRNGKey

Loss = Callable[[PyTree, Any], tuple[Array, PyTree]]
"""`(params, part) -> (loss, metrics)`, both means over the examples of the part."""


def mean_gradient(
    loss: Loss, params: PyTree, parts: PyTree, mesh: jax.sharding.Mesh | None = None
) -> tuple[PyTree, PyTree]:
    """The gradient and the metrics of a batch, the mean over its parts.

    On a mesh every device gathers the parameters, takes the gradient of its examples in
    all parts, and receives its share of the sum: no device sends more than each
    parameter and each gradient once, and no activation at all.  What the network drops
    (`dropout`) is drawn by each device, and so differs with their number.

    Args:
        loss: `(params, part) -> (loss, metrics)`.
        params: Split as `sharded` says, if there is a mesh.
        parts: What `split_parts` returns.
        mesh: Of `make_mesh`; None leaves everything where it is.

    Returns:
        Gradients, split like the parameters, and metrics.

    Example:
        >>> loss = lambda w, part: (w * part[0].mean(), {"x": part[0].mean()})
        >>> x = jnp.array([1.0, 2.0, 3.0, 6.0])
        >>> parts = split_parts((x,), jax.random.key(0), 2)
        >>> gradient, metrics = mean_gradient(loss, jnp.float32(2.0), parts)
        >>> float(gradient), float(metrics["x"])
        (3.0, 3.0)
    """
    slope = jax.grad(loss, has_aux=True)
    if mesh is None:
        return mean_over_parts(lambda part: slope(params, part), parts)
    specs = jax.tree.map(lambda place: place.spec, sharded(params, mesh))
    *arrays, keys = parts
    split = jax.tree.map(
        lambda leaf: jax.P() if leaf.shape[1] == 1 else jax.P(None, AXES), arrays
    )

    def local(params: PyTree, arrays: list[Any], keys: Array) -> tuple[PyTree, PyTree]:
        whole = jax.tree.map(_gathered, params, specs)
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, jax.lax.axis_index(AXES))
        grads, metrics = mean_over_parts(
            lambda part: slope(whole, part), (*arrays, keys)
        )
        grads = jax.tree.map(lambda leaf: leaf / mesh.size, grads)
        return jax.tree.map(_summed, grads, specs), jax.lax.pmean(metrics, AXES)

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(specs, split, jax.P()),
        out_specs=(specs, jax.P()),
        check_vma=False,
    )(params, arrays, keys)


def _gathered(part: Array, spec: jax.P) -> Array:
    """An array of which every device along `fsdp` holds a part, whole."""
    if "fsdp" not in spec:
        return part
    return jax.lax.all_gather(part, "fsdp", axis=spec.index("fsdp"), tiled=True)


def _summed(whole: Array, spec: jax.P) -> Array:
    """The sum over all devices, of which each along `fsdp` receives its part."""
    if "fsdp" not in spec:
        return jax.lax.psum(whole, AXES)
    axis = spec.index("fsdp")
    part = jax.lax.psum_scatter(whole, "fsdp", scatter_dimension=axis, tiled=True)
    return jax.lax.psum(part, "data")


def split_parts(
    tree: PyTree, key: PRNGKey, number: int, devices: int = 1
) -> tuple[Any, ...]:
    """The arrays `[b, ...]` of a batch as `[number, b / number, ...]`, and a key each.

    Example j goes to part j mod `number`, so that a batch which is split over devices
    stays where it is.

    Args:
        tree: `(x0, condition, ...)` of arrays that lead with b or 1.
        key: Is split into one for each part.
        number: Of parts.
        devices: Over which every part is to split.

    Returns:
        The same tuple, longer by the keys `[number]`.

    Raises:
        ValueError: If b is not a multiple of `number * devices`.

    Example:
        >>> split_parts((jnp.arange(4),), jax.random.key(0), 2)[0]
        Array([[0, 2],
               [1, 3]], dtype=int32)
    """
    b = max(leaf.shape[0] for leaf in jax.tree.leaves(tree))
    if b % (number * devices):
        raise ValueError(
            f"A batch of {b} does not split into accumulate = {number} parts on "
            f"{devices} devices; give a multiple of {number * devices}."
        )

    def split(leaf: Array) -> Array:
        if leaf.shape[0] != b:
            return jnp.broadcast_to(leaf[None], (number, *leaf.shape))
        return leaf.reshape(b // number, number, *leaf.shape[1:]).swapaxes(0, 1)

    return (*jax.tree.map(split, tree), jax.random.split(key, number))


def mean_over_parts(fn: Callable[[PyTree], PyTree], parts: PyTree) -> PyTree:
    """The mean of `fn(part)` over the leading axis of `parts`, one part at a time.

    Args:
        fn: To a tree of floating-point arrays.
        parts: Of arrays `[number, ...]`.

    Example:
        >>> mean_over_parts(lambda part: part**2, jnp.array([1.0, 3.0]))
        Array(5., dtype=float32)
    """
    number = jax.tree.leaves(parts)[0].shape[0]
    first = jax.tree.map(lambda leaf: leaf[0], parts)
    if number == 1:
        return fn(first)
    shapes = jax.eval_shape(fn, first)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    add = lambda total, part: (jax.tree.map(jnp.add, total, fn(part)), None)
    total, _ = jax.lax.scan(add, zero, parts)
    return jax.tree.map(lambda leaf: leaf / number, total)
