"""In training, which rises first: locality, or length generalisation?

    python -m experiments.local.rise --workdir=runs/local_rise
        --config=configs/local/rise.py

Training stops at every step of the configuration to be probed and sampled, and goes on
from there; the same command goes on where it was stopped.  A curve has *risen* to a
level when it has come this share of the way from its first value to its last; between
two steps the logarithm of the step is interpolated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy import stats

from compjax import training
from experiments import launch, results
from experiments.local import probes, sprites
from experiments.local.counts import count
from experiments.local.models import trained
from experiments.local.pictures import NAMES
from experiments.local.prediction import measured
from experiments.local.world import World, make_world

CURVES = {
    "locality": "locality: 1 - share of a label's effect outside its place",
    "one": "requests met at one place",
    "outcome": "requests met at {k} places",
}


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, probes and samples what is not there yet; then asks the question."""
    check(config)
    started = time.monotonic()
    workdir = training.open_workdir(workdir, config.to_dict(), free=("seeds",))
    world = make_world(config)
    cells = [
        (name, seed, step)
        for name in config.models
        for seed in config.seeds
        for step in config.rise.steps
    ]
    for name, seed, step in launch.progress(cells, "stages"):
        measure(config, world, workdir, name, seed, step)
    curves = {name: gather(config, workdir, name) for name in config.models}
    numbers = {
        "curves": curves,
        "order": {
            name: [order(config, curve, level) for level in config.rise.levels]
            for name, curve in curves.items()
        },
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    draw(config, numbers).savefig(workdir / "figures" / "rise.png")
    print(tell(numbers["order"]))
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail after training."""
    sprites.check(config)
    steps = list(config.rise.steps)
    for name, model in config.models.items():
        if len(steps) < 2 or steps != sorted(set(steps)) or steps[-1] != model.steps:
            raise ValueError(
                f"config.rise.steps = {steps}: give increasing steps that end with "
                f"config.models.{name}.steps = {model.steps}."
            )
    for level in config.rise.levels:
        if not 0 < level < 1:
            raise ValueError(
                f"config.rise.levels holds {level}: give shares in (0, 1)."
            )


def measure(
    config: ConfigDict, world: World, workdir: Path, name: str, seed: int, step: int
) -> None:
    """The values of all curves at a step, to a file that is made once."""
    report = file(workdir, name, seed, step)
    if report.exists():
        return
    until = config.copy_and_resolve_references()
    until.models[name].steps = step  # the learning rate falls as in the whole training
    model = trained(until, world, workdir, name, seed)
    ks = (1, config.prediction.k)
    images = {k: sprites.draw(config, world, model, k) for k in ks}
    one, outcome = (row["corrected"] for row in count(config, world, name, [images]))
    p, probe = config.prediction, probes.probe(config, world, model, name)
    beyond = measured(config, probe, p.kind, p.view, p.measure)
    found = {"step": step, "locality": 1 - beyond, "one": one, "outcome": outcome}
    report.parent.mkdir(parents=True, exist_ok=True)
    training.write_json(report, found)


def file(workdir: Path, name: str, seed: int, step: int) -> Path:
    """Where the values of a network at a step are."""
    return workdir / "stages" / f"{name}-{seed}-{step}.json"


def gather(config: ConfigDict, workdir: Path, name: str) -> dict[str, Any]:
    """The curves of a network: a row each seed, a column each step."""
    rows = [
        [
            json.loads(file(workdir, name, seed, step).read_text())
            for step in _steps(config)
        ]
        for seed in config.seeds
    ]
    curves = {key: [[one[key] for one in row] for row in rows] for key in CURVES}
    return {"steps": _steps(config), **curves}


def _steps(config: ConfigDict) -> list[int]:
    return list(config.rise.steps)


def risen(steps: Sequence[float], values: Sequence[float], level: float) -> float:
    """The step at which values first come `level` of the way from first to last.

    Args:
        steps: Increasing and positive.
        values: One a step.
        level: In (0, 1).

    Returns:
        A step, of interpolated logarithms; nan where there is no way to go.

    Example:
        >>> risen([10, 100, 1000], [0.0, 0.0, 1.0], 0.5).__round__()
        316
    """
    way = np.asarray(values, float) - values[0]
    if way[-1] == 0 or not np.isfinite(way[-1]):
        return float("nan")
    way, logs = way / way[-1], np.log(np.asarray(steps, float))
    after = int(np.argmax(way >= level))
    return float(
        np.exp(
            np.interp(level, way[after - 1 : after + 1], logs[after - 1 : after + 1])
        )
    )


def order(config: ConfigDict, curve: Mapping[str, Any], level: float) -> dict[str, Any]:
    r"""How much later the outcome rises than locality: a factor of steps.

    The factor of every seed, $s_{outcome} / s_{locality}$; their geometric mean, and
    Student's interval of 95 % over seeds.
    """
    steps = {
        key: np.array([risen(curve["steps"], row, level) for row in curve[key]])
        for key in CURVES
    }
    logs = np.log(steps["outcome"] / steps["locality"])
    mean, n = logs.mean(), len(logs)
    half = np.nan
    if n > 1:
        half = stats.t.ppf(0.975, n - 1) * logs.std(ddof=1) / np.sqrt(n)
    return {
        "level": level,
        **{key: one.tolist() for key, one in steps.items()},
        "factor": float(np.exp(mean)),
        "low": float(np.exp(mean - half)),
        "high": float(np.exp(mean + half)),
    }


def tell(orders: Mapping[str, Any]) -> str:
    """The answer in lines."""
    lines = [
        "steps until the outcome has risen / until locality has  [95 % over seeds]"
    ]
    for name, rows in orders.items():
        for row in rows:
            lines.append(
                f"{NAMES[name]:32} to {row['level']:.0%}: {row['factor']:6.2f}  "
                f"[{row['low']:.2f}, {row['high']:.2f}]"
            )
    return "\n".join(lines)


def draw(config: ConfigDict, numbers: Mapping[str, Any]) -> Figure:
    """The curves of every seed, and their means."""
    curves = numbers["curves"]
    figure = Figure(figsize=(5.2 * len(curves), 4.2), dpi=150, layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    styles = {"locality": "tab:blue", "one": "tab:gray", "outcome": "tab:green"}
    for ax, (name, curve) in zip(axes, curves.items(), strict=True):
        for key, color in styles.items():
            values = np.array(curve[key])
            ax.plot(curve["steps"], values.T, color=color, lw=0.6, alpha=0.5)
            label = CURVES[key].format(k=config.prediction.k)
            ax.plot(
                curve["steps"], values.mean(0), "o-", ms=4, color=color, label=label
            )
        half = next(
            (row for row in numbers["order"][name] if row["level"] == 0.5), None
        )
        told = (
            ""
            if half is None
            else (
                f"\nhalf-way: outcome at {half['factor']:.2f} x the steps of locality "
                f"[{half['low']:.2f}, {half['high']:.2f}]"
            )
        )
        ax.set(xscale="log", xlabel="training steps", ylim=(-0.1, 1.05))
        ax.set_title(NAMES[name] + told, fontsize=10)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("share")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        fontsize=8,
    )
    return figure


if __name__ == "__main__":
    launch.run(main, "local/rise.py")
