"""Scalars of a run: lines of JSON, and TensorBoard where tensorboardX is there."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compjax.training.agreement import in_first_process, raise_everywhere
from compjax.training.workdir import write_text


class MetricsWriter:
    """Appends scalars to `metrics.jsonl` and `tensorboard/` of a work directory.

    Lines beyond `step` are dropped at the start, so that a run which resumes from a
    checkpoint writes no step twice.  Only process 0 writes; the others learn in `check`
    that it could not, as all do at the end of a `with` statement.

    Args:
        workdir: The work directory.
        step: The step from which the run goes on; 0 for a new run.

    Raises:
        OSError: If the files cannot be opened, in every process.

    Example:
        >>> import tempfile
        >>> workdir = Path(tempfile.mkdtemp())
        >>> with MetricsWriter(workdir, step=0) as metrics:
        ...     metrics.write(1, {"loss": np.float32(0.1)})
        >>> read_metrics(workdir)
        [{'step': 1, 'loss': 0.1}]
    """

    def __init__(self, workdir: str | Path, step: int) -> None:
        self._path = Path(workdir) / "metrics.jsonl"
        self._file = self._tensorboard = self._failure = None
        in_first_process(lambda: self._open(step))

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Writes the scalars of a step; they are on the disk when it returns.

        Args:
            step: Number of updates made.
            scalars: Their values by their names.

        Raises:
            OSError: If they cannot be written.  Of several processes none raises it
                here: nothing more is written, and `check` raises it in all of them.
        """
        # What fails before the file is reached fails in every process.
        values = {name: _as_json(value) for name, value in scalars.items()}
        line = json.dumps({"step": step, **values}) + "\n"
        if self._file is None or self._failure is not None:
            return
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._tensorboard is not None:
                for name, value in values.items():
                    self._tensorboard.add_scalar(name, value, step)
                self._tensorboard.flush()
        except Exception as error:  # tensorboardX can raise others than OSError
            self._fail(error)
        if jax.process_count() == 1:
            self.check()

    def check(self) -> None:
        """Raises, in every process, what went wrong in `write`; all must call it.

        A checkpoint that is saved after it has all its lines of metrics.

        Raises:
            OSError: If a line could not be written.
        """
        raise_everywhere(self._failure)

    def close(self) -> None:
        """Closes the files; `check` then knows whether that went well."""
        for file in (self._file, self._tensorboard):
            try:
                if file is not None:
                    file.close()
            except OSError as error:
                self._fail(error)
        self._file = self._tensorboard = None

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close()
        if error is None:
            self.check()

    def _open(self, step: int) -> None:
        _drop_after(self._path, step)
        self._file = self._path.open("a")
        if importlib.util.find_spec("tensorboardX") is not None:
            from tensorboardX import SummaryWriter

            directory = str(self._path.parent / "tensorboard")
            self._tensorboard = SummaryWriter(directory, purge_step=step + 1)

    def _fail(self, error: Exception) -> None:
        """Keeps the first error, with what is to be done."""
        self._failure = self._failure or OSError(
            f"{self._path} could not be written ({error}). Make room there, and start "
            "the same command again: it goes on from the last checkpoint."
        )


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order of their steps.

    A last line that a crash left incomplete is ignored, and so are damaged lines, of
    which standard error tells.

    Args:
        workdir: The work directory.

    Example:
        >>> import tempfile
        >>> read_metrics(tempfile.mkdtemp())
        []
    """
    path = Path(workdir) / "metrics.jsonl"
    data = path.read_bytes() if path.exists() else b""
    whole = data.split(b"\n")[:-1]
    lines = [line for line in map(_parsed, whole) if line is not None]
    if len(lines) < len(whole):
        print(
            f"WARNING: {path}: {len(whole) - len(lines)} of {len(whole)} lines are "
            "damaged and left out.",
            file=sys.stderr,
        )
    return lines


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The scalars of a line with their step, or None if it is damaged."""
    try:
        value = json.loads(line.decode())
    except ValueError:  # of which JSON's and Unicode's are kinds
        return None
    whole = isinstance(value, dict) and isinstance(value.get("step"), int)
    return value if whole else None


def _drop_after(path: Path, step: int) -> None:
    """Rewrites the file, all or nothing, without the lines beyond `step`."""
    if path.exists():
        kept = [line for line in read_metrics(path.parent) if line["step"] <= step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))


def _as_json(value: Any) -> int | float:
    """A scalar as JSON has it; float32 by the shortest digits that name it."""
    value = np.asarray(value)
    return float(str(value)) if value.dtype == np.float32 else value.item()
