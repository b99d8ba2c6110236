"""Figures of the experiments on local mechanisms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments.local.world import World

NAMES = {
    "complete_many": "Experiment 1: all labels",
    "incomplete_one": "Experiment 2: one label",
    "complete_one": "one object, its label",
    "incomplete_many": "some labels",
    "channel": "2, labels as an image",
    "mean": "2, mean of labels",
    "local": "Experiment 3: 2, local",
    "window_0": "2, window: one place",
    "window_12": "2, window: 5 x 5 places",
    "window_all": "2, window: all places",
    "growing": "2, window grows with noise",
    "conditions_only": "2, only conditions local",
    "pixels_only": "2, only pixels local",
    "placebo": "2, wrong conditions",
}


def table(numbers: dict[str, Any]) -> str:
    """Corrected hits, in percent, by model and number of requests."""
    rows = numbers["rows"]
    ks = sorted({row["k"] for row in rows if row["k"]})
    lines = ["corrected hits, %".ljust(32) + "".join(f"k={k}".rjust(7) for k in ks)]
    for name in dict.fromkeys(row["model"] for row in rows):
        found = {row["k"]: row for row in rows if row["model"] == name}
        cells = (found[k]["corrected"] for k in ks)
        shown = ("-" if c is None else f"{100 * c:.0f}" for c in cells)
        lines.append(
            NAMES.get(name, name).ljust(32) + "".join(c.rjust(7) for c in shown)
        )
    return "\n".join(lines)


def all_of(
    config: ConfigDict,
    world: World,
    numbers: dict[str, Any],
    load: Callable[[str, int], dict[int, np.ndarray]],
) -> dict[str, Any]:
    """The figures by name."""
    return {}
