import json

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
