"""Writes the weights of a training run to a directory, for use and for others.

    python -m experiments.export --workdir=runs/laptop --out=weights

What is written is the first average of the parameters at the newest checkpoint, or at
another one with `--step`; the next one where a mean of the last updates has not begun.
With `--std=0.13` it is the average of that relative width,
reconstructed from the snapshots of the run.  `compjax.training.load("weights")` then is
the conditional score.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree
from ml_collections import ConfigDict

import compjax as cj
from compjax import training
from compjax.training.posthoc import reconstruct, snapshots
from experiments import launch, train


def main() -> None:
    """Exports, and says what and where."""
    parser = launch.parser("experiments.export", __doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="of the run")
    parser.add_argument("--out", type=Path, required=True, help="a new directory")
    parser.add_argument("--step", type=int, help="of a checkpoint, or of a snapshot")
    parser.add_argument("--std", type=float, help="relative width of the average")
    options = parser.parse_args()
    try:
        step = export_run(options.workdir, options.out, options.step, options.std)
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))
    print(f"step {step}: {options.out}, for compjax.training.load")


def export_run(
    workdir: Path, out: Path, step: int | None = None, std: float | None = None
) -> int:
    """Exports an average of a run's parameters.

    Args:
        workdir: Of the run.
        out: See `compjax.training.export`.
        step: Whose average; the newest if None.
        std: Relative width of the average, made from snapshots; if None, the run's
            first average that has begun, from a checkpoint.

    Returns:
        The step.

    Raises:
        ValueError: If there is no run, no such step, no average yet, or something in
            the way.
    """
    file = workdir / "config.json"
    if not file.is_file():
        raise ValueError(
            f"{workdir} holds no run (config.json is missing): give the --workdir of "
            "experiments.train."
        )
    config = ConfigDict(json.loads(file.read_text()))
    stream = train.make_stream(config, training.make_mesh(1))
    module = train.make_module(config, stream)
    if std is None:
        example = jax.eval_shape(stream, jax.random.key(0))
        step, name, params = checkpointed(config, workdir, step, module, example)
    else:
        directory = workdir / "snapshots"
        if step is None:  # now: a run that goes on may add another meanwhile
            step = max(snapshots(directory), default=0)
        name = f"PowerFunction(std={std}), from snapshots"
        params = reconstruct(directory, std, step)
    about = {"step": step, "average": name, "config": config.to_dict()}
    training.export(out, cj.Network(module, params), about)
    return step


def checkpointed(
    config: ConfigDict, workdir: Path, step: int | None, module: Any, example: Any
) -> tuple[int, str, PyTree]:
    """The step of a checkpoint, and the name and parameters of an average at it."""
    optimizer, averages = train.make_optimizer(config), train.make_averages(config)
    like = jax.eval_shape(
        lambda key: training.init_state(key, module, optimizer, example, len(averages)),
        jax.random.key(0),
    )
    state = training.restore(workdir / "checkpoints", like, step=step)
    step = int(state.step)
    chosen = begun(averages, step)
    return step, str(averages[chosen]), state.averages[chosen]


def begun(averages: Sequence[training.Average], step: int) -> int:
    """Which average is exported at a step: the first that averages anything by then.

    Args:
        averages: Of the run.
        step: Number of updates made.

    Returns:
        Its index; standard error says so where it is not 0.

    Raises:
        ValueError: If there are only plain means of updates that are still to come.
    """
    chosen, first = training.which_average(averages, step), averages[0]
    if not isinstance(first, training.LastUpdates):
        return chosen
    begin = first.until - first.count + 1
    told = f"at step {step} the mean of updates {begin} to {first.until} is no average"
    if chosen == 0 and first.count > 1 and step <= begin:
        raise ValueError(
            f"{told}: choose a later --step, or give --std, the width of an average "
            "from snapshots."
        )
    if chosen:
        print(f"{told}: {averages[chosen]} is exported instead", file=sys.stderr)
    return chosen


if __name__ == "__main__":
    main()
