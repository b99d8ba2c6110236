"""What the CLEVR experiment looks like: grids of samples, curves, and the table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from compjax import plotting

Rows = Sequence[Mapping[str, Any]]
Load = Callable[[str, int], np.ndarray]
"""`(key of a setting, k) -> images`."""

MAIN = "ABCD"
"""The settings that are shown together."""


def all_of(rows: Rows, load: Load, renders: Load, xy: np.ndarray) -> dict[str, Any]:
    """Every figure of the experiment, by its name.

    Args:
        rows: As `clevr.count_all` makes them.
        load: Samples of a setting with k requests.
        renders: True pictures of k requests, whatever the key.
        xy: `[n, 9, 2]`, the places asked for, in pixels.
    """
    return {
        "figure_3": figure_3(rows, load, renders, xy),
        "figure_2": figure_2(load, xy),
        "strength": strengths(rows),
        "weights": weights(rows),
    }


def of(rows: Rows, key: str) -> list[Mapping[str, Any]]:
    """The rows of one setting, by k."""
    return sorted((row for row in rows if row["key"] == key), key=lambda row: row["k"])


def figure_3(rows: Rows, load: Load, renders: Load, xy: np.ndarray) -> Any:
    """The settings for k = 1, ..., 9, and the share of requests met."""
    main = [row for row in rows if row["key"] in MAIN]
    images = {
        f"{row['setting']}/{row['k']}": load(row["key"], row["k"]) for row in main
    }
    ks = {row["k"] for row in main}
    images |= {f"true renders/{k}": renders("", k) for k in ks}
    title = "Asked for in the circles; training saw one object, for C at most five"
    return plotting.length_generalisation(main, {**images, "requests": xy}, title=title)


def figure_2(load: Load, xy: np.ndarray, examples: int = 8) -> Any:
    """Scenes of one to four objects composed over the empty scene."""
    figure = Figure(figsize=(0.9 * examples + 0.6, 4.1), dpi=150, layout="constrained")
    grid = figure.subplots(4, examples, squeeze=False)
    for k, line in enumerate(grid, start=1):
        for i, (image, ax) in enumerate(zip(load("A", k), line, strict=False)):
            plotting.requested(ax, image, xy[i, :k])
        line[0].set_ylabel(f"k = {k}", rotation=0, ha="right", va="center")
    figure.suptitle("A: one-object models composed; asked for in the circles")
    return figure


def strengths(rows: Rows) -> Any:
    """How strong what was asked for is, and what is where nothing was asked."""
    figure = Figure(figsize=(9.5, 3.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, color, style in zip(MAIN, plotting.COLORS, plotting.LINES, strict=True):
        mine = of(rows, key)
        k = np.array([row["k"] for row in mine])
        name = mine[0]["setting"]
        values = [row["strength"] for row in mine]
        left.plot(k, values, style, color=color, label=name)
        there = np.array([row["unrequested"] for row in mine], float)
        right.plot(k, there, style, color=color, label=name)
        own = np.array([row["unrequested_at_0"] for row in mine], float)
        right.plot(k, own, ":", color=color, lw=1)
    left.plot(k, 1 / k, "k--", lw=1, label="$1/k$ (theory of B)")
    left.set(
        xlabel="requested objects k",
        ylabel="strength of requests / that of true renders",
        ylim=(0, None),
        title="B fades (dashed: 1/k)",
    )
    right.set(
        xlabel="requested objects k",
        ylabel="share of the other places that hold an object",
        title="C keeps some of its clutter (dotted: nothing asked)",
    )
    for ax in (left, right):
        ax.set_xticks(k)
        ax.grid(alpha=0.3)
    left.legend(fontsize=8)
    return figure


def weights(rows: Rows) -> Any:
    """C, composed with larger weights, as Liu et al. 2022 do."""
    figure = Figure(figsize=(13.0, 3.8), dpi=150, layout="constrained")
    axes = figure.subplots(1, 3)
    labels = {"C": "weight 1", "C2": "weight 2", "C4": "weight 4", "C7.5": "weight 7.5"}
    for (key, label), style in zip(labels.items(), plotting.LINES, strict=True):
        mine = of(rows, key)
        k = [row["k"] for row in mine]
        for ax, field in zip(axes, ("corrected", "extra"), strict=False):
            ax.plot(
                k, np.array([row[field] for row in mine], float), style, label=label
            )
        told = [row for row in mine if "v_integral" in row]
        values = [row["v_integral"] for row in told]
        axes[2].plot([row["k"] for row in told], values, style, label=label)
    axes[0].set(ylabel="requests met, corrected", title="C over its own background")
    axes[2].set(ylabel=r"$\int sd(V)\,d\sigma^2$", title="what diffusion does not see")
    axes[1].set(ylabel="objects that nobody asked for", title="and what comes along")
    for ax in axes:
        ax.set(xlabel="requested objects k", xticks=k)
        ax.grid(alpha=0.3)
    axes[2].set_yscale("log")
    axes[0].legend(fontsize=8)
    return figure


def table(rows: Rows) -> str:
    """One line for every setting and k."""
    head = (
        f"{'':28}k  corrected [95 %]          hit  chance  ceiling  exact"
        "  extra  unrequested (alone)  strength  sd V"
    )
    lines = [head]
    for row in sorted(rows, key=lambda row: (row["key"], row["k"])):
        low, high = percent(row["corrected_low"]), percent(row["corrected_high"])
        lines.append(
            f"{row['setting']:28}{row['k']}  {percent(row['corrected'])} "
            f"[{low}, {high}]  {percent(row['hit'])}  {percent(row['chance'])}  "
            f" {percent(row['ceiling'])}  {percent(row['exact'])}  {row['extra']:5.2f}"
            f"       {percent(row['unrequested'])} ({percent(row['unrequested_at_0'])})"
            f"     {row['strength']:5.2f}"
            + (f"  {row['v_integral']:8.3g}" if "v_integral" in row else "")
        )
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """A share in percent, in six letters."""
    return "     -" if share is None else f"{share:6.1%}"
