"""What the processes of a run tell each other, so that none waits for another."""

from __future__ import annotations

import json
from collections.abc import Callable

import jax
import numpy as np


def from_processes(text: str) -> list[str]:
    """The texts of all processes, in their order.

    Args:
        text: That of this process.

    Example:
        >>> from_processes("here")
        ['here']
    """
    if jax.process_count() == 1:
        return [text]
    from jax.experimental.multihost_utils import process_allgather

    letters = np.frombuffer(text.encode(), np.uint8)
    lengths = np.ravel(process_allgather(np.int32(letters.size)))
    padded = np.zeros(lengths.max(initial=1), np.uint8)
    padded[: letters.size] = letters
    rows = np.asarray(process_allgather(padded))
    return [bytes(row[:n]).decode() for row, n in zip(rows, lengths, strict=True)]


def first_problem(problem: str) -> str:
    """The problem of the first process that has one, for every process; or nothing.

    Args:
        problem: Of this process; empty if it has none.

    Example:
        >>> first_problem("a file is cut short")
        'a file is cut short'
    """
    return next(filter(None, from_processes(problem)), "")


def in_first_process(action: Callable[[], object]) -> None:
    """Calls `action` in process 0; what it raises there is raised everywhere.

    Args:
        action: Writes files, and waits for no other process.

    Raises:
        ValueError: If `action` raised one.
        OSError: If it raised anything else; process 0 itself raises what that was.

    Example:
        >>> in_first_process(lambda: print("written once"))
        written once
    """
    problem = None
    if jax.process_index() == 0:
        try:
            action()
        except Exception as error:  # whatever it is, the others must not wait
            problem = error
    raise_everywhere(problem)


def raise_everywhere(error: Exception | None) -> None:
    """Raises the error of any process in every process; all of them must call this.

    Args:
        error: Of this process, or None.

    Raises:
        ValueError: If that is what the first process with an error has.
        OSError: If it has any other kind; a process with an error raises its own.

    Example:
        >>> raise_everywhere(None)
        >>> raise_everywhere(OSError("the disk is full"))
        Traceback (most recent call last):
        ...
        OSError: the disk is full
    """
    told = error and json.dumps([isinstance(error, ValueError), str(error)])
    first = first_problem(told or "")
    if error is not None:
        raise error
    if first:
        refused, text = json.loads(first)
        raise (ValueError if refused else OSError)(text)


def brief(error: BaseException) -> str:
    """The first line of an error without what tensorstore adds; its type if empty.

    Args:
        error: Of reading or writing arrays, which can be anything.

    Example:
        >>> brief(OSError("NOT_FOUND: it is gone [source locations='a.cc:12']"))
        'NOT_FOUND: it is gone'
    """
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    text = text.partition(" [")[0].partition(". See full")[0]
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-100:]}"
