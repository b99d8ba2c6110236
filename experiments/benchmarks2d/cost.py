"""Cost against accuracy: the distance to the target, by evaluations of the scores.

python -m experiments.benchmarks2d.cost
"""

import json
import time
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from compjax import training
from experiments import launch, results
from experiments.benchmarks2d import metrics
from experiments.benchmarks2d.methods import Settings, methods
from experiments.benchmarks2d.tasks import Task, densities, tasks

TASKS = ("product_a", "annealing")
STEPS = (25, 50, 100, 200)
PAIRS = 20
METHODS = {
    "reverse SDE": "k-o",
    "probability flow": "-s",
    "ULA": "-^",
    "MALA": "-v",
    "Feynman-Kac": "-D",
    "Feynman-Kac, densities": "-P",
}


def main() -> None:
    """Every task at every number of steps; goes on where it was stopped."""
    parser = launch.parser("experiments.benchmarks2d.cost", __doc__)
    parser.add_argument("--workdir", default="runs/benchmarks2d_cost", help="kept here")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    parser.add_argument("--samples", type=int, default=2000, help="of each method")
    flags = parser.parse_args()
    try:
        run(flags)
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))
    except KeyboardInterrupt:
        launch.fail("interrupted; the same command goes on with the next task")


def run(flags: Any) -> None:
    """Measures, draws and prints."""
    for name in ("seeds", "samples"):
        if getattr(flags, name) < 1:
            raise ValueError(f"--{name} must be positive, got {getattr(flags, name)}")
    config = {"seeds": flags.seeds, "samples": flags.samples}
    workdir = training.open_workdir(flags.workdir, config)
    launch.use_cache()
    known, p = tasks(), densities()
    started = time.monotonic()
    curves = {}
    for name in launch.progress(TASKS, "task"):
        file = workdir / f"{name}.json"
        if not file.exists():
            training.write_json(file, curve(known[name], p, flags.samples, flags.seeds))
        curves[name] = json.loads(file.read_text())
    numbers = {"curves": curves, **results.provenance(0, started)}
    training.write_json(workdir / "results.json", numbers)
    draw(curves).savefig(workdir / "figures" / "cost.png")
    print(f"numbers: {workdir / 'results.json'}\npictures: {workdir / 'figures'}")


def curve(task: Task, p: dict[str, Any], samples: int, seeds: int) -> dict[str, Any]:
    """Distance in floors and evaluations, by method, at every number of steps."""
    assert task.target is not None
    parts = tuple(p[name] for name in task.parts)
    draw = lambda seed: task.target(jax.random.key(seed), samples)
    targets = [draw(1000 + seed) for seed in range(seeds)]
    pairs = [(draw(2000 + 2 * i), draw(2001 + 2 * i)) for i in range(PAIRS)]
    floor = float(np.mean([metrics.w2(x, y) for x, y in pairs]))
    found: dict[str, Any] = {name: [] for name in METHODS}
    for steps in STEPS:
        settings = Settings(samples, steps)
        for name, method in methods(task, parts, p["everywhere"], settings):
            if name not in METHODS:
                continue
            drawn = [method(jax.random.key(seed)) for seed in range(seeds)]
            distances = [
                metrics.w2(one.x, target)
                for one, target in zip(drawn, targets, strict=True)
            ]
            row = {
                "steps": steps,
                "evaluations": drawn[0].evaluations,
                "floors": float(np.mean(distances)) / floor,
            }
            found[name].append(row)
    return {"floor": floor, "methods": found}


def draw(curves: dict[str, Any]) -> Figure:
    """One panel a task."""
    figure = Figure((9, 3.9), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for axis, (name, one) in zip(axes, curves.items(), strict=True):
        for method, rows in one["methods"].items():
            x = [row["evaluations"] for row in rows]
            y = [row["floors"] for row in rows]
            axis.loglog(x, y, METHODS[method], ms=4, lw=1.2, label=method)
        axis.axhspan(0.4, 1.5, color="0.9", zorder=0)
        axis.set(title=name, xlabel="evaluations of the parts, a sample")
    axes[0].set(ylabel="W2 to the target, in floors")
    axes[0].set_yticks([0.5, 1, 1.5, 3, 10], ["0.5", "1", "1.5", "3", "10"])
    axes[0].set_ylim(0.4, 20)
    lines = axes[0].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
