"""The prediction study and the figures of diagnostics, at the size of a test."""

import jax
import numpy as np
import pytest
from ml_collections import config_dict

import compjax as cj
from configs.projective import certificate as certificate_config
from configs.projective import ledger as ledger_config
from configs.projective import prediction as prediction_config
from experiments.projective import certificate, family, ledger, prediction

pytestmark = pytest.mark.slow  # all of them together


def small(module, **changes):
    config = module.get_config()
    config.update(config_dict.ConfigDict(changes))
    return config


def test_auroc_is_the_share_of_ordered_pairs():
    rng = np.random.default_rng(0)
    values, failed = rng.integers(0, 5, 40), rng.uniform(size=40) < 0.4
    pairs = [
        (bad > good) + 0.5 * (bad == good)
        for bad in values[failed]
        for good in values[~failed]
    ]
    assert prediction.auroc(values, failed) == pytest.approx(np.mean(pairs))
    assert prediction.auroc(values, np.full(40, True)) is None


def test_the_study_judges_a_perfect_and_a_useless_diagnostic():
    rng = np.random.default_rng(0)
    config = small(prediction_config, count=30, resamples=50)
    rows = [
        {
            "kind": kind,
            "error": (error := float(10 ** rng.uniform(-3, -1))),
            **dict.fromkeys(prediction.NAMES, error),
            "cosine": float(rng.uniform()),
        }
        for kind in ("one", "other")
        for _ in range(30)
    ]
    found = prediction.judge(rows, config)
    assert found["checks"][0]["value"] == 1
    assert found["auroc"]["certificate"]["transfer"]["one"] > 0.9
    useless = found["auroc"]["cosine"]["pooled"]
    # A 95 % interval of 60 members that knows nothing: missed once in twenty draws.
    assert useless["low"] < 0.5 < useless["high"]


def test_diagnostics_tell_a_factorized_member_from_a_sheared_one():
    sigmas = cj.karras_sigmas(60, 0.01, 80.0)
    members = list(family.family(np.asarray(sigmas, float), 2))
    exact, sheared = (
        prediction.diagnostics(jax.random.key(0), members[i], sigmas, 200)
        for i in (0, 2)
    )
    for name in prediction.NAMES:
        assert np.isfinite(exact[name]) and np.isfinite(sheared[name])
    assert exact["certificate"] < 1e-5 < sheared["certificate"]
    assert exact["overlap"] < 1e-6 < sheared["overlap"]


def test_the_certificate_figure(tmp_path):
    config = small(certificate_config, shears=(0.0, 1.2), samples=4000, steps=100)
    rows = [certificate.weigh(config, s)[0] for s in config.shears]
    assert rows[0]["bound on KL"] < 1e-5  # rounding
    assert rows[1]["plain KL"] > 10 * rows[1]["weighted KL"]
    assert rows[1]["plain KL"] < rows[1]["bound on KL"]
    _, report, target = certificate.weigh(config, 1.2)
    certificate.draw(rows, report, target).savefig(tmp_path / "figure.png")


def test_the_ledger_figure(tmp_path):
    config = small(
        ledger_config, conditions=2, train_steps=2, batch=8, samples=50, steps=8
    )
    rows = [{"kind": "sheared", **row} for row in ledger.book(config, 1.0, "sheared")]
    assert [row["k"] for row in rows] == [1, 2]
    assert all(row["score_kl"] > 0 for row in rows)  # two updates learn nothing
    ledger.draw(rows).savefig(tmp_path / "figure.png")
    assert len(ledger.table(rows).splitlines()) == 3


@pytest.mark.parametrize(
    ("check", "module", "change", "message"),
    [
        (prediction.check, prediction_config, {"primary": "stars"}, "must be one of"),
        (prediction.check, prediction_config, {"count": 0}, "count must be at least"),
        (certificate.check, certificate_config, {"samples": 1}, "samples must be"),
        (ledger.check, ledger_config, {"conditions": 0}, "conditions must be"),
    ],
)
def test_configs_are_checked(check, module, change, message):
    with pytest.raises(ValueError, match=message):
        check(small(module, **change))
