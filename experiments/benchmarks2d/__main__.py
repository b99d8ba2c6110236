"""The two-dimensional benchmarks of composition, with every sampler.

    python -m experiments.benchmarks2d [task ...]

Each task is sampled with exact scores and with learned ones, by every method that
applies to it, three times; its numbers stand beside the floor, which is what exact
samples of the target reach.  A task that is done is not done again.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compjax import training
from experiments import launch, results
from experiments.benchmarks2d import draw, metrics, networks
from experiments.benchmarks2d.methods import Drawn, Settings, methods
from experiments.benchmarks2d.tasks import Task, densities, tasks

PAIRS = 20
"""Of exact samples, for a floor."""


def main() -> None:
    """Parses the command line and runs every task."""
    parser = launch.parser("experiments.benchmarks2d", __doc__)
    parser.add_argument("tasks", nargs="*", help="which; all if none is named")
    parser.add_argument("--workdir", default="runs/benchmarks2d", help="kept here")
    parser.add_argument("--seeds", type=int, default=3, help="repetitions")
    parser.add_argument("--samples", type=int, default=2000, help="of each method")
    parser.add_argument("--steps", type=int, default=100, help="noise levels")
    parser.add_argument("--train-steps", type=int, default=6000, help="of networks")
    flags = parser.parse_args()
    try:
        run(flags)
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))
    except KeyboardInterrupt:
        launch.fail("interrupted; the same command goes on with the next task")


def run(flags: Any) -> None:
    """Every task that is not yet done; then the table and the pictures."""
    known = tasks()
    for name in flags.tasks:
        if name not in known:
            raise ValueError(f"unknown task {name}; there are {', '.join(known)}")
    for name in ("seeds", "samples", "steps", "train_steps"):
        if getattr(flags, name) < 1:
            raise ValueError(f"--{name} must be positive, got {getattr(flags, name)}")
    config = {k: v for k, v in vars(flags).items() if k not in ("tasks", "workdir")}
    workdir = training.open_workdir(flags.workdir, config)
    launch.use_cache()
    p = densities()
    scores = networks.learned(p, flags.train_steps, 0, workdir / "networks.msgpack")
    settings = Settings(flags.samples, flags.steps)
    found = {}
    for name in launch.progress(flags.tasks or known, "task"):
        file = workdir / f"{name}.json"
        if not file.exists():
            started = time.monotonic()
            numbers, pictures = measure(known[name], p, scores, settings, flags.seeds)
            numbers |= results.provenance(0, started)
            np.savez_compressed(file.with_suffix(".npz"), **pictures)
            training.write_json(file, numbers)
        found[name] = json.loads(file.read_text()) | floor(known[name], flags, workdir)
        with np.load(file.with_suffix(".npz")) as pictures:
            figure = draw.task(known[name], p, found[name], pictures)
            figure.savefig(workdir / "figures" / f"{name}.png")
        print(table(found[name]), flush=True)
    training.write_json(workdir / "results.json", found)
    print(f"numbers: {workdir / 'results.json'}\npictures: {workdir / 'figures'}")


def floor(task: Task, flags: Any, workdir: Path) -> dict[str, Any]:
    """What pairs of exact samples show: the mean of every metric, and all W2.

    Many pairs, because few of them are an unsure floor where a target has two modes.
    """
    if task.target is None:
        return {"floor": None, "floors": []}
    file = workdir / "floors" / f"{task.name}.json"
    if not file.exists():
        found = []
        for seed in range(PAIRS):
            keys = jax.random.split(jax.random.key(2000 + seed))
            x, y = (task.target(key, flags.samples) for key in keys)
            found.append(metrics.measure(task, x, y, seed))
        file.parent.mkdir(exist_ok=True)
        numbers = {
            "floor": metrics.summary(found),
            "floors": [one["W2"] for one in found],
        }
        training.write_json(file, numbers)
    return json.loads(file.read_text())


def measure(
    task: Task,
    p: dict[str, Any],
    scores: dict[str, Any],
    settings: Settings,
    seeds: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """All numbers of a task, and one set of samples of every method."""
    exact = tuple(p[name] for name in task.parts)
    learned = tuple(scores[name] for name in task.parts)
    n = settings.samples
    targets = []
    if task.target is not None:
        keys = [jax.random.key(1000 + seed) for seed in range(seeds)]
        targets = [task.target(key, n) for key in keys]
    rows, pictures = [], {"target": targets[0]} if targets else {}
    columns = (("exact", exact, p), ("learned", learned, scores))
    for column, parts, all_of_them in columns:
        everywhere = all_of_them["everywhere"]
        for name, method in methods(task, parts, everywhere, settings):
            # Of learned scores, whose own error decides, one repetition is enough.
            one = repeat(task, method, targets, seeds if column == "exact" else 1, n)
            pictures[f"{column}: {name}"] = one.pop("samples")
            rows.append({"scores": column, "method": name} | one)
    numbers = {
        "task": task.name,
        "source": task.source,
        "kind": task.kind,
        "samples": n,
        "steps": settings.steps,
        "seeds": seeds,
        "score error": {
            name: networks.score_error(p[name], scores[name]) for name in task.parts
        },
        "rows": rows,
    }
    return numbers, pictures


def repeat(
    task: Task, method: Any, targets: list[Any], seeds: int, n: int
) -> dict[str, Any]:
    """One method, several times: its metrics, cost and diagnostics, or its failure."""
    drawn: list[Drawn] = []
    try:
        for seed in range(seeds):
            drawn.append(method(jax.random.key(seed)))
    except ValueError as error:
        return {"failed": launch.explain(error), "samples": np.zeros((0, 2))}
    # A distance needs as many samples as the floor has.
    whole = bool(targets) and all(len(one.x) == n for one in drawn)
    found = (
        [
            metrics.measure(task, one.x, target, seed)
            for seed, (one, target) in enumerate(zip(drawn, targets, strict=False))
        ]
        if whole
        else []
    )
    return {
        "evaluations": float(np.mean([one.evaluations for one in drawn])),
        "diagnostics": metrics.summary([one.says for one in drawn]),
        "metrics": metrics.summary(found) if found else None,
        "by seed": [one["W2"] for one in found],
        "samples": drawn[0].x,
    }


def table(numbers: dict[str, Any]) -> str:
    """One task for a terminal: the distance in floors, and what it cost."""
    floor = numbers["floor"]
    lines = [
        f"{numbers['task']} ({numbers['source']})",
        f"  {'scores':8}{'method':42}{'W2':>8}{'floors':>8}{'evaluations':>13}",
    ]
    if floor is not None:
        lines.append(f"  {'oracle':8}{'':42}{floor['W2']:8.4f}{1:8.2f}")
    for row in numbers["rows"]:
        label = f"  {row['scores']:8}{row['method']:42}"
        if "failed" in row:
            lines.append(f"{label} {row['failed'][:60]}")
            continue
        measured = row["metrics"]
        says = ", ".join(f"{k} {v:.3g}" for k, v in row["diagnostics"].items())
        shown = (
            f"{measured['W2']:8.4f}{measured['W2'] / floor['W2']:8.2f}"
            if measured is not None and floor is not None
            else f"{'-':>8}{'-':>8}"
        )
        lines.append(f"{label}{shown}{row['evaluations']:13.0f}  {says}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
