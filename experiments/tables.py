"""Pages whose tables come from the results beside them, so that no number is typed.

A table stands between ``<!-- table: NAME RESULT -->`` and ``<!-- end -->``;
`results/*.json` are the `results.json` of the commands that the page names.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BLOCK = re.compile(
    r"(<!-- table: (?P<name>\w+) (?P<of>\w+) -->\n).*?(<!-- end -->)", re.DOTALL
)

Table = Callable[[Any], list[list[str]]]
"""From what is in a result to rows of cells, of which the first is the head."""


def update(folder: Path, tables: Mapping[str, Table]) -> None:
    """Rewrites the README of a folder if a number changed."""
    page = folder / "README.md"
    text = page.read_text()
    filled = fill(text, read(folder), tables)
    page.write_text(filled)
    print("nothing changed" if filled == text else f"written: {page}")


def read(folder: Path) -> dict[str, Any]:
    """The committed results of a folder, by name."""
    files = sorted((folder / "results").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def fill(text: str, found: Mapping[str, Any], tables: Mapping[str, Table]) -> str:
    """The text with its tables made anew.

    Args:
        text: With places for tables, ``<!-- table: NAME RESULT -->``.
        found: `{name of a result: what is in it}`; all of them for RESULT `all`.
        tables: `{NAME: function}`.

    Raises:
        ValueError: If there is no such table or no such result.
    """

    def table(match: re.Match[str]) -> str:
        name, of = match["name"], match["of"]
        if name not in tables or (of != "all" and of not in found):
            raise ValueError(
                f"{match[1].strip()}: the tables are {', '.join(tables)}, the results "
                f"{', '.join(found)}."
            )
        rows = tables[name](found if of == "all" else found[of])
        return f"{match[1]}\n{markdown(rows)}\n\n{match[4]}"

    return BLOCK.sub(table, text)


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def provenance(found: Mapping[str, Any]) -> list[list[str]]:
    """Where every number comes from."""
    rows = [["result", "commit", "jax", "device", "seed", "date", "seconds"]]
    for name, one in found.items():
        rows.append(
            [
                name,
                str(one["commit"]),
                one["versions"]["jax"],
                one["devices"],
                str(one["seed"]),
                one["date"],
                f"{one['seconds']:.0f}",
            ]
        )
    return rows
