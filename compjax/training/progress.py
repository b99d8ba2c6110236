"""How far training has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from io import TextIOBase
from typing import Any

import jax


class Progress:
    """Shows steps, images, loss, speed and the time that is left; on process 0 only.

    Args:
        start: Steps already made.
        steps: Steps in all.
        images: Images in one step.
        busy_seconds: How long a step would take at the peak of the devices; 0 if that
            is not known.  The share of the peak is then shown.
        file: Where to write; a terminal gets a bar.
        period: Seconds between two lines where there is no terminal.

    Example:
        >>> with Progress(0, 2, images=64, file=sys.stdout, period=0.0) as progress:
        ...     progress.note("compiling the train step ...")
        ...     progress.update(1, loss=0.5)  # doctest: +ELLIPSIS
        compiling the train step ...
        step 1/2, 64 images, loss 0.5000, ... images/s, 0:00:00 left
    """

    def __init__(
        self,
        start: int,
        steps: int,
        images: int,
        busy_seconds: float = 0.0,
        file: TextIOBase | None = None,
        period: float = 10.0,
    ) -> None:
        self._file: Any = file if file is not None else sys.stderr
        self._steps, self._images, self._period = steps, images, period
        self._busy_seconds = busy_seconds
        self._losses: list[float] = []
        self._bar: Any = None
        self._visible = jax.process_index() == 0
        if self._visible and self._file.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=steps, initial=start, unit="step", file=self._file, smoothing=0.05
            )
        self._shown_at, self._shown_step = time.monotonic(), start

    def note(self, text: str) -> None:
        """Shows a line of text."""
        if self._bar is not None:
            self._bar.write(text, file=self._file)
        elif self._visible:
            print(text, file=self._file, flush=True)

    def restart_clock(self) -> None:
        """Lets speeds count from now, so that compiling does not slow them down."""
        self._shown_at = time.monotonic()
        if self._bar is not None:
            self._bar.unpause()

    def update(self, step: int, loss: float) -> None:
        """Says that `step` steps have been made, the last one with this loss."""
        self._losses.append(loss)
        if self._bar is not None:
            shown = {"loss": f"{loss:.4f}"}
            if self._busy_seconds and (speed := self._bar.format_dict["rate"]):
                shown["peak"] = f"{speed * self._busy_seconds:.0%}"
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        elapsed = time.monotonic() - self._shown_at
        if elapsed < self._period and step < self._steps:
            return
        speed = (step - self._shown_step) / max(elapsed, 1e-9)
        left = int((self._steps - step) / max(speed, 1e-9))
        busy = speed * self._busy_seconds
        share = f"{busy:.0%} of the peak, " if busy else ""
        self.note(
            f"step {step}/{self._steps}, {step * self._images} images, "
            f"loss {sum(self._losses) / len(self._losses):.4f}, "
            f"{speed * self._images:.0f} images/s, {share}{_clock(left)} left"
        )
        self._shown_at, self._shown_step = time.monotonic(), step
        self._losses.clear()

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _clock(seconds: int) -> str:
    """Hours, minutes and seconds, such as `0:05:12`."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
