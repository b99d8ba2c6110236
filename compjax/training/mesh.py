"""The mesh that a run lives on, and where each array of the run is on it.

A mesh has two axes, `data` and `fsdp`.  The batch is split over both.  The state has a
copy for every place along `data`, and is itself split along `fsdp`: with `fsdp = 1`
every device holds all of it (data-parallel), with `fsdp` = number of devices each holds
its part and no more (fully sharded), and in between lie the mixtures, in which `fsdp`
spans the devices of one host and `data` the hosts.
"""

from __future__ import annotations

from typing import Any

import jax
from jaxtyping import PyTree

AXES = ("data", "fsdp")
SMALL = 1024
"""Leaves with fewer entries are not split: it would save nothing and cost a message."""


def make_mesh(batch: int | None = None, fsdp: int = 1) -> jax.sharding.Mesh:
    """The mesh of all devices, or of as many as divide a batch.

    Args:
        batch: Examples that have to split evenly.  One process uses as many devices
            as divide it; several processes need all their devices.
        fsdp: Over how many devices the state is split.

    Raises:
        ValueError: If `fsdp` does not divide the devices, or the batch does not split
            over those of several processes.

    Example:
        >>> dict(make_mesh(batch=1).shape)
        {'data': 1, 'fsdp': 1}
    """
    devices = jax.devices()
    n = len(devices)
    while batch is not None and batch % n:
        n -= 1
    if n < len(devices) and jax.process_count() > 1:
        raise ValueError(
            f"A batch of {batch} does not split over {len(devices)} devices: give a "
            "multiple of their number."
        )
    if fsdp < 1 or n % fsdp:
        raise ValueError(
            f"fsdp = {fsdp} does not divide {n} devices: give a divisor of their "
            "number."
        )
    auto = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh((n // fsdp, fsdp), AXES, auto, devices=devices[:n])


def over_batch(mesh: jax.sharding.Mesh, axis: int = 0) -> jax.NamedSharding:
    """The sharding of arrays whose given axis is the batch (or any other to split).

    Args:
        mesh: Of `make_mesh`.
        axis: Where the batch is.

    Example:
        >>> over_batch(make_mesh(1), 1).spec
        P(None, ('data', 'fsdp'))
    """
    return jax.NamedSharding(mesh, jax.P(*[None] * axis, AXES))


def everywhere(mesh: jax.sharding.Mesh) -> jax.NamedSharding:
    """The sharding of arrays of which every device has a copy.

    Args:
        mesh: Of `make_mesh`.

    Example:
        >>> everywhere(make_mesh(1)).is_fully_replicated
        True
    """
    return jax.NamedSharding(mesh, jax.P())


def sharded(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """The sharding of every leaf of a state: split along `fsdp` where it is large.

    A leaf is split along the last of its axes that `fsdp` divides: the output channels
    of a weight, each of which is normalised by itself.

    Args:
        tree: Of arrays, or of their shapes (`jax.eval_shape`).
        mesh: Of `make_mesh`.

    Example:
        >>> weight = jax.ShapeDtypeStruct((3, 3, 64, 128), "float32")
        >>> sharded(weight, make_mesh(1)).spec
        P(None, None, None, 'fsdp')
    """
    parts = mesh.shape["fsdp"]

    def place(leaf: Any) -> jax.NamedSharding:
        for axis in reversed(range(len(leaf.shape))):
            if leaf.size >= SMALL and leaf.shape[axis] % parts == 0:
                return jax.NamedSharding(mesh, jax.P(*[None] * axis, "fsdp"))
        return everywhere(mesh)

    return jax.tree.map(place, tree)


def placed_like(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Shapes with their shardings: what `Checkpoints.restore` is to bring back.

    Args:
        tree: Of shapes (`jax.eval_shape`) or arrays.
        mesh: Of `make_mesh`.

    Example:
        >>> weight = jax.ShapeDtypeStruct((64, 128), "float32")
        >>> placed_like(weight, make_mesh(1)).sharding.spec
        P(None, 'fsdp')
    """
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=place
        ),
        tree,
        sharded(tree, mesh),
    )


def split_batch(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Inside jit: every leaf `[b, ...]` split over the mesh, leaves `[1, ...]` not.

    Args:
        tree: Of arrays that lead with b or 1.
        mesh: Of `make_mesh`.

    Example:
        >>> split = jax.jit(lambda x: split_batch(x, make_mesh(2)))
        >>> split(jax.numpy.ones((2, 1))).shape
        (2, 1)
    """
    constrain = jax.lax.with_sharding_constraint
    split, whole = over_batch(mesh), everywhere(mesh)
    return jax.tree.map(
        lambda leaf: constrain(leaf, whole if leaf.shape[0] == 1 else split), tree
    )


def keep_sharded(tree: PyTree, mesh: jax.sharding.Mesh) -> PyTree:
    """Inside jit: a state, or gradients, that stay where `sharded` says.

    Args:
        tree: Of arrays.
        mesh: Of `make_mesh`.

    Example:
        >>> keep = jax.jit(lambda x: keep_sharded(x, make_mesh(1)))
        >>> keep(jax.numpy.ones(2048)).sharding.mesh.axis_names
        ('data', 'fsdp')
    """
    return jax.lax.with_sharding_constraint(tree, sharded(tree, mesh))
