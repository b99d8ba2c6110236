"""Checkpoints of a training state, by orbax; written while training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree


def open_checkpoints(directory: str | Path, *, keep: int = 2) -> Any:
    """The orbax checkpointer of a run, to be used in a `with` statement.

    Its `latest` is the newest checkpoint or None; `save_async(step, state)` copies the
    state to the host and writes it in the background, after which only the `keep`
    newest checkpoints remain; leaving the `with` statement waits for what is under way.

    Args:
        directory: Where the checkpoints are; created when needed.
        keep: How many of them to keep.

    Example:
        >>> import tempfile
        >>> with open_checkpoints(tempfile.mkdtemp()) as checkpoints:
        ...     checkpoints.latest is None
        True
    """
    from orbax.checkpoint import v1 as ocp  # slow to import

    training: Any = ocp.training  # whose own annotations exclude its own policies
    return training.Checkpointer(
        Path(directory).absolute(),
        # Every call of `save_async` saves: the training loop decides when.  What a
        # crash left half written goes; `restore` leaves it, as it may be in progress.
        save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
        preservation_policy=training.preservation_policies.LatestN(keep),
        cleanup_tmp_directories=True,
    )


def restore(
    directory: str | Path, like: PyTree, sharding: jax.sharding.Sharding | None = None
) -> PyTree:
    """The latest checkpoint of a directory.

    Args:
        directory: Where the checkpoints are.
        like: A tree of arrays, or of their shapes and dtypes (`jax.eval_shape`), that
            says what is restored and, by its shardings, onto which devices.
        sharding: Of the leaves of `like` that have none; the first device if None.

    Returns:
        A tree like `like`.

    Raises:
        ValueError: If there is no checkpoint.

    Example:
        >>> restore("/nowhere", {})
        Traceback (most recent call last):
        ...
        ValueError: /nowhere holds no checkpoint; train first, or name another one.
    """
    from orbax.checkpoint import v1 as ocp  # slow to import

    directory = Path(directory)
    if directory.is_dir():  # opening it would create it
        with ocp.training.Checkpointer(str(directory.absolute())) as checkpoints:
            if checkpoints.latest is not None:
                return checkpoints.load(
                    checkpoints.latest.step, abstract(like, sharding)
                )
    raise ValueError(
        f"{directory} holds no checkpoint; train first, or name another one."
    )


def abstract(tree: PyTree, sharding: jax.sharding.Sharding | None = None) -> PyTree:
    """The shape, dtype and sharding of every leaf, which is all that restoring needs.

    Args:
        tree: Of arrays, or of their `jax.ShapeDtypeStruct`.
        sharding: Of the leaves that have none; the first device if None.

    Example:
        >>> abstract(jax.eval_shape(lambda: jax.numpy.zeros(3))).sharding.num_devices
        1
    """
    here = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = getattr(leaf, "sharding", None) or here
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, tree)
