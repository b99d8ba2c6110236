"""Batches that the host reads, as the train step takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from compjax.training.mesh import over_batch
from compjax.types import PRNGKey, pytree, static


@pytree
class Prepared:
    """A batch of arrays and what makes training examples of it, inside the step.

    Args:
        arrays: A tuple of trees of arrays `[b, ...]`, as they were read: bytes of
            pictures, indices of labels.
        prepare: `(key, *arrays) -> (x0, condition)`; one and the same function for all
            batches, or the step is compiled anew.

    Example:
        >>> halve = lambda key, x: (x / 2, None)
        >>> Prepared((jax.numpy.ones((2, 1)),), halve)(jax.random.key(0))[0].ravel()
        Array([0.5, 0.5], dtype=float32)
    """

    arrays: tuple[Any, ...]
    prepare: Callable[..., tuple[Any, Any]] = static()

    def __call__(self, key: PRNGKey) -> tuple[Any, Any]:
        return self.prepare(key, *self.arrays)


class HostBatches:
    """An iterator of batches that every process reads a part of, with a position.

    Args:
        batches: An iterator of tuples of arrays `[b / processes, ...]`, this process's
            part, with `get_state` and `set_state`, as grain's are; `datasets.pipeline`
            makes one.
        prepare: `(key, *arrays) -> (x0, condition)`, which runs inside the step, on the
            device; a `functools.partial` of `datasets.labelled`, for example.
        mesh: Of `make_mesh`, over which the batch is split.

    Example:
        >>> import grain, numpy as np
        >>> from compjax.training import make_mesh
        >>> rows = grain.MapDataset.source(np.arange(8.0)).batch(2).map(lambda x: (x,))
        >>> halve = lambda key, x: (x[:, None] / 2, None)
        >>> batches = HostBatches(iter(rows.to_iter_dataset()), halve, make_mesh(2))
        >>> next(batches)(jax.random.key(0))[0].ravel()
        Array([0. , 0.5], dtype=float32)
    """

    def __init__(
        self,
        batches: Any,
        prepare: Callable[..., tuple[Any, Any]],
        mesh: jax.sharding.Mesh,
    ) -> None:
        self._batches, self._prepare = batches, prepare
        self._sharding = over_batch(mesh)

    def __iter__(self) -> HostBatches:
        return self

    def __next__(self) -> Prepared:
        return Prepared(self._whole(tuple(next(self._batches))), self._prepare)

    def _whole(self, parts: PyTree) -> PyTree:
        """The batch of all processes, of which this one holds its part."""
        assemble = jax.make_array_from_process_local_data
        return jax.tree.map(lambda part: assemble(self._sharding, part), parts)

    def get_state(self) -> Any:
        """The position, which `set_state` takes."""
        return self._batches.get_state()

    def set_state(self, state: Any) -> None:
        """Goes on from a position."""
        self._batches.set_state(state)
