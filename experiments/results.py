"""What `results.json` says of a run beside its numbers."""

import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


def provenance(seed: int, started: float) -> dict[str, Any]:
    """Where numbers come from: what every `results.json` holds beside them.

    Args:
        seed: Of the run.
        started: `time.monotonic()` when it began.

    Returns:
        The seed, the commit (None outside a checkout; "+" where files had changed),
        versions, devices, the date, and the seconds it took.
    """
    packages = ("compjax", "jax", "jaxlib", "numpy")
    return {
        "seed": seed,
        "commit": commit(),
        "versions": {name: version(name) for name in packages},
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - started, 1),
    }


def commit() -> str | None:
    """The commit of the checkout that this file belongs to, if it is one."""
    here = Path(__file__).parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.strip()
