"""The command that trains the detector, on a pool of a few scenes."""

import numpy as np
import pytest

from compjax import training
from configs.scenes import detector as configuration
from experiments.scenes import pool, train_detector


def tiny():
    config = configuration.get_config()
    config.pool.update(shards=2, ruled=2, crowded=0, free=2, plain=2)
    config.network.channels = (4, 4, 4)
    config.train.update(steps=4, batch=5, warmup=1, save_every=2, devices=1)
    config.validation.update(scenes=3, sides=(32,))
    return config


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_where_it_would_have(tmp_path, monkeypatch):
    config = tiny()
    train_detector.main(config, tmp_path / "whole")
    update = training.Progress.update

    def killed(self, step, loss):
        if step == 3:
            raise KeyboardInterrupt
        update(self, step, loss)

    with monkeypatch.context() as patch:
        patch.setattr(training.Progress, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            train_detector.main(config, tmp_path / "again")
    shards = {f: f.stat().st_mtime_ns for f in (tmp_path / "again/pool").iterdir()}
    missing = min(shards)
    missing.unlink()  # as if it had not been rendered yet
    train_detector.main(config, tmp_path / "again")
    for file in shards:
        whole = tmp_path / "whole" / "pool" / file.name
        assert file.read_bytes() == whole.read_bytes()
        assert file == missing or file.stat().st_mtime_ns == shards[file]
    with (
        np.load(tmp_path / "whole/detector.npz", allow_pickle=False) as a,
        np.load(tmp_path / "again/detector.npz", allow_pickle=False) as b,
    ):
        assert a.files == b.files
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
    # The same work directory refuses another configuration.
    config.train.steps = 5
    with pytest.raises(ValueError, match="steps"):
        train_detector.main(config, tmp_path / "again")


def test_batches_are_permutations_of_the_pool_and_depend_on_the_step_only():
    rows = [train_detector.batch_rows(0, step, 4, 10) for step in range(1, 6)]
    first, second = np.split(np.concatenate(rows), 2)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(10))
    assert not np.array_equal(first, second)


def test_bad_configurations_are_refused_before_any_work(tmp_path):
    for field, value, message in (
        ("train.steps", 10, "config.train.steps must be at least 301"),
        ("train.batch", 0, "config.train.batch"),
        ("train.devices", 5, "devices"),
        ("pool.shards", 0, "config.pool.shards"),
    ):
        config = configuration.get_config()
        config.update_from_flattened_dict({field: value})
        with pytest.raises(ValueError, match=message):
            train_detector.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_scenes_of_the_pool_obey_the_rule_where_they_should():
    drawn = pool.draw_scenes(pool.jax.random.key(0), pool.crowded, 3, 0.5)
    known = pool.labels(drawn)
    assert (known["visible"][known["present"]] >= 200).all()
    assert (known["present"].sum(axis=1) >= 5).all()
