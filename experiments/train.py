"""Train a denoiser of scenes; the same command resumes it.

    python -m experiments.train --config=configs/train/laptop.py --workdir=runs/laptop

Several processes are one run: under Slurm, MPI or Kubernetes they find each other;
elsewhere each is told `--coordinator=host:port --processes=N --process=i`.
"""

import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from compjax import datasets, networks, noise, scenes, training
from experiments import evaluators, launch, results
from experiments.sets import SETS


class Run(NamedTuple):
    """All that a configuration stands for.

    Args:
        module: The denoiser.
        optimizer: Adam with EDM2's learning rate.
        stream: Draws batches on the device, and turns data into images.
        data: The stream, or batches from files.
        averages: Of the parameters.
        normalization: When weights return to their spheres.
        mesh: Of devices.
    """

    module: networks.UNet | networks.Local
    optimizer: optax.GradientTransformation
    stream: datasets.Stream
    data: Any
    averages: tuple[training.Average, ...]
    normalization: training.Normalization
    mesh: jax.sharding.Mesh


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains to the end, and says where the run stands."""
    started = time.monotonic()
    _, state = go_on(config, workdir)
    if jax.process_index() == 0:
        report(config, workdir, int(state.step), started)


def go_on(config: ConfigDict, workdir: Path) -> tuple[Run, training.TrainState]:
    """Trains from the last checkpoint, or from the beginning, to the end."""
    config = with_preset(config)
    run, t = build(config), config.train
    # The plain average of the last updates depends on which update is the last.
    free = FREE if t.average_last else (*FREE, "train.steps")
    workdir = training.open_workdir(workdir, config.to_dict(), free=free)
    if jax.process_index() == 0 and run.mesh.size < jax.device_count():
        print(
            f"{run.mesh.size} of {jax.device_count()} devices are used, as many as "
            f"divide config.data.batch = {config.data.batch}."
        )
    state = training.train(
        jax.random.key(config.seed),
        run.module,
        run.optimizer,
        run.data,
        noise.LogNormal(t.noise_mean, t.noise_std),
        steps=t.steps,
        workdir=workdir,
        averages=run.averages,
        normalization=run.normalization,
        noise_draws=t.noise_draws,
        accumulate=t.accumulate,
        mesh=run.mesh,
        save_every=t.save_every,
        keep=t.keep,
        milestone_every=t.milestone_every or None,
        snapshot_every=t.snapshot_every or None,
        log_every=t.log_every,
        evaluate_every=t.evaluate_every,
        evaluators=[
            evaluators.errors(config, run),
            evaluators.sample_grid(config, run, workdir / "figures"),
        ],
        flops=flops(config, run),
        peak=training.matmul_peak(DTYPES[config.network.dtype], run.mesh),
    )
    return run, state


FREE = (
    "mesh",
    "network.memory",
    "train.accumulate",
    "train.log_every",
    "train.save_every",
    "train.keep",
    "train.milestone_every",
    "train.snapshot_every",
    "train.evaluate_every",
    "sample",
)
"""Fields that may change when a run is resumed: they do not change what it learns."""


def report(config: ConfigDict, workdir: Path, step: int, started: float) -> None:
    """Says where the run stands, and what to do next."""
    if step < config.train.steps:
        print(f"stopped at step {step}; the same command goes on from there.")
        return
    numbers = {
        "step": step,
        "images_seen": step * config.data.batch * config.train.noise_draws,
        **results.provenance(config.seed, started),  # the seconds of the last start
    }
    file = workdir / "results.json"
    if not file.exists() or json.loads(file.read_text())["step"] != step:
        training.write_json(file, numbers)  # else: a finished run, started once more
    print(f"finished: {workdir}\npictures: {workdir / 'figures'}")
    print(f"weights:  python -m experiments.export --workdir={workdir} --out=WEIGHTS")


def chosen(name: str, value: str, choices: dict[str, Any]) -> Any:
    """What a name in a configuration stands for."""
    if value not in choices:
        raise ValueError(
            f"config.{name} is {value!r}; choose one of {', '.join(choices)}."
        )
    return choices[value]


def build(config: ConfigDict) -> Run:
    """The parts of the run of a configuration (`with_preset`); nothing is computed.

    Raises:
        ValueError: If a field has a value that cannot be.
    """
    check(config)
    mesh = training.make_mesh(config.data.batch, config.mesh.fsdp)
    stream = make_stream(config, mesh)
    data = read_files(config, stream, mesh) if config.data.files else stream
    return Run(
        module=make_module(config, stream),
        optimizer=make_optimizer(config),
        stream=stream,
        data=data,
        averages=make_averages(config),
        normalization=chosen(
            "train.normalization", config.train.normalization, NORMALIZATIONS
        ),
        mesh=mesh,
    )


NORMALIZATIONS = {"after": training.AFTER, "before": training.BEFORE}


def check(config: ConfigDict) -> None:
    """Raises a ValueError for numbers that would fail late, or train nothing."""
    least = {
        "data.batch": 1,
        "data.size": 8,
        "train.steps": 1,
        "train.noise_draws": 1,
        "train.accumulate": 1,
        "train.save_every": 1,
        "train.evaluate_every": 1,
        "train.log_every": 1,
        "train.keep": 1,
        "train.milestone_every": 0,
        "train.snapshot_every": 0,
        "train.average_last": 0,
        "sample.images": 1,
        "sample.steps": 2,
    }
    for name, number in least.items():
        section, field = name.split(".")
        if (value := config[section][field]) < number:
            raise ValueError(f"config.{name} must be at least {number}, got {value}.")


def make_stream(config: ConfigDict, mesh: jax.sharding.Mesh) -> datasets.Stream:
    """What is drawn, and how images become data."""
    d = config.data
    recipe = chosen("data.set", d.set, SETS)
    if d.label:
        recipe = recipe._replace(label=chosen("data.label", d.label, LABELS))
    return datasets.Stream(
        recipe,
        (d.size, d.size),
        d.batch,
        draw=chosen("data.draw", d.draw, DRAWS),
        empty=d.empty,
        null=d.null,
        jitter=d.jitter,
        offset=chosen("data.offset", d.offset, OFFSETS)((d.size, d.size)),
        mesh=mesh if mesh.size > 1 else None,
    )


OFFSETS = {"gray": lambda size: 0.5, "empty": datasets.empty_scene}
LABELS = {
    label.__name__: label
    for label in (
        datasets.location_of_one,
        datasets.locations_of_one,
        datasets.locations_of_some,
        datasets.locations_of_all,
        datasets.vector_of_one,
        datasets.vector_of_some,
        datasets.vector_of_all,
        datasets.bumps_of_one,
        datasets.bumps_of_all,
        datasets.color_of_one,
        datasets.colors_of_all,
    )
}
DRAWS = {
    "clevr": scenes.sample,
    "clevr_visible": scenes.sample_visible,
    "plain": datasets.streams.sample_plain,
    "places": datasets.streams.sample_at_places,
    "small": datasets.streams.sample_small,
}


def read_files(
    config: ConfigDict, stream: datasets.Stream, mesh: jax.sharding.Mesh
) -> training.HostBatches:
    """Batches of a set that `experiments.scenes.generate` wrote."""
    d = config.data
    source = datasets.open_set(d.files)
    batches = datasets.pipeline(source, d.batch, config.seed, stream.size)
    prepare = functools.partial(
        datasets.labelled,
        label=stream.recipe.label,
        null=d.null,
        offset=stream.offset,
    )
    return training.HostBatches(iter(batches), prepare, mesh)


def make_module(
    config: ConfigDict, stream: datasets.Stream
) -> networks.UNet | networks.Local:
    """The preset, changed where the configuration says so, for the stream's data."""
    n = config.network.to_dict()
    local = {"tile": None} | (n.pop("local", None) or {})
    x0, condition = jax.eval_shape(stream, jax.random.key(0))
    if local["tile"] is None:
        if any(value is not None for value in local.values()):
            raise ValueError(f"config.network.local = {local}: give a tile.")
        kind = "condition_channels" if condition.ndim == 4 else "label_dim"
        return make_unet(n, x0.shape[1], **{kind: condition.shape[-1]})
    side, channels = window(local, x0.shape, condition.shape)
    try:
        net = make_unet(n, side, condition_channels=channels)
        return networks.Local(net, **local)
    except ValueError as error:
        raise ValueError(f"config.network.local = {local}: {error}") from error


def make_unet(n: dict[str, Any], side: int, **kind: int) -> networks.UNet:
    """The U-Net of `config.network` for images of a side, with a kind of condition."""
    rest = {k: v for k, v in n.items() if k not in ("preset", "dtype", "memory")}
    fields = {
        "dtype": chosen("network.dtype", n["dtype"], DTYPES),
        "wrap": chosen("network.memory", n["memory"], MEMORY),
    }
    changed = {
        name: tuple(value) if isinstance(value, list) else value  # as JSON has it
        for name, value in rest.items()
        if value is not None
    }
    return networks.edm2.preset(n["preset"], side).clone(**kind, **fields, **changed)


def window(
    local: dict[str, Any], image: tuple[int, ...], condition: tuple[int, ...]
) -> tuple[int, int]:
    """What the network of `networks.Local` sees: its side, and channels of conditions.

    Raises:
        ValueError: If windows do not fit images and conditions of these shapes.
    """
    tile, reach, h = local["tile"], local["reach"], image[1]
    if len(condition) != 4:
        raise ValueError(
            f"config.network.local.tile = {tile} needs a label that is a grid or an "
            "image, so that windows can cut it: give config.data.label = "
            "'locations_of_one', '..._some' or '..._all'."
        )
    if tile < 1 or h % tile:
        raise ValueError(
            f"config.network.local.tile = {tile} does not divide images of side {h}."
        )
    if h % condition[1]:
        raise ValueError(
            f"config.data.size = {h} is no multiple of the label's {condition[1]} rows,"
            " whose cells must be whole pixels for config.network.local."
        )
    every = local["condition_reach"] is None
    told = condition[3] * (condition[1] * condition[2] if every else 1)
    # Two coordinates, and a channel that is 1 inside of the image: see `Local`.
    return h if reach is None else tile + 2 * reach, told + 3


DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
MEMORY = {"keep": networks.edm2.as_it_is, "recompute": nn.remat}


def with_preset(config: ConfigDict) -> ConfigDict:
    """The configuration with the preset's numbers of training where it has none."""
    preset = chosen("network.preset", config.network.preset, networks.edm2.PRESETS)
    config = config.copy_and_resolve_references()
    for name in ("learning_rate", "decay", "noise_mean", "noise_std"):
        if config.train[name] is None:
            config.train[name] = getattr(preset, name)
    return config


def make_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam; the learning rate rises, stays, and decays as EDM2's does."""
    t = config.train
    rate = training.edm2_learning_rate(
        t.learning_rate,
        t.decay,
        config.data.batch * t.noise_draws,
        t.rampup_images,
    )
    return training.edm2_adam(rate)


def make_averages(config: ConfigDict) -> tuple[training.Average, ...]:
    """The last updates' mean, if there is one, comes first: it is sampled with."""
    t = config.train
    powers = tuple(training.PowerFunction(std) for std in t.average_stds)
    if t.snapshot_every and not powers:
        raise ValueError(
            f"config.train.snapshot_every = {t.snapshot_every} needs "
            "config.train.average_stds."
        )
    if t.average_last > t.steps:
        raise ValueError(
            f"config.train.average_last = {t.average_last} is more than the "
            f"{t.steps} steps; give less, or 0 for none."
        )
    if t.average_last:
        return (training.LastUpdates(t.average_last, t.steps), *powers)
    if not powers:
        raise ValueError("config.train: give average_last or average_stds.")
    return powers


def flops(config: ConfigDict, run: Run) -> float:
    """Floating-point operations of one update of the model: three forward passes."""
    x0, condition = jax.eval_shape(run.stream, jax.random.key(0))
    one = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype),
        (x0, condition),
    )
    variables = jax.eval_shape(run.module.init, jax.random.key(0), one[0], 1.0, one[1])
    macs = training.count_macs(run.module.apply, variables, one[0], 1.0, one[1])
    return 6.0 * macs * x0.shape[0] * config.train.noise_draws


if __name__ == "__main__":
    launch.run(main, "train/laptop.py")
