"""What the sprite world looks like: scenes, hits, strengths, weights."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

NAMES = {
    "A": "A: empty background",
    "B": "B: unconditional background",
    "C": "C: clutter over clutter",
}
COLORS = {"A": "C0", "B": "C3", "C": "C2"}


def draw(config: ConfigDict, rows: Any, images: Any) -> Figure:
    """Scenes of every setting above the curves."""
    figure = Figure(figsize=(11.4, 9.4), dpi=100, layout="constrained")
    scenes, curves = figure.subfigures(2, 1, height_ratios=(1.0, 1.75))
    draw_scenes(scenes, config, images)
    (hit, strength, full), (others, weights, criterion) = curves.subplots(2, 3)
    ks = sorted({row["k"] for row in rows})
    draw_rates(hit, rows, "hit", "share of requests present")
    hit.set_title("A composes all, B nothing from k = 3")
    draw_rates(strength, rows, "strength", "mean strength of a request")
    strength.plot(ks, [1 / k for k in ks], "k:", lw=2, label="1/k")
    strength.legend(handles=strength.lines[-1:], frameon=False, fontsize=8)
    strength.set_title("B shows every request at strength 1/k")
    draw_rates(full, rows, "full", "objects of full strength")
    full.plot(ks, ks, "k:", lw=1)
    full.axhline(config.most, color=COLORS["C"], lw=1, ls=":")
    full.text(1, config.most + 0.15, "most objects in C's data", fontsize=8)
    full.set(title="C never shows more than its data", ylim=(-0.2, len(ks) + 0.3))
    draw_rates(others, rows, "unrequested", "share of other places occupied")
    others.set_title("C leaves clutter at other places")
    others.legend(frameon=False, fontsize=8, loc="center right")
    draw_weights(weights, config, rows, "exact")
    weights.set(
        ylabel="scenes with requests only",
        ylim=(-0.03, 1.08),
        title="Weights over C's unconditional clear it",
    )
    weights.legend(frameon=False, fontsize=8)
    draw_weights(criterion, config, rows, "integral")
    for name in ("A", "B"):
        values = of(rows, name, 1.0, "integral")
        criterion.plot(*values, "s:", color=COLORS[name], ms=3, lw=1, label=name)
    criterion.set(
        yscale="symlog",
        ylabel="integral of sd(V) d sigma^2",
        title="V warns: what is sampled is not C[p]",
    )
    criterion.legend(frameon=False, fontsize=7)
    return figure


def of(rows: Any, setting: str, weight: float, what: str) -> tuple[Any, Any]:
    """K and one number of a setting, where the reverse SDE has it."""
    found = [
        (row["k"], row[what])
        for row in rows
        if (row["setting"], row["weight"]) == (setting, weight) and "integral" in row
    ]
    ks, values = zip(*found, strict=True)
    return ks, values


def draw_scenes(figure: Any, config: ConfigDict, images: Any) -> None:
    """One scene for every setting and k; requested places are framed."""
    side, pixels = config.side, config.pixels
    ks = range(1, side**2 + 1)
    grid = figure.subplots(len(NAMES), len(ks), squeeze=False)
    most = max(np.abs(x).max() for x in images.values())
    for line, name in zip(grid, NAMES, strict=True):
        for ax, k in zip(line, ks, strict=True):
            blocks = images[name, 1.0, k][0].reshape(side, side, pixels, pixels)
            scene = blocks.transpose(0, 2, 1, 3).reshape(side * pixels, side * pixels)
            ax.imshow(scene, cmap="RdBu_r", vmin=-most, vmax=most)
            for i in range(k):
                row, column = divmod(i, side)
                corner = (column * pixels - 0.5, row * pixels - 0.5)
                ax.add_patch(frame(corner, pixels))
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(NAMES[name].replace(": ", ":\n"), rotation=0, ha="right")
    for ax, k in zip(grid[0], ks, strict=True):
        ax.set_title(f"k = {k}", fontsize=9)
    figure.suptitle("Exact scores, reverse SDE: requested places are framed")


def frame(corner: tuple[float, float], size: int) -> Any:
    """The outline of a place."""
    from matplotlib.patches import Rectangle

    return Rectangle(corner, size, size, fill=False, ec="k", lw=0.8)


def draw_rates(ax: Any, rows: Any, what: str, label: str) -> None:
    """One rate against k, for every setting and both samplers."""
    samplers = list(dict.fromkeys(row["sampler"] for row in rows))
    for name in NAMES:
        for sampler, style in zip(samplers, ("o-", "x--"), strict=True):
            of = [
                (row["k"], row[what])
                for row in rows
                if (row["setting"], row["sampler"], row["weight"])
                == (name, sampler, 1.0)
            ]
            ax.plot(
                *zip(*of, strict=True),
                style,
                color=COLORS[name],
                ms=4,
                lw=1,
                label=f"{name}, {sampler}",
            )
    ax.set(
        xlabel="requests k", ylabel=label, ylim=(-0.03, 1.08), xticks=(1, 3, 5, 7, 9)
    )


def draw_weights(ax: Any, config: ConfigDict, rows: Any, what: str) -> None:
    """Setting C for every weight, by the reverse SDE."""
    for i, weight in enumerate(config.weights):
        values = of(rows, "C", weight, what)
        label = f"C, weight {weight:g}"
        ax.plot(*values, "o-", color=f"C{i + 4}", ms=4, lw=1, label=label)
    ax.set(xlabel="requests k")
