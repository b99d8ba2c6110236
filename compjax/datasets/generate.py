"""Writes a set of files with many processes, and goes on where it was interrupted.

While a set is incomplete it is kept in a directory of its own, `NAME.partial` beside
`NAME`, without what would make it readable.  A file in there has its name only when it
is whole; the directory gets its own when all files are.  So whatever is killed at
whatever moment, a set that can be opened is complete, and one that is not is completed
by the same call again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from compjax.datasets.records import Plan
from compjax.datasets.worker import count, sync
from compjax.scenes.files import locked, whole

PLAN = "plan.json"

Report = Callable[[int, int], None]
"""Called with the number of files that are there and of all files."""


def generate(
    plan: Plan, directory: str | os.PathLike, workers: int, report: Report
) -> Path:
    """Writes what is missing of a set.

    The bytes depend on the plan only (and on the versions of the libraries), not on the
    number of workers nor on interruptions.

    Args:
        plan: Of the set.
        directory: Where the set is to appear; `tfds.builder_from_directory` reads it.
        workers: Number of processes, each of one thread.
        report: Receives the progress.

    Returns:
        `directory`, which now holds the whole set.

    Raises:
        ValueError: If the directory holds anything else, such as a set of another plan,
            if another process is at work on it, or if `workers` is below 1.  Nothing is
            touched then.
        OSError: If files cannot be written or a worker was killed; what is whole stays.

    Example:
        >>> import tempfile
        >>> plan = Plan(0, 0, examples=2, height=8, width=8, batch=2)
        >>> directory = Path(tempfile.mkdtemp()) / "background"
        >>> _ = generate(plan, directory, 1, lambda done, files: print(done, files))
        0 1
        1 1
        >>> generate(plan, directory, 1, print) == directory  # is whole
        True
    """
    from compjax.datasets import builder

    directory = Path(os.path.realpath(directory))
    partial = directory.with_name(directory.name + ".partial")
    if workers < 1:
        raise ValueError(f"workers = {workers}: give at least 1.")
    if directory.exists() and any(directory.iterdir()):
        _check_plan(directory, dataclasses.asdict(plan))
        return directory
    _check_partial(partial, plan)
    partial.mkdir(parents=True, exist_ok=True)
    with locked(partial), _no_drafts(partial):
        # Another process may have been at work here since we looked.
        _check_partial(partial, plan)
        with whole(partial / PLAN) as draft:
            draft.write_text(json.dumps(_identity(plan)))
        files = [partial / builder.shard_name(plan, i) for i in range(plan.shards)]
        missing = [i for i in range(plan.shards) if not _whole(plan, i, files[i])]
        report(plan.shards - len(missing), plan.shards)
        for n, _ in enumerate(_draw(plan, partial, missing, workers)):
            report(plan.shards - len(missing) + n + 1, plan.shards)
        num_bytes = sum(file.stat().st_size for file in files)
        builder.write_metadata(plan, partial, num_bytes)
        for file in partial.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        sync(partial)
        os.replace(partial, directory)
        sync(directory.parent)
    return directory


def _identity(plan: Plan) -> dict[str, Any]:
    """What the files of one set have in common: they are not to be mixed."""
    import jax
    import numpy as np
    import PIL

    import compjax

    versions = {
        module.__name__: module.__version__ for module in (compjax, jax, np, PIL)
    }
    return dataclasses.asdict(plan) | {"versions": versions}


def _check_partial(directory: Path, plan: Plan) -> None:
    """Raises a ValueError if there are files of another plan."""
    names = os.listdir(directory) if directory.exists() else []
    # Not one file finished: a plan may still be changed.
    if not all(name == PLAN or name.endswith(".tmp") for name in names):
        _check_plan(directory, _identity(plan))


def _check_plan(directory: Path, ours: dict[str, Any]) -> None:
    """Raises a ValueError unless the directory holds a set, whole or not, of ours."""
    file = directory / PLAN
    if not file.exists():
        raise ValueError(
            f"{directory} holds something else than a set of scenes: give another"
            " directory."
        )
    there = json.loads(file.read_text())
    names = [name for name in ours if there.get(name) != ours[name]]
    if names:
        differences = ", ".join(
            f"{name}: {there.get(name)} there, {ours[name]} now" for name in names
        )
        raise ValueError(
            f"{directory} holds another set ({differences}): give another directory, or"
            " the values that are there."
        )


@contextmanager
def _no_drafts(directory: Path) -> Iterator[None]:
    """Clears away what killed processes left, of earlier runs and of this one."""

    def clear() -> None:
        for draft in directory.glob("*.tmp"):
            draft.unlink(missing_ok=True)

    clear()
    try:
        yield
    finally:
        clear()


def _whole(plan: Plan, shard: int, file: Path) -> bool:
    return count(file) == len(plan.examples_of(shard))


def _draw(
    plan: Plan, directory: Path, shards: list[int], workers: int
) -> Iterator[int]:
    """Lets workers draw files, and yields the number of each that is whole."""
    from compjax.datasets import builder

    todo = iter(shards)

    def ask(worker: subprocess.Popen[str]) -> bool:
        if (shard := next(todo, None)) is None:
            return False
        name = builder.shard_name(plan, shard)
        _send(worker, {"shard": shard, "name": name})
        return True

    with ExitStack() as stack, DefaultSelector() as selector:
        for _ in range(min(workers, len(shards))):
            worker = stack.enter_context(_worker(plan))
            _send(
                worker, {"plan": dataclasses.asdict(plan), "directory": str(directory)}
            )
            ask(worker)
            selector.register(worker.stdout, EVENT_READ, worker)  # type: ignore
        while selector.get_map():
            for ready, _ in selector.select():
                worker = ready.data
                yield _answer(worker)
                if not ask(worker):
                    selector.unregister(ready.fileobj)


@contextmanager
def _worker(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    """A process that draws files, as long as this one lives."""
    # One thread each: NPROC is what XLA takes the number of processors from.
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    environment = os.environ | {
        "JAX_PLATFORMS": plan.platform,
        "NPROC": "1",
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": flags.strip(),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "compjax.datasets.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        bufsize=1,
    )
    try:
        yield process
    finally:
        process.kill()  # what it has not finished, it has not renamed
        process.communicate()


def _send(worker: subprocess.Popen[str], message: dict[str, Any]) -> None:
    assert worker.stdin is not None
    try:
        print(json.dumps(message), file=worker.stdin, flush=True)
    except BrokenPipeError:
        _died(worker)


def _answer(worker: subprocess.Popen[str]) -> int:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line.endswith("\n"):
        _died(worker)
    answer = json.loads(line)
    if "error" in answer:
        raise OSError(answer["error"])
    return answer["shard"]


def _died(worker: subprocess.Popen[str]) -> None:
    status = worker.wait()
    how = f"was killed by signal {-status}" if status < 0 else f"ended with {status}"
    raise OSError(
        f"a worker {how}; the files it finished are kept: run the same command again,"
        " with fewer workers if memory is short"
    )
