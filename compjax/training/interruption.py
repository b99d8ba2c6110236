"""SIGTERM as a wish that a run save and end, which every process grants together."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def catch_sigterm() -> Iterator[Callable[[int], bool]]:
    """A function `stop(step)`: whether the run must save and end after this step.

    Schedulers send SIGTERM some time before they kill.  Inside the `with` statement it
    does not end the process: `stop` returns True from then on.  A second SIGTERM ends
    it at once, as usual.

    Where `jax.distributed` is in use, that catches the signal, whichever process it is
    sent to, and all processes agree on a step to come: `stop` is then True at that
    step, the same in each, and every process must call it once for every step.

    Outside the main thread Python can catch no signal, and SIGTERM ends the process.

    Example:
        >>> with catch_sigterm() as stop:
        ...     before = stop(1)
        ...     signal.raise_signal(signal.SIGTERM)
        ...     before, stop(2)
        (False, True)
    """
    if jax.distributed.is_initialized():
        from jax.experimental.multihost_utils import reached_preemption_sync_point

        yield reached_preemption_sync_point
    elif threading.current_thread() is not threading.main_thread():
        yield lambda step: False
    else:
        caught = threading.Event()

        def catch(number: int, frame: Any) -> None:
            caught.set()
            signal.signal(signal.SIGTERM, previous)

        previous = signal.signal(signal.SIGTERM, catch) or signal.SIG_DFL
        try:
            yield lambda step: caught.is_set()
        finally:
            signal.signal(signal.SIGTERM, previous)
