r"""Renders CLEVR scenes with Blender, as CLEVR's own generator does.

    python -m experiments.scenes.blender --count=100 --out=pictures \
        --assets=clevr-dataset-gen/image_generation/data

The scenes are random ones, or those of a CLEVR scene file (`--scenes`).  The folder
receives a PNG for each and `scenes.json`.  Whatever interrupts the command, the same
command again goes on.
"""

import argparse
import sys
from pathlib import Path

import jax

from compjax import scenes
from experiments import launch


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and renders; mistakes end in one line."""
    options = parser().parse_args(arguments)
    try:
        files = scenes.render_blender(
            chosen(options),
            options.out,
            assets=options.assets,
            size=(options.height, options.width),
            samples=options.samples,
            denoiser=options.denoiser,
            workers=options.workers,
            python=options.python,
        )
    except ValueError as error:
        launch.fail(launch.explain(error))
    except OSError as error:
        launch.fail(" ".join(str(error).split()))
    except RuntimeError as error:  # a process died: what it said needs its lines
        print(error, file=sys.stderr)
        launch.fail("stopped, see above; run the same command again to go on")
    except KeyboardInterrupt:
        launch.fail("interrupted; run the same command again to go on")
    print(f"{options.out} holds all {len(files)} pictures")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = launch.parser("experiments.scenes.blender", __doc__)
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--scenes", type=Path, help="a CLEVR scene file")
    what.add_argument("--count", type=int, help="how many random scenes")
    add("--seed", type=int, default=0, help="of the random scenes")
    add("--min_objects", type=int, default=3, help="of a random scene")
    add("--max_objects", type=int, default=10, help="of a random scene")
    add("--out", required=True, type=Path, help="folder of the pictures")
    add("--assets", required=True, type=Path, help="the generator's folder of assets")
    add("--height", type=int, default=240, help="of the pictures, in pixels")
    add("--width", type=int, default=320, help="of the pictures, in pixels")
    add("--samples", type=int, default=512, help="rays a pixel")
    add("--denoiser", help="OPENIMAGEDENOISE: 16 samples are enough then")
    add("--workers", type=int, help="processes; one for every core if not given")
    add("--python", help="an interpreter that has bpy; this one if not given")
    return parser


def chosen(options: argparse.Namespace) -> list[scenes.Scene]:
    """The scenes of the file, or random ones that obey all of CLEVR's rules."""
    if options.scenes is not None:
        return scenes.load(options.scenes)
    if options.count < 1:
        raise ValueError(f"--count={options.count}: give at least 1 scene.")
    keys = jax.random.split(jax.random.key(options.seed), options.count)
    draw = lambda key: scenes.sample_visible(
        key, options.min_objects, options.max_objects
    )
    drawn = jax.lax.map(draw, keys)
    one = lambda i: jax.tree.map(lambda leaf: leaf[i], drawn)
    return [one(i) for i in range(options.count)]


if __name__ == "__main__":
    main()
