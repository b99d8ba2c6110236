"""When does a network generalise in length?  Completeness, cardinality and window.

    python -m experiments.local.phase --workdir=runs/local_phase
        --config=configs/local/phase.py

Trains a network for each cell, as `experiments.local.sprites` does; the same command
goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from configs.local.phase import cell
from experiments import launch
from experiments.local import sprites

TITLES = {
    "global": "global network",
    "near": "window of 3 x 3 places",
    "own": "window of one place",
}


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains and counts what is not there yet, then draws the diagram."""
    numbers, _, workdir = sprites.run(config, workdir)
    diagram(config, numbers["rows"]).savefig(workdir / "figures" / "phase.png")
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


def diagram(config: ConfigDict, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Requests met, corrected: rows completeness, columns cardinality."""
    p = config.phase
    found = {row["model"]: row["corrected"] for row in rows if row["k"] == p.k}
    figure = Figure(figsize=(3.6 * len(p.windows) + 0.8, 3.9), layout="constrained")
    axes = figure.subplots(1, len(p.windows), sharey=True, squeeze=False)[0]
    for ax, window in zip(axes, p.windows, strict=True):
        grid = np.array(
            [
                [found[cell(window, n, 1.0 if n == 1 else q)] for n in p.most]
                for q in p.completeness
            ],
            float,
        )
        image = ax.imshow(grid, origin="lower", vmin=0, vmax=1, cmap="viridis")
        for (i, j), value in np.ndenumerate(grid):
            color = "white" if value < 0.6 else "black"
            ax.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=color)
        ax.set_xticks(range(len(p.most)), p.most)
        ax.set_yticks(range(len(p.completeness)), [f"{q:g}" for q in p.completeness])
        ax.set(xlabel="most objects in training", title=TITLES[window])
    axes[0].set_ylabel("completeness of labels")
    figure.colorbar(image, ax=axes, label=f"requests met at {p.k} places, corrected")
    return figure


if __name__ == "__main__":
    launch.run(main, "local/phase.py")
