"""Training from beginning to end, or from where it was interrupted."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import optax

from compjax.noise import NoiseLaw
from compjax.training.averaging import Average, PowerFunction
from compjax.training.checkpoint import open_checkpoints, restore
from compjax.training.mesh import make_mesh, sharded
from compjax.training.metrics import MetricsWriter
from compjax.training.progress import Progress
from compjax.training.state import TrainState, init_state
from compjax.training.step import Batch, make_train_step
from compjax.types import PRNGKey


def train(
    key: PRNGKey,
    module: Any,
    optimizer: optax.GradientTransformation,
    batch: Batch,
    noise_law: NoiseLaw,
    *,
    steps: int,
    workdir: str | Path,
    save_every: int = 1000,
    log_every: int = 10,
    keep: int = 2,
    averages: Sequence[Average] = (PowerFunction(0.1),),
    noise_draws: int = 1,
    mesh: jax.sharding.Mesh | None = None,
) -> TrainState:
    """The state after `steps` updates; resumes from the work directory by itself.

    An interrupted run that is started again with the same arguments goes on from its
    last checkpoint and ends, bit by bit, where the uninterrupted one would.

    Args:
        key: Determines the parameters, the batches and the noise.
        module: A preconditioned denoiser.
        optimizer: Any optax optimizer; a learning-rate schedule is part of it.
        batch: `key -> (x0, condition)`, a pure function that runs inside the step.
        noise_law: The law of the noise levels.
        steps: Number of updates in all, those before an interruption included.
        workdir: Receives `checkpoints/` and `metrics.jsonl`; see `open_workdir`.
        save_every: Steps between two checkpoints; the last step is always saved.
        log_every: Steps between two lines of metrics; the first and the last step are
            always written.
        keep: Number of checkpoints to keep.
        averages: What is averaged.
        noise_draws: Noise levels for every example of a batch.
        mesh: The devices, over which batches are split; as many as divide the batch
            if None.

    Returns:
        The final `TrainState`.

    Raises:
        FloatingPointError: If a loss is not finite; the last checkpoint remains.
        ValueError: If the work directory is already beyond `steps`.

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
    key_init, key_steps = jax.random.split(key)
    example = jax.eval_shape(batch, key)
    images = example[0].shape[0] * noise_draws
    mesh = make_mesh(example[0].shape[0]) if mesh is None else mesh

    def initialize(key: PRNGKey) -> TrainState:
        return init_state(key, module, optimizer, example, len(averages))

    train_step = make_train_step(
        module,
        optimizer,
        noise_law,
        averages=averages,
        noise_draws=noise_draws,
        mesh=mesh,
    )

    directory = Path(workdir) / "checkpoints"
    with open_checkpoints(directory, keep=keep) as checkpoints:
        saved = 0 if checkpoints.latest is None else checkpoints.latest.step
        if saved > steps:
            raise ValueError(
                f"{directory} is at step {saved}, beyond steps = {steps}: give more "
                "steps or another work directory."
            )
        with (
            MetricsWriter(workdir, saved) as metrics_writer,
            Progress(saved, steps, images) as progress,
        ):
            if saved:
                progress.note(f"resuming from step {saved} in {directory}")
                like = jax.eval_shape(initialize, key_init)
                like = jax.tree.map(
                    lambda leaf, place: jax.ShapeDtypeStruct(
                        leaf.shape, leaf.dtype, sharding=place
                    ),
                    like,
                    sharded(like, mesh),
                )
                state = restore(directory, like)
            else:
                progress.note("initialising the parameters ...")
                like = jax.eval_shape(initialize, key_init)
                placed = jax.jit(initialize, out_shardings=sharded(like, mesh))
                state = placed(key_init)

            def report(step: int, metrics: dict[str, jax.Array]) -> None:
                values = jax.device_get(metrics)
                loss = float(values["loss"])
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"The loss is {loss} at step {step}; {directory} keeps the "
                        "checkpoints from before.  Lower the learning rate, or look at "
                        "the batch of this step."
                    )
                if step % log_every == 0 or step in (1, steps):
                    metrics_writer.write(step, values)
                progress.update(step, loss)

            pending: tuple[int, dict[str, jax.Array]] | None = None
            for step in range(saved + 1, steps + 1):
                if step == saved + 1:
                    progress.note("compiling the train step ...")
                    started = time.monotonic()
                state, metrics = train_step(state, key_steps, batch)
                if step == saved + 1:
                    progress.note(f"compiled in {time.monotonic() - started:.0f} s")
                    progress.restart_clock()
                # The device computes this step while the host reads the one before.
                if pending is not None:
                    report(*pending)
                pending = (step, metrics)
                if step % save_every == 0 or step == steps:
                    # Look at the loss first: a diverged state must not be saved.
                    report(*pending)
                    pending = None
                    checkpoints.save_async(step, state)
    return state
