"""The command that diagnoses a user's parts, and the page that it writes."""

import json
import re
import textwrap
from pathlib import Path

import pytest

from experiments.projective import diagnose

pytestmark = pytest.mark.slow  # all of them together

PARTS = """
    import jax.numpy as jnp
    import compjax as cj

    def blob(x1, x2, variances=(0.1, 0.1)):
        covariance = jnp.diag(jnp.array(variances))
        return cj.densities.Gaussian(jnp.array([x1, x2]), covariance)

    background = blob(0.0, 0.0)
    conditionals = [blob(1.0, 0.0), blob(0.0, 1.0, variances=(0.1, 0.02))]
"""


def write(folder, text):
    file = folder / "my_parts.py"
    file.write_text(textwrap.dedent(text))
    return file


def run(file, workdir):
    diagnose.main(
        [f"--parts={file}", f"--workdir={workdir}", "--samples=200", "--steps=32"]
    )


def test_the_page_stands_alone_and_says_what_the_numbers_say(tmp_path, capsys):
    run(write(tmp_path, PARTS), tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    numbers = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [f["answer"] for f in numbers["findings"]] == ["yes", "yes", "no"]
    for finding in numbers["findings"]:
        assert f"{finding['question']} {finding['answer'].capitalize()}." in page
    assert len(re.findall("data:image/png;base64", page)) == 4
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert page.count('class="finding good"') == 3
    assert "report.html" in capsys.readouterr().out


def test_scores_that_are_no_densities_need_a_shape(tmp_path, capsys):
    lifted = """
        import jax.numpy as jnp
        import compjax as cj
        at = lambda m: cj.as_score(lambda x, sigma: -(x - m) / (1 + sigma**2))
        background, conditionals = at(0.0), [at(jnp.array([[1.0, 0.0]]))]
    """
    with pytest.raises(SystemExit) as stop:
        run(write(tmp_path, lifted), tmp_path / "run")
    assert stop.value.code == 2
    assert "define shape" in capsys.readouterr().err
    run(write(tmp_path, lifted + "    shape = (2,)\n"), tmp_path / "run")
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no file"),
        ("background = 1 / 0", "ZeroDivisionError"),
        ("background = None", "must define conditionals"),
        ("background, conditionals = None, []", "must be a list"),
        ("background, conditionals = None, {'a': 1}", "must be a list"),
        ("background, conditionals = None, [1]", "background must be a score"),
        ("import sys; sys.exit(3)", "SystemExit"),
        (PARTS + "    shape = 2, 'a'", "shape must be that of one sample"),
        (PARTS + "    shape = (3,)", "does not take samples of shape (3,)"),
        (PARTS + "    conditionals = [lambda x, s: x]", "conditional 0 is a plain"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, text, message):
    file = tmp_path / "none.py" if text is None else write(tmp_path, text)
    with pytest.raises(SystemExit):
        run(file, tmp_path / "run")
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_workdir_is_ones_own(tmp_path, capsys):
    """A page is drawn again over an older one, never over another run."""
    file = write(tmp_path, PARTS)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text("{}")
    for workdir, message in [
        ("", "name a folder"),
        (file, "is a file"),
        (tmp_path / "other", "holds another run"),
    ]:
        with pytest.raises(SystemExit):
            run(file, workdir)
        said = capsys.readouterr().err
        assert message in said and len(said.splitlines()) == 1
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["config.json"]


def test_a_line_needs_no_brackets():
    assert diagnose.event_shape({"shape": 2}) == (2,)


def shown(name):
    guide = Path(__file__).parents[2] / "docs" / "guide" / "diagnose.md"
    (text,) = re.findall(rf"```python\n# {name}\n(.*?)```", guide.read_text(), re.S)
    return text.strip()


def test_the_guide_holds_the_file_that_is_tested():
    assert shown("my_parts.py") == textwrap.dedent(PARTS).strip()


def test_the_scores_of_the_guide_get_a_page(tmp_path, capsys):
    run(write(tmp_path, shown("my_scores.py")), tmp_path / "run")
    assert capsys.readouterr().out.count("yes: ") == 2
