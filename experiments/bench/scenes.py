"""What rendering costs: by size, beside Blender, and inside a train step.

    python -m experiments.bench.scenes
    python -m experiments.bench.scenes --assets=ASSETS --python=PYTHON

The second also times Blender, with 16 samples and denoising, on the same scenes in the
same run; PYTHON is an interpreter that has bpy.
"""

import time
from pathlib import Path

import jax
import numpy as np
import optax
from jax.tree_util import Partial

from compjax import datasets, noise, scenes, training
from configs.projective import quickstart
from experiments import launch
from experiments.bench.timing import interleaved
from experiments.quickstart import make_module

SCENES = 16
SIZES = (64, 128, 256)


def main() -> None:
    """Prints the three tables."""
    parser = launch.parser("experiments.bench.scenes", __doc__)
    parser.add_argument("--assets", type=Path, help="the generator's folder of assets")
    parser.add_argument("--python", help="an interpreter that has bpy")
    asked = parser.parse_args()
    if (asked.assets is None) != (asked.python is None):
        launch.fail("give --assets and --python together, or neither")
    device = jax.devices()[0]
    print(
        f"{device.platform} ({device.device_kind}), {launch.cores()} cores,"
        f" jax {jax.__version__}"
    )
    keys = jax.random.split(jax.random.key(0), SCENES)
    drawn = jax.jit(lambda keys: jax.lax.map(draw, keys))(keys)
    by_size(drawn)
    if asked.assets is not None:
        try:
            beside_blender(drawn, asked.python, asked.assets)
        except ValueError as error:
            launch.fail(launch.explain(error))
    inside_a_step()


def draw(key: jax.Array) -> scenes.Scene:
    """A scene of 0 to 10 objects."""
    return scenes.sample_visible(key, 0, 10)


def renderer(size: int, preset: str):
    """Pictures of a batch of scenes: in turns on a CPU, together elsewhere."""
    one = lambda scene: scenes.render(scene, (size, size), preset)
    if jax.default_backend() == "cpu":
        return jax.jit(lambda drawn: jax.lax.map(one, drawn))
    return jax.jit(jax.vmap(one))


def by_size(drawn: scenes.Scene) -> None:
    """Images a second of both presets."""
    objects = float(drawn.present.sum(axis=1).mean())
    print(f"\n{SCENES} scenes of 0 to 10 objects, {objects:.1f} on average")
    print(f"{'':20}{'compile s':>10}{'ms an image':>13}{'images/s':>10}")
    for preset, rounds in (("fast", 9), ("faithful", 3)):
        for size in SIZES:
            render = renderer(size, preset)
            call = {"": lambda render=render: render(drawn)}
            measured = interleaved(call, rounds)[""]
            each = measured["run"] / SCENES
            print(
                f"{preset:10}{size:6} px {measured['compile']:10.1f}"
                f"{1e3 * each:13.1f}{1 / each:10.1f}"
            )


def beside_blender(drawn: scenes.Scene, python: str, assets: Path) -> None:
    """Fast pictures and Blender's of the same scenes in turns, at 128 x 128."""
    from experiments.bench.blender import seconds_per_image

    single = [jax.tree.map(lambda x, i=i: x[i], drawn) for i in range(SCENES)]
    render = renderer(128, "fast")
    jax.block_until_ready(render(drawn))
    ratios, blender, ours = [], [], []
    for part in np.split(np.arange(SCENES), 4):
        some = jax.tree.map(lambda x, part=part: x[part[0] :][: len(part)], drawn)
        jax.block_until_ready(render(some))
        blender.append(
            np.mean(seconds_per_image(python, assets, [single[i] for i in part]))
        )
        start = time.perf_counter()
        for _ in range(10):
            jax.block_until_ready(render(some))
        ours.append((time.perf_counter() - start) / 10 / len(part))
        ratios.append(blender[-1] / ours[-1])
    print("\n128 x 128, the same scenes in turns, every core for either")
    print(f"Blender, 16 samples + denoising {np.median(blender):9.3f} s an image")
    print(f"compjax, fast                   {np.median(ours):9.4f} s an image")
    low, high = np.min(ratios), np.max(ratios)
    ratio = f"{np.median(ratios):9.0f}  ({low:.0f} to {high:.0f})"
    print(f"ratio                           {ratio}")


def inside_a_step() -> None:
    """The quickstart's train step, with its stream and with ready examples."""
    config = quickstart.get_config()
    size = (config.size, config.size)
    stream = datasets.SingleObject(size, config.data.scenes)
    cluttered = datasets.Stream(
        datasets.CLUTTERED._replace(label=datasets.bumps_of_one),
        size,
        config.data.scenes,
    )
    ready = jax.jit(stream)(jax.random.key(0))
    module = make_module(config)
    optimizer = optax.adam(1e-3)
    law = noise.LogNormal(-0.8, 1.2)

    def stepper(batch):
        step = training.make_train_step(
            module, optimizer, batch, law, noise_draws=config.train.noise_draws
        )
        key = jax.random.key(0)
        state = [training.init_state(key, module, optimizer, ready)]

        def once():
            state[0], metrics = step(state[0], key)
            return metrics

        return once

    times = interleaved(
        {
            "step, ready examples": stepper(Partial(lambda ready, key: ready, ready)),
            "step, single object": stepper(stream),
            "step, 1 to 5 objects": stepper(cluttered),
        }
    )
    print(f"\n{size[0]} x {size[1]}, {config.data.scenes} scenes a step")
    print(f"{'':24}{'compile s':>10}{'run ms':>9}{'stream share':>14}")
    for name, t in times.items():
        share = 1 - 1 / t["ratio"]
        print(f"{name:24}{t['compile']:10.1f}{1e3 * t['run']:9.1f}{share:14.1%}")


if __name__ == "__main__":
    main()
