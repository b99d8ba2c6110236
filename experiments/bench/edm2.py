"""What EDM2's network costs: forward, train step, 32-step sample, composition.

    python -m experiments.bench.edm2
    python -m experiments.bench.edm2 --networks=xs128 --batch=32,64,128 --out=h200.json

Every row: compile time, time and images a second; model FLOP utilisation, against
a matrix product measured in the same run; memory of the program; and its roofline, the
shortest time that its FLOPs and bytes allow.  A size that does not fit in memory is
reported, and the others go on.  With --out, rows that the file has are not measured
again.  It needs jax, flax and optax, and one device; XLA_FLAGS are printed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import compjax as cj
from compjax import training
from compjax.networks import UNet, edm2
from compjax.noise import LogNormal

LABELS = 16
K = 8
NETWORKS = {
    "tiny": UNet(
        channels=16,
        channel_mult=(1, 2),
        num_blocks=1,
        attn_resolutions=(8,),
        channels_per_head=16,
        label_dim=LABELS,
        image=(16, 16, 3),
    ),
    "xs64": edm2.preset("img64-xs", 64, label_dim=LABELS),
    "xs128": edm2.preset("img64-xs", 128, label_dim=LABELS),
}
ON_CPU = {"tiny": (64,), "xs64": (4,), "xs128": (1,)}
ON_GPU = {"tiny": (1024,), "xs64": (64, 128, 256), "xs128": (32, 64, 128)}
LAW = LogNormal(-0.8, 1.6)


class Device(NamedTuple):
    """What the one device can do, measured: FLOP/s and bytes/s."""

    peak: float
    bandwidth: float


class Task(NamedTuple):
    """A program to measure: `fn(*args)`, in which `forwards` images pass the network.

    With `carries`, the first argument is donated, and replaced by the first result.
    With `loops`, XLA counts what a turn of its loop moves, once, and not all turns.
    """

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    forwards: float
    images: int
    carries: bool = False
    loops: bool = False


def bandwidth() -> float:
    """Bytes a second of `a + 2 b` on large arrays: two reads and one write."""
    size = 2**26 if jax.default_backend() == "cpu" else 2**29
    a, b = [jnp.ones(size)], jnp.ones(size)
    triad = jax.jit(lambda a, b: a + 2 * b, donate_argnums=0)

    def once() -> jax.Array:
        a[0] = triad(a[0], b)
        return a[0]

    return 3 * b.nbytes / min(seconds(once, 8)[1:])


def seconds(call: Callable[[], Any], rounds: int, budget: float = 1e9) -> list[float]:
    """Times of a call: `rounds` of them, or fewer if the budget is spent."""
    times: list[float] = []
    while not times or (len(times) < rounds and sum(times) < budget):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return times


def forward(module: UNet, state: Any, batch: int) -> Task:
    """One denoised batch."""
    x, labels = images(module, batch)
    apply = lambda params, x, labels: module.apply(
        {"params": params}, x, jnp.float32(1.0), labels
    )
    return Task(apply, (state.params, x, labels), batch, batch)


def train_step(module: UNet, state: Any, batch: int) -> Task:
    """One update; its gradients cost two forward passes more."""
    step = training.make_train_step(module, training.edm2_adam(1e-4), LAW)
    given = Partial(ready, images(module, batch))
    args = (state, jax.random.key(0), given)
    return Task(step, args, 3 * batch, batch, carries=True)


def sample(module: UNet, state: Any, batch: int) -> Task:
    """32 steps of Heun's method: 63 evaluations of the network."""
    x, labels = images(module, batch)
    sigmas = cj.karras_sigmas(32)

    def draw(key: jax.Array, network: cj.Network, labels: jax.Array) -> jax.Array:
        score, heun = cj.condition(network, labels), cj.samplers.Heun()
        return cj.sample(key, score, heun, x.shape, sigmas)[0]

    network = cj.Network(module, state.params)
    args = (jax.random.key(0), network, labels)
    return Task(draw, args, 63 * batch, batch, loops=True)


def composition(module: UNet, state: Any, batch: int) -> Task:
    """One score composed of eight conditions and a background: nine evaluations."""
    x, _ = images(module, max(1, batch // (K + 1)))
    background = jnp.zeros((1, LABELS))
    conditions = jnp.eye(K, LABELS)[:, None]

    def score(network: cj.Network, x: jax.Array) -> jax.Array:
        composed = cj.compose_conditions(network, background, conditions)
        return composed(x, jnp.float32(1.0))

    args = (cj.Network(module, state.params), x)
    return Task(score, args, (K + 1) * len(x), len(x))


TASKS = {
    "forward": forward,
    "step": train_step,
    "sample": sample,
    "compose": composition,
}


def images(module: UNet, batch: int) -> tuple[jax.Array, jax.Array]:
    """Noise of the size of images, and one-hot labels."""
    assert module.image is not None
    x = 0.5 * jax.random.normal(jax.random.key(1), (batch, *module.image))
    return x, jax.nn.one_hot(jnp.arange(batch) % LABELS, LABELS)


def ready(batch: Any, key: jax.Array) -> Any:
    """A batch that is there already."""
    return batch


def start(module: UNet) -> training.TrainState:
    """A state, made by one compiled program."""
    example = jax.eval_shape(lambda: images(module, 1))
    init = lambda key: training.init_state(
        key, module, training.edm2_adam(1e-4), example
    )
    return jax.jit(init)(jax.random.key(0))


def macs_of_an_image(module: UNet) -> int:
    """Multiply-adds of one forward pass."""
    x, labels = jax.eval_shape(lambda: images(module, 1))
    apply = lambda x, labels: module.init_with_output(
        jax.random.key(0), x, jnp.ones(1), labels
    )[0]
    return training.count_macs(apply, x, labels)


def measure(task: Task, macs: int, device: Device, rounds: int) -> dict[str, Any]:
    """One row: times, utilisation, memory and roofline of a program."""
    began = time.perf_counter()
    donated = (0,) if task.carries else ()
    lowered = jax.jit(task.fn, donate_argnums=donated).lower(*task.args)
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - began
    args = list(task.args)

    def call() -> Any:
        out = compiled(*args)
        if task.carries:
            args[0] = out[0]
        return out

    times = seconds(call, rounds + 1, budget=60.0)
    run = float(np.median(times[1:] or times))
    flops = 2.0 * macs * task.forwards
    cost = {} if task.loops else compiled.cost_analysis() or {}
    moved = float(cost.get("bytes accessed", np.nan))
    memory = compiled.memory_analysis()
    resident = memory.argument_size_in_bytes + memory.output_size_in_bytes
    stats = jax.devices()[0].memory_stats() or {}
    shortest = max(flops / device.peak, moved / device.bandwidth)
    return {
        "compile_seconds": compile_seconds,
        "milliseconds": 1e3 * run,
        "images_per_second": task.images / run,
        "gflop": flops / 1e9,
        "utilisation": flops / run / device.peak,
        "program_bytes": resident
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes,
        "peak_bytes_so_far": stats.get("peak_bytes_in_use"),
        "xla_gflop": float(cost.get("flops", np.nan)) / 1e9,
        "gigabytes_moved": moved / 1e9,
        "flops_per_byte": flops / moved,
        "roofline_milliseconds": 1e3 * shortest,
        "of_roofline": shortest / run,
        "bound": "compute" if flops / device.peak == shortest else "bytes",
    }


def rows(options: argparse.Namespace, device: Device, known: set) -> Iterator[dict]:
    """Measures what is asked for and not known; what does not fit says so."""
    sizes = ON_CPU if jax.default_backend() == "cpu" else ON_GPU
    for name in options.networks:
        wrap = {"wrap": nn.remat} if options.remat else {}
        module = NETWORKS[name].clone(dtype=options.dtype, **wrap)
        macs = macs_of_an_image(module)
        for batch in options.batch or sizes[name]:
            for task in options.tasks:
                row = {"network": name, "batch": batch, "task": task}
                row |= {"dtype": options.dtype, "remat": options.remat}
                if identity(row) in known:
                    continue
                try:
                    made = TASKS[task](module, start(module), batch)
                    row |= measure(made, macs, device, options.rounds)
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error):
                        raise
                    row["failed"] = "out of memory"
                yield row


def identity(row: dict[str, Any]) -> tuple:
    """What distinguishes one row from the others."""
    return tuple(row[name] for name in ("network", "batch", "task", "dtype", "remat"))


HEAD = (
    f"{'network':8}{'batch':>6} {'task':8}{'compile s':>10}{'ms':>10}{'images/s':>10}"
    f"{'MFU':>7}{'GB':>7}{'FLOP/B':>8}{'roofline':>10}  bound by"
)


def show(row: dict[str, Any]) -> str:
    """One line of the table."""
    line = f"{row['network']:8}{row['batch']:6} {row['task']:8}"
    if "failed" in row:
        return f"{line}  {row['failed']}"
    return (
        f"{line}{row['compile_seconds']:10.1f}{row['milliseconds']:10.1f}"
        f"{row['images_per_second']:10.2f}{row['utilisation']:7.1%}"
        f"{row['program_bytes'] / 1e9:7.2f}{row['flops_per_byte']:8.1f}"
        f"{row['of_roofline']:10.1%}  {row['bound']}"
    )


def parse() -> argparse.Namespace:
    """The command line; its mistakes end in one line."""
    names = lambda text: text.split(",")
    numbers = lambda text: [int(number) for number in text.split(",")]
    parser = argparse.ArgumentParser(
        prog="python -m experiments.bench.edm2",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = fail
    on_cpu = jax.default_backend() == "cpu"
    every = ",".join(NETWORKS)
    parser.add_argument("--networks", type=names, default=names(every), help=every)
    tasks = ",".join(TASKS)
    parser.add_argument("--tasks", type=names, default=names(tasks), help=tasks)
    parser.add_argument("--batch", type=numbers, help="by platform if not given")
    dtype = "float32" if on_cpu else "bfloat16"
    parser.add_argument("--dtype", default=dtype, choices=["float32", "bfloat16"])
    parser.add_argument("--remat", action="store_true", help="recompute every block")
    parser.add_argument("--rounds", type=int, default=3 if on_cpu else 20)
    parser.add_argument("--out", type=Path, help="JSON file that keeps the rows")
    options = parser.parse_args()
    for asked, known in ((options.networks, NETWORKS), (options.tasks, TASKS)):
        if unknown := set(asked) - set(known):
            fail(f"{', '.join(unknown)}: unknown, there are {', '.join(known)}")
    if min([options.rounds, *(options.batch or [1])]) < 1:
        fail("--rounds and --batch must be at least 1")
    return options


def fail(message: str) -> Any:
    """Ends the command with one line; `launch.fail` would need absl."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read(file: Path | None, machine: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a file, which has to be of this machine."""
    if file is None or not file.exists():
        return []
    found = json.loads(file.read_text())
    if found["machine"] != machine:
        fail(f"{file} is of {found['machine']}, this is {machine}: give another --out")
    return found["rows"]


def main() -> None:
    """Prints the table."""
    options = parse()
    chip = jax.devices()[0]
    machine = {
        "device": f"{chip.platform} ({chip.device_kind})",
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    kept = read(options.out, machine)
    device = Device(
        training.matmul_peak(options.dtype, training.make_mesh(1)), bandwidth()
    )
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(
        f"measured: {device.peak / 1e12:.2f} TFLOP/s {options.dtype} matrix product, "
        f"{device.bandwidth / 1e9:.0f} GB/s; ridge {device.peak / device.bandwidth:.0f}"
        " FLOP/B"
    )
    print(HEAD)
    for row in kept:
        print(show(row))
    for row in rows(options, device, {identity(row) for row in kept}):
        print(show(row), flush=True)
        kept.append(row)
        if options.out is not None:
            measured = {**machine, **device._asdict()}
            found = {"machine": machine, "measured": measured, "rows": kept}
            training.write_json(options.out, found)


if __name__ == "__main__":
    main()
