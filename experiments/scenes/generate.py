"""Writes one of the papers' sets of CLEVR scenes to files.

    python -m experiments.scenes.generate --set=counts_one --out=data/counts_one

The set appears in the directory only when it is whole; whatever interrupts the command,
the same command again goes on.  `compjax.datasets.open_set` and
`tfds.builder_from_directory` read it.  The sets `single` and `colored` hold the same
scenes, and so do `counts_all` and `counts_one`: labels are made when a set is read.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from tqdm import tqdm

from compjax.datasets.generate import generate
from compjax.datasets.records import Plan
from experiments import launch
from experiments.sets import SETS


def main(arguments: list[str] | None = None) -> None:
    """Parses the command line and writes the set; mistakes end in one line."""
    options = parser().parse_args(arguments)
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "compjax"))
    try:
        planned = plan(options)
        with contextlib.closing(
            Progress(min(planned.shard, planned.examples))
        ) as progress:
            directory = generate(planned, options.out, options.workers, progress)
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))
    except KeyboardInterrupt:
        launch.fail("interrupted; run the same command again to go on")
    print(f"{directory} holds all {planned.examples} examples")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = launch.parser("experiments.scenes.generate", __doc__)
    add = parser.add_argument
    add("--set", required=True, choices=SETS, help="which of the papers' sets")
    add("--out", required=True, type=Path, help="directory of the set")
    add("--examples", type=int, help="how many; as many as the paper's if not given")
    add("--height", type=int, default=128, help="of the pictures, in pixels")
    add("--width", type=int, default=128, help="of the pictures, in pixels")
    add("--seed", type=int, default=0, help="of everything random")
    add("--jitter", type=float, default=1.0, help="0: camera and lamps stay in place")
    add("--workers", type=int, default=launch.cores(), help="processes")
    add("--preset", default="fast", help="of the renderer: fast or faithful")
    add("--batch", type=int, default=1, help="examples drawn together; a GPU likes 256")
    add("--shard", type=int, help="examples in a file")
    add("--platform", default="cpu", help="what renders, in JAX's words")
    return parser


def plan(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    recipe = SETS[options.set]
    return Plan(
        recipe.min_objects,
        recipe.max_objects,
        examples=recipe.examples if options.examples is None else options.examples,
        height=options.height,
        width=options.width,
        seed=options.seed,
        jitter=options.jitter,
        preset=options.preset,
        batch=options.batch,
        shard=options.shard,
        platform=options.platform,
    )


class Progress:
    """A bar on a terminal, plain lines elsewhere: how many files are written."""

    def __init__(self, examples: int) -> None:
        self.examples, self.begin, self.bar = examples, None, None

    def __call__(self, done: int, files: int) -> None:
        if sys.stderr.isatty():
            if self.bar is None:
                self.bar = tqdm(total=files, initial=done, desc="files", unit="file")
            self.bar.update(done - self.bar.n)
            return
        self.begin = self.begin or (time.monotonic(), done)
        started, before = self.begin
        line = f"{done}/{files} files"
        if done > before:
            seconds = (time.monotonic() - started) / (done - before)
            line += f", {self.examples / seconds:.0f} examples/s"
            line += f", {seconds * (files - done):.0f} s to go"
        print(line, flush=True)

    def close(self) -> None:
        """Ends the line of the bar."""
        if self.bar is not None:
            self.bar.close()


if __name__ == "__main__":
    main()
