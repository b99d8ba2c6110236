"""The exact figures at tiny sizes: values beside closed forms, one-line mistakes."""

import json

import matplotlib
import pytest

from configs.projective import appendix_g as appendix_g_config
from configs.projective import commutation as commutation_config
from configs.projective import non_smoothness as non_smoothness_config
from configs.projective import sprite_world as sprite_world_config
from experiments.projective import (
    appendix_g,
    commutation,
    non_smoothness,
    sprite_world,
)

pytestmark = pytest.mark.slow  # all of them together

matplotlib.use("Agg")


def run(module, config, folder, **changes):
    """The checks of a figure, by their names, after a run with these changes."""
    with config.unlocked():
        config.update(changes)
    module.main(config, folder / "run")
    results = json.loads((folder / "run" / "results.json").read_text())
    figures = list((folder / "run" / "figures").glob("*.png"))
    assert len(figures) == 1 and figures[0].stat().st_size > 10_000
    assert {"seed", "versions", "devices", "date", "seconds"} <= results.keys()
    for check in results["checks"]:
        assert check["deviation"] == check["value"] - check["expected"]
    return {check["quantity"]: check for check in results["checks"]}


def test_commutation(tmp_path, capsys):
    checks = run(
        commutation,
        commutation_config.get_config(),
        tmp_path,
        levels=4,
        steps=40,
        grid=301,
        checked=(1.0,),
    )
    for name, check in checks.items():
        if name.startswith("largest KL"):
            assert check["value"] < 1e-9  # quadratic in float32 rounding
        if name.startswith("KL at sigma"):
            assert check["expected"] > 0.01
            # 24 standard deviations of a smooth density in 301 trapezoids; float32.
            assert abs(check["deviation"]) < 1e-4
    assert "deviation" in capsys.readouterr().out


def test_non_smoothness(tmp_path):
    checks = run(
        non_smoothness,
        non_smoothness_config.get_config(),
        tmp_path,
        angles=(5.0, 90.0),
        profiles=(5.0,),
        speeds=(4.0, 8.0),
        levels=20,
        samples=256,
        steps=60,
    )
    # 20 levels interpolated in a curve that climbs once: its curvature over 8 h^2.
    assert abs(checks["corner mass at 1 tau, 5 degrees"]["deviation"]) < 0.03
    speed = checks["speed of C[p^sigma] times tau, 4 degrees"]
    # Corrections are of the order of the angle; the lemma asks for 1/2 only.
    assert abs(speed["deviation"]) < 0.4 and speed["value"] > 0.5
    for sampler in ("reverse SDE", "flow ODE"):
        assert checks[f"wrong fraction, {sampler}, 90 degrees"]["value"] < 0.02
    # Five standard errors of 256 samples.
    limit = checks["wrong fraction, flow ODE, 5 degrees"]
    assert abs(limit["deviation"]) < 5 * (0.25 / 256) ** 0.5


def test_appendix_g(tmp_path):
    checks = run(
        appendix_g,
        appendix_g_config.get_config(),
        tmp_path,
        coordinates=3,
        requested=(0, 2),
        floors=(0.05, 1.0),
        shown=4,
        samples=256,
        steps=60,
    )
    at = lambda name: checks[name]
    # The sampled spread is 0.05 a coordinate, 1/2 for clutter; 60 steps end a little
    # above the floor.
    assert abs(at("one at a time, over p_b, requested")["deviation"]) < 0.02
    assert abs(at("one at a time, over p_u, requested")["deviation"]) < 0.03
    assert abs(at("coin clutter, over p_b, others")["deviation"]) < 0.2
    assert abs(at("mode, k = 3, scale 0.05")["deviation"]) < 1e-3
    # The law of small floors must fail at a large one, where the fixed point holds.
    law = [c for c in checks.values() if c["source"].startswith("1/k: holds")]
    assert law[-1]["deviation"] > 0.05


@pytest.mark.slow
def test_sprite_world(tmp_path):
    checks = run(
        sprite_world,
        sprite_world_config.get_config(),
        tmp_path,
        side=2,
        pixels=4,
        templates=2,
        most=2,
        samples=32,
        weights=(1.0, 4.0),
        sde_steps=60,
        fine_steps=120,
    )
    for k in (1, 2, 3, 4):
        assert checks[f"A, k = {k}, reverse SDE: exact"]["value"] == 1.0
    # 60 steps are coarse: within a tenth of a template.
    assert abs(checks["B, k = 2, reverse SDE: strength"]["deviation"]) < 0.1
    assert checks["B - A at k = 1, largest score"]["value"] < 1e-3


def test_law_of_clutter():
    # One request among 9 places: 0 to 4 others, evenly, so 2 of 8.
    assert sprite_world.clutter_law(9, 5, 1) == pytest.approx(0.25)
    assert sprite_world.clutter_law(9, 5, 5) == 0.0
    assert sprite_world.clutter_law(9, 5, 6) is None
    # 4 whole and 2 halves of 6; and setting B's half at 2 requests for 1 object.
    assert sprite_world.surplus_law(5, 6) == pytest.approx(5 / 6)
    assert sprite_world.surplus_law(1, 2) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("module", "config", "changes", "message"),
    [
        (appendix_g, appendix_g_config, {"requested": (0, 8)}, "requested"),
        (appendix_g, appendix_g_config, {"shown": 0}, "shown"),
        (commutation, commutation_config, {"grid": 3}, "grid"),
        (non_smoothness, non_smoothness_config, {"samples": 1}, "samples"),
        (sprite_world, sprite_world_config, {"most": 10}, "most"),
        (sprite_world, sprite_world_config, {"sde_steps": 1}, "sde_steps"),
    ],
)
def test_mistakes_are_said_before_any_work(module, config, changes, message, tmp_path):
    config = config.get_config()
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        module.main(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
