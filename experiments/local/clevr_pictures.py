"""What the experiments on rendered scenes look like: grid, curves, counts, table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from compjax import plotting

Rows = Sequence[Mapping[str, Any]]
Load = Callable[[str, int], np.ndarray]
"""`(model, k) -> images`."""

NAMES = {
    "complete_many": "Experiment 1: 1-3 objects, all named",
    "incomplete_one": "Experiment 2: 1-3 objects, one named",
    "local": "Experiment 3: as 2, local network",
    "complete_one": "one object, named",
    "incomplete_many": "1-3 objects, some named",
    "channel": "as 2, the label is an image",
}
"""What models are called."""

EXPERIMENTS = ("complete_many", "incomplete_one", "local")
"""The models of the paper, in its order."""

STYLES = {
    "complete_many": ("o-", "tab:green"),
    "incomplete_one": ("s-", "tab:red"),
    "local": ("D-", "tab:purple"),
    "complete_one": ("^--", "tab:olive"),
    "incomplete_many": ("v--", "tab:blue"),
    "channel": ("P:", "tab:orange"),
}
TRAINED = (1, 3)
"""How many objects the images of training hold."""


def all_of(
    rows: Rows, load: Load, renders: Mapping[int, np.ndarray], xy: np.ndarray
) -> dict[str, Figure]:
    """Every figure of the experiment, by its name.

    Args:
        rows: As `clevr.count` makes them.
        load: Samples of a model with k requests.
        renders: True pictures of k requests, by k.
        xy: `[n, 10, 2]`, the places asked for, in pixels.
    """
    return {
        "figure_1": figure_1(rows, load, renders, xy),
        "hits": hits(rows),
        "counts": counts(rows),
    }


def of(rows: Rows, model: str) -> list[Mapping[str, Any]]:
    """The rows of one model, by k."""
    return sorted(
        (row for row in rows if row["model"] == model), key=lambda row: row["k"]
    )


def shown(rows: Rows, names: Sequence[str]) -> list[str]:
    """Of these models, those that there are."""
    there = {row["model"] for row in rows}
    return [name for name in names if name in there]


def figure_1(
    rows: Rows,
    load: Load,
    renders: Mapping[int, np.ndarray],
    xy: np.ndarray,
    example: int = 0,
) -> Figure:
    """One request of 0 to 10 locations under the three experiments, as in the paper."""
    ks, models = sorted(renders), shown(rows, EXPERIMENTS)
    lines = {"true renders": lambda k: renders[k]}
    for name in models:
        title = NAMES[name].replace(": ", ":\n").replace(", ", ",\n")
        lines[title] = lambda k, name=name: load(name, k)
    size = (0.95 * len(ks) + 1.7, 1.0 * len(lines) + 0.7)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(len(lines), len(ks), squeeze=False)
    for (title, images), line in zip(lines.items(), grid, strict=True):
        for k, ax in zip(ks, line, strict=True):
            plotting.requested(ax, images(k)[example], xy[example, :k])
        line[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)
    for k, ax in zip(ks, grid[0], strict=True):
        seen = TRAINED[0] <= k <= TRAINED[1]
        ax.set_title(f"{k}", fontsize=10, fontweight="bold" if seen else "normal")
    figure.suptitle(
        "Locations asked for (circles); training images held as many objects as the "
        "bold numbers",
        fontsize=10,
    )
    return figure


def hits(rows: Rows) -> Figure:
    """Requests met by every model, and what stands where nobody asked."""
    figure = Figure(figsize=(11.5, 4.4), dpi=150, layout="constrained")
    curves(figure, rows, NAMES, STYLES)
    return figure


def curves(
    figure: Any,
    rows: Rows,
    names: Mapping[str, str],
    styles: Mapping[str, tuple[str, str]],
) -> None:
    """The two panels of `hits` and their legend.

    Args:
        figure: Or a part of one.
        rows: As `clevr.count` makes them.
        names: What models are called.
        styles: Line and colour of each model, in their order.
    """
    left, right = figure.subplots(1, 2)
    models = shown(rows, tuple(styles))
    for name in models:
        style, color = styles[name]
        mine = of(rows, name)
        asked = [row for row in mine if row["k"]]
        fields = ("corrected", "corrected_low", "corrected_high")
        middle, low, high = np.array(
            [[row[field] for field in fields] for row in asked], float
        ).T
        k = [row["k"] for row in asked]
        # A middle may lie outside of the quantiles by rounding.
        errors = np.maximum([middle - low, high - middle], 0)
        left.errorbar(
            k,
            middle,
            errors,
            fmt=style,
            color=color,
            ms=4,
            capsize=2,
            label=names[name],
        )
        k = [row["k"] for row in mine]
        right.plot(k, [row["unrequested"] for row in mine], style, color=color, ms=4)
        open_marker = {"mfc": "w", "clip_on": False, "zorder": 3}
        base = mine[0]["base_rate"]
        right.plot(k[-1] + 0.45, base, style[0], color=color, **open_marker)
    ks = sorted({row["k"] for row in rows})
    left.set(
        ylabel="requests met: (hits - chance) / (ceiling - chance)",
        title="Objects where they were asked for",
        ylim=(min(-0.05, left.get_ylim()[0]), 1.05),
    )
    right.set(
        ylabel="share of the other places that hold an object",
        title="Where nobody asked (open: unnamed objects in training)",
        ylim=(0, None),
    )
    for ax, ticks in ((left, [k for k in ks if k]), (right, ks)):
        ax.axvspan(TRAINED[0] - 0.25, TRAINED[1] + 0.25, color="0.92", zorder=0)
        ax.set(xlabel="locations asked for (shaded: objects in training)", xticks=ticks)
        ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)


def counts(rows: Rows) -> Figure:
    """How many objects stand in images, by how many were asked for.

    A model that takes a short cut draws as many as in training, whatever it is asked.
    """
    models = shown(rows, EXPERIMENTS)
    ks = sorted({row["k"] for row in rows if row["k"]})
    most = max(len(row["histogram"]) for row in rows)
    size = (3.6 * len(models) + 0.8, 0.42 * len(ks) + 1.9)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for name, ax in zip(models, axes, strict=True):
        mine = {row["k"]: row for row in of(rows, name)}
        shares = np.zeros((len(ks), most))
        for line, k in zip(shares, ks, strict=True):
            histogram = mine[k]["histogram"]
            line[: len(histogram)] = np.array(histogram) / sum(histogram)
        drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, k in enumerate(ks):
            ax.plot(
                [k - 0.5, k - 0.5, k + 0.5, k + 0.5, k - 0.5],
                [i - 0.5, i + 0.5, i + 0.5, i - 0.5, i - 0.5],
                "r-",
                lw=1.2,
            )
        ax.set(
            xlabel="objects in the image",
            xticks=range(0, most, 2),
            yticks=range(len(ks)),
            yticklabels=[str(k) for k in ks],
        )
        ax.set_title(NAMES[name], fontsize=9)
    axes[0].set_ylabel("locations asked for")
    figure.colorbar(drawn, ax=axes[-1], label="share of images")
    figure.suptitle("Red: as many objects as locations", fontsize=10)
    return figure


def table(rows: Rows, names: Mapping[str, str] = NAMES) -> str:
    """Corrected hits, in percent, by model and number of requests."""
    ks = sorted({row["k"] for row in rows if row["k"]})
    lines = ["corrected hits, %".ljust(38) + "".join(f"k={k}".rjust(6) for k in ks)]
    for name in dict.fromkeys(row["model"] for row in rows):
        found = {row["k"]: row for row in of(rows, name)}
        rates = (found[k]["corrected"] if k in found else None for k in ks)
        cells = ("-" if rate is None else f"{100 * rate:.0f}" for rate in rates)
        lines.append(
            names.get(name, name).ljust(38) + "".join(cell.rjust(6) for cell in cells)
        )
    return "\n".join(lines)
