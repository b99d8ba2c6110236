"""Checkpoints of a run, by orbax: written while training goes on, verified when read.

Every checkpoint carries a fingerprint of its arrays (`compjax.training.fingerprint`).
One that is damaged is passed over for the one before it, which is said aloud; it is
moved to `damaged/`, never deleted; and where nothing can be read, nothing starts anew.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from compjax.training.agreement import brief, first_problem
from compjax.training.record import (
    demand_fit,
    describe,
    make_record,
    position,
    verified,
)


class Checkpoints:
    """The checkpoints in a directory, to be used in a `with` statement.

    Leaving the statement waits for the checkpoint that is being written.

    Args:
        directory: Where they are; created when needed.
        keep: How many of the newest to keep.
        milestone_every: Multiples of this number of steps are kept as well.

    Raises:
        ValueError: If `keep` or `milestone_every` is less than 1.

    Example:
        >>> import tempfile
        >>> with Checkpoints(tempfile.mkdtemp()) as checkpoints:
        ...     checkpoints.save(10, {"w": jax.numpy.ones(2)})
        ...     step, state = checkpoints.restore({"w": jax.numpy.zeros(2)})
        >>> step, state["w"]
        (10, Array([1., 1.], dtype=float32))
    """

    def __init__(
        self, directory: str | Path, keep: int = 2, milestone_every: int | None = None
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1 checkpoint, got {keep}.")
        if milestone_every is not None and milestone_every < 1:
            raise ValueError(
                f"milestone_every must be at least 1 step, or None, got "
                f"{milestone_every}."
            )
        from orbax.checkpoint import v1 as ocp  # slow to import

        training: Any = ocp.training  # whose own annotations exclude its own policies
        preservation = training.preservation_policies
        kept = [preservation.LatestN(keep)]
        if milestone_every is not None:
            kept.append(preservation.EveryNSteps(milestone_every))
        self._directory = Path(directory).absolute()
        self._under_way: tuple[int, Any] | None = None
        self._failed = False
        self._checkpointer = training.Checkpointer(
            self._directory,
            preservation_policy=preservation.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=True,  # what a crash left half written
        )

    @property
    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        return [found.step for found in self._checkpointer.checkpoints]

    def save(self, step: int, state: PyTree, data: Any = None) -> None:
        """Copies the state to the host, and writes it in the background.

        Args:
            step: Its number, beyond those of the checkpoints that there are.
            state: A tree of arrays.
            data: An iterator whose position is saved too, or None: `get_state()`
                returns JSON types and `set_state` takes them, as those of grain do.

        Raises:
            OSError: If this checkpoint, or the last one, could not be written, on a
                full disk for example; those before it remain.
            ValueError: If there is a checkpoint of this step or of a later one.
        """
        self.wait()
        if self.steps and step <= self.steps[-1]:
            raise ValueError(
                f"{self._directory} is at step {self.steps[-1]}, so step {step} cannot "
                "be saved there: restore first, or give another work directory."
            )
        record = make_record(state, data)
        try:
            writing = self._checkpointer.save_checkpointables_async(
                step, {"state": state}, custom_metadata=record, force=True
            )
        except OSError as error:
            raise self._not_saved(step, error) from error
        self._under_way = (step, writing)

    def restore(self, like: PyTree, data: Any = None) -> tuple[int, PyTree] | None:
        """The newest checkpoint that is whole.

        Newer ones, which are damaged, are moved to `damaged/`, and standard error says
        so: the run can then make and save those steps again.

        Args:
            like: A tree of arrays, or of `jax.ShapeDtypeStruct`, that says what is
                restored and, by its shardings, onto which devices (those without go to
                the first device).  They need not be as many as saved it.
            data: An iterator to be set to the position that was saved, or None.

        Returns:
            The step and a tree like `like`; None if there is no checkpoint at all.

        Raises:
            ValueError: If no checkpoint can be read although there are some, or if
                what was saved is not like `like`.
        """
        self.wait()
        found, damaged = _newest(self._directory, like, self.steps)
        if found is None:
            kept = self._directory / "damaged"
            if damaged or kept.is_dir():
                raise _nothing_whole(self._directory, damaged)
            return None
        for step, problem in damaged.items():
            place = self._set_aside(step)
            _say(
                f"WARNING: the checkpoint of step {step} is damaged ({problem}); it is "
                f"now {place}, and step {found[0]} is used in its place."
            )
        if damaged:
            self._checkpointer.reload()
        step, state, record = found
        if data is not None:
            data.set_state(position(record, self._directory / str(step)))
        return step, state

    def wait(self) -> None:
        """Waits for the checkpoint that is being written.

        Raises:
            OSError: If it could not be written; those before it remain.
        """
        if self._under_way is not None:
            (step, writing), self._under_way = self._under_way, None
            try:
                writing.result()
            except Exception as error:  # orbax passes on whatever tensorstore raises
                raise self._not_saved(step, error) from error

    def close(self) -> None:
        """Waits, and lets go of the directory.

        Raises:
            OSError: If the last checkpoint could not be written.
        """
        try:
            self.wait()
        finally:  # orbax would raise the error of a failed save once more
            with contextlib.suppress(*[Exception] * self._failed):
                self._checkpointer.close()

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.close()
        except OSError as failure:
            if error is None:
                raise
            _say(f"WARNING: {failure}")  # and do not hide the error that came first

    def _not_saved(self, step: int, error: Exception) -> OSError:
        self._failed = True
        before = f"step {self.steps[-1]}" if self.steps else "the beginning"
        return OSError(
            f"Step {step} could not be saved in {self._directory} ({brief(error)}). "
            f"Make room there, and start the same command again: it goes on from "
            f"{before}."
        )

    def _set_aside(self, step: int) -> Path:
        """Moves a checkpoint to `damaged/`, next to those that are there."""
        folder, n = self._directory / "damaged", 1
        place = folder / str(step)
        while place.exists():
            n += 1
            place = folder / f"{step}-{n}"
        _together("before a checkpoint is moved")
        if jax.process_index() == 0:
            folder.mkdir(exist_ok=True)
            os.rename(self._directory / str(step), place)
        _together("after a checkpoint was moved")
        return place


def restore(
    directory: str | Path,
    like: PyTree,
    sharding: jax.sharding.Sharding | None = None,
    step: int | None = None,
) -> PyTree:
    """The newest whole checkpoint of a directory, which is left as it is.

    Args:
        directory: Where the checkpoints are.
        like: A tree of arrays, or of their shapes and dtypes (`jax.eval_shape`), that
            says what is restored and, by its shardings, onto which devices.
        sharding: Of the leaves of `like` that have none; the first device if None.
        step: Of the checkpoint that is wanted in place of the newest.

    Returns:
        A tree like `like`.

    Raises:
        ValueError: If there is no such checkpoint, none can be read, or it is not like
            `like`.

    Example:
        >>> restore("/nowhere", {})
        Traceback (most recent call last):
        ...
        ValueError: /nowhere holds no checkpoint; train first, or name another one.
    """
    from orbax.checkpoint import v1 as ocp  # slow to import

    directory = Path(directory)
    if directory.is_dir():  # opening it would create it
        with ocp.training.Checkpointer(str(directory.absolute())) as checkpointer:
            steps = [found.step for found in checkpointer.checkpoints]
        if step is not None and step not in steps:
            raise ValueError(
                f"{directory} holds no checkpoint of step {step}: choose one of "
                f"{steps}."
            )
        steps = steps if step is None else [step]
        found, damaged = _newest(directory.absolute(), abstract(like, sharding), steps)
        for number, problem in damaged.items() if found else ():
            _say(
                f"WARNING: the checkpoint of step {number} in {directory} is damaged "
                f"({problem}); an older one is used."
            )
        if found is not None:
            return found[1]
        if damaged:
            raise _nothing_whole(directory, damaged)
    raise ValueError(
        f"{directory} holds no checkpoint; train first, or name another one."
    )


def abstract(tree: PyTree, sharding: jax.sharding.Sharding | None = None) -> PyTree:
    """The shape, dtype and sharding of every leaf, which is all that restoring needs.

    Args:
        tree: Of arrays, or of their `jax.ShapeDtypeStruct`.
        sharding: Of the leaves that have none; the first device if None.

    Example:
        >>> abstract(jax.eval_shape(lambda: jax.numpy.zeros(3))).sharding.num_devices
        1
    """
    here = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = getattr(leaf, "sharding", None) or here
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(describe, tree)


def _newest(
    directory: Path, like: PyTree, steps: Sequence[int]
) -> tuple[tuple[int, PyTree, dict[str, Any]] | None, dict[int, str]]:
    """The newest whole checkpoint, and what is wrong with those that are newer."""
    like, damaged = abstract(like), {}
    for step in reversed(steps):
        problem, state, record = _read(directory / str(step), like)
        if not problem:
            return (step, state, record), damaged
        damaged[step] = problem
    return None, damaged


def _read(place: Path, like: PyTree) -> tuple[str, PyTree, dict[str, Any]]:
    """What is wrong with a checkpoint, or nothing; its state; and its record.

    Several processes agree on what is wrong, as each sees only its part of the arrays.
    """
    from orbax.checkpoint import v1 as ocp

    me, file = jax.process_index(), str(place)
    problem, record = _attempt(lambda: verified(ocp.metadata(file).custom_metadata))
    if problem:
        return problem, None, {}
    demand_fit(record["arrays"], like, place)
    # Each process reads without waiting for the others, which may have met an error.
    alone = ocp.Context()
    alone.multiprocessing.primary_host = me
    alone.multiprocessing.active_processes = {me}
    with alone:
        problem, state = _attempt(lambda: ocp.load(file, like))
    if not problem:
        saved, read = record["arrays"], describe(state)
        wrong = [name for name in saved if saved[name] != read.get(name)]
        problem = first_problem(f"{wrong[0]} is not what was saved" if wrong else "")
    return problem, state, record


def _attempt(action: Callable[[], Any]) -> tuple[str, Any]:
    """What went wrong, on any process, and the result if nothing did."""
    problem, result = "", None
    try:
        result = action()
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # the device has no room for it: this says nothing about the file
    except Exception as error:  # a damaged file can raise anything
        problem = brief(error)
    return first_problem(problem), result


def _together(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        from jax.experimental.multihost_utils import sync_global_devices

        sync_global_devices(name)


def _nothing_whole(directory: Path, damaged: dict[int, str]) -> ValueError:
    problems = ", ".join(f"step {step}: {damaged[step]}" for step in damaged)
    return ValueError(
        f"No checkpoint in {directory} can be read ({problems or 'all are damaged'}). "
        "Nothing was changed: put back a copy of it, or give another work directory to "
        "start from the beginning."
    )


def _say(text: str) -> None:
    """A line on standard error, from process 0."""
    if jax.process_index() == 0:
        print(text, file=sys.stderr, flush=True)
