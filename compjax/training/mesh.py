"""The mesh that a run lives on: the batch is split over it, the state is everywhere."""

from __future__ import annotations

import jax
from jaxtyping import PyTree


def data_mesh(size: int | None = None) -> jax.sharding.Mesh:
    """A mesh of one axis, `data`, over the devices.

    Args:
        size: A batch that has to split evenly: as many devices are used as divide it.
            All devices if None.

    Example:
        >>> data_mesh(1).shape["data"]
        1
    """
    devices = jax.devices()
    n = len(devices)
    while size is not None and size % n:
        n -= 1
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((n,), ("data",), auto, devices=devices[:n])


def over_batch(mesh: jax.sharding.Mesh, axis: int = 0) -> jax.NamedSharding:
    """The sharding of arrays whose given axis is the batch.

    Args:
        mesh: Of `data_mesh`.
        axis: Where the batch is.

    Example:
        >>> over_batch(data_mesh(1), 1).spec
        P(None, 'data')
    """
    return jax.NamedSharding(mesh, jax.P(*[None] * axis, "data"))


def everywhere(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
    """The sharding of arrays of which every device has a copy.

    Args:
        mesh: Of `data_mesh`.

    Example:
        >>> everywhere(data_mesh(1)).is_fully_replicated
        True
    """
    return jax.NamedSharding(mesh, jax.P())


def split_batch(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Inside jit: every leaf `[b, ...]` split over the mesh, leaves `[1, ...]` not.

    Args:
        tree: Of arrays that lead with b or 1.
        mesh: Of `data_mesh`.

    Example:
        >>> split = jax.jit(lambda x: split_batch(x, data_mesh(2)))
        >>> split(jax.numpy.ones((2, 1))).shape
        (2, 1)
    """
    constrain = jax.lax.with_sharding_constraint
    split, whole = over_batch(mesh), everywhere(mesh)
    return jax.tree.map(
        lambda leaf: constrain(leaf, whole if leaf.shape[0] == 1 else split), tree
    )
