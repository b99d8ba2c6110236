"""What every command of `experiments` shares: flags, one-line errors, progress."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

CONFIGS = Path(__file__).parents[1] / "configs"


def run(main: Callable[[ConfigDict, Path], None], config: str) -> None:
    """Parses `--config` and `--workdir`, then calls `main(config, workdir)`.

    A mistake of the user, which is a ValueError, ends in one line and exit code 2, and
    so do a full disk and numbers that are not finite.

    Args:
        main: The experiment.
        config: The default of `--config`, a file below `configs/`.
    """
    try:  # the definition already reads the command line, for the fields it overrides
        config_flag = config_flags.DEFINE_config_file("config", str(CONFIGS / config))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return fail(f"unknown field of --config: {explain(error)}")
    workdir_flag = flags.DEFINE_string("workdir", None, "Where the run is kept.")
    coordinator = flags.DEFINE_string("coordinator", None, "host:port of process 0.")
    processes = flags.DEFINE_integer("processes", None, "How many make this run.")
    process = flags.DEFINE_integer("process", None, "Which one this is, from 0.")

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
            unknown = isinstance(error, (AttributeError, KeyError))
            return fail("unknown field of --config: " * unknown + explain(error))
        if rest[1:]:
            return fail(f"unknown arguments {' '.join(rest[1:])}")
        if not workdir_flag.value:
            return fail("give --workdir, where the run is to be kept")
        return rest

    def start(_: list[str]) -> None:
        from compjax import training  # slow to import, and not for `parser`

        logging.set_verbosity(logging.WARNING)  # else orbax tells of every rename
        # Batches are split over devices, so on a CPU every core becomes one.
        jax.config.update("jax_num_cpu_devices", cores())
        use_cache()
        try:
            training.initialize(coordinator.value, processes.value, process.value)
            main(config_flag.value, Path(workdir_flag.value))
        except (ValueError, OSError, FloatingPointError) as error:
            fail(explain(error))
        except KeyboardInterrupt:
            fail("interrupted; the same command goes on from the last checkpoint")

    app.run(start, flags_parser=parse)


class Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawTextHelpFormatter):
    """Help that keeps the lines of the description and tells defaults."""


def parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a command that has no config; its mistakes end in one line.

    Args:
        name: Of the module, as it is called by ``python -m``.
        description: The docstring of the module.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=Help,
        allow_abbrev=False,
    )
    parser.error = fail
    return parser


def explain(error: BaseException) -> str:
    """What an exception says, on one line, without the quotes of a KeyError."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    if isinstance(error, OSError) and error.errno is not None:
        return str(error)  # its first argument is a number
    return " ".join(str(error.args[0] if error.args else error).split())


def use_cache() -> None:
    """Keeps compiled programs for the next run, unless JAX was told where already."""
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(cache / "compjax"))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fail(message: str) -> NoReturn:
    """Ends the command with one line on standard error."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def progress(items: Iterable[Any], label: str) -> Iterator[Any]:
    """The items, with a progress bar on a terminal and plain lines elsewhere."""
    items = list(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label)
        return
    for i, item in enumerate(items):
        print(f"{label} {i + 1}/{len(items)}", flush=True)
        yield item
