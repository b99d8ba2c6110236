"""Distances against independent formulas, and the calibration of the test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.stats
from hypothesis import given

import compjax as cj
from compjax import analysis
from compjax.testing import strategies

GAUSSIAN = cj.densities.Gaussian


def double(p):
    return np.asarray(p.mean, float), np.asarray(p.cov, float)


@given(strategies.gaussians(), strategies.gaussians())
def test_kl_is_the_textbook_formula(p, q):
    (mp, cp), (mq, cq) = double(p), double(q)
    precision = np.linalg.inv(cq)
    logs = np.linalg.slogdet(cq)[1] - np.linalg.slogdet(cp)[1]
    shift = mq - mp
    expected = 0.5 * (np.trace(precision @ cp) - 3 + logs + shift @ precision @ shift)
    # Both in double precision, with condition numbers of a few hundred.
    assert np.isclose(analysis.gaussian_kl(p, q), expected, rtol=1e-9, atol=1e-9)
    assert analysis.gaussian_kl(p, p) < 1e-20


def test_kl_against_quadrature():
    p, q = (
        GAUSSIAN(np.full(1, m), np.full((1, 1), c)) for m, c in ((0.3, 0.5), (1, 2))
    )
    pdf = lambda g: scipy.stats.norm(float(g.mean[0]), float(g.cov[0, 0]) ** 0.5)
    integrand = lambda x: pdf(p).pdf(x) * (pdf(p).logpdf(x) - pdf(q).logpdf(x))
    expected = scipy.integrate.quad(integrand, -8, 8)[0]
    assert np.isclose(analysis.gaussian_kl(p, q), expected, rtol=1e-7)


@given(strategies.gaussians(), strategies.gaussians())
def test_w2_is_the_textbook_formula(p, q):
    (mp, cp), (mq, cq) = double(p), double(q)
    root = np.real(scipy.linalg.sqrtm(cp))
    cross = np.real(scipy.linalg.sqrtm(root @ cq @ root))
    squared = ((mp - mq) ** 2).sum() + np.trace(cp + cq - 2 * cross)
    # Traces of order 10 cancel in the textbook, in double precision.
    assert np.isclose(analysis.gaussian_w2(p, q) ** 2, squared, rtol=1e-6, atol=1e-6)
    assert analysis.gaussian_w2(p, p) < 1e-6


@given(strategies.gaussians(), strategies.noise_levels(), strategies.noise_levels())
def test_noise_moves_a_law_by_at_most_its_size(p, a, b):
    # The coupling by the same noise: W2 <= sqrt(d) |a - b|.
    distance = analysis.gaussian_w2(p.noised(a), p.noised(b))
    assert distance <= 3**0.5 * abs(float(a - b)) * (1 + 1e-4) + 1e-4


@given(strategies.arrays((20, 1), -3.0, 3.0), strategies.arrays((15, 1), -3.0, 3.0))
def test_energy_distance_is_scipys_in_one_dimension(x, y):
    # scipy's is the square root of the same, by distribution functions.
    expected = scipy.stats.energy_distance(np.ravel(x), np.ravel(y)) ** 2
    assert np.isclose(analysis.energy_distance(x, y), expected, atol=1e-9)


def test_two_sample_test_is_calibrated_and_has_power():
    draw = lambda seed, n: np.random.default_rng(seed).normal(size=(n, 2))
    tests = lambda shift: [
        analysis.two_sample_test(
            jax.random.key(i), draw(2 * i, 40), draw(2 * i + 1, 60) + shift, 99
        )
        for i in range(100)
    ]
    alike = tests(0.0)
    same, shifted = ([t.p_value for t in found] for found in (alike, tests(0.8)))
    # Under one law p is uniform on 1/100, ..., 1: 100 of them pass a Kolmogorov test at
    # 1e-3, and at most 16 are below .05 (binomial, P < 1e-5).
    assert scipy.stats.kstest(same, "uniform").pvalue > 1e-3
    assert np.mean(np.array(same) <= 0.05) <= 0.16
    assert np.mean(np.array(shifted) <= 0.05) > 0.9
    for test in alike:
        # The quantile lies between the 94th and 95th of 99 shuffles, so that four or
        # five of them may be farther than a distance above it.
        above = test.distance > test.quantile
        assert above or test.p_value > 0.055
        assert test.p_value < 0.065 or not above


def test_shuffles_that_change_nothing_count_as_equally_far():
    """Two points always part the same way, and six at every tenth shuffle."""
    test = lambda x, y: analysis.two_sample_test(jax.random.key(0), x, y, 199).p_value
    assert test(np.zeros((1, 1)), np.ones((1, 1))) == 1.0
    x = np.array([[0.0], [0.1], [0.3]])
    # 200 draws at 2 / 20, less four standard errors.
    assert test(x, 10.7 + x) > 0.1 - 4 * (0.1 * 0.9 / 200) ** 0.5


def test_two_sample_reports_the_distance_and_a_quantile_it_exceeds():
    x = jax.random.normal(jax.random.key(0), (80, 2))
    found = analysis.two_sample_test(jax.random.key(1), x, x + 1.0, 199)
    assert np.isclose(found.distance, analysis.energy_distance(x, x + 1.0))
    assert found.distance > found.quantile > 0 and found.p_value == 1 / 200
    equal = analysis.two_sample_test(jax.random.key(1), x[:40], x[:40], 199)
    assert equal.distance < equal.quantile and equal.p_value > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.energy_distance(np.ones((2, 1)), np.ones((2, 2))), "shapes"),
        (lambda: analysis.energy_distance(np.ones(3), np.ones(3)), "shapes"),
        (
            lambda: analysis.energy_distance(np.ones((2, 1)), np.full((2, 1), np.nan)),
            "finite",
        ),
        (
            lambda: analysis.two_sample_test(
                jax.random.key(0), np.ones((2, 1)), np.ones((2, 1)), 0
            ),
            "at least 1",
        ),
        (
            lambda: analysis.gaussian_kl(
                GAUSSIAN(jnp.zeros(1), jnp.eye(1)), GAUSSIAN(jnp.zeros(2), jnp.eye(2))
            ),
            "one space",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
