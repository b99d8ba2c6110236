import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.analysis import diagnose

pytestmark = pytest.mark.slow  # all of them together

GRID = cj.karras_sigmas(40, 0.02, 40.0)


def answers(background, conditionals, **options):
    report = diagnose(
        jax.random.key(0), background, conditionals, (300, 3), GRID, **options
    )
    return report, [finding.answer for finding in report.findings]


def gaussian(mean, variances, view=None):
    view = np.eye(3) if view is None else view
    return cj.densities.Gaussian(
        view @ np.array(mean), view @ np.diag(variances) @ view.T
    )


def parts(view=None):
    see = lambda mean, variances: gaussian(mean, variances, view)
    return see([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]), [
        see([2.0, 0.0, 0.0], [0.05, 1.0, 1.0]),
        see([0.0, 2.0, 0.0], [1.0, 0.05, 1.0]),
    ]


def test_factorized_conditionals_pass():
    report, found = answers(*parts())
    assert found == ["yes", "yes", "no"]
    assert report.blocks.labels.tolist() == [1, 2, 0]
    assert "theorem 5.3" in str(report)


def test_a_shear_fails_twice():
    report, found = answers(*parts(np.eye(3) + 1.5 * np.eye(3, k=1)))
    assert found == ["no", "no", "no"]
    assert "effective sample size" in report.findings[0].evidence


def test_aligned_shifts_are_sampled_and_are_not_projective():
    """The two questions are two: V is constant, and yet nobody asked for the sum."""
    ones = [1.0, 1.0, 1.0]
    moved = [gaussian([2.0, 0.0, 0.0], ones), gaussian([1.0, 1.0, 0.0], ones)]
    _, found = answers(gaussian([0.0, 0.0, 0.0], ones), moved)
    assert found[:2] == ["yes", "no"]


def test_setting_b_is_named():
    at = lambda i: gaussian(2 * np.eye(3)[i], [0.1, 0.1, 0.1])
    conditionals = [at(0), at(1)]
    report, found = answers(cj.mixture(*conditionals), conditionals)
    assert found[0] == "no" and found[2] == "yes"
    assert "0 and 1" in report.findings[2].evidence


def test_scores_are_enough():
    """What is no density is sampled down the grid; weights and features are heard."""
    background, conditionals = parts()
    lift = lambda p: jax.tree_util.Partial(type(p).__call__, p)
    report, found = answers(
        lift(background),
        [lift(p) for p in conditionals],
        weights=[1.0, 0.5],
        features=lambda x: x[:, :2],
    )
    # Half a conditional is guidance with a delta of no constant norm: not exact, and
    # not what the condition is alone.
    assert found == ["no", "no", "no"]
    assert "keeps its own block, but a weight" in report.findings[1].evidence
    np.testing.assert_allclose(report.draws[1].mean(0), [2, 0, 0], atol=0.3)
    assert report.orthogonality.cosines.shape == (2, 2)


def test_one_conditional_is_always_sampled():
    background, conditionals = parts()
    assert answers(background, conditionals[:1])[1] == ["yes", "yes", "no"]


def test_draws_of_ones_own_are_used():
    background, conditionals = parts()
    draws = [
        jnp.zeros((50, 3)) + jax.random.normal(jax.random.key(i), (50, 3))
        for i in range(3)
    ]
    report, _ = answers(background, conditionals, draws=draws)
    np.testing.assert_array_equal(report.draws[2], draws[2])


def test_one_conditional_is_projective_whatever_it_changes():
    """Over a sheared background its block is not independent, and need not be."""
    background, conditionals = parts(np.eye(3) + 1.5 * np.eye(3, k=1))
    assert answers(background, conditionals[1:])[1] == ["yes", "yes", "no"]
    weighted = answers(background, conditionals[1:], weights=[2.0])[1]
    assert weighted[1] != "yes"


def test_what_is_too_uncertain_is_no_bound():
    """With fewer samples than `FEW`, all the effective ones are too few."""
    background, conditionals = parts(np.eye(3) + 1.5 * np.eye(3, k=1))
    report = diagnose(jax.random.key(0), background, conditionals, (60, 3), GRID)
    assert "may exceed" in report.findings[0].evidence


def test_bad_input():
    background, conditionals = parts()
    plane = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
    with pytest.raises(ValueError, match=r"conditional 1 does not take .* \(3,\)"):
        answers(background, [conditionals[0], plane])
    wide = cj.as_score(lambda x, sigma: jnp.concatenate([x, x], 1))
    with pytest.raises(ValueError, match="conditional 0 returns"):
        answers(background, [wide])
    with pytest.raises(ValueError, match="the background is a plain function"):
        answers(lambda x, sigma: -x, conditionals)
    with pytest.raises(ValueError, match="3 sets in all; it holds 1"):
        answers(background, conditionals, draws=[np.zeros((9, 3))])
    with pytest.raises(ValueError, match=r"draws of conditional 1 .* \(9, 2\)"):
        draws = [np.zeros((9, 3)), np.zeros((9, 3)), np.zeros((9, 2))]
        answers(background, conditionals, draws=draws)
    with pytest.raises(ValueError, match=r"conditional 0 cannot be .*not finite"):
        answers(background, [cj.as_score(lambda x, sigma: 0 * x + jnp.inf)])
    with pytest.raises(ValueError, match="Samples of conditional 1 are not finite"):
        broken = np.full((9, 3), np.inf)
        answers(background, conditionals, draws=[draws[0], draws[0], broken])
    with pytest.raises(ValueError, match="does not drown"):
        low = cj.karras_sigmas(8, 0.01, 0.1)
        diagnose(jax.random.key(0), background, conditionals, (300, 3), low)
    with pytest.raises(ValueError, match="at least one conditional"):
        answers(background, [])
