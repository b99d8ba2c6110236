"""What a checkpoint says about itself: the kind and the mark of every array in it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from compjax.training.agreement import from_processes
from compjax.training.fingerprint import fingerprint


def make_record(state: PyTree, data: Any = None) -> dict[str, Any]:
    """The record of a state: its arrays, the position of the data, and a checksum.

    Args:
        state: A tree of arrays.
        data: An iterator whose `get_state()` returns JSON types, or None.

    Returns:
        A dictionary of JSON types; on several processes the same on each.

    Example:
        >>> sorted(make_record({"w": jax.numpy.zeros(3)}))
        ['arrays', 'checksum', 'positions']
    """
    positions = [] if data is None else from_processes(json.dumps(data.get_state()))
    record = {"arrays": describe(state), "positions": positions}
    return {**record, "checksum": _checksum(record)}


def verified(record: Any) -> dict[str, Any]:
    """The record without its checksum, if it is as it was made.

    Args:
        record: What was found beside the arrays, which can be anything.

    Raises:
        ValueError: If it is not.

    Example:
        >>> verified({**make_record({}), "arrays": {"w": ["float32[3]", 1]}})
        Traceback (most recent call last):
        ...
        ValueError: its record is missing or altered
    """
    record = dict(record or {})
    if record.pop("checksum", None) != _checksum(record):
        raise ValueError("its record is missing or altered")
    return record


def describe(state: PyTree) -> dict[str, list[Any]]:
    """The kind and the mark of every array, by its path.

    Args:
        state: A tree of arrays.

    Example:
        >>> describe({"w": jax.numpy.zeros(1)})
        {"['w']": ['float32[1]', 0]}
    """
    marks = fingerprint(state)
    return {name: [kind, marks[name]] for name, kind in _kinds(state).items()}


def demand_fit(arrays: dict[str, Any], like: PyTree, place: str | Path) -> None:
    """Demands that the arrays of a record are those of a tree.

    Args:
        arrays: As `describe` returns them.
        like: A tree of arrays, or of their shapes and dtypes.
        place: Where the record is, for the message.

    Raises:
        ValueError: If an array is only in one of them, or is of another kind.

    Example:
        >>> demand_fit({}, {"w": jax.numpy.ones(2)}, "runs/x")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: runs/x is of another network or optimizer: ['w'] is absent ...
    """
    wanted = _kinds(like)
    saved = {name: kind for name, (kind, _) in arrays.items()}
    names = wanted.keys() | saved.keys()
    names = sorted(name for name in names if wanted.get(name) != saved.get(name))
    if names:
        name, absent = names[0], "absent"
        raise ValueError(
            f"{place} is of another network or optimizer: {name} is "
            f"{saved.get(name, absent)} there and {wanted.get(name, absent)} here "
            f"({len(names)} arrays differ). Give the configuration it was trained "
            "with, or another directory."
        )


def position(record: dict[str, Any], place: str | Path) -> Any:
    """Where this process was in its data, for the `set_state` of its iterator.

    Args:
        record: As `make_record` made it.
        place: Where the record is, for the message.

    Raises:
        ValueError: If as many processes as there are now did not save it, and they
            were not all at the same place.

    Example:
        >>> position({"positions": ['{"next_index": 3}'] * 2}, "runs/x")
        {'next_index': 3}
    """
    positions, count = record["positions"], jax.process_count()
    if len(positions) == count:
        return json.loads(positions[jax.process_index()])
    if len(set(positions)) == 1:
        return json.loads(positions[0])
    raise ValueError(
        f"{place} holds the data positions of {len(positions)} processes, and now "
        f"there are {count}: resume with as many as saved it."
    )


def _checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def _kinds(tree: PyTree) -> dict[str, str]:
    """The dtype and shape of every leaf, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    }
