"""Trains the object detector on rendered scenes; see configs/scenes/detector.py.

Renders a pool of scenes, trains on it, chooses the threshold on other renders, and
writes `detector.npz`, the weights that `compjax.scenes.detect` loads when they are
copied into the package.  A run that was killed goes on when it is started again.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

from compjax import scenes, training
from compjax.networks.heatmap import HeatMap, Targets, detection_loss
from compjax.scenes import files
from compjax.scenes.detector import SIDE, decode, resampling
from experiments import launch
from experiments.scenes import pool


def main(config: ConfigDict, workdir: Path) -> None:
    """The whole experiment; skips what the work directory already holds."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    examples = pool.open_pool(workdir / "pool", config.seed, config.pool)
    average = train(config, examples, workdir)
    write_weights(workdir / "detector.npz", average)
    choice = choose_threshold(config, average)
    training.write_json(workdir / "results.json", choice)
    print(f"weights: {workdir / 'detector.npz'}")
    print(f"threshold: {choice['threshold']:.2f}, exact counts {choice['exact']:.1%}")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail after minutes of rendering."""
    t, p = config.train, config.pool
    scenes_a_shard = p.ruled + p.crowded + p.free + p.plain
    for name, value, least in (
        ("pool.shards", p.shards, 1),
        ("pool.ruled + crowded + free + plain", scenes_a_shard, 1),
        ("train.warmup", t.warmup, 1),
        ("train.steps", t.steps, t.warmup + 1),
        ("train.batch", t.batch, 1),
        ("train.devices", t.devices, 1),
        ("augment.coarser, the least,", min(config.augment.coarser), 8),
        ("validation.scenes", config.validation.scenes, 1),
    ):
        if value < least:
            raise ValueError(f"config.{name} must be at least {least}, got {value}.")
    if t.batch % t.devices or t.devices > len(jax.devices()):
        raise ValueError(
            f"config.train.devices = {t.devices} must divide train.batch = {t.batch}"
            f" and be at most the {len(jax.devices())} devices there are."
        )


def train(config: ConfigDict, examples: dict[str, np.ndarray], workdir: Path) -> Any:
    """The average of the parameters after `train.steps` updates."""
    t = config.train
    module = HeatMap(channels=tuple(config.network.channels))
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, t.learning_rate, t.warmup, t.steps, t.learning_rate / 100
    )
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0),
        optax.adamw(schedule, weight_decay=t.weight_decay, mask=is_kernel),
    )
    mesh = training.make_mesh(t.devices)
    directory = workdir / "checkpoints"
    key_init, key_steps = jax.random.split(jax.random.key(config.seed))

    def initialize(key: Array) -> training.TrainState:
        params = module.init(key, jnp.zeros((1, SIDE, SIDE, 3)))["params"]
        return training.TrainState(
            jnp.int32(0),
            params,
            # A copy: the step donates its state, and no buffer can be donated twice.
            (jax.tree.map(jnp.copy, params),),
            optimizer.init(params),
            jnp.int32(0),
        )

    step_function = make_step(config, module, optimizer)
    like = training.placed_like(jax.eval_shape(initialize, key_init), mesh)
    with training.Checkpoints(directory) as checkpoints:
        restored = checkpoints.restore(like)
        if restored is not None:  # never beyond t.steps: the workdir has this config
            saved, state = restored
        else:
            placed = jax.jit(initialize, out_shardings=training.everywhere(mesh))
            saved, state = 0, placed(key_init)
        count = len(examples["image"])
        with (
            training.MetricsWriter(workdir, saved) as metrics_writer,
            training.Progress(saved, t.steps, t.batch) as progress,
        ):
            for step in range(saved + 1, t.steps + 1):
                rows = batch_rows(config.seed, step, t.batch, count)
                batch = {name: value[rows] for name, value in examples.items()}
                batch = jax.device_put(batch, training.over_batch(mesh))
                state, metrics = step_function(state, key_steps, batch)
                # Waiting for every step: all-reduces that queue up deadlock on a CPU.
                metrics = jax.device_get(metrics)
                if not np.isfinite(metrics["loss"]):
                    raise FloatingPointError(
                        f"The loss is {metrics['loss']} at step {step}; {directory}"
                        " keeps the checkpoints from before."
                    )
                if step % 10 == 0:
                    metrics_writer.write(step, metrics)
                progress.update(step, float(metrics["loss"]))
                if step % t.save_every == 0 or step == t.steps:
                    metrics_writer.check()
                    checkpoints.save(step, state)
    return jax.device_get(state.average)


def make_step(
    config: ConfigDict, module: HeatMap, optimizer: optax.GradientTransformation
) -> Any:
    """`(state, key, batch) -> (state, metrics)`, compiled."""

    @partial(jax.jit, donate_argnums=0)
    def step(state: training.TrainState, key: Array, batch: dict[str, Array]) -> Any:
        key_augment, key_loss = jax.random.split(jax.random.fold_in(key, state.step))
        images, xy = augment(key_augment, batch["image"], batch["xy"], config.augment)
        objects = wanted(batch | {"xy": xy}, config.pool.ignored)

        def loss(params: Any) -> Any:
            maps = module.apply({"params": params}, images)
            return detection_loss(key_loss, maps, objects)

        (total, terms), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        share = training.PowerFunction(config.train.average_std).share(state.step + 1)
        average = training.update_average(state.average, params, share)
        metrics = {"loss": total, "gradient_norm": optax.tree.norm(grads)} | terms
        new = training.TrainState(
            state.step + 1, params, (average,), opt_state, state.nonfinite
        )
        return new, metrics

    return step


def is_kernel(params: Any) -> Any:
    """Which leaves are matrices, as only those decay."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def batch_rows(seed: int, step: int, batch: int, count: int) -> np.ndarray:
    """Which examples make the batch of a step: every epoch is another permutation."""
    places = np.arange((step - 1) * batch, step * batch)
    rows = np.empty(batch, int)
    for epoch in np.unique(places // count):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        here = places // count == epoch
        rows[here] = order[places[here] % count]
    return rows


def wanted(batch: dict[str, Array], ignored: int) -> Targets:
    """What the network is to say; of barely visible objects it may say anything."""
    seen = batch["visible"]
    present = batch["present"] & (seen >= ignored)
    barely = batch["present"] & (seen > 0) & (seen < ignored)
    names = ("color", "shape", "size", "material")
    return Targets(batch["xy"], present, barely, *[batch[name] for name in names])


def augment(key: Array, images: Array, xy: Array, config: Any) -> tuple[Array, Array]:
    """Images as models and other renderers make them, and where objects are then.

    Mirrored, taken through a coarser grid, blurred, noisy, and of another brightness.

    Args:
        key: decides everything.
        images: `[b, 128, 128, 3]` bytes.
        xy: `[b, n, 2]`, fractions.
        config: the fields `augment` of configs/scenes/detector.py.
    """
    b = images.shape[0]
    keys = iter(jax.random.split(key, 12))
    uniform = lambda low, high, *shape: jax.random.uniform(
        next(keys), (b, *shape), minval=low, maxval=high
    )
    images = images.astype(jnp.float32) / 255
    mirrored = uniform(0, 1) < 0.5
    images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
    flipped = xy.at[..., 0].set(1 - xy[..., 0])
    xy = jnp.where(mirrored[:, None, None], flipped, xy)

    images = images ** (1 + uniform(-config.gamma, config.gamma)[:, None, None, None])
    gain = 1 + uniform(-config.gain, config.gain, 1, 1, 1)
    images = images * gain * (1 + uniform(-config.tint, config.tint, 1, 1, 3))
    # Noise of a coarse image is coarse, so it goes in before the grid and after it.
    for_noise = uniform(0, 1, 1, 1, 1) ** 2 * config.noise
    fine, coarse = (jax.random.normal(next(keys), images.shape) for _ in range(2))

    there_and_back = [resampling(n, SIDE) @ resampling(SIDE, n) for n in config.coarser]
    choice = jax.random.randint(next(keys), (b,), 0, len(config.coarser))
    coarser = uniform(0, 1) < config.coarse
    grid = jnp.array(np.stack([*there_and_back, np.eye(SIDE, dtype=np.float32)]))
    grid = grid[jnp.where(coarser, choice, len(config.coarser))]
    width = jnp.where(uniform(0, 1) < config.blurred, uniform(0, config.blur), 0.0)
    blur = gaussian(width + 1e-3)
    both = jnp.einsum("bij,bjk->bik", grid, blur)
    images = images + 2 * for_noise * coarse
    images = jnp.einsum("bij,bjkc->bikc", both, images)
    images = jnp.einsum("bij,bkjc->bkic", both, images)
    return jnp.clip(images + 0.5 * for_noise * fine, 0, 1), xy


def gaussian(width: Array) -> Array:
    """`[b, side, side]`: blurs a row of pixels by each of `[b]` standard deviations."""
    away = jnp.arange(SIDE)[:, None] - jnp.arange(SIDE)[None]
    weights = jnp.exp(-((away[None] / width[:, None, None]) ** 2) / 2)
    return weights / weights.sum(axis=-1, keepdims=True)


def choose_threshold(config: ConfigDict, params: Any) -> dict[str, Any]:
    """The threshold with the most exact counts, in renders that serve nothing else."""
    drawn = pool.held_out(config.seed + 1, config.validation.scenes)
    module = HeatMap(channels=tuple(config.network.channels))
    look = jax.jit(lambda images: decode(module.apply({"params": params}, images)))
    score, counts = [], np.asarray(drawn.present).sum(axis=1)
    for side in config.validation.sides:
        images = scenes.resize(pool.pictures(drawn, (side, side)), (SIDE, SIDE))
        parts = [look(images[i : i + 32]).score for i in range(0, len(images), 32)]
        score.append(np.concatenate(parts))
    thresholds = np.arange(0.1, 0.71, 0.01)
    exact = [
        [((s > limit).sum(axis=1) == counts).mean() for s in score]
        for limit in thresholds
    ]
    best = int(np.argmax(np.mean(exact, axis=1)))
    return {
        "threshold": float(round(thresholds[best], 2)),
        "exact": float(exact[best][0]),
        "exact_by_threshold": {
            f"{limit:.2f}": [float(e) for e in row]
            for limit, row in zip(thresholds, exact, strict=True)
        },
    }


def write_weights(file: Path, params: Any) -> None:
    """Parameters in float16, named by their path, all or nothing."""
    arrays = {
        "/".join(entry.key for entry in path): np.asarray(leaf, np.float16)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    with files.whole(file) as draft, draft.open("wb") as out:
        np.savez(out, **arrays)


if __name__ == "__main__":
    launch.run(main, "scenes/detector.py")
