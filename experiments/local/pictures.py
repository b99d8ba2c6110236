"""Figures of the experiments on local mechanisms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from ml_collections import ConfigDict

from experiments.local.probes import MAPS_AT
from experiments.local.world import World, draw_requests

Load = Callable[[str, int], dict[int, np.ndarray]]
"""`(model, seed) -> {k: images}`."""

NAMES = {
    "complete_many": "Experiment 1 (all labels)",
    "incomplete_one": "Experiment 2 (one label)",
    "complete_one": "one object, its label",
    "incomplete_many": "some labels",
    "channel": "labels as an image",
    "mean": "mean of labels",
    "local": "Experiment 3 (local)",
    "window_0": "window of 1 place",
    "window_12": "window of 5 x 5 places",
    "window_all": "window of all places",
    "growing": "window grows with noise",
    "conditions_only": "only conditions local",
    "pixels_only": "only pixels local",
    "placebo": "placebo: wrong conditions",
    "exact_1": "exact law, all labels",
    "exact_2": "exact law, one label",
    "gaussian": "Gaussian like the data",
}

COLORS = {
    "complete_many": "tab:green",
    "incomplete_one": "tab:red",
    "complete_one": "tab:olive",
    "incomplete_many": "tab:orange",
    "local": "tab:blue",
    "channel": "tab:purple",
    "mean": "tab:pink",
    "window_0": "navy",
    "window_12": "tab:cyan",
    "window_all": "teal",
    "growing": "cornflowerblue",
    "conditions_only": "tab:brown",
    "pixels_only": "tab:gray",
    "placebo": "black",
    "exact_1": "tab:green",
    "exact_2": "tab:red",
    "gaussian": "tab:gray",
}

DESIGN = ("complete_many", "complete_one", "incomplete_many", "incomplete_one")
CONTROLS = (
    "local",
    "window_all",
    "conditions_only",
    "pixels_only",
    "channel",
    "mean",
    "placebo",
    "incomplete_one",
)
EXPERIMENTS = ("complete_many", "incomplete_one", "local")
MAPPED = ("complete_many", "incomplete_one", "channel", "conditions_only", "local")


def table(numbers: Mapping[str, Any]) -> str:
    """Corrected hits, in percent, by model and number of requests."""
    rows = numbers["rows"]
    ks = sorted({row["k"] for row in rows if row["k"]})
    lines = ["corrected hits, %".ljust(32) + "".join(f"k={k}".rjust(7) for k in ks)]
    for name in dict.fromkeys(row["model"] for row in rows):
        found = {row["k"]: row for row in rows if row["model"] == name}
        cells = (found[k]["corrected"] for k in ks)
        shown = ("-" if c is None else f"{100 * c:.0f}" for c in cells)
        cells = "".join(cell.rjust(7) for cell in shown)
        lines.append(NAMES.get(name, name).ljust(32) + cells)
    return "\n".join(lines)


def all_of(
    config: ConfigDict, world: World, numbers: Mapping[str, Any], load: Load
) -> dict[str, Figure]:
    """The figures by name.

    Args:
        config: Of the experiment.
        world: Its sprites.
        numbers: What `sprites.main` writes as `results.json`.
        load: Samples of a model.
    """
    return {
        "hits": hits(numbers["rows"]),
        "grid": grid(config, world, load),
        "histograms": histograms(numbers["rows"]),
        "locality": curves(numbers),
        "windows": windows(numbers["rows"]),
        "switching": switching(config, numbers["models"]),
    }


def hits(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Requests met against their number: the design, and the controls."""
    figure = Figure(figsize=(11, 5.2), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for ax, names in ((left, DESIGN), (right, CONTROLS)):
        for name in _there(rows, names):
            _line(ax, rows, name)
        ax.axvspan(0.8, 3.2, color="gold", alpha=0.2, lw=0)
        ax.axhline(0, color="gray", lw=0.8)
        ax.set(xlabel="requested places", ylim=(-0.1, 1.05))
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    left.set_ylabel("requests met: (hits - chance) / (ceiling - chance)")
    left.set_title("Global networks: what labels say in training", fontsize=10)
    right.set_title("Experiment 2's labels: what the network may see", fontsize=10)
    left.text(2, -0.08, "objects in training", ha="center", fontsize=8)
    return figure


def _there(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Those of the names that have been measured."""
    found = {row["model"] for row in rows}
    return [name for name in names if name in found]


def _line(ax: Axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    mine = [row for row in rows if row["model"] == name and row["k"]]
    value = lambda key: np.array([row[key] for row in mine], float)
    mean = value("corrected")
    error = np.abs([mean - value("corrected_low"), value("corrected_high") - mean])
    style = "s--" if name == "incomplete_one" else "o-"
    ax.errorbar(
        value("k"),
        mean,
        error,
        fmt=style,
        color=COLORS[name],
        capsize=2,
        ms=4,
        lw=1.4,
        label=NAMES[name],
    )


def grid(config: ConfigDict, world: World, load: Load, which: int = 3) -> Figure:
    """The paper's figure 1: samples by experiment and number of places."""
    ks = config.sample.requests
    asked = {k: draw_requests(world, config.sample.images, k, config.seed) for k in ks}
    seed = config.seeds[0]
    shown = [name for name in EXPERIMENTS if name in config.models]
    drawn = {name: load(name, seed) for name in shown}
    rows = {"true scenes": {k: asked[k].true for k in ks}}
    rows |= {NAMES[name].replace(" (", "\n("): drawn[name] for name in shown}
    figure = Figure(
        figsize=(1.15 * len(ks) + 1.4, 1.2 * len(rows) + 0.5),
        dpi=150,
        layout="constrained",
    )
    axes = figure.subplots(len(rows), len(ks))
    for (name, images), line in zip(rows.items(), axes, strict=True):
        for k, ax in zip(ks, line, strict=True):
            show(ax, world, images[k][which], asked[k].named[which])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    for k, ax in zip(ks, axes[0], strict=True):
        ax.set_title(f"{k}", fontsize=10)
    figure.suptitle(
        "Requested places (framed): 0 to 10; training scenes hold 1 to 3 objects",
        fontsize=10,
    )
    return figure


def show(ax: Axes, world: World, image: np.ndarray, named: np.ndarray) -> None:
    """An image of sprites, with the places asked for in frames."""
    limit, p = float(np.abs(world.templates).max()), world.templates.shape[1]
    ax.imshow(image[:, :, 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    for row, column in np.argwhere(named):
        at = (column * p - 0.5, row * p - 0.5)
        ax.add_patch(Rectangle(at, p, p, fill=False, edgecolor="black", lw=1.2))
    ax.set(xticks=[], yticks=[])


def histograms(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """How many objects there are, asked for 4 or more, against asked for one."""
    figure = Figure(figsize=(11, 3.2), dpi=150, layout="constrained")
    names = _there(rows, EXPERIMENTS)
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        own = [row for row in rows if row["model"] == name]
        mine = {row["k"]: np.array(row["histogram"]) for row in own}
        ks = [1, *(k for k in mine if k >= 4)]
        for i, k in enumerate(ks):
            shares = mine[k] / mine[k].sum()
            color = "black" if k == 1 else f"C{i - 1}"
            ax.plot(shares, "o-", ms=3, color=color, label=f"asked for {k}")
            ax.axvline(k, color=color, lw=0.8, ls=":")
        ax.set(xlabel="objects in the sample", title=NAMES[name])
        ax.set_xticks(range(0, 15, 2))
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share of samples")
    figure.axes[0].legend(fontsize=8)
    return figure


def curves(numbers: Mapping[str, Any]) -> Figure:
    """How far outputs look, and conditions act, against sigma: one architecture."""
    figure = Figure(figsize=(12, 4.2), dpi=150, layout="constrained")
    views = ("pixels", "score"), ("pixels", "denoiser"), ("conditions", "score")
    titles = (
        "Pixels of other places: their share\nin the squared derivatives of the score",
        "the same of the denoiser",
        "Other places' share\nin what a label changes",
    )
    sigmas = next(iter(numbers["models"].values()))[0]["sigmas"]
    for ax, (kind, view), title in zip(
        figure.subplots(1, 3), views, titles, strict=True
    ):
        for name in (*DESIGN, "channel", "local", "exact_2", "gaussian"):
            nulls = numbers.get("nulls", {})
            runs = numbers["models"].get(name) or [nulls.get(name)]
            runs = [run[kind][view] for run in runs if run and kind in run]
            if not runs:
                continue
            shares = np.array([run["beyond"] for run in runs])
            style = {"exact_2": ":", "gaussian": "-."}.get(name, "-")
            ax.plot(
                sigmas, shares.mean(0), style, color=COLORS[name], label=NAMES[name]
            )
            if len(shares) > 1:
                band = shares.min(0), shares.max(0)
                ax.fill_between(sigmas, *band, color=COLORS[name], alpha=0.2, lw=0)
        ax.set(xscale="log", xlabel=r"noise level $\sigma$", ylim=(-0.03, 1.03))
        ax.set_title(title, fontsize=10)
        ax.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share outside of the own place")
    figure.axes[1].legend(fontsize=8)
    return figure


def windows(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Requests met and unrequested objects at six places, by what is seen."""
    figure = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = (
        "window_0",
        "local",
        "window_12",
        "window_all",
        "growing",
        "conditions_only",
        "pixels_only",
        "placebo",
        "channel",
        "incomplete_one",
    )
    names = _there(rows, names)
    k = max(row["k"] for row in rows if row["k"] <= 6)
    mine = {row["model"]: row for row in rows if row["k"] == k}
    for i, name in enumerate(reversed(names)):
        row, color = mine[name], COLORS[name]
        low, high = (
            abs(row["corrected"] - row[f"corrected_{end}"]) for end in ("low", "high")
        )
        left.errorbar(
            row["corrected"], i, xerr=[[low], [high]], fmt="o", color=color, capsize=3
        )
        right.plot(row["unrequested"], i, "o", color=color)
    labels = {"local": "window of 3 x 3 places (exp. 3)"}
    labels |= {"channel": "global network, labels as an image"}
    labels |= {"incomplete_one": "global network (exp. 2)"}
    left.set_yticks(
        range(len(names)), [labels.get(n, NAMES[n]) for n in reversed(names)]
    )
    left.set(xlabel=f"requests met at {k} places, corrected", xlim=(-0.1, 1.05))
    right.set(xlabel="other places that hold an object", xlim=(-0.02, None))
    for ax in (left, right):
        ax.grid(alpha=0.3)
    return figure


def switching(config: ConfigDict, models: Mapping[str, Any]) -> Figure:
    """Requests met where places are told above, or only below, a noise level."""
    names = [name for name in EXPERIMENTS if "switched" in models.get(name, [{}])[0]]
    figure = Figure(figsize=(11, 3.8), dpi=150, layout="constrained")
    if not names:
        return figure
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        for told, style in (("above", "o-"), ("below", "s--")):
            for sampler, color in (("ODE", "tab:blue"), ("SDE", "tab:orange")):
                runs = [
                    {
                        row["sigma"]: row["hit"]
                        for row in model["switched"]
                        if (row["told"], row["sampler"]) == (told, sampler)
                    }
                    for model in models[name]
                ]
                values = np.array([list(run.values()) for run in runs])
                ax.errorbar(
                    list(runs[0]),
                    values.mean(0),
                    np.ptp(values, axis=0) / 2,
                    fmt=style,
                    color=color,
                    capsize=2,
                    ms=4,
                    label=f"told {told} the level, {sampler}",
                )
        ax.set(xscale="log", xlabel=r"noise level $\sigma$ of the switch")
        ax.set_title(NAMES[name], fontsize=10)
        ax.grid(alpha=0.3)
    k = config.switch.k
    axes[0].set_ylabel(f"requests met at {k} places (not corrected)")
    axes[len(axes) // 2].legend(fontsize=8)
    return figure


def maps(found: Mapping[str, Mapping[str, np.ndarray]], pixels: int) -> Figure:
    """Where a place looks, and what its label changes, on one logarithmic scale.

    Args:
        found: Of each model, what `probes.maps` gives.
        pixels: Side of a place.
    """
    kinds = {
        "pixels": "pixels that it looks at",
        "conditions": "what its label changes",
    }
    columns = [(kind, i) for kind in kinds for i in range(len(MAPS_AT))]
    figure = Figure(
        figsize=(1.6 * len(columns) + 2.4, 1.75 * len(found) + 0.9),
        dpi=150,
        layout="constrained",
    )
    axes = figure.subplots(len(found), len(columns), squeeze=False)
    for (name, arrays), line in zip(found.items(), axes, strict=True):
        for (kind, i), ax in zip(columns, line, strict=True):
            shown = arrays[kind][i]
            h, w = ((side + 1) // 2 for side in shown.shape)
            drawn = ax.imshow(
                np.maximum(shown / np.nanmax(shown), 1e-9),
                norm=LogNorm(1e-4, 1),
                cmap="magma",
                extent=(-w + 0.5, w - 0.5, h - 0.5, -h + 0.5),
            )
            own = Rectangle((-0.5, -0.5), pixels, pixels, fill=False, edgecolor="cyan")
            ax.add_patch(own)
            ax.set(xticks=[-12, 0, 12], yticks=[-12, 0, 12])
            ax.tick_params(labelsize=7)
            if name == next(iter(found)):
                ax.set_title(
                    f"{kinds[kind]}\n" rf"$\sigma = {MAPS_AT[i]:g}$", fontsize=8
                )
        line[0].set_ylabel(NAMES[name].replace(" (", "\n("), fontsize=8)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6)
    bar.set_label("squared, share of the largest")
    figure.supxlabel("pixels from the place (framed)", fontsize=9)
    return figure
