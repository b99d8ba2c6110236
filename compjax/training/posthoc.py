r"""Any length of average after training, from snapshots of two averages during it.

The average with the profile $p(t) \propto t^\gamma$ on $[0, T]$ is nearly a linear
combination of averages that were saved at several times T and with several $\gamma$;
the best combination is a least-squares problem of profiles, solved in closed form.

Source: Karras et al. 2024 (EDM2, 2312.02696), section 3.2 and appendix C.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from compjax.training.agreement import brief, from_processes, in_first_process
from compjax.training.averaging import std_to_exp
from compjax.training.record import describe, make_record, verified

Numbers = Sequence[float] | Sequence[int] | np.ndarray
"""A list of numbers, or an array of them."""


def save_snapshot(
    directory: str | Path, step: int, averages: Mapping[float, PyTree]
) -> None:
    """Saves the averages of a step, from which others are reconstructed later.

    A snapshot appears at once and whole.  One that is there already stays as it is: a
    run that repeats its steps after an interruption would write the same.  The arrays
    are written as they are, so one of EDM2's XS with two averages takes 1 GB.

    Args:
        directory: The snapshots of one run, and nothing else.
        step: Number of updates made, at least 1.
        averages: `{std: parameters}` of averages by `PowerFunction(std)`; the arrays
            may be sharded, over several processes, all of which have to call this.

    Raises:
        ValueError: If there are no averages, or a number is out of range.
        OSError: If it could not be written; what is half written is no snapshot.

    Example:
        >>> import tempfile
        >>> directory = tempfile.mkdtemp()
        >>> save_snapshot(directory, 100, {0.05: {"w": np.ones(2, np.float32)}})
        >>> snapshots(directory)
        [100]
    """
    from orbax.checkpoint import v1 as ocp  # slow to import

    if step < 1 or not averages:
        raise ValueError(
            f"A snapshot has a step of at least 1, and averages; got step {step} and "
            f"{len(averages)} averages."
        )
    for std in averages:
        std_to_exp(std)
    path = _path(directory, step)
    there = from_processes(str(path.exists()))  # one process decides for all of them
    if there[0] == str(True):
        return
    trees = {repr(float(std)): tree for std, tree in averages.items()}
    try:  # orbax waits for minutes where it cannot create its directory
        in_first_process(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        ocp.save(str(path), trees, custom_metadata=make_record(trees))
    except Exception as error:  # orbax passes on whatever tensorstore raises
        raise OSError(
            f"The snapshot of step {step} could not be saved in {directory} "
            f"({brief(error)}). Make room there, and start the same command again: it "
            "goes on from the last checkpoint."
        ) from error


def snapshots(directory: str | Path) -> list[int]:
    """The steps of the snapshots in a directory, in order; none if there is none.

    Args:
        directory: Given to `save_snapshot`.

    Example:
        >>> snapshots("/nowhere")
        []
    """
    # What is being written, or was when a run was killed, has a longer name.
    return sorted(int(p.name) for p in Path(directory).glob("*") if p.name.isdigit())


def reconstruct(directory: str | Path, std: float, step: int | None = None) -> PyTree:
    """The average of the parameters that `PowerFunction(std)` would have been.

    It combines all snapshots up to the step, of which one at a time is in memory.

    Args:
        directory: Given to `save_snapshot`.
        std: Width of the average relative to the length of training.
        step: The end of that training, one of `snapshots(directory)`; the last if None.

    Returns:
        The parameters, float32, in the memory of the host.

    Raises:
        ValueError: If `std` is out of range, there is no snapshot of this step, or the
            snapshots are of different networks, or one of them is damaged.

    Example:
        >>> import tempfile
        >>> directory = tempfile.mkdtemp()
        >>> for step, w in ((10, 1.0), (20, 2.0)):
        ...     tree = {"w": np.full(1, w, np.float32)}
        ...     save_snapshot(directory, step, {0.05: tree, 0.1: tree})
        >>> reconstruct(directory, 0.1)["w"].round(4)
        array([2.], dtype=float32)
    """
    std_to_exp(std)
    steps = snapshots(directory)
    if not steps:
        raise ValueError(
            f"{directory} holds no snapshots; save some with save_snapshot during "
            "training."
        )
    end = steps[-1] if step is None else step
    if end not in steps:
        raise ValueError(
            f"No snapshot of step {end} in {directory}; there are {steps}."
        )
    described = {s: _describe(_path(directory, s)) for s in steps if s <= end}
    _check_alike(described, directory)
    inputs = [(s, name) for s, trees in described.items() for name in trees]
    weights = reconstruction_weights(
        [s for s, _ in inputs], [float(name) for _, name in inputs], end, std
    )
    share = dict(zip(inputs, weights.astype(np.float32), strict=True))
    total: PyTree = None
    for s, like in described.items():
        for name, tree in _load(_path(directory, s), like).items():
            part = jax.tree.map(lambda leaf, w=share[s, name]: w * leaf, tree)
            total = part if total is None else jax.tree.map(np.add, total, part)
    return jax.tree.map(np.asarray, total)  # not scalars where leaves have no axes


def reconstruction_weights(
    steps: Numbers, stds: Numbers, step: float | int, std: float
) -> np.ndarray:
    r"""How much each snapshot counts in the average that is reconstructed.

    The solution of $A x = b$ divided by its sum, where A holds the inner products of
    the profiles of the snapshots with one another, and b those with the profile that is
    wanted.  For profiles $(\gamma_i, T_i)$ and $(\gamma_j, T_j)$ with $T_i \le T_j$

    $$\langle p_i, p_j\rangle = \int_0^{T_i} p_i\, p_j\, dt =
        \frac{(\gamma_i + 1)(\gamma_j + 1)}{(\gamma_i + \gamma_j + 1)\, T_j}
        \left(\frac{T_i}{T_j}\right)^{\gamma_j}.$$

    Args:
        steps: T of every snapshot, in any unit.
        stds: Relative width of every snapshot.
        step: T of the average that is wanted.
        std: Its relative width.

    Returns:
        One float64 weight for each snapshot; they sum to 1.

    Raises:
        ValueError: If a width is out of range or a step is not positive.

    Source: Karras et al. 2024 (EDM2, 2312.02696), appendix C.

    Example:
        >>> reconstruction_weights([1, 2], [0.1, 0.1], 2, 0.1).round(6) + 0.0
        array([0., 1.])
    """
    ends = np.asarray([*steps, step], np.float64)
    if not (ends > 0).all():
        raise ValueError(f"Steps must be positive, got {ends.tolist()}.")
    gammas = np.array([std_to_exp(float(s)) for s in (*stds, std)])
    products = _inner_products(ends, gammas)
    weights = np.linalg.solve(products[:-1, :-1], products[:-1, -1])
    return weights / weights.sum()


def _inner_products(ends: np.ndarray, gammas: np.ndarray) -> np.ndarray:
    """Of all pairs of profiles."""
    early, late = np.minimum.outer(ends, ends), np.maximum.outer(ends, ends)
    of_late = np.where(ends[:, None] < ends, gammas, gammas[:, None])
    scale = np.outer(gammas + 1, gammas + 1) / (np.add.outer(gammas, gammas) + 1)
    return scale * (early / late) ** of_late / late


def _path(directory: str | Path, step: int) -> Path:
    return Path(directory).absolute() / f"{step:010d}"


def _describe(path: Path) -> dict[str, PyTree]:
    """The trees of a snapshot by the width of their average, of shapes and dtypes."""
    from orbax.checkpoint import v1 as ocp

    with _whole(path):
        return ocp.metadata(str(path)).metadata


def _check_alike(
    described: dict[int, dict[str, PyTree]], directory: str | Path
) -> None:
    """Raises a ValueError unless all trees of all snapshots have the same shapes."""
    trees = [tree for snapshot in described.values() for tree in snapshot.values()]
    if len({str(jax.tree.map(lambda leaf: leaf.shape, tree)) for tree in trees}) > 1:
        raise ValueError(
            f"{directory} holds snapshots of different networks; give every run a "
            "directory of its own."
        )


def _load(path: Path, like: dict[str, PyTree]) -> dict[str, PyTree]:
    """The trees of a snapshot, as they were saved, into the memory of the host."""
    from orbax.checkpoint import v1 as ocp

    abstract = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    with _whole(path):
        saved = verified(ocp.metadata(str(path)).custom_metadata)["arrays"]
        trees = ocp.load(str(path), abstract)
        found = describe(trees)
        wrong = [name for name in saved if saved[name] != found.get(name)]
        if wrong:
            raise ValueError(f"{wrong[0]} is not what was saved")
    return trees


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[None]:
    """Whatever a damaged file raises becomes a ValueError that says what to do."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError):
        raise  # there is no room for it: this says nothing about the file
    except Exception as error:  # a damaged file can raise anything
        raise ValueError(
            f"The snapshot {path} is damaged ({brief(error)}): put back a copy of it, "
            "or move it away and reconstruct from the others."
        ) from error
