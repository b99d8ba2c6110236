"""Weighted particles: one compiled program against the same steps called from Python.

512 particles, 1000 steps, two networks of four layers of 512 units, as in the toy
experiments of Skreta et al. 2024; then how the cost grows with particles and with k.

python -m experiments.bench.particles --out=FILE.json
"""

import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import compjax as cj
from compjax import networks, training
from experiments import launch, results

MODULE = networks.MLP(sigma_data=1.0, width=512, depth=2)
SAMPLER = cj.samplers.FeynmanKac()


def main() -> None:
    """Prints and writes the times; draws how they grow if a picture is asked for."""
    parser = launch.parser("experiments.bench.particles", __doc__)
    parser.add_argument("--out", default="particles.json", help="where numbers go")
    parser.add_argument("--figure", default=None, help="where a picture goes")
    parser.add_argument("--steps", type=int, default=1000, help="of the comparison")
    parser.add_argument("--rounds", type=int, default=3, help="of which medians")
    flags = parser.parse_args()
    started = time.monotonic()
    compared = compare(flags.steps, flags.rounds)
    grown = {
        "particles": [grow(n, 2, flags.rounds) for n in (128, 256, 512, 1024, 2048)],
        "k": [grow(512, k, flags.rounds) for k in (1, 2, 4, 8)],
    }
    numbers = {**compared, **grown, **results.provenance(0, started)}
    training.write_json(flags.out, numbers)
    print(table(numbers))
    if flags.figure:
        draw(numbers).savefig(Path(flags.figure))


def composition(k: int) -> Any:
    """The mean of k networks that differ: their coefficients sum to one."""
    keys = jax.random.split(jax.random.key(0), k)

    def network(key: jax.Array) -> Any:
        key_init, key_noise = jax.random.split(key)
        params = MODULE.init(key_init, jnp.zeros((1, 2)), 1.0)["params"]
        leaves, tree = jax.tree.flatten(params)
        noise = [
            0.02 * jax.random.normal(k, leaf.shape)
            for k, leaf in zip(
                jax.random.split(key_noise, len(leaves)), leaves, strict=True
            )
        ]  # its last layer begins at zero, where all networks would be one
        leaves = [a + b for a, b in zip(leaves, noise, strict=True)]
        return cj.Network(MODULE, jax.tree.unflatten(tree, leaves))

    return cj.product(*map(network, keys), weights=[1 / k] * k)


def compare(steps: int, rounds: int) -> dict[str, Any]:
    """One program of all steps, and one program of a step called in a loop."""
    score, sigmas = composition(2), cj.karras_sigmas(steps, 0.01, 20.0)
    key, shape = jax.random.key(1), (512, 2)

    def scanned() -> Any:
        return cj.sample(key, score, SAMPLER, shape, sigmas)[0]

    step = jax.jit(SAMPLER.step)
    levels, keys = list(sigmas), list(jax.random.split(key, steps))
    state = SAMPLER.start(key, score, shape, sigmas)

    def stepped() -> Any:
        now = state
        for k, sigma, sigma_next in zip(keys, levels[:-1], levels[1:], strict=True):
            now, _ = step(k, now, score, sigma, sigma_next)
        return now.x

    times = {"scan": [], "Python": []}
    first = {}
    for name, call in (("scan", scanned), ("Python", stepped)):
        first[name] = seconds(call)
    for _ in range(rounds):
        for name, call in (("scan", scanned), ("Python", stepped)):
            times[name].append(seconds(call))
    run = {name: statistics.median(values) for name, values in times.items()}
    ratios = [b / a for a, b in zip(times["scan"], times["Python"], strict=True)]
    return {
        "steps": steps,
        "first call [s]": first,
        "run [s]": run,
        "Python over scan": statistics.median(ratios),
        "steps a second": steps / run["scan"],
    }


def grow(particles: int, k: int, rounds: int) -> dict[str, Any]:
    """The time of 100 steps."""
    score, sigmas = composition(k), cj.karras_sigmas(100, 0.01, 20.0)
    call = lambda: cj.sample(jax.random.key(2), score, SAMPLER, (particles, 2), sigmas)[
        0
    ]
    first = seconds(call)
    run = statistics.median(seconds(call) for _ in range(rounds))
    return {"particles": particles, "k": k, "first call [s]": first, "run [s]": run}


def seconds(call: Any) -> float:
    """The time of one call, to its end."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def table(numbers: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [f"{numbers['devices']}, jax {numbers['versions']['jax']}"]
    for name in ("scan", "Python"):
        lines.append(
            f"512 particles, {numbers['steps']} steps, {name}: "
            f"{numbers['run [s]'][name]:.2f} s (first call "
            f"{numbers['first call [s]'][name]:.2f} s)"
        )
    lines.append(
        f"Python over scan, median of rounds: {numbers['Python over scan']:.2f}"
    )
    for name in ("particles", "k"):
        for row in numbers[name]:
            lines.append(
                f"{row['particles']} particles, k = {row['k']}, 100 steps: "
                f"{row['run [s]']:.3f} s"
            )
    return "\n".join(lines)


def draw(numbers: dict[str, Any]) -> Any:
    """Time against particles and against k, beside a straight line."""
    from matplotlib.figure import Figure

    figure = Figure((8, 3.4), dpi=110, layout="constrained")
    for axis, name, label in zip(
        figure.subplots(1, 2),
        ("particles", "k"),
        ("particles, k = 2", "networks k, 512 particles"),
        strict=True,
    ):
        n = [row[name] for row in numbers[name]]
        times = [row["run [s]"] for row in numbers[name]]
        axis.loglog(n, times, "o-", label="measured")
        axis.loglog(n, [times[-1] * m / n[-1] for m in n], "k:", label="linear")
        axis.set(xlabel=label, ylabel="seconds for 100 steps", xticks=n)
        axis.set_xticklabels([str(m) for m in n])
        seconds_shown = [s for s in (0.5, 1, 2, 5, 10, 20) if s <= 1.2 * max(times)]
        axis.set_yticks(seconds_shown, [f"{s:g}" for s in seconds_shown])
        axis.minorticks_off()
        axis.legend()
    return figure


if __name__ == "__main__":
    main()
