"""What the exact figures share: values beside what they were expected to be."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from compjax import training
from experiments import results


class Check(NamedTuple):
    """One number beside its expected value.

    Args:
        quantity: What was measured, and where.
        value: The number.
        expected: What it was expected to be.
        source: Where the expectation comes from; for a bound, which side it is on.
    """

    quantity: str
    value: float
    expected: float
    source: str


class Report(NamedTuple):
    """What a figure's script has found.

    Args:
        checks: Numbers that have an expected value.
        numbers: All that the figure shows, of JSON types.
        figure: The figure.
    """

    checks: Sequence[Check]
    numbers: dict[str, Any]
    figure: Any


def keep(
    config: ConfigDict, workdir: Path, name: str, started: float, report: Report
) -> None:
    """Writes `results.json` and `figures/name.png`, and prints the checks.

    Args:
        config: With a `seed`.
        workdir: An open work directory.
        name: Of the figure.
        started: `time.monotonic()` when the run began.
        report: What was found.
    """
    checks = [
        check._asdict() | {"deviation": check.value - check.expected}
        for check in report.checks
    ]
    figure_file = workdir / "figures" / f"{name}.png"
    report.figure.savefig(figure_file)
    numbers = {
        "checks": checks,
        **report.numbers,
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    width = max(len(check["quantity"]) for check in checks)
    print(f"{'':{width}}{'value':>11}{'expected':>11}{'deviation':>11}")
    for check in checks:
        row = "".join(f"{check[k]:11.4g}" for k in ("value", "expected", "deviation"))
        print(f"{check['quantity']:{width}}{row}  {check['source']}")
    print(f"picture: {figure_file}\nnumbers: {workdir / 'results.json'}")
    print(f"{time.monotonic() - started:.1f} s")
