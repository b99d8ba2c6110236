"""Pictures: every method's samples beside the target, and cost against accuracy."""

from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.benchmarks2d.tasks import Task

COLUMNS = 6
SHOWN = 1000
COLORS = {"exact": "tab:blue", "learned": "tab:orange", "target": "black"}


def task(
    task: Task, p: dict[str, Any], numbers: dict[str, Any], pictures: dict[Any, Any]
) -> Figure:
    """Parts, the target, then every method, with its distance in floors."""
    rows = numbers["rows"]
    height = -(-(len(rows) + 2) // COLUMNS)
    figure = Figure((2.05 * COLUMNS, 2.3 * height), dpi=100, layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for name in task.parts:
        x = p[name].sample(jax.random.key(0), SHOWN // len(task.parts))
        axes[0].plot(*np.asarray(x).T, ".", ms=1.5, label=name)
    places = [np.asarray(p[name].sample(jax.random.key(1), 500)) for name in task.parts]
    everything = np.concatenate(places)
    target = pictures["target"] if "target" in pictures else None
    if target is not None:
        everything = np.concatenate([everything, target])
    reach = 1.3 * np.abs(everything).max()
    axes[0].set_title("parts: " + ", ".join(task.parts), fontsize=8, wrap=True)
    axes[1].set_title("target" if target is not None else "target: empty", fontsize=8)
    if target is not None:
        axes[1].plot(*target[:SHOWN].T, ".", ms=1.5, color=COLORS["target"])
    for axis, row in zip(axes[2:], rows, strict=False):
        x = pictures[f"{row['scores']}: {row['method']}"]
        color = COLORS[row["scores"]]
        axis.set_title(f"{row['method']}\n{row['scores']}: {verdict(row, numbers)}")
        axis.title.set(fontsize=7, color=color)
        axis.plot(*x[:SHOWN].T, ".", ms=1.5, color=color)
        outside = (np.abs(x) > reach).any(1).mean() if len(x) else 0.0
        if outside > 0.01:
            place = {"ha": "center", "va": "bottom", "transform": axis.transAxes}
            axis.text(0.5, 0.02, f"{outside:.0%} outside", fontsize=7, **place)
    for axis in axes[: len(rows) + 2]:
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
    return figure


def verdict(row: dict[str, Any], numbers: dict[str, Any]) -> str:
    """The distance in floors, or what there is instead."""
    if "failed" in row:
        return "no samples"
    if row["metrics"] is not None and numbers["floor"] is not None:
        return f"{row['metrics']['W2'] / numbers['floor']['W2']:.2f} floors"
    if "kept" in row["diagnostics"]:
        return f"kept {row['diagnostics']['kept']:.2%}"
    return "-"
