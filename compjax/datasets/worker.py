"""One process that draws files of a set; `generate` starts several.

It reads lines from standard input, first the plan and the directory, then numbers of
files; it answers each with one line on standard output, and ends when its input does,
at once: a worker must not outlive whoever reads its answers.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compjax.datasets.records import Plan, examples, features


def write_shard(plan: Plan, shard: int, file: Path) -> None:
    """Draws one file of a set: whole under its name, or not there at all.

    Args:
        plan: Of the set.
        shard: Which file of it.
        file: Its path.

    Raises:
        OSError: If the file cannot be written, for example on a full disk.

    Example:
        >>> import tempfile
        >>> plan = Plan(0, 0, examples=2, height=8, width=8, batch=2)
        >>> file = Path(tempfile.mkdtemp()) / "shard"
        >>> write_shard(plan, 0, file)
        >>> count(file)
        2
    """
    from array_record.python import array_record_module  # type: ignore

    serialize = _serializer(plan)
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        try:
            # Groups of one, as TensorFlow Datasets writes them: read one by one.
            writer = array_record_module.ArrayRecordWriter(str(draft), "group_size:1")
            for _, example in examples(plan, shard):
                writer.write(serialize(example))
            writer.close()
        except RuntimeError as error:  # the writer's own, of whatever the system said
            raise OSError(f"{file} was not written ({error}); make room") from None
        if (found := count(draft)) != len(plan.examples_of(shard)):
            raise OSError(f"{file} was not written: only {found} examples are there")
        with draft.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(draft, file)
        sync(file.parent)
    finally:
        draft.unlink(missing_ok=True)


def _serializer(plan: Plan) -> Callable[[dict[str, Any]], bytes]:
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    recorded = features(plan.height, plan.width)
    serializer = ExampleSerializer(recorded.get_serialized_info())

    def serialize(example: dict[str, Any]) -> bytes:
        message = serializer.get_tf_example(recorded.encode_example(example))
        # An example is a map, whose order differs from process to process otherwise.
        return message.SerializeToString(deterministic=True)

    return serialize


def count(file: Path) -> int:
    """How many examples a file holds; 0 if it is cut off or no such file.

    Example:
        >>> count(Path("missing"))
        0
    """
    from array_record.python import array_record_module  # type: ignore

    if not file.exists():
        return 0
    try:
        reader = array_record_module.ArrayRecordReader(str(file))
        found = reader.num_records() if reader.ok() else 0
        reader.close()
    except RuntimeError:  # for example of a file below 64 KiB, which none is
        return 0
    return found


def sync(directory: Path) -> None:
    """Makes the names in a directory survive a power failure."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def main() -> None:
    """Answers requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees to that
    # Only answers go to standard output, whatever libraries print.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for plan, directory, shard, name in _requests():
        try:
            write_shard(plan, shard, directory / name)
            answer = {"shard": shard}
        except Exception as error:  # told to the parent, which ends with it
            answer = {"error": f"{error}" or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


def _requests() -> Iterator[tuple[Plan, Path, int, str]]:
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    task = json.loads(lines.get())
    plan, directory = Plan(**task["plan"]), Path(task["directory"])
    while True:
        request = json.loads(lines.get())
        yield plan, directory, request["shard"], request["name"]


if __name__ == "__main__":
    main()
