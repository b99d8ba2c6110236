import errno
import json
import os

import numpy as np
import pytest

from compjax.training import MetricsWriter, read_metrics


def write(workdir, start, steps):
    with MetricsWriter(workdir, start) as writer:
        for step in steps:
            writer.write(step, {"loss": np.float32(step / 10), "count": np.int32(step)})


def test_resuming_drops_the_lines_beyond_the_checkpoint(tmp_path):
    write(tmp_path, 0, range(1, 6))
    write(tmp_path, 3, range(4, 7))
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[2] == {"step": 3, "loss": 0.3, "count": 3}


def test_float32_survives_exactly(tmp_path):
    value = np.float32(np.pi)
    with MetricsWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": value})
    assert np.float32(read_metrics(tmp_path)[0]["loss"]) == value


def test_a_line_torn_by_a_crash_is_ignored_and_then_removed(tmp_path):
    write(tmp_path, 0, [1, 2])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
    write(tmp_path, 2, [3])
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


def test_lines_are_on_disk_as_soon_as_they_are_written(tmp_path):
    with MetricsWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": 1.0})
        assert len(read_metrics(tmp_path)) == 1


def test_tensorboard_events_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboardX")
    write(tmp_path, 0, [1])
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize(
    "damage",
    [b"\0\0\0\0\n", b'{"step": 2, "lo\n', b"\xff\xfe\n", b"3\n", b'{"loss": 1.0}\n'],
    ids=["zeros", "cut", "no text", "no object", "no step"],
)
def test_damaged_lines_are_left_out_aloud(tmp_path, capsys, damage):
    write(tmp_path, 0, [1, 2, 3])
    file = tmp_path / "metrics.jsonl"
    first, *rest = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first + damage + b"".join(rest))
    write(tmp_path, 2, [3])
    assert "metrics.jsonl: 1 of 4 lines are damaged" in capsys.readouterr().err
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert not capsys.readouterr().err  # they are gone


def test_a_full_disk_is_said_at_once_with_the_remedy(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, {"loss": 1.0})
    writer.check()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"jsonl .*No space left.* start the same"):
        writer.write(2, {"loss": 1.0})
    with pytest.raises(OSError, match="No space left"):
        writer.check()
    writer.close()


def test_what_was_not_checked_is_raised_at_the_end(tmp_path):
    class Broken:
        def close(self):
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left on device"):
        with MetricsWriter(tmp_path, 0) as writer:
            writer._tensorboard = Broken()
    with pytest.raises(FloatingPointError):  # which comes first, and is not hidden
        with MetricsWriter(tmp_path, 0) as writer:
            writer._tensorboard = Broken()
            raise FloatingPointError


def test_a_directory_that_is_not_there_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match=r"nothing/metrics\.jsonl"):
        MetricsWriter(tmp_path / "nothing", 0)
