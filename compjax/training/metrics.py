"""Scalars of a run: lines of JSON, and TensorBoard where tensorboardX is there."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


class MetricsWriter:
    """Appends scalars to `metrics.jsonl` and `tensorboard/` of a work directory.

    Lines beyond `step` are dropped at the start, so that a run which resumes from a
    checkpoint writes no step twice.  Only process 0 writes.

    Args:
        workdir: The work directory.
        step: The step from which the run goes on; 0 for a new run.

    Example:
        >>> import tempfile
        >>> workdir = Path(tempfile.mkdtemp())
        >>> with MetricsWriter(workdir, step=0) as metrics:
        ...     metrics.write(1, {"loss": np.float32(0.1)})
        >>> read_metrics(workdir)
        [{'step': 1, 'loss': 0.1}]
    """

    def __init__(self, workdir: str | Path, step: int) -> None:
        self._file = self._tensorboard = None
        if jax.process_index() != 0:
            return
        path = Path(workdir) / "metrics.jsonl"
        _drop_after(path, step)
        self._file = path.open("a")
        if importlib.util.find_spec("tensorboardX") is not None:
            from tensorboardX import SummaryWriter

            directory = str(Path(workdir) / "tensorboard")
            self._tensorboard = SummaryWriter(directory, purge_step=step + 1)

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes the scalars of a step; they reach the disk before it returns."""
        if self._file is None:
            return
        values = {name: _as_json(value) for name, value in scalars.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        for file in (self._file, self._tensorboard):
            if file is not None:
                file.close()
        self._file = self._tensorboard = None

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order of their steps.

    A last line that a crash left incomplete is ignored.

    Args:
        workdir: The work directory.

    Example:
        >>> import tempfile
        >>> read_metrics(tempfile.mkdtemp())
        []
    """
    path = Path(workdir) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _drop_after(path: Path, step: int) -> None:
    """Rewrites the file, all or nothing, without the lines beyond `step`."""
    if path.exists():
        kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
        draft = path.with_name(path.name + ".tmp")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(draft, path)


def _as_json(value: Any) -> int | float:
    """A scalar as JSON has it; float32 by the shortest digits that name it."""
    value = np.asarray(value)
    return float(str(value)) if value.dtype == np.float32 else value.item()
