"""Fills the tables of this folder's README from the results beside it.

    python -m experiments.projective.readme

`results/*.json` are the `results.json` of the commands that the README names, copied
there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments import tables

HERE = Path(__file__).parent


def main() -> None:
    """Rewrites the README if a number changed."""
    tables.update(HERE, TABLES)


def checks(found: Mapping[str, Any]) -> list[list[str]]:
    """Values beside what was expected."""
    rows = [["quantity", "value", "expected", "deviation", "expected from"]]
    for check in found["checks"]:
        numbers = (f"{check[key]:.4g}" for key in ("value", "expected", "deviation"))
        rows.append([check["quantity"].replace("|", r"\|"), *numbers, check["source"]])
    return rows


def auroc(found: Mapping[str, Any]) -> list[list[str]]:
    """How well each diagnostic ranks failures above successes, by kind and pooled."""
    kinds = list(found["failures"])
    counts = [f"{kind} ({found['failures'][kind]} fail)" for kind in kinds]
    rows = [["", "pooled [95 %]", "worst without one kind", *counts]]
    for name, one in found["auroc"].items():
        pooled = one["pooled"]
        left = min(part["auroc"] for part in one["without kind"].values())
        values = [one["by kind"][kind]["auroc"] for kind in kinds]
        rows.append(
            [
                name,
                f"{pooled['auroc']:.3f} [{pooled['low']:.3f}, {pooled['high']:.3f}]",
                f"{left:.3f}",
                *("-" if value is None else f"{value:.3f}" for value in values),
            ]
        )
    return rows


def requests(found: Mapping[str, Any]) -> list[list[str]]:
    """Requests met, corrected for chance and ceiling, by setting and k."""
    return _by_k(found, _corrected)


def uncorrected(found: Mapping[str, Any]) -> list[list[str]]:
    """Hits, chance and ceiling, in percent."""
    names = ("hit", "chance", "ceiling")
    return _by_k(found, lambda row: " / ".join(f"{row[n]:.0%}" for n in names))


def objects(found: Mapping[str, Any]) -> list[list[str]]:
    """Objects that nobody asked for, and images that are exactly right."""
    return _by_k(found, lambda row: f"{row['extra']:.1f} ({row['exact']:.0%})")


def strength(found: Mapping[str, Any]) -> list[list[str]]:
    """Strength of what was asked for, as a share of that of true renders."""
    rows = _by_k(found, lambda row: f"{row['strength']:.2f}", "ABCD")
    return [*rows, ["1/k", *(f"{1 / int(k):.2f}" for k in rows[0][1:])]]


def elsewhere(found: Mapping[str, Any]) -> list[list[str]]:
    """The share of the other places that hold an object; alone: no request at all."""
    return _by_k(
        found,
        lambda row: (
            f"{_percent(row['unrequested'])} ({_percent(row['unrequested_at_0'])})"
        ),
        "ABCD",
    )


def certificates(found: Mapping[str, Any]) -> list[list[str]]:
    """The integral of the standard deviation of V, where it was taken."""
    rows = [row for row in found["rows"] if "v_integral" in row]
    return _by_k({"rows": rows}, lambda row: f"{row['v_integral']:.3g}")


def colors(found: Mapping[str, Any]) -> list[list[str]]:
    """Yellow with every colour."""
    rows = [
        [
            "yellow with",
            "both found [95 %]",
            "true renders",
            "objects",
            "cosine",
            "ΔRGB",
        ]
    ]
    for row in found["rows"]:
        spread = f"[{row['both_low']:.0%}, {row['both_high']:.0%}]"
        rows.append(
            [
                row["color"],
                f"{row['both']:.0%} {spread}",
                f"{row['ceiling']:.0%}",
                f"{row['objects']:.2f}",
                f"{row['cosine_with_yellow']:+.2f}",
                " ".join(f"{value:+.2f}" for value in row["shift"]),
            ]
        )
    return rows


def training(found: Mapping[str, Any]) -> list[list[str]]:
    """What networks were trained on, and how many of them and of samples there are."""
    rows = [["result", "network", "noisy images seen", "training seeds", "samples"]]
    for name, one in found.items():
        if "images_seen" not in one:
            continue
        row = one["rows"][0]
        counts = (str(row["training_seeds"]), str(row["images"]))
        rows += [
            [name, network, str(number), *counts]
            for network, number in one["images_seen"].items()
        ]
    return rows


TABLES = {
    table.__name__: table
    for table in (
        auroc,
        certificates,
        checks,
        colors,
        elsewhere,
        objects,
        tables.provenance,
        requests,
        strength,
        training,
        uncorrected,
    )
}


def _by_k(
    found: Mapping[str, Any], cell: Any, keys: str | None = None
) -> list[list[str]]:
    """One row a setting, one column a number of requests."""
    ks = sorted({row["k"] for row in found["rows"]})
    rows = [["", *map(str, ks)]]
    cells = {(row["key"], row["k"]): cell(row) for row in found["rows"]}
    for row in found["rows"]:
        wanted = keys is None or row["key"] in keys
        if wanted and all(row["setting"] != line[0] for line in rows):
            rows.append([row["setting"], *(cells[row["key"], k] for k in ks)])
    return rows


def _corrected(row: Mapping[str, Any]) -> str:
    low, high = row["corrected_low"], row["corrected_high"]
    if row["corrected"] is None:
        return "-"
    if low is None or high is None:
        return f"{row['corrected']:.0%}"
    return f"{row['corrected']:.0%} [{low:.0%}, {high:.0%}]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


if __name__ == "__main__":
    main()
