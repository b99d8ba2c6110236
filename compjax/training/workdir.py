"""The work directory of a run: everything that belongs to it, and to no other run.

It holds `config.json`, `metrics.jsonl` (and `tensorboard/`), `checkpoints/`, `figures/`
and `results.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from compjax.training.agreement import from_processes, in_first_process

SHOWN = 8
"""How many differing fields an error message lists."""


def open_workdir(
    path: str | Path, config: Mapping[str, Any], free: Collection[str] = ()
) -> Path:
    """The work directory of the run with this configuration, created or resumed.

    Args:
        path: The directory.
        config: All that determines the run, of JSON types (tuples count as lists); the
            same in every process.
        free: Fields, or sections, that a run which goes on may change, as they do not
            determine what comes out: `("mesh", "train.keep")`.  The file then receives
            the new values.

    Returns:
        `path`, which now holds `config.json` and `figures/`.

    Raises:
        ValueError: If the directory belongs to a run with another configuration, of
            which nothing is touched; the message lists the fields that differ.  If its
            `config.json` is damaged, or `free` names what is no field.
        OSError: If it cannot be written, in every process.

    Example:
        >>> import tempfile
        >>> workdir = open_workdir(tempfile.mkdtemp(), {"steps": 10, "devices": 1})
        >>> same = open_workdir(workdir, {"steps": 10, "devices": 8}, free=["devices"])
        >>> open_workdir(workdir, {"steps": 20, "devices": 8})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: ... belongs to a run with another config (steps: 10 there, 20 ...
    """
    path, new = Path(path), json.loads(json.dumps(config))
    names = _flatten(new)
    for name in free:
        if not any(_within(field, [name]) for field in names):
            raise ValueError(f"free: {name!r} is no field of the config.")
    if len(set(from_processes(json.dumps(new, sort_keys=True)))) > 1:
        raise ValueError("The processes were given different configs: give them one.")
    in_first_process(lambda: _open(path, new, free))
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
    write_text(file, json.dumps(value, indent=2) + "\n")


def write_text(file: str | Path, text: str) -> None:
    """Writes a file, all or nothing, also where the power fails.

    Args:
        file: Where to.
        text: All of it.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "notes"
        >>> write_text(file, "one")
        >>> file.read_text()
        'one'
    """
    file = Path(file)
    draft = file.with_name(file.name + ".tmp")
    with draft.open("w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())  # or the new name could reach the disk before it
    os.replace(draft, file)


def _open(path: Path, new: dict[str, Any], free: Collection[str]) -> None:
    """Creates the directory, or demands that it belongs to this run."""
    file = path / "config.json"
    old = _read(file) if file.exists() else None
    if old is not None and (told := _differences(old, new, free)):
        raise ValueError(
            f"{path} belongs to a run with another config ({told}): give another "
            "--workdir, or the values that are there."
        )
    path.mkdir(parents=True, exist_ok=True)
    if old != new:
        write_json(file, new)
    (path / "figures").mkdir(exist_ok=True)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:  # of which JSON's and Unicode's are kinds
        raise ValueError(
            f"{file} is damaged: put back a copy of it, or give another --workdir."
        ) from error


def _differences(old: Any, new: Any, free: Collection[str]) -> str:
    """The first fields that two configurations may not but do differ in, and values."""
    old, new = _flatten(old), _flatten(new)
    absent = "absent"
    told = [
        f"{name}: {old.get(name, absent)} there, {new.get(name, absent)} now"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, absent) != new.get(name, absent) and not _within(name, free)
    ]
    more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    return ", ".join(told[:SHOWN] + more)


def _within(field: str, names: Collection[str]) -> bool:
    """Whether a field is one of the names, or in a section that is."""
    return any(f"{field}.".startswith(f"{name}.") for name in names)


def _flatten(value: Any, name: str = "") -> dict[str, str]:
    """Nested fields as `a.b: JSON text`."""
    if not isinstance(value, dict) or (name and not value):
        return {name: json.dumps(value)}
    fields: dict[str, str] = {}
    for key, item in value.items():
        fields |= _flatten(item, f"{name}.{key}" if name else key)
    return fields
