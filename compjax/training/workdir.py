"""The work directory of a run: everything that belongs to it, and to no other run.

It holds `config.json`, `metrics.jsonl` (and `tensorboard/`), `checkpoints/`, `figures/`
and `results.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax


def open_workdir(path: str | Path, config: Mapping[str, Any]) -> Path:
    """The work directory of the run with this configuration, created or resumed.

    Args:
        path: The directory.
        config: All that determines the run, of JSON types (tuples count as lists).

    Returns:
        `path`, which now holds `config.json` and `figures/`.

    Raises:
        ValueError: If the directory belongs to a run with another configuration, of
            which nothing is touched.  The message lists the fields that differ.

    Example:
        >>> import tempfile
        >>> workdir = open_workdir(tempfile.mkdtemp(), {"steps": 10})
        >>> open_workdir(workdir, {"steps": 20})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: ... belongs to a run with another config (steps: 10 there, 20 ...
    """
    path, new = Path(path), json.loads(json.dumps(config))
    file = path / "config.json"
    if file.exists():
        old = json.loads(file.read_text())
        if old != new:
            raise ValueError(
                f"{path} belongs to a run with another config ("
                f"{_differences(old, new)}): give another --workdir, or the values "
                "that are there."
            )
    elif jax.process_index() == 0:
        path.mkdir(parents=True, exist_ok=True)
        write_json(file, new)
    if jax.process_index() == 0:
        (path / "figures").mkdir(exist_ok=True)
    return path


def write_json(file: str | Path, value: Any) -> None:
    """Writes `value` as JSON, all or nothing: a reader never sees half a file.

    Args:
        file: Where to.
        value: Of JSON types.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "results.json"
        >>> write_json(file, {"accuracy": 1.0})
        >>> json.loads(file.read_text())
        {'accuracy': 1.0}
    """
    file = Path(file)
    draft = file.with_name(file.name + ".tmp")
    draft.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(draft, file)


def _differences(old: Any, new: Any) -> str:
    """Every field that two configurations do not share, and its two values."""
    old, new = _flatten(old), _flatten(new)
    absent = "absent"
    return ", ".join(
        f"{name}: {old.get(name, absent)} there, {new.get(name, absent)} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, absent) != new.get(name, absent)
    )


def _flatten(value: Any, name: str = "") -> dict[str, str]:
    """Nested fields as `a.b: JSON text`."""
    if not isinstance(value, dict) or (name and not value):
        return {name: json.dumps(value)}
    fields: dict[str, str] = {}
    for key, item in value.items():
        fields |= _flatten(item, f"{name}.{key}" if name else key)
    return fields
