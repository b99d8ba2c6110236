"""`compose_gaussians` is the law whose score `compose` follows."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import compjax as cj
from compjax.testing import assert_close, strategies

GAUSSIAN = cj.densities.Gaussian
compose_gaussians = cj.densities.compose_gaussians
PARTS = strategies.factorized_gaussians()
LEVELS = strategies.noise_levels()
X = strategies.points(4, 2)


@given(PARTS, strategies.rotations(2), strategies.arrays((2,), 0.0, 1.0), X, LEVELS)
def test_score_is_that_of_compose(parts, q, w, x, sigma):
    background, *conditionals = (p.pushforward(q) for p in (parts[0], *parts[1]))
    law = compose_gaussians(background, conditionals, w, sigma)
    composed = cj.compose(background, *conditionals, weights=w)
    # The law is noised already, so its own noise level is 0.
    assert_close(law(x, 0.0), composed(x, sigma))


@given(PARTS, LEVELS)
def test_factorized_composition_commutes_with_noise(parts, sigma):
    background, conditionals = parts
    on_path = compose_gaussians(background, conditionals, sigma=sigma)
    noised = compose_gaussians(background, conditionals).noised(sigma)
    # float32 times the condition number, at most 20, of a few inverses.
    np.testing.assert_allclose(on_path.mean, noised.mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(on_path.cov, noised.cov, rtol=1e-4, atol=1e-4)


@given(strategies.gaussians(), LEVELS, strategies.points())
def test_of_nothing_is_the_background(p, sigma, x):
    assert_close(compose_gaussians(p, (), sigma=sigma)(x, 0.0), p(x, sigma))


@given(strategies.gaussians(), strategies.points(4, 3), LEVELS)
def test_noised_is_the_level(p, x, sigma):
    assert_close(p.noised(sigma)(x, 0.0), p(x, sigma))


ONE = GAUSSIAN(np.zeros(1), np.eye(1))
WIDE = GAUSSIAN(np.zeros(1), 4 * np.eye(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: compose_gaussians(ONE, (WIDE, WIDE)), "not positive definite"),
        (lambda: compose_gaussians(ONE, (ONE,), weights=np.ones(2)), "1 conditionals"),
        (
            lambda: compose_gaussians(ONE, (GAUSSIAN(np.zeros(2), np.eye(2)),)),
            "one space",
        ),
        (lambda: ONE.pushforward(np.eye(2)), r"\[m, 1\]"),
        (lambda: ONE.pushforward(np.ones((2, 1))), "positive definite"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
    assert jnp.isfinite(compose_gaussians(ONE, (ONE,)).mean).all()
