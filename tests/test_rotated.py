"""Lemma 7.1: noise does not see rotations, so turned features compose exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import compjax as cj
from compjax.testing import (
    Affine,
    assert_close,
    assert_commutes_with_noise,
    assert_score_is_gradient,
    strategies,
)

GAUSSIAN = cj.densities.Gaussian
ROTATED = cj.densities.Rotated
POINTS = strategies.points()
LEVELS = strategies.noise_levels()


@given(strategies.any_densities(), strategies.rotations(), POINTS, LEVELS)
def test_score_is_gradient(p, q, x, sigma):
    assert_score_is_gradient(ROTATED(p, q), x, sigma)


@given(strategies.gaussians(), strategies.rotations(), POINTS, LEVELS)
def test_rotated_gaussian_is_the_gaussian_of_rotated_moments(p, q, x, sigma):
    oracle = p.pushforward(q.T)  # x = Q^T z
    assert_close(ROTATED(p, q)(x, sigma), oracle(x, sigma))
    rotated, expected = (d.log_prob(x, sigma) for d in (ROTATED(p, q), oracle))
    np.testing.assert_allclose(rotated, expected, rtol=1e-3, atol=1e-3)


@given(strategies.any_densities(), strategies.rotations(), POINTS)
def test_agrees_with_pullback_at_noise_zero_and_above(p, q, x):
    # The Jacobian of a rotation is one, and its noise is the same noise.
    pulled = cj.pullback(p, Affine(q, jnp.zeros(3)))
    for sigma in (0.3, 3.0):
        assert_close(ROTATED(p, q)(x, sigma), pulled(x, sigma))


@given(strategies.gaussian_mixtures(), strategies.rotations(), LEVELS)
def test_samples_are_turned(p, q, sigma):
    draw = lambda law: law.sample(jax.random.key(0), 5, sigma)
    clean = draw(p)
    # Q Q^T z, two products of 3 terms in float32.
    scale = 1 + float(jnp.abs(clean).max())
    np.testing.assert_allclose(draw(ROTATED(p, q)) @ q.T, clean, atol=1e-5 * scale)


def turned(parts, q):
    """The parts and the law of their composition, in turned coordinates."""
    background, conditionals = parts
    turn = lambda p: ROTATED(p, q)
    composition = cj.compose(turn(background), *map(turn, conditionals))
    return composition, turn(parts.composition())


@given(
    strategies.factorized_conditionals(),
    strategies.rotations(5),
    strategies.points(4, 5),
    LEVELS,
)
def test_lemma_7_1(parts, q, x, sigma):
    assert_commutes_with_noise(*turned(parts, q), x, sigma)


def test_lemma_7_1_needs_an_orthogonal_map():
    """A shear in place of the rotation: composing and noising part ways."""
    background, conditionals = sheared_toy(1.5)
    composition = cj.compose(background, *conditionals)
    target = cj.densities.compose_gaussians(background, conditionals)
    x = jnp.array([[1.0, 0.0]])
    assert_commutes_with_noise(composition, target, x, 0.0)
    with pytest.raises(AssertionError):
        assert_commutes_with_noise(composition, target, x, 0.5)


def sheared_toy(shear):
    """Gaussians that factorize in z, seen in x = A^-1 z with A a shear."""
    inverse = np.linalg.inv(np.array([[1.0, shear], [0.0, 1.0]]))
    background = GAUSSIAN(np.zeros(2), np.eye(2))
    right = GAUSSIAN(np.array([2.0, 0.0]), np.diag([0.1, 1.0]))
    up = GAUSSIAN(np.array([0.0, 2.0]), np.diag([1.0, 0.1]))
    pushed = [p.pushforward(inverse) for p in (background, right, up)]
    return pushed[0], tuple(pushed[1:])


UNIT = GAUSSIAN(np.zeros(2), np.eye(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ROTATED(UNIT, np.array([[1.0, 0.5], [0.0, 1.0]])), "orthogonal"),
        (lambda: ROTATED(UNIT, np.ones((2, 3))), r"\[d, d\]"),
        (lambda: ROTATED(cj.power(UNIT, 2), np.eye(2)), "exact density"),
        (lambda: ROTATED(UNIT, np.eye(2))(jnp.ones((1, 3)), 1.0), r"\[b, 2\]"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
