"""Closed forms of the two failures: the jump of lemma 7.2, and the 1/k law."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

import compjax as cj
from compjax import analysis

WEIGHTS = st.floats(0.02, 0.9)


def one_hot(n, variance):
    """p_i = N(e_i, v I), their mixture, and the empty background."""
    cov = variance * np.eye(n)
    parts = [cj.densities.Gaussian(e, cov) for e in np.eye(n)]
    logs, covs = np.zeros(n), np.broadcast_to(cov, (n, n, n))
    unconditional = cj.densities.GaussianMixture(logs, np.eye(n), covs)
    return parts, unconditional, cj.densities.Gaussian(np.zeros(n), cov)


@settings(max_examples=10)
@given(st.integers(1, 6), st.floats(0.02, 3.0))
def test_strength_is_the_zero_of_the_composed_score(k, variance):
    parts, unconditional, _ = one_hot(6, variance)
    found = analysis.composed_strength(k, 6, variance)
    x = jnp.full((1, 6), found.others).at[0, :k].set(found.requested)
    score = cj.compose(unconditional, *parts[:k])(x, 0.0)
    # Scores of order 1 / v, in float32, of k + 1 parts.
    assert float(jnp.abs(score).max()) < 1e-5 * (1 + k / variance)
    assert np.isclose(k * found.requested + (6 - k) * found.others, 1.0)


@given(st.integers(2, 9))
def test_one_over_k_is_the_limit_and_only_that(k):
    assert np.isclose(analysis.composed_strength(k, 12, 1e-3).requested, 1 / k)
    assert analysis.composed_strength(k, 12, 0.5).requested - 1 / k > 0.05


def test_the_empty_background_does_not_fade():
    """The background swapped: strength 1 whatever k, so the law is the mixture's."""
    parts, _, empty = one_hot(6, 0.1)
    x = jnp.zeros((1, 6)).at[0, :4].set(1.0)
    assert float(jnp.abs(cj.compose(empty, *parts[:4])(x, 0.0)).max()) < 1e-4


def test_total_intensity_is_that_of_one_object():
    """The mean of the composed law sums to 1 at every floor, by quadrature."""
    parts, unconditional, _ = one_hot(3, 0.3)
    axis = np.linspace(-3.0, 3.5, 66)
    grid = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3)
    logs = cj.compose(unconditional, *parts[:2]).log_density(jnp.asarray(grid), 0.0)
    p = np.exp(np.asarray(logs, float) - float(logs.max()))
    mean = (p[:, None] * grid).sum(0) / p.sum()
    assert np.isclose(mean.sum(), 1.0, atol=1e-4)
    assert mean[0] > 0.5 > mean[2]


@given(WEIGHTS)
def test_jump_climbs_to_the_plateau(weight):
    levels = np.geomspace(0.05, 1e3, 60)
    masses = analysis.jump(levels, weight)
    assert (np.diff(masses) > 0).all() and masses[0] < 1e-6
    assert np.isclose(masses[-1], analysis.plateau(weight), rtol=1e-4)


@settings(max_examples=5)
@given(st.floats(0.05, 0.5), st.floats(0.25, 1.0))
def test_quadrature_agrees_with_the_limit_at_small_angles(weight, level):
    made = analysis.corners(0.01, weight, scale=1e-3)
    sigma = np.sqrt((level * made.tau) ** 2 - 1e-6)  # the points have a scale already
    # Corrections are of the order of sigma / L = 0.01 at most.
    mass = analysis.corner_mass(made, sigma)
    assert np.isclose(mass, analysis.jump(level, weight), atol=0.01)


def test_orthogonal_features_have_no_jump():
    """Lemma 7.2 needs an angle: at pi / 2 the path is that of noise on the point 0."""
    made = analysis.corners(np.pi / 2, 0.1)
    for sigma in (0.1, 0.3, 0.6):
        middle = 2**-0.5 / 2
        expected = scipy.stats.norm.sf(middle / np.hypot(sigma, 1e-3))
        # Linear interpolation on a grid of a quarter of sigma: (1/4)^2 / 8 * .24 + ...
        assert np.isclose(analysis.corner_mass(made, sigma), expected, atol=0.004)
        speed = analysis.path_speed(made, sigma, 0.9 * sigma)
        assert speed < 2**0.5


@pytest.mark.parametrize("degrees", [8.0, 2.0])
def test_lemma_7_2(degrees):
    made = analysis.corners(np.deg2rad(degrees), 0.1)
    speed = analysis.path_speed(made, 0.3 * made.tau, 0.2 * made.tau)
    assert speed > 1 / (2 * made.tau) > 2**0.5
    # What the corners gain has come from 0, over a distance of 1: corrections of order
    # tau, which is 0.14 and 0.03.
    gain = analysis.jump(0.3, 0.1) - analysis.jump(0.2, 0.1)
    assert np.isclose(speed * 0.1 * made.tau, gain**0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.corners(0.0), "angle"),
        (lambda: analysis.corners(2.0), "angle"),
        (lambda: analysis.corners(1.0, weight=1.0), "weight"),
        (lambda: analysis.corners(1.0, scale=0.0), "scale"),
        (lambda: analysis.corners(1.0, length=np.inf), "length"),
        (lambda: analysis.plateau(0.0), "weight"),
        (lambda: analysis.jump(0.0, 0.1), "level must be positive"),
        (lambda: analysis.jump(1.0, 1.0), "weight in"),
        (lambda: analysis.path_speed(analysis.corners(1.0), 0.2, 0.2), "two noise"),
        (lambda: analysis.profile(analysis.corners(1.0, scale=1e-4), 0.0), "at least"),
        (lambda: analysis.composed_strength(0, 3, 1.0), "between 1 and n"),
        (lambda: analysis.composed_strength(2, 3, 0.0), "positive"),
        (lambda: analysis.composed_strength(2, 3, np.inf), "finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
