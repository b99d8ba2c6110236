"""Boxes and circles: against float64, and the laws of densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.special import logsumexp
from scipy.stats import norm

from compjax.densities import Box, Circle
from compjax.testing import assert_score_is_gradient, strategies

LOW, HIGH = np.array([-0.2, -1.0]), np.array([0.2, 1.0])
BOX = lambda: Box(jnp.asarray(LOW, jnp.float32), jnp.asarray(HIGH, jnp.float32))
RING = lambda: Circle(jnp.array([-0.5, 0.25]), 0.8)


def box_log_prob(x, sigma):
    """log (Phi(b) - Phi(a)) in float64, from the side where both are small."""
    a, b = (LOW - x) / sigma, (HIGH - x) / sigma
    a, b = np.where(a + b > 0, -b, a), np.where(a + b > 0, -a, b)
    large, small = norm.logcdf(b), norm.logcdf(a)
    side = large + np.log1p(-np.exp(small - large)) - np.log(HIGH - LOW)
    return side.sum(1)


def circle_log_prob(x, sigma):
    """The mean of Gaussians around 4000 points of the line, in float64."""
    angle = 2 * np.pi * (np.arange(4000) + 0.5) / 4000
    line = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 0.8 + [-0.5, 0.25]
    squares = ((x[:, None] - line[None]) ** 2).sum(-1)
    logs = -squares / (2 * sigma**2) - np.log(2 * np.pi * sigma**2)
    return logsumexp(logs, axis=1) - np.log(4000)


@settings(max_examples=40, deadline=None)
@given(strategies.arrays((6, 2), -4.0, 4.0), strategies.noise_levels(0.02, 50.0))
def test_boxes_agree_with_float64(x, sigma):
    """Where log p = -20000 float32 has seven digits left of it."""
    exact = box_log_prob(np.asarray(x, float), float(sigma))
    found = np.asarray(BOX().log_prob(x, sigma), float)
    assert (np.abs(found - exact) < 2e-5 + 3e-6 * np.abs(exact)).all()


@settings(max_examples=40, deadline=None)
@given(strategies.arrays((6, 2), -4.0, 4.0), strategies.noise_levels(0.02, 50.0))
def test_circles_agree_with_float64(x, sigma):
    exact = circle_log_prob(np.asarray(x, float), float(sigma))
    found = np.asarray(RING().log_prob(x, sigma), float)
    assert (np.abs(found - exact) < 1e-4 + 3e-6 * np.abs(exact)).all()


@pytest.mark.parametrize("density", [BOX(), RING()], ids=["box", "circle"])
def test_scores_are_gradients(density):
    for sigma in (0.05, 0.5, 5.0):
        x = density.sample(jax.random.key(0), 64, 2 * sigma)
        assert_score_is_gradient(density, x, sigma)
        assert_score_is_gradient(density, jnp.full((1, 2), 9.0), sigma)


@pytest.mark.parametrize("density", [BOX(), RING()], ids=["box", "circle"])
@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_samples_follow_the_density(density, sigma):
    """E s = 0 and E |s|^2 = -E tr Hess log p, both within 4.5 standard errors."""
    x = density.sample(jax.random.key(1), 100_000, sigma)
    score = density(x, sigma)
    assert (jnp.abs(score.mean(0)) < 4.5 * score.std(0) / 316).all()
    trace = jax.vmap(
        lambda x: jnp.trace(jax.jacfwd(lambda x: density(x[None], sigma)[0])(x))
    )(x)
    zero = (score**2).sum(1) + trace
    assert jnp.abs(zero.mean()) < 4.5 * zero.std() / 316


def test_without_noise_they_are_what_they_are():
    x = jnp.array([[0.0, 0.9], [0.3, 0.0]])
    assert jnp.exp(BOX().log_prob(x)).tolist() == pytest.approx([1.25, 0.0])
    assert (BOX()(x, 0.0) == 0).all()
    on_line = jnp.array([[0.3, 0.25], [0.0, 0.0]])
    assert RING().log_prob(on_line).tolist() == [np.inf, -np.inf]
    away = jnp.linalg.norm(
        RING().sample(jax.random.key(2), 50) - RING().center[None], axis=1
    )
    assert jnp.abs(away - 0.8).max() < 1e-6


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="high must be above low"):
        Box(jnp.zeros(2), jnp.array([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"low and high must both be \[d\]"):
        Box(jnp.zeros(2), jnp.ones(3))
    with pytest.raises(ValueError, match="radius must be positive"):
        Circle(jnp.zeros(2), 0.0)
    with pytest.raises(ValueError, match="must be a point"):
        Circle(jnp.zeros(3))
