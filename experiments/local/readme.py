"""Fills the tables of this folder's README from the results beside it.

    python -m experiments.local.readme

`results/*.json` are the `results.json` of the commands that the README names, copied
there.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments import tables
from experiments.local.clevr_machine import MACHINES

HERE = Path(__file__).parent


def main() -> None:
    """Rewrites the README if a number changed."""
    tables.update(HERE, TABLES)


def requests(found: Mapping[str, Any]) -> list[list[str]]:
    """Requests met, corrected, by model and number of requests."""

    def cell(row: Mapping[str, Any]) -> str:
        if row["corrected"] is None:
            return "-"
        low, high = (row[f"corrected_{end}"] for end in ("low", "high"))
        return f"{100 * row['corrected']:.0f} [{100 * low:.0f}, {100 * high:.0f}]"

    return by_k(found, cell)


def uncorrected(found: Mapping[str, Any]) -> list[list[str]]:
    """Hits, chance and ceiling, in percent."""
    names = ("hit", "chance", "ceiling")
    return by_k(found, lambda row: " / ".join(f"{100 * row[n]:.0f}" for n in names))


def elsewhere(found: Mapping[str, Any]) -> list[list[str]]:
    """The share of places that hold an object nobody asked for, and the base rate."""
    rows = by_k(found, lambda row: f"{100 * row['unrequested']:.1f}", nothing=True)
    base = {f"{100 * row['base_rate']:.1f}" for row in found["rows"]}
    return [*rows, ["base rate", *(" or ".join(sorted(base)) for _ in rows[0][1:])]]


def by_k(
    found: Mapping[str, Any],
    cell: Callable[[Mapping[str, Any]], str],
    nothing: bool = False,
) -> list[list[str]]:
    """Rows models, columns numbers of requests.

    Args:
        found: A result with `rows`.
        cell: What is said of a row of it.
        nothing: Whether there is a column for no request.
    """
    rows = [row for row in found["rows"] if row["k"] or nothing]
    ks = sorted({row["k"] for row in rows})
    said = {(row["model"], row["k"]): cell(row) for row in rows}
    names = list(dict.fromkeys(row["model"] for row in rows))
    head = ["%", *(str(k) for k in ks)]
    lines = [
        [MACHINES.get(name, name), *(said.get((name, k), "-") for k in ks)]
        for name in names
    ]
    return [head, *lines]


TABLES = {
    table.__name__: table
    for table in (elsewhere, requests, tables.provenance, uncorrected)
}


if __name__ == "__main__":
    main()
