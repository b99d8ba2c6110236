"""Fills the tables of this folder's README from the results beside it.

python -m experiments.benchmarks2d.readme
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import tables

HERE = Path(__file__).parent


def main() -> None:
    """Rewrites the README if a number changed."""
    tables.update(HERE, TABLES)


def best(found: Mapping[str, Any]) -> list[list[str]]:
    """Each task: the floor, plain reverse diffusion, the best method of each column."""
    rows = [
        [
            "task",
            "W2 of two exact sets (deviation)",
            "plain reverse SDE",
            "best, exact scores",
            "floors",
            "evaluations",
            "best, learned scores",
            "floors",
            "score error",
        ]
    ]
    for name, one in found.items():
        if one["floor"] is None:
            continue
        exact, learned = (_best(one, column) for column in ("exact", "learned"))
        plain = next(row for row in _measured(one, "exact") if _is_plain(row))
        error = max(one["score error"].values())
        rows.append(
            [
                name,
                f"{one['floor']['W2']:.4f} ({np.std(one['floors'], ddof=1):.4f})",
                f"{_floors(plain, one):.2f}",
                exact["method"],
                f"**{_floors(exact, one):.2f}** ({_repetitions(exact, one)})",
                f"{exact['evaluations']:.0f}",
                learned["method"],
                f"{_floors(learned, one):.2f}",
                f"{error:.3f}",
            ]
        )
    return rows


def products(found: Mapping[str, Any]) -> list[list[str]]:
    """Methods by task, in floors."""
    return _by_method(found, "product")


def mixtures(found: Mapping[str, Any]) -> list[list[str]]:
    """Methods by task, in floors."""
    return _by_method(found, "mixture")


def negations(found: Mapping[str, Any]) -> list[list[str]]:
    """Methods by task, in floors."""
    return _by_method(found, "negation")


def empty(found: Mapping[str, Any]) -> list[list[str]]:
    """Tasks whose target is the empty set: what rejection keeps, what weights say."""
    rows = [["task", "scores", "method", "kept", "log-normaliser"]]
    for name, one in found.items():
        if one["floor"] is not None:
            continue
        for row in one["rows"]:
            says = row.get("diagnostics", {})
            kept = f"{says['kept']:.2%}" if "kept" in says else "-"
            log = f"{says['log normalizer']:.3g}" if "log normalizer" in says else "-"
            if kept != "-" or log != "-":
                rows.append([name, row["scores"], row["method"], kept, log])
    return rows


def published(found: Mapping[str, Any]) -> list[list[str]]:
    """Metrics as published beside right ones, where the two differ."""
    rows = [["task", "method (exact scores)", "W2 in floors", "as published", "right"]]
    for name, metric in (
        ("rrr_product", "log-likelihood"),
        ("mixture_c", "accuracy"),
    ):
        one = found[name]
        floor = one["floor"]
        rows.append(
            [
                name,
                f"exact samples: {metric}",
                "1.00",
                f"{floor[metric + ' as published']:.3f}",
                f"{floor[metric]:.3f}",
            ]
        )
        for row in _measured(one, "exact"):
            values = row["metrics"]
            rows.append(
                [
                    name,
                    row["method"],
                    f"{_floors(row, one):.2f}",
                    f"{values[metric + ' as published']:.3f}",
                    f"{values[metric]:.3f}",
                ]
            )
    return rows


def metrics(found: Mapping[str, Any]) -> list[list[str]]:
    """Every metric of every method, exact scores."""
    names = ("W2", "sliced W2", "MMD^2", "Chamfer", "accuracy")
    rows = [["task", "method", *names, "evaluations"]]
    for name, one in found.items():
        if one["floor"] is None:
            continue
        exact = {"method": "exact samples", "metrics": one["floor"], "evaluations": 0}
        for row in (exact, *_measured(one, "exact")):
            cells = (row["metrics"].get(metric) for metric in names)
            rows.append(
                [
                    name,
                    row["method"],
                    *("-" if cell is None else f"{cell:.4f}" for cell in cells),
                    f"{row['evaluations']:.0f}",
                ]
            )
    return rows


TABLES = {
    table.__name__: table
    for table in (
        best,
        empty,
        metrics,
        mixtures,
        negations,
        products,
        published,
        tables.provenance,
    )
}


def _by_method(found: Mapping[str, Any], kind: str) -> list[list[str]]:
    """One row a method and column of scores, one column a task."""
    here = {n: one for n, one in found.items() if one["kind"] == kind and one["floor"]}
    rows = [["scores", "method", *here, "evaluations"]]
    seen = []
    for one in here.values():
        for row in one["rows"]:
            if (row["scores"], row["method"]) not in seen:
                seen.append((row["scores"], row["method"]))
    for scores, method in sorted(seen, key=lambda pair: pair[0]):
        cells, costs = [], []
        for one in here.values():
            row = next(
                (
                    row
                    for row in one["rows"]
                    if (row["scores"], row["method"]) == (scores, method)
                ),
                None,
            )
            cells.append("-" if row is None else _cell(row, one))
            if row is not None and "evaluations" in row:
                costs.append(row["evaluations"])
        rows.append([scores, method, *cells, _span(costs)])
    return rows


def _cell(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    if "failed" in row:
        return "no samples"
    if row["metrics"] is None:
        return f"keeps {row['diagnostics']['kept']:.1%}"
    return f"{_floors(row, one):.2f}"


def _span(costs: list[float]) -> str:
    low, high = min(costs, default=0), max(costs, default=0)
    return f"{low:.0f}" if high - low < 1 else f"{low:.0f} to {high:.0f}"


def _measured(one: Mapping[str, Any], column: str) -> Iterator[Any]:
    for row in one["rows"]:
        if row["scores"] == column and row.get("metrics"):
            yield row


def _best(one: Mapping[str, Any], column: str) -> Any:
    return min(_measured(one, column), key=lambda row: row["metrics"]["W2"])


def _repetitions(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    return " ".join(f"{w2 / one['floor']['W2']:.2f}" for w2 in row["by seed"])


def _is_plain(row: Mapping[str, Any]) -> bool:
    return row["method"].endswith("reverse SDE")


def _floors(row: Mapping[str, Any], one: Mapping[str, Any]) -> float:
    return row["metrics"]["W2"] / one["floor"]["W2"]


if __name__ == "__main__":
    main()
