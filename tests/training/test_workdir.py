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


def test_free_fields_may_change_and_the_file_follows(tmp_path):
    config = {"mesh": {"fsdp": 1}, "train": {"keep": 2, "keeper": 1, "steps": 10}}
    open_workdir(tmp_path, config)
    new = {"mesh": {"fsdp": 4, "tp": 2}, "train": {"keep": 3, "keeper": 1, "steps": 10}}
    with pytest.raises(ValueError, match=r"\(mesh.fsdp: 1 there, 4 now, mesh.tp"):
        open_workdir(tmp_path, new, free=["train.keep"])
    open_workdir(tmp_path, new, free=("mesh", "train.keep"))
    assert json.loads((tmp_path / "config.json").read_text()) == new
    other = {"mesh": {"fsdp": 1}, "train": {"keep": 3, "keeper": 2, "steps": 10}}
    before = tree(tmp_path)
    with pytest.raises(ValueError, match=r"\(train.keeper: 1 there, 2 now\)"):
        open_workdir(tmp_path, other, free=("mesh", "train.keep"))
    with pytest.raises(ValueError, match=r"free: 'train.kept' is no field"):
        open_workdir(tmp_path, new, free=("mesh", "train.kept"))
    assert tree(tmp_path) == before


def test_a_damaged_config_is_said_in_one_line(tmp_path):
    open_workdir(tmp_path, CONFIG)
    for text in (b"", b'{"steps": 1', b"\0\0\0\0", b"\xff\xfe\xfa"):
        (tmp_path / "config.json").write_bytes(text)
        with pytest.raises(ValueError, match=r"config\.json is damaged: put back"):
            open_workdir(tmp_path, CONFIG)
        assert (tmp_path / "config.json").read_bytes() == text


def test_what_cannot_be_written_is_an_os_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        open_workdir(tmp_path / "file" / "run", CONFIG)
