"""The assertions reject what they should reject."""

import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.testing import (
    assert_close,
    assert_permutation_invariant,
    assert_score_is_gradient,
    assert_single_trace,
)

P = cj.densities.Gaussian(np.zeros(2), np.eye(2))
Q = cj.densities.Gaussian(np.ones(2), np.eye(2))
X = jnp.ones((2, 2))


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([[np.nan]], [[1.0]]),
        ([[1.0]], [[np.nan]]),
        ([[np.nan]], [[np.nan]]),
        ([[np.inf]], [[np.inf]]),
        ([[1.01]], [[1.0]]),
        ([[1e6], [0.5]], [[1e6], [0.0]]),  # a large row does not excuse another
        ([[1.0]], [1.0]),
    ],
)
def test_close_means_close(actual, expected):
    with pytest.raises(AssertionError):
        assert_close(np.array(actual), np.array(expected))


def test_a_wrong_score_is_found():
    class Wrong:
        def __call__(self, x, sigma):
            return 1.01 * P(x, sigma)

        def log_density(self, x, sigma):
            return P.log_density(x, sigma)

    with pytest.raises(AssertionError):
        assert_score_is_gradient(cj.types.pytree(Wrong)(), X, 0.5)


def test_an_operator_that_minds_the_order_is_found():
    with pytest.raises(AssertionError):
        assert_permutation_invariant(cj.compose, (P, Q), X, 0.5)


def test_a_second_trace_is_found():
    evaluate = lambda score, x: score(x, 0.5)
    with pytest.raises(AssertionError):
        assert_single_trace(evaluate, (P, X), (P, X[:1]))
