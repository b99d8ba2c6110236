"""Files that are whole or not there, and directories that one process writes to."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to; the file gets its own name when whole.

    Whatever happens on the way, `path` is what it was, and nothing else is left behind
    unless the process is killed.

    Raises:
        OSError: if the file cannot be written, for example on a full disk.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with whole(path) as draft:
        ...     _ = draft.write_text("1 2 3")
        ...     path.exists()
        False
        >>> [file.name for file in path.parent.iterdir()]
        ['numbers.txt']
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield draft
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise OSError(
            error.errno, f"{path} was not written: {error.strerror}"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keeps other processes out; the system gives way when this one ends or is killed.

    The directory itself is locked, so there is no file that could be left behind.

    Raises:
        ValueError: if another process has locked it.

    Example:
        >>> import tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> with locked(directory), locked(directory):  # doctest: +ELLIPSIS
        ...     pass
        Traceback (most recent call last):
        ...
        ValueError: ... is being written by another process: wait for it.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ValueError(
            f"{directory} is being written by another process: wait for it."
        ) from None
    finally:
        os.close(handle)
