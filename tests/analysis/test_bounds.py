"""Approximate factorization: bounds that hold, and that are attained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax import analysis
from compjax.testing import strategies

ERRORS = st.floats(1e-4, 20.0)
LOGS = strategies.arrays((4, 6), -2.0, 2.0)  # four laws of six outcomes
ERROR_LOGS = strategies.arrays((4, 6), -1.0, 1.0)


def normalised(logs):
    p = np.exp(logs - logs.max())
    return p / p.sum()


def divergences(p, q):
    return float((p * np.log(p / q)).sum()), float(np.abs(p - q).sum() / 2)


@given(LOGS, ERROR_LOGS, strategies.weights(3), st.floats(0.05, 2.0))
def test_bounds_hold(logs, changes, weights, size):
    """Four laws changed by at most their epsilon, and composed with any weights."""
    logs, w = np.asarray(logs, float), np.asarray(weights, float)
    changed = logs + size * np.asarray(changes, float)
    epsilons = size * np.abs(np.asarray(changes, float)).max(1)
    composed = lambda logs: normalised(logs[0] + w @ (logs[1:] - logs[:1]))
    error = analysis.composed_error(epsilons[1:], epsilons[0], w)
    bound = analysis.density_bound(error)
    for pair in ((logs, changed), (changed, logs)):
        kl, total_variation = divergences(*map(composed, pair))
        # The parts are only equal in double precision: 1e-12 of slack.
        assert kl <= bound.kl + 1e-12
        assert total_variation <= bound.total_variation + 1e-12


@given(ERRORS)
def test_bounds_are_attained_and_below_the_simple_ones(error):
    """Log-densities that differ by +-E, at the odds that make the most of it."""
    bound = analysis.density_bound(error)
    assert bound.kl <= min(error**2 / 2, 2 * error) + 1e-12
    assert bound.total_variation <= min(error / 2, error**0.5, 1.0)
    h = np.array([error, -error])
    odds = np.linspace(1e-6, 1 - 1e-6, 200_001)
    odds = np.concatenate([odds, 10.0 ** np.linspace(-18, -6, 10_001)])
    q = np.stack([odds, 1 - odds])
    p = q * np.exp(h - error)[:, None]
    p /= p.sum(0, keepdims=True)
    kl = np.maximum((p * np.log(p / q)).sum(0), (q * np.log(q / p)).sum(0)).max()
    # Odds on a grid miss the best ones by about 1e-5 of them.
    assert np.isclose(kl, bound.kl, rtol=1e-3)
    assert np.isclose(np.abs(p - q)[0].max(), bound.total_variation, rtol=1e-3)
    # A test of the test: an error that is understated by a tenth is exceeded.
    assert kl > analysis.density_bound(0.9 * error).kl


def test_the_series_at_small_errors_joins_the_formula():
    below, above = (analysis.density_bound(e).kl / e**2 for e in (0.999e-3, 1.001e-3))
    # The formula cancels to 1e-16 / 1e-6 of itself at E = 1e-3, and 1/2 - E^2 / 36
    # differs by 1e-10 between the two.
    assert np.isclose(below, above, rtol=2e-9)


@given(strategies.gaussians(), strategies.gaussians())
def test_girsanov_is_an_identity_for_exact_scores(p, q):
    r"""$KL(p_a \| q_a) - KL(p_b \| q_b)$ is the integral between a and b."""
    sigmas = np.geomspace(0.5, 4.0, 400)

    def squared_error(sigma):
        moments = ((np.float64(g.mean), np.float64(g.cov)) for g in (p, q))
        (mp, cp), (mq, cq) = moments
        noise = sigma**2 * np.eye(3)
        precision_p, precision_q = np.linalg.inv(cp + noise), np.linalg.inv(cq + noise)
        slope = precision_q - precision_p
        at_mean = precision_q @ (mp - mq)
        return np.trace(slope @ (cp + noise) @ slope.T) + at_mean @ at_mean

    errors = [squared_error(sigma) for sigma in sigmas]
    kl = lambda s: analysis.gaussian_kl(p.noised(s), q.noised(s))
    expected = kl(sigmas[0]) - kl(sigmas[-1])
    # Trapezoids of 0.5 % steps: (0.005)^2 / 12 times curvatures of about ten.
    assert np.isclose(
        analysis.girsanov_bound(sigmas, errors), expected, rtol=1e-3, atol=1e-6
    )


@given(ERRORS, st.integers(1, 9))
def test_errors_add_up(error, k):
    equal = analysis.composed_error(np.full(k, error), error)
    assert np.isclose(equal, (2 * k - 1) * error)
    assert np.isclose(analysis.composed_error([error], 99.0), error)  # k = 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.composed_error([-0.1], 0.0), "not negative"),
        (lambda: analysis.composed_error([0.1], 0.0, [1.0, 2.0]), r"\[k\]"),
        (lambda: analysis.density_bound(-1.0), "not negative"),
        (lambda: analysis.girsanov_bound([1.0], [1.0]), "n >= 2"),
        (lambda: analysis.girsanov_bound([0.0, 1.0], [1.0, -1.0]), "not negative"),
        (lambda: analysis.girsanov_bound([0.0, 1.0], [1.0, np.nan]), "not negative"),
        (lambda: analysis.girsanov_bound([0.0, 2.0, 1.0], [1.0] * 3), "rise or fall"),
        (lambda: analysis.girsanov_bound([-1.0, 1.0], [1.0] * 2), "rise or fall"),
        (lambda: analysis.composed_error([np.nan], 0.0), "not negative"),
        (lambda: analysis.density_bound(np.inf), "finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
