"""What needs no training: analytic machines draw experiment 3's scenes.

    python -m experiments.local.machines --workdir=runs/local_sprites

Goes into a work directory of `experiments.local.sprites`, whose networks it compares
with analytic machines, sample by sample, from the same noise.  The machines are shown
images with the labels of experiment 2; the optimum of windows of one place knows their
law.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import compjax as cj
from compjax import densities, training
from compjax.types import pytree
from experiments import launch, results
from experiments.local import pictures
from experiments.local.counts import count
from experiments.local.models import make_stream
from experiments.local.sprites import FREE, beginning, samples
from experiments.local.world import World, as_channel, draw_requests, make_world

MACHINES = {
    "optimum": "optimum of windows of one place",
    "machine_conditional": "conditional-local machine",
    "machine_local": "local machine, no conditions",
    "machine_ideal": "ideal machine, all conditions",
}
NETWORKS = ("window_0", "local", "incomplete_one")


@pytree
class Deaf:
    """A score as a conditional one that does not listen."""

    score: Any

    def __call__(self, x: Any, sigma: Any, condition: Any) -> Any:
        return self.score(x, sigma)


def main(config: ConfigDict, workdir: Path) -> None:
    """Samples the machines, counts, and compares them with the networks."""
    started = time.monotonic()
    if not (workdir / "results.json").exists():
        raise ValueError(
            f"{workdir} has no results.json: run experiments.local.sprites there first."
        )
    workdir = training.open_workdir(workdir, config.to_dict(), free=FREE)
    world = make_world(config)
    drawn = {
        name: draw(config, world, machine)
        for name, machine in launch_machines(config, world)
    }
    rows = [row for name, x in drawn.items() for row in count(config, world, name, [x])]
    numbers = {
        "rows": rows,
        "agreement": agreement(config, workdir, drawn),
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "machines.json", numbers)
    draw_figure(config, world, workdir, drawn, numbers).savefig(
        workdir / "figures" / "machines.png"
    )
    print(pictures.table({"rows": rows}))
    print(json.dumps(numbers["agreement"], indent=1))


def launch_machines(config: ConfigDict, world: World) -> Any:
    """The machines by name, with a line of progress each."""
    m = config.machine
    stream = make_stream(config, world, config.models["incomplete_one"])
    x0, named = stream.draw(jax.random.key(config.seed + 1), m.images)
    whole, cells = 2 * world.side - 1, 2 * world.places - 1
    told = as_channel(named)
    law = [0.0, *stream.counts.tolist()]
    machines = {
        "optimum": world.optimum(law, 1 - config.train.null),
        "machine_conditional": densities.ConditionalMachine(x0, told, m.window, 1),
        "machine_local": Deaf(densities.LocalMachine(x0, m.window)),
        "machine_ideal": densities.ConditionalMachine(x0, told, whole, cells),
    }
    for name in launch.progress(machines, "machines"):
        yield name, machines[name]


def draw(config: ConfigDict, world: World, machine: Any) -> dict[int, np.ndarray]:
    """Images by number of requests, from the noise from which networks start."""
    m = config.machine
    start, sigmas = beginning(config, world)
    start = start[: m.samples]
    found = {}
    for k in m.requests:
        named = draw_requests(world, config.sample.images, k, config.seed).named
        score = cj.condition(machine, as_channel(jnp.asarray(named[: m.samples])))
        x, _ = cj.sample(
            jax.random.key(config.seed),
            score,
            cj.samplers.DPMSolverPP(),
            start.shape,
            sigmas,
            start=start,
        )
        found[k] = np.asarray(x)
    return found


def agreement(
    config: ConfigDict, workdir: Path, drawn: dict[str, dict[int, np.ndarray]]
) -> dict[str, dict[str, dict[str, float]]]:
    r"""Median $r^2$ of samples of machines and networks, by number of requests.

    $1 - \lVert x - y \rVert^2 / \lVert x - \bar x \rVert^2$ with x the sample of the
    network, y that of the machine, and $\bar x$ the mean of the network's samples; the
    median over samples and training seeds.
    """
    n = config.machine.samples
    networks = [name for name in NETWORKS if name in config.models]
    return {
        network: {
            machine: {str(k): _r2(config, workdir, network, x[k], k, n) for k in x}
            for machine, x in drawn.items()
        }
        for network in networks
    }


def _r2(
    config: ConfigDict, workdir: Path, network: str, y: np.ndarray, k: int, n: int
) -> float:
    found = []
    for seed in config.seeds:
        x = samples(workdir, network, seed)[k]
        spread = ((x[:n] - x.mean(0)) ** 2).sum((1, 2, 3))
        found.append(1 - ((x[:n] - y) ** 2).sum((1, 2, 3)) / spread)
    return float(np.median(found))


def draw_figure(
    config: ConfigDict,
    world: World,
    workdir: Path,
    drawn: dict[str, dict[int, np.ndarray]],
    numbers: dict[str, Any],
    examples: int = 6,
    k: int = 6,
) -> Figure:
    """Samples of machines and networks from the same noise, in columns."""
    k = max(j for j in config.machine.requests if j <= k)
    seed = config.seeds[0]
    rows = {MACHINES[name]: x[k] for name, x in drawn.items()}
    for name in NETWORKS:
        if name in config.models:
            rows[f"network: {pictures.NAMES[name]}"] = samples(workdir, name, seed)[k]
    figure = Figure(
        figsize=(1.1 * examples + 2.6, 1.15 * len(rows) + 0.5),
        dpi=150,
        layout="constrained",
    )
    asked = draw_requests(world, config.sample.images, k, config.seed).named
    axes = figure.subplots(len(rows), examples)
    for (name, images), line in zip(rows.items(), axes, strict=True):
        for i, ax in enumerate(line):
            pictures.show(ax, world, images[i], asked[i])
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(
        f"{k} places asked for (framed); every column starts from one noise",
        fontsize=10,
    )
    return figure


if __name__ == "__main__":
    launch.run(main, "local/sprites.py")
