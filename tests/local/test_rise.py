"""Which curve rises first: the statistic against curves that are known, a tiny run."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.local import rise as defaults
from experiments.local import rise

STEPS = [1, 3, 10, 30, 100, 300, 1000]


def curve(at, steps=STEPS, sign=1.0, offset=0.0):
    """A line in the logarithm of the step, half-way up at the step `at`."""
    return (offset + sign * (0.5 + np.log(np.array(steps) / at))).tolist()


@given(
    st.floats(0.05, 0.95),
    st.sampled_from([-2.0, 0.5, 3.0]),
    st.floats(-5, 5),
)
def test_lines_in_the_logarithm_are_inverted_exactly(level, sign, offset):
    """From log 1 to log 1000 the line is at the share log(s) / log(1000)."""
    values = curve(7.0, sign=sign, offset=offset)
    assert rise.risen(STEPS, values, level) == pytest.approx(1000**level, rel=1e-9)


def test_the_first_crossing_counts():
    values = [0.0, 0.6, 0.2, 0.1, 0.9, 1.0, 1.0]
    expected = np.exp(np.log(3) * 0.5 / 0.6)
    assert rise.risen(STEPS, values, 0.5) == pytest.approx(expected)


def test_what_does_not_change_has_not_risen():
    assert np.isnan(rise.risen(STEPS, [0.5] * 7, 0.5))


def test_a_curve_that_lags_by_a_factor_is_found_to():
    """Of curves moved by a factor of 2, 4 and 8, the geometric mean is 4."""
    steps = np.geomspace(1, 4096, 13)
    bump = lambda at: np.clip(0.5 + np.log(steps / at) / np.log(16), 0, 1).tolist()
    config = defaults.get_config()
    lags = (2, 4, 8)
    found = rise.order(
        config,
        {
            "steps": steps.tolist(),
            "locality": [bump(16.0)] * 3,
            "one": [bump(16.0)] * 3,
            "outcome": [bump(16.0 * lag) for lag in lags],
        },
        0.5,
    )
    assert found["factor"] == pytest.approx(4)
    # Student's interval of log 2, log 4, log 8: sd = log 2, 4.303 = t(0.975, 2).
    assert found["high"] == pytest.approx(4 * 2 ** (4.30265 / 3**0.5), rel=1e-4)
    assert found["low"] * found["high"] == pytest.approx(16)


def tiny():
    config = defaults.get_config()
    config.seeds = (0, 1)
    config.network.channels = config.network.channels_per_head = 8
    config.world.places, config.world.pixels, config.network.patch = 3, 4, 4
    config.train.batch = 8
    config.sample.images, config.sample.steps = 8, 3
    config.probe.images, config.probe.sigmas = 2, (1.0,)
    config.rise.steps = (1, 2)
    del config.models.complete_many
    for name in config.models:
        config.models[name].steps = 2
    return config


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(tmp_path, capsys):
    config = tiny()
    rise.main(config, tmp_path)
    first = json.loads((tmp_path / "results.json").read_text())
    assert np.shape(first["curves"]["channel"]["outcome"]) == (2, 2)
    assert (tmp_path / "figures" / "rise.png").exists()
    again = rise.file(tmp_path, "channel", 1, 2)
    kept = again.read_text()
    again.unlink()  # the network is still there, and gives the same
    rise.main(config, tmp_path)
    assert again.read_text() == kept
    assert "to 50%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("steps", (1, 1, 2), "increasing"),
        ("steps", (1, 3), "end with config.models"),
        ("steps", (2,), "increasing"),
        ("levels", (0.5, 1.0), "shares in"),
    ],
)
def test_what_cannot_be_is_refused_before_training(tmp_path, field, value, message):
    config = tiny()
    config.rise[field] = value
    with pytest.raises(ValueError, match=message):
        rise.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
