"""Training from beginning to end, or from where it was interrupted."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import optax

from compjax.noise import NoiseLaw
from compjax.training.averaging import Average, PowerFunction
from compjax.training.checkpoint import Checkpoints
from compjax.training.interruption import catch_sigterm
from compjax.training.mesh import make_mesh, placed_like
from compjax.training.metrics import MetricsWriter
from compjax.training.posthoc import save_snapshot
from compjax.training.progress import Progress
from compjax.training.state import TrainState, init_state
from compjax.training.step import AFTER, Batch, Normalization, make_train_step
from compjax.types import PRNGKey

Evaluator = Callable[[int, TrainState], Iterable[tuple[str, float]]]
"""`(step, state) -> (name, value) ...`: numbers for the metrics of a step; a generator
may draw pictures on the way."""


def train(
    key: PRNGKey,
    module: Any,
    optimizer: optax.GradientTransformation,
    data: Any,
    noise_law: NoiseLaw,
    *,
    steps: int,
    workdir: str | Path,
    averages: Sequence[Average] = (PowerFunction(0.1),),
    normalization: Normalization = AFTER,
    noise_draws: int = 1,
    accumulate: int = 1,
    mesh: jax.sharding.Mesh | None = None,
    save_every: int = 1000,
    keep: int = 2,
    milestone_every: int | None = None,
    snapshot_every: int | None = None,
    log_every: int = 10,
    evaluate_every: int = 1000,
    evaluators: Sequence[Evaluator] = (),
    flops: float = 0.0,
    peak: float = math.inf,
) -> TrainState:
    """The state after `steps` updates; resumes from the work directory by itself.

    An interrupted run that is started again with the same arguments goes on from its
    last whole checkpoint and ends, bit by bit, where the uninterrupted one would.
    SIGTERM makes it save and return early: `state.step` is then less than `steps`.

    Args:
        key: Determines the parameters, the batches and the noise.
        module: A preconditioned denoiser.
        optimizer: Any optax optimizer; a learning-rate schedule is part of it.
        data: `key -> (x0, condition)`, a pure function that runs inside the step; or an
            iterator of such, with `get_state` and `set_state`, such as `HostBatches`.
        noise_law: The law of the noise levels.
        steps: Number of updates in all, those before an interruption included.
        workdir: Receives `checkpoints/`, `snapshots/` and the metrics; see
            `open_workdir`.
        averages: What is averaged; see `make_train_step`, as for the next three.
        normalization: When weights return to their spheres.
        noise_draws: Noise levels for every example of a batch.
        accumulate: Parts of a batch, one after the other.
        mesh: The devices, over which batch and state are split; data-parallel over as
            many as divide the batch if None.
        save_every: Steps between two checkpoints; the last step is always saved.
        keep: Number of checkpoints to keep.
        milestone_every: Steps between two checkpoints that are kept for ever.
        snapshot_every: Steps between two snapshots of the `PowerFunction` averages,
            from which `reconstruct` makes an average of any length.
        log_every: Steps between two lines of metrics; the first and the last step are
            always written.
        evaluate_every: Steps between two calls of the evaluators, which the last step
            always has.
        evaluators: Functions `(step, state) -> (name, value) ...`.
        flops: Of one update, for the share of the devices' peak that is shown.
        peak: Floating-point operations a second of all devices of the mesh.

    Returns:
        The `TrainState`, final unless SIGTERM came.

    Raises:
        FloatingPointError: If a loss or a parameter is not finite; the last checkpoint
            remains.
        OSError: If a checkpoint could not be written; those before it remain.
        ValueError: If the work directory is already beyond `steps`, or holds nothing
            but damaged checkpoints; if there is no average to take snapshots of.

    Example:
        >>> import tempfile
        >>> from compjax.networks import UNet
        >>> from compjax.noise import LogNormal
        >>> def batch(key):
        ...     return 0.5 * jax.random.normal(key, (4, 2, 2, 1)), None
        >>> module = UNet(channels=4, channel_mult=(1,), num_blocks=0)
        >>> law, workdir = LogNormal(-0.8, 1.6), tempfile.mkdtemp()
        >>> key, optimizer = jax.random.key(0), optax.adam(1e-2)
        >>> state = train(key, module, optimizer, batch, law, steps=2, workdir=workdir)
        >>> int(state.step)
        2
    """
    profiles = {
        i: profile.std
        for i, profile in enumerate(averages)
        if isinstance(profile, PowerFunction)
    }
    if snapshot_every and not profiles:
        raise ValueError(
            f"snapshot_every = {snapshot_every} saves averages by PowerFunction, and "
            "there are none: give one, or None."
        )
    key_init, key_steps = jax.random.split(key)
    workdir, iterator = Path(workdir), data if hasattr(data, "__next__") else None
    batches = itertools.repeat(data) if iterator is None else iterator
    example = jax.eval_shape(peek(data), key)
    size = example[0].shape[0]
    mesh = make_mesh(size) if mesh is None else mesh

    def initialize(key: PRNGKey) -> TrainState:
        return init_state(key, module, optimizer, example, len(averages))

    train_step = make_train_step(
        module,
        optimizer,
        noise_law,
        averages=averages,
        normalization=normalization,
        noise_draws=noise_draws,
        accumulate=accumulate,
        mesh=mesh,
    )
    like = placed_like(jax.eval_shape(initialize, key_init), mesh)
    directory = workdir / "checkpoints"
    with (
        catch_sigterm() as stop,
        Checkpoints(directory, keep, milestone_every) as checkpoints,
    ):
        restored = checkpoints.restore(like, iterator)
        saved = 0 if restored is None else restored[0]
        if saved > steps:
            raise ValueError(
                f"{directory} is at step {saved}, beyond steps = {steps}: give more "
                "steps or another work directory."
            )
        with (
            MetricsWriter(workdir, saved) as metrics_writer,
            Progress(saved, steps, size * noise_draws, flops / peak) as progress,
        ):
            if restored is not None:
                progress.note(f"resuming from step {saved} in {directory}")
                state = restored[1]
            else:
                progress.note(f"no checkpoint in {directory}: starting from step 0")
                shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
                state = jax.jit(initialize, out_shardings=shardings)(key_init)

            def report(step: int, metrics: Mapping[str, jax.Array]) -> None:
                values = jax.device_get(metrics)
                demand_finite(step, values, directory)
                if step % log_every == 0 or step in (1, steps):
                    metrics_writer.write(step, values)
                progress.update(step, float(values["loss"]))

            def evaluate(step: int) -> None:
                for evaluator in evaluators:
                    values = dict(evaluator(step, state))
                    if values:
                        metrics_writer.write(step, values)

            # The device computes a step while the host reads the one before; on a CPU
            # they are the same, and queued all-reduces of virtual devices can stall.
            lag = 0 if jax.default_backend() == "cpu" else 1
            pending: list[tuple[int, Mapping[str, jax.Array]]] = []
            for step in range(saved + 1, steps + 1):
                if step == saved + 1:
                    progress.note("compiling the train step ...")
                    started = time.monotonic()
                state, metrics = train_step(state, key_steps, next(batches))
                pending.append((step, metrics))
                if step == saved + 1:
                    progress.note(f"compiled in {time.monotonic() - started:.0f} s")
                    progress.restart_clock()
                stopping = stop(step)
                ending = stopping or step == steps
                evaluating = step % evaluate_every == 0 or step == steps
                snapping = snapshot_every and step % snapshot_every == 0
                milestone = milestone_every and step % milestone_every == 0
                saving = ending or milestone or step % save_every == 0
                # Look at the loss first: a diverged state must not be saved.
                now = evaluating or snapping or saving
                while len(pending) > (0 if now else lag):
                    report(*pending.pop(0))
                if evaluating:
                    evaluate(step)
                if snapping:
                    kept = {std: state.averages[i] for i, std in profiles.items()}
                    save_snapshot(workdir / "snapshots", step, kept)
                if saving:
                    metrics_writer.check()
                    checkpoints.save(step, state, iterator)
                if stopping:
                    progress.note(f"SIGTERM: saving step {step} and ending")
                    break
    return state


def peek(data: Any) -> Batch:
    """A batch like those of the data, whose position stays where it is.

    Args:
        data: A batch function, or an iterator of such with `get_state`, `set_state`.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> def batch(key):
        ...     return jax.random.normal(key, (4, 2)), None
        >>> peek(batch) is batch
        True
    """
    if hasattr(data, "__next__"):
        state = data.get_state()
        first = next(data)
        data.set_state(state)
        return first
    if callable(data):
        return cast(Batch, data)
    raise ValueError(
        "data must be a function key -> (x0, condition) or an iterator of such, got "
        f"{data!r}."
    )


def demand_finite(step: int, metrics: Mapping[str, Any], directory: Path) -> None:
    """Raises a FloatingPointError if the loss or a parameter is not finite.

    Args:
        step: That was made.
        metrics: Of the step, on the host.
        directory: Where the checkpoints are.

    Example:
        >>> metrics = {"loss": 1.0, "parameter_norm": float("nan")}
        >>> demand_finite(3, metrics, Path("checkpoints"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        FloatingPointError: A parameter is not finite after step 3; checkpoints keeps...
    """
    loss = float(metrics["loss"])
    if math.isfinite(loss) and math.isfinite(metrics["parameter_norm"]):
        return
    what = (
        "A parameter is not finite after"
        if math.isfinite(loss)
        else f"The loss is {loss} at"
    )
    raise FloatingPointError(
        f"{what} step {step}; {directory} keeps the checkpoints from before.  Lower "
        "the learning rate, or look at the batch of this step."
    )
