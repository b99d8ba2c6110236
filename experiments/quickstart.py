"""Train on scenes with at most one object; compose scenes with up to six.

    python -m experiments.quickstart --workdir=runs/quickstart

One small network learns rendered CLEVR scenes that hold one object or none.  Its scores
are then composed into scenes with k requested objects, in four ways that differ only in
their coefficients.  The table and the picture say which of them work.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, datasets, networks, noise, plotting, scenes, training
from experiments import launch, results


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains and samples, unless that was done; then draws and prints."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    results_file, images_file = workdir / "results.json", workdir / "images.npz"
    if results_file.exists() and images_file.exists():
        print(f"{workdir} holds a finished run; drawing it again.")
    else:
        started = time.monotonic()
        stream = datasets.SingleObject(
            (config.size, config.size),
            config.data.scenes,
            config.data.empty,
            config.data.null,
        )
        network = train(config, stream, workdir)
        trained = time.monotonic()
        rows, images = evaluate(config, stream, network)
        np.savez_compressed(images_file, **images)
        numbers = {
            "rows": rows,
            "train_seconds": round(trained - started, 1),
            "compose_seconds": round(time.monotonic() - trained, 1),
            "images_seen": config.train.steps
            * config.data.scenes
            * config.train.noise_draws,
            **results.provenance(config.seed, started),
        }
        training.write_json(results_file, numbers)
    numbers, images = json.loads(results_file.read_text()), np.load(images_file)
    figure_file = workdir / "figures" / "length_generalisation.png"
    plotting.length_generalisation(numbers["rows"], images).savefig(figure_file)
    print(table(numbers["rows"]))
    print(f"picture: {figure_file}\nnumbers: {results_file}")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail after minutes of training."""
    for name, value, least in (
        ("train.steps", config.train.steps, config.train.warmup + 1),
        ("sample.images", config.sample.images, 2),
        ("sample.steps", config.sample.steps, 2),
        ("sample.max_requests", config.sample.max_requests, 1),
    ):
        if value < least:
            raise ValueError(f"config.{name} must be at least {least}, got {value}.")
    if config.sample.max_requests > 10:
        raise ValueError(
            "config.sample.max_requests must be at most 10, CLEVR's limit, got "
            f"{config.sample.max_requests}."
        )


def make_module(config: ConfigDict) -> networks.UNet:
    """The network of the configuration."""
    return networks.UNet(
        channels=config.network.channels,
        channel_mult=tuple(config.network.channel_mult),
        num_blocks=config.network.num_blocks,
        patch=config.network.patch,
        attn_resolutions=(),
        condition_channels=2,
        sigma_data=config.network.sigma_data,
    )


def train(
    config: ConfigDict, stream: datasets.SingleObject, workdir: Path
) -> cj.Network:
    """The conditional score of scenes with at most one object."""
    t = config.train
    module = make_module(config)
    rise = optax.linear_schedule(0.0, t.learning_rate, t.warmup)
    fall = optax.linear_schedule(t.learning_rate, 0.0, t.steps - t.warmup)
    state = training.train(
        jax.random.key(config.seed),
        module,
        optax.adam(optax.join_schedules([rise, fall], [t.warmup]), b1=0.9, b2=0.99),
        stream,
        noise.LogNormal(t.noise_mean, t.noise_std),
        steps=t.steps,
        workdir=workdir,
        save_every=t.save_every,
        averages=[training.PowerFunction(t.average_std)],
        noise_draws=t.noise_draws,
        # XLA's all-reduce between virtual CPU devices can deadlock.
        mesh=training.make_mesh(1) if jax.default_backend() == "cpu" else None,
    )
    return cj.Network(module, state.average)


# For k of K requests: what the composition stands on, the weights of the K conditions,
# and the power of the whole.
SETTINGS: dict[str, Callable[..., tuple[Any, Any, float]]] = {
    "A: empty background": lambda like, on: (scenes.empty(like), on, 1.0),
    "B: unconditional background": lambda like, on: (scenes.null(like), on, 1.0),
    "average": lambda like, on: (scenes.empty(like), on / on.sum(), 1.0),
    "product": lambda like, on: (scenes.empty(like), on / on.sum(), on.sum()),
}


def evaluate(
    config: ConfigDict, stream: datasets.SingleObject, network: cj.Network
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """One row of results for every setting and number of requests, and the images."""
    s, size = config.sample, stream.size
    key_scenes, key_samples = jax.random.split(jax.random.key(config.seed + 1))
    apart = lambda key: scenes.sample_apart(key, s.max_requests, s.distance, jitter=0.0)
    draw = lambda key: datasets.plain(apart(key))
    asked = jax.vmap(draw)(jax.random.split(key_scenes, s.images))
    xy = jax.vmap(lambda scene: scenes.pixel_coords(scene, size)[:, :2])(asked)
    frame = jnp.array([size[1], size[0]])
    locate = lambda xy: scenes.bumps(xy[:, None] / frame, size=size)
    conditions = jax.vmap(locate, in_axes=1)(xy)  # [K, b, h, w, 2]
    like = conditions[0, :1]
    mesh = training.make_mesh(s.images)
    conditions = jax.device_put(conditions, training.over_batch(mesh, axis=1))
    network = jax.device_put(network, training.everywhere(mesh))
    sigmas = cj.karras_sigmas(s.steps, s.sigma_min, s.sigma_max)
    shape = (s.images, *size, 3)

    @jax.jit
    def render(k: Any) -> Any:
        draw = lambda scene: scenes.render(scenes.first(scene, k), size)
        return jax.vmap(draw)(asked)

    find = lambda images: scenes.valid_xy(scenes.detect(images))
    radius = scenes.hit_radius(size)
    rows, images = [], {"requests": np.asarray(xy)}
    for k in launch.progress(range(1, s.max_requests + 1), "composing k ="):
        on = jnp.arange(s.max_requests) < k
        truth = np.asarray(render(k))
        truly = find(truth)
        images[f"true renders/{k}"] = as_bytes(truth)
        for name, setting in SETTINGS.items():
            ground, weights, power = setting(like, on.astype(jnp.float32))
            composed = cj.compose_conditions(network, ground, conditions, weights)
            x, _ = cj.sample(
                key_samples,
                cj.power(composed, power),
                cj.samplers.Heun(),
                shape,
                sigmas,
                sharding=training.over_batch(mesh),
            )
            picture = np.asarray(stream.images(x))
            images[f"{name}/{k}"] = as_bytes(picture)
            row = analysis.tally(find(picture), truly, xy[:, :k], radius)
            rows.append({"setting": name, "k": k, **row._asdict()})
    return rows, images


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as bytes."""
    return np.round(255 * images).astype(np.uint8)


def table(rows: list[dict[str, Any]]) -> str:
    """The results as text, one line for every setting and number of requests."""
    lines = [
        f"{'':28}k   hits [95 %]           chance  ceiling  corrected  exact  objects"
    ]
    for r in sorted(rows, key=lambda row: (row["setting"], row["k"])):
        corrected = "-" if r["corrected"] is None else f"{r['corrected']:.1%}"
        lines.append(
            f"{r['setting']:28}{r['k']}  {r['hit']:5.1%} "
            f"[{r['hit_low']:6.1%}, {r['hit_high']:6.1%}]  {r['chance']:6.1%}  "
            f"{r['ceiling']:7.1%}  {corrected:>9}  {r['exact']:5.1%}  "
            f"{r['objects']:7.2f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch.run(main, "projective/quickstart.py")
