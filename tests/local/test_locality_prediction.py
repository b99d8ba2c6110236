"""The statistics of the prediction study, against what is known of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_collections import ConfigDict
from scipy import stats

from configs.local import phase as phase_config
from configs.local import prediction as defaults
from experiments.local import phase, prediction

GROUPS = [np.arange(0, 9), np.arange(9, 18), np.arange(18, 27)]


def study(rng, slope, noise=0.3):
    """Families far apart in both, tied to each other by `slope` within."""
    shift = np.repeat([0.0, 5.0, 10.0], 9)
    x = rng.standard_normal(27)
    y = slope * x + noise * rng.standard_normal(27)
    return {
        "family": np.repeat(["a", "b", "c"], 9),
        "outcome": y + shift,
        "one": rng.standard_normal(27),
        "loss": rng.standard_normal(27),
        "probes": {
            "conditions denoiser beyond": x - shift,
            "pixels score beyond": rng.standard_normal(27),
        },
    }


def config(resamples=400):
    made = defaults.get_config()
    made.prediction.resamples = resamples
    return made


@given(st.integers(0, 1000))
def test_one_family_is_spearmans(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 12))
    found = prediction.rank_correlation(x, y, [np.arange(12)])
    assert found == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_shifts_between_families_do_not_count():
    """Pooled, the shifts hide a positive relation behind a negative one."""
    models = study(np.random.default_rng(0), slope=1.0)
    found = prediction.answer(config(), models)
    assert found["within"] > 0.8 and found["pooled"] < -0.5
    assert found["low"] > 0.5 and found["p"] < 0.01
    assert found["partial"] > 0.8
    assert found["others"]["pixels score beyond"]["p_max"] > 0.05


def test_p_values_are_uniform_without_a_relation():
    """Of 60 studies without one, about 5 % have p below .05."""
    found = [
        prediction.answer(config(80), study(np.random.default_rng(i), 0.0))["p"]
        for i in range(60)
    ]
    # Binomial: 60 x .05 = 3, standard deviation 1.7.
    assert sum(p <= 0.05 for p in found) <= 3 + 4 * 1.7
    assert 0.35 < np.mean(found) < 0.65  # 4 standard errors of a uniform mean


def test_what_is_known_is_taken_away():
    rng = np.random.default_rng(1)
    known = rng.standard_normal(27)
    x, y = (known + 0.1 * rng.standard_normal(27) for _ in range(2))
    plain = prediction.rank_correlation(x, y, GROUPS)
    left = prediction.partial(x, y, np.stack([known, known], axis=1), GROUPS)
    assert plain > 0.9 and abs(left) < 0.5


def test_orders_mix_within_families_only():
    order = prediction.permuted(np.random.default_rng(0), GROUPS, 27)
    for group in GROUPS:
        assert sorted(order[group]) == group.tolist()
    assert (order != np.arange(27)).any()


def test_the_line_predicts_a_left_out_family_where_it_holds_across_them():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(27)
    errors = prediction.left_out(x, 2 * x + 1, GROUPS)
    assert errors["line"] < 1e-9 < errors["mean"]


def test_probes_are_averaged_over_the_levels_of_the_study():
    made = config()
    probe = {"sigmas": [0.1, 0.5, 1.0, 5.0]}
    probe["pixels"] = {"score": {"beyond": [9.0, 1.0, 3.0, 9.0]}}
    assert prediction.measured(made, probe, "pixels", "score", "beyond") == 2.0
    made.prediction.sigmas = (20.0, 30.0)
    with pytest.raises(ValueError, match="holds none of the levels"):
        prediction.measured(made, probe, "pixels", "score", "beyond")


def test_a_study_is_made_from_the_rows_and_probes_of_a_run(tmp_path, capsys):
    """Two families of three seeds; what labels do elsewhere lowers the outcome."""
    made = config(100)
    made.seeds, made.models = (0, 1, 2), ConfigDict({"a": {}, "b": {}})
    beyond = {"a": [0.1, 0.2, 0.3], "b": [0.5, 0.6, 0.7]}
    curves = lambda share: {"beyond": [share], "radius": [1.0], "strength": [1.0]}
    probe = lambda share: {
        "loss": share,
        "sigmas": [1.0],
        "pixels": {"score": curves(0.5), "denoiser": curves(0.5)},
        "conditions": {"score": curves(share), "denoiser": curves(share)},
    }
    numbers = {
        "rows": [
            {"model": name, "k": k, "by_seed": [1 - share for share in shares]}
            for name, shares in beyond.items()
            for k in (1, 6)
        ],
        "models": {name: [probe(s) for s in shares] for name, shares in beyond.items()},
    }
    prediction.study(made, numbers, {"a": "one", "b": "two"}, folder(tmp_path))
    found = numbers["prediction"]
    assert (found["models"], found["families"]) == (6, 2)
    assert found["within"] == pytest.approx(-1) == found["pooled"]
    assert (tmp_path / "figures" / "prediction.png").exists()
    del numbers["prediction"]
    numbers["rows"][1]["by_seed"][0] = None
    prediction.study(made, numbers, {"a": "one", "b": "two"}, tmp_path)
    assert "no study: of 1 networks" in capsys.readouterr().out
    assert "prediction" not in numbers


def folder(path):
    (path / "figures").mkdir()
    return path


def test_figures_are_drawn_from_any_numbers(tmp_path):
    models = study(np.random.default_rng(0), slope=1.0)
    found = prediction.answer(config(100), models)
    prediction.draw(config(), models, found).savefig(tmp_path / "prediction.png")
    assert "left-out family" in prediction.tell(found)
    made = phase_config.get_config()
    rows = [
        {"model": name, "k": made.phase.k, "corrected": i / len(made.models)}
        for i, name in enumerate(made.models)
    ]
    phase.diagram(made, rows).savefig(tmp_path / "phase.png")
    assert (tmp_path / "phase.png").stat().st_size > 10_000
