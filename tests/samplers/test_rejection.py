"""Rejection by lifts: exact where densities are, an estimate where scores are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.densities import Box, Gaussian
from compjax.samplers import rejection

GRID = cj.karras_sigmas(257, 0.02, 30.0)[:-1]


def at(mean, variance=1.0):
    return Gaussian(jnp.full(2, mean), variance * jnp.eye(2))


def test_lifts_estimate_ratios_of_densities():
    """Within 4.5 standard errors, and what both bounds lose: (step in log sigma)^2."""
    p, q = at(0.5, 0.5), at(0.0)
    x0 = q.sample(jax.random.key(0), 64)
    found = cj.lift(jax.random.key(1), p, q, x0, GRID, 64)
    exact = p.log_prob(x0, GRID[-1]) - q.log_prob(x0, GRID[-1])
    assert jnp.abs(found.mean - exact).max() < 4.5 * found.standard_error.max() + 0.05
    assert exact.std() > 0.3


def test_the_same_noise_makes_lifts_sure():
    """Two models that nearly agree: their difference is known better than each."""
    p, q, x0 = at(0.05), at(0.0), jnp.ones((16, 2))
    together = cj.lift(jax.random.key(2), p, q, x0, GRID).standard_error
    alone = cj.elbo(jax.random.key(2), p, x0, GRID).standard_error
    assert together.mean() < alone.mean() / 3


def test_and_or_not_of_boxes_are_intersection_union_and_difference():
    square = Box(jnp.array([-1.0, -1.0]), jnp.array([1.0, 1.0]))
    left = Box(jnp.array([-1.0, -1.0]), jnp.array([0.2, 1.0]))
    low = Box(jnp.array([-1.0, -1.0]), jnp.array([1.0, 0.0]))
    lift = lambda p, x: p.log_prob(x) - square.log_prob(x)
    rules = {
        "and": lambda key, x: (lift(left, x) > 0) & (lift(low, x) > 0),
        "or": lambda key, x: (lift(left, x) > 0) | (lift(low, x) > 0),
        "not": lambda key, x: (lift(left, x) > 0) & ~(lift(low, x) > 0),
    }
    shares = {"and": 0.3, "or": 0.8, "not": 0.3}
    for name, holds in rules.items():
        propose = lambda key: square.sample(key, 4000)
        kept = rejection(jax.random.key(3), propose, holds, 10_000)
        assert kept.x.shape == (10_000, 2)
        error = 4.5 * np.sqrt(0.25 / kept.proposals)
        assert kept.share == pytest.approx(shares[name], abs=error)
        inside = (kept.x[:, 0] <= 0.2), (kept.x[:, 1] <= 0)
        right = {
            "and": inside[0] & inside[1],
            "or": inside[0] | inside[1],
            "not": inside[0] & ~inside[1],
        }
        assert right[name].all()


def test_what_is_empty_ends_with_nothing():
    propose = lambda key: at(0.0).sample(key, 100)
    kept = rejection(
        jax.random.key(4), propose, lambda key, x: x[:, 0] > 99, 10, rounds=3
    )
    assert kept.x.shape == (0, 2)
    assert (kept.proposals, kept.share) == (300, 0.0)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="n must be a positive whole number"):
        rejection(jax.random.key(0), lambda key: key, lambda key, x: x, 0)
    with pytest.raises(ValueError, match="draws must be at least 2"):
        cj.lift(jax.random.key(0), at(0.0), at(0.0), jnp.ones((1, 2)), GRID, draws=1)
