"""The experiment page: its tables are those of the results beside it."""

import pytest

from experiments import tables
from experiments.projective import readme


def fill(text, found):
    return tables.fill(text, found, readme.TABLES)


def test_the_page_holds_the_numbers_of_the_results():
    text = (readme.HERE / "README.md").read_text()
    now = fill(text, tables.read(readme.HERE))
    assert now == text, "run experiments.projective.readme"
    assert tables.BLOCK.search(text)


def test_a_changed_number_changes_the_page():
    check = {"quantity": "mass", "value": 0.5, "expected": 0.4, "deviation": 0.1}
    text = "<!-- table: checks masses -->\nold\n<!-- end -->\nrest"
    found = {"masses": {"checks": [check | {"source": "ours"}]}}
    filled = fill(text, found)
    assert "| mass | 0.5 | 0.4 | 0.1 | ours |" in filled and "old" not in filled
    assert filled.endswith("rest") and fill(filled, found) == filled


@pytest.mark.parametrize("marker", ["chekcs masses", "checks nothing"])
def test_a_table_that_is_not_there_is_told(marker):
    text = f"<!-- table: {marker} -->\n<!-- end -->"
    with pytest.raises(ValueError, match="the tables are auroc, certificates, checks"):
        fill(text, {"masses": {"checks": []}})
