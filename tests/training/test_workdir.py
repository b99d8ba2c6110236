import json

import pytest

from compjax.training import open_workdir, write_json

CONFIG = {"steps": 10, "model": {"channels": 16, "mults": (1, 2)}}


def tree(path):
    return {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_new_directory_holds_the_config(tmp_path):
    workdir = open_workdir(tmp_path / "deep" / "run", CONFIG)
    stored = json.loads((workdir / "config.json").read_text())
    assert stored == {"steps": 10, "model": {"channels": 16, "mults": [1, 2]}}
    assert (workdir / "figures").is_dir()


def test_same_config_reopens_and_writes_nothing(tmp_path):
    open_workdir(tmp_path, CONFIG)
    (tmp_path / "results.json").write_text("{}")
    before = tree(tmp_path)
    open_workdir(tmp_path, json.loads(json.dumps(CONFIG)))
    assert tree(tmp_path) == before


def test_another_config_is_refused_and_touches_nothing(tmp_path):
    open_workdir(tmp_path, CONFIG)
    (tmp_path / "figures").rmdir()
    before = tree(tmp_path)
    other = {"steps": 10, "model": {"channels": 32, "mults": (1, 2)}, "seed": 1}
    with pytest.raises(ValueError) as error:
        open_workdir(tmp_path, other)
    message = str(error.value)
    assert "model.channels: 16 there, 32 now" in message
    assert "seed: absent there, 1 now" in message
    assert "steps" not in message and "mults" not in message
    assert "--workdir" in message
    assert tree(tmp_path) == before and not (tmp_path / "figures").exists()


def test_write_json_is_all_or_nothing(tmp_path):
    file = tmp_path / "results.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
