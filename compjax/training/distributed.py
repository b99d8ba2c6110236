"""Several processes as one run."""

from __future__ import annotations

import jax


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Joins the processes of a run; must be called before any other use of devices.

    Without arguments a cluster is recognised from its environment: Slurm, Open MPI,
    Kubernetes and others that `jax.distributed.initialize` knows.  Where there is none,
    nothing happens, and this process is the whole run.  Under Slurm and Open MPI JAX
    gives every process one GPU, so there has to be a process for each.

    Args:
        coordinator: `host:port` at which process 0 can be reached by all.
        processes: How many there are.
        process: Which one this is, from 0.

    Raises:
        ValueError: If some but not all of the three are given.

    Example:
        >>> initialize("localhost:1234")
        Traceback (most recent call last):
        ...
        ValueError: Give coordinator, processes and process together, or none of them...
    """
    given = (coordinator, processes, process)
    if None not in given:
        jax.distributed.initialize(coordinator, processes, process)
    elif given != (None, None, None):
        raise ValueError(
            "Give coordinator, processes and process together, or none of them; got "
            f"{coordinator}, {processes}, {process}."
        )
    else:
        try:
            jax.distributed.initialize()
        except ValueError as error:  # no cluster that it knows
            if "coordinator_address should be defined" not in str(error):
                raise
