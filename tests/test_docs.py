"""The README runs, and the pages say what the code says."""

import re
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = re.findall(r"```bash\n(.*?)\n```", README, re.S)


def test_the_code_of_the_readme_runs():
    matplotlib.use("Agg")
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    names["test_mine"]()
    # Each of the four combinations of modes is there, and nothing on the axes.
    x = names["x"]
    for x1 in (1.0, 2.0):
        for x2 in (1.5, 2.5):
            near = (abs(x[:, 0] - x1) < 0.5) & (abs(x[:, 1] - x2) < 0.5)
            assert 0.2 < float(near.mean()) < 0.3
    assert len(BLOCKS[0].strip().splitlines()) <= 15


def test_no_placeholder_or_dead_link():
    assert not re.search(r"@[A-Z]+@", README)
    for link in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / link).exists(), link


def test_ci_runs_the_command_of_the_readme():
    assert len(COMMANDS) == 2
    assert COMMANDS[1] in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_map_of_the_readme_names_every_part():
    for path in (ROOT / "compjax").iterdir():
        if path.name.startswith("__"):
            continue
        assert f"compjax/{path.name}" in README, path.name


@pytest.mark.parametrize(
    "file",
    [f for f in (ROOT / "compjax").rglob("*.py") if f.name != "__init__.py"],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_every_module_is_on_the_api_page(file):
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    api = (ROOT / "docs" / "api.md").read_text()
    internal = {  # how rendering and writing work inside
        "blender_process",
        "blender_worker",
        "files",
        "light",
        "materials",
        "scatter",
        "shapes",
        "tracer",
        "vectors",
        "worker",
    }
    assert file.stem in internal or f":: {module}\n" in api


def test_every_operator_is_in_the_mathematics():
    from compjax.compose import __all__ as operators

    math = (ROOT / "docs" / "math.md").read_text()
    for name in operators:
        if name.islower() and name != "compose_conditions":
            assert f"`{name}(" in math, name
