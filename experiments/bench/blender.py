"""What a picture costs in Blender, with 16 samples and denoising.

python -m experiments.bench.blender --assets=ASSETS [--python=PYTHON]
"""

import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from compjax import scenes
from compjax.scenes.blender import DENOISER, picture
from compjax.scenes.blender_process import Worker, blender_version, check_assets
from compjax.scenes.blender_worker import Settings
from experiments import launch


def seconds_per_image(
    python: str,
    assets: Path,
    chosen: Sequence[scenes.Scene],
    size: tuple[int, int] = (128, 128),
    samples: int = 16,
) -> list[float]:
    """Seconds that each scene takes in one Blender process, which uses every core.

    The process has rendered the first scene once before the clock starts.  A picture's
    time runs from the scene file to the PNG on the disk.

    Args:
        python: An interpreter that has `bpy`.
        assets: The generator's folder of assets.
        chosen: Scenes.
        size: Height and width, in pixels.
        samples: Rays a pixel, before denoising.
    """
    return [wall for wall, _ in _clocked(python, assets, chosen, size, samples, 0)]


def _clocked(
    python: str,
    assets: Path,
    chosen: Sequence[scenes.Scene],
    size: tuple[int, int],
    samples: int,
    threads: int,
) -> list[tuple[float, float]]:
    """Seconds, and CPU-seconds over all threads, of each scene after the warm-up."""
    settings = Settings(
        assets=str(assets.absolute()),
        height=size[0],
        width=size[1],
        samples=samples,
        denoiser=DENOISER,
        threads=threads,
    )
    with tempfile.TemporaryDirectory() as folder, Worker(python, settings) as worker:
        told = [picture(scene, i, Path(folder)) for i, scene in enumerate(chosen)]
        worker.render(told[0])
        answers = [worker.render(one) for one in told]
    return [(answer["seconds"], answer["cpu_seconds"]) for answer in answers]


def main() -> None:
    """Prints medians, of one process on all cores and of one process a core."""
    parser = launch.parser("experiments.bench.blender", __doc__)
    parser.add_argument("--assets", type=Path, required=True, help="the generator's")
    parser.add_argument("--python", default=sys.executable, help="that has bpy")
    parser.add_argument("--images", type=int, default=15, help="how many")
    parser.add_argument("--size", type=int, default=128, help="pixels a side")
    parser.add_argument("--samples", type=int, default=16, help="rays a pixel")
    options = parser.parse_args()
    try:
        check_assets(options.assets)
        version = blender_version(options.python)
    except ValueError as error:
        launch.fail(launch.explain(error))
    keys = jax.random.split(jax.random.key(0), options.images)
    chosen = [scenes.sample(key, 3, 10) for key in keys]
    size, cores = (options.size, options.size), launch.cores()

    def clocked(threads: int) -> np.ndarray:
        told = options.python, options.assets, chosen, size, options.samples, threads
        return np.median(_clocked(*told), axis=0)

    wall, cpu = clocked(threads=0)
    with ThreadPoolExecutor(cores) as pool:
        alone = list(pool.map(clocked, [1] * cores))
    rate = sum(1 / seconds for seconds, _ in alone)
    lone_cpu = np.mean(alone, axis=0)[1]
    print(f"Blender {version}, {size[0]} x {size[1]}, {options.samples} samples + OIDN")
    print(f"one process, {cores} cores: {wall:.2f} s, {cpu:.2f} CPU-s an image")
    print(f"one process a core: {lone_cpu:.2f} CPU-s an image")
    print(f"images a second: {1 / wall:.2f} and {rate:.2f}")
    print(f"if nothing else ran: at most {cores / min(cpu, lone_cpu):.2f}")


if __name__ == "__main__":
    main()
