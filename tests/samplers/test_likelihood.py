"""Likelihoods against closed forms; estimates against their own error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import compjax as cj
from compjax.densities import Gaussian, GaussianMixture
from compjax.divergence import HutchinsonTrace, divergence, divergence_estimate
from compjax.testing import strategies

GRID = cj.karras_sigmas(64, 0.01, 80.0)


@settings(max_examples=15, deadline=None)
@given(strategies.gaussian_mixtures(3), strategies.points())
def test_divergence_is_the_trace_of_the_hessian(p, x):
    exact = jax.vmap(
        lambda x: jnp.trace(jax.hessian(lambda x: p.log_prob(x[None], 0.7)[0])(x))
    )(x)
    assert jnp.abs(divergence(p, x, 0.7) - exact).max() < 1e-3 * (
        1 + jnp.abs(exact).max()
    )


@settings(max_examples=15, deadline=None)
@given(strategies.gaussians(3), strategies.points())
def test_exact_traces_give_closed_form_gaussians(p, x):
    """Within 1e-3, and of what is far away (log p = -500) within float32's 2e-5."""
    found = cj.log_likelihood(p, x, GRID)
    exact = p.log_prob(x, GRID[-2])
    assert jnp.abs(found - exact).max() < 1e-3 + 2e-5 * jnp.abs(exact).max()


def test_exact_traces_give_closed_form_mixtures():
    p = GaussianMixture(
        jnp.log(jnp.array([0.2, 0.8])),
        jnp.array([[-1.0, 0.0], [1.0, 1.0]]),
        0.2 * jnp.stack([jnp.eye(2)] * 2),
    )
    x = p.sample(jax.random.key(0), 64)
    found = cj.log_likelihood(p, x, cj.karras_sigmas(128, 0.01, 80.0))
    sigma = cj.karras_sigmas(128, 0.01, 80.0)[-2]
    assert jnp.abs(found - p.log_prob(x, sigma)).max() < 1e-3


def test_hutchinson_has_its_predicted_variance():
    """2 / n times the squares beside the diagonal, for symmetric Jacobians."""
    cov = jnp.array([[1.0, 0.7, 0.0], [0.7, 1.5, -0.3], [0.0, -0.3, 0.8]])
    p = Gaussian(jnp.zeros(3), cov)
    jacobian = -np.linalg.inv(np.asarray(cov) + 0.25 * np.eye(3))
    predicted = 2 * (jacobian**2).sum() - 2 * (np.diag(jacobian) ** 2).sum()
    x = jnp.zeros((1, 3))
    keys = jax.random.split(jax.random.key(1), 4000)
    for probes in (1, 4):
        trace = HutchinsonTrace(probes)
        with jax.debug_key_reuse(False):
            found = jax.vmap(trace, (0, None, None, None))(keys, p, x, 0.5)[:, 0]
        error = np.sqrt(predicted / probes / 4000)
        assert abs(found.mean() - np.trace(jacobian)) < 4.5 * error
        # The variance of a variance, for a few bounded values, is below twice its own.
        assert found.var() == pytest.approx(
            predicted / probes, rel=4 * np.sqrt(2 / 4000)
        )
    key = lambda: jax.random.key(2)
    estimate = divergence_estimate(key(), p, x, 0.5, 4)
    assert (estimate == HutchinsonTrace(4)(key(), p, x, 0.5)).all()


def test_estimated_likelihoods_have_their_predicted_variance():
    """The same signs serve all levels, so the off-diagonal term of the integral counts.

    It is 2 v1 v2 M12 with M = -int sigma (C + sigma^2)^-1 d sigma, between the levels,
    and the prior adds half of its own off-diagonal, which is below 1e-3 of it.
    """
    cov = jnp.array([[1.0, 0.8], [0.8, 1.0]])
    p, x = Gaussian(jnp.ones(2), cov), jnp.array([[0.5, -0.5]])
    values, vectors = np.linalg.eigh(np.asarray(cov, float))
    low, high = float(GRID[-2]) ** 2, float(GRID[0]) ** 2
    integral = (
        vectors @ np.diag(np.log((values + high) / (values + low)) / 2) @ (vectors.T)
    )
    predicted = 2 * abs(integral[0, 1])  # the size of a term of random sign
    exact = cj.log_likelihood(p, x, GRID)
    keys = jax.random.split(jax.random.key(2), 300)
    one = lambda key: cj.log_likelihood_estimate(key, p, x, GRID)
    with jax.debug_key_reuse(False):
        found = np.asarray(jax.vmap(one)(keys))[:, 0]
    assert found.std() == pytest.approx(predicted, rel=0.02)
    error = found.std() / np.sqrt(300)
    assert abs(found.mean() - float(exact[0])) < 4.5 * error
    assert one(jax.random.key(3))[0] == one(jax.random.key(3))[0]


def test_the_elbo_is_below_and_close():
    """On a fine grid the loss is (d / 2) sum (step in log sigma)^2, about 0.06 here."""
    p = Gaussian(jnp.zeros(2), jnp.array([[1.0, 0.5], [0.5, 1.0]]))
    x0 = p.sample(jax.random.key(3), 200)
    bound = cj.elbo(jax.random.key(4), p, x0, cj.karras_sigmas(1024, 0.01, 80.0), 32)
    gap = np.asarray(p.log_prob(x0) - bound.mean)
    error = float(np.sqrt((np.asarray(bound.standard_error) ** 2).sum()) / 200)
    assert -4 * error < gap.mean() < 0.15 + 4 * error
    coarse = cj.elbo(jax.random.key(4), p, x0, cj.karras_sigmas(64, 0.01, 80.0), 32)
    assert coarse.mean.mean() < bound.mean.mean() - 0.2


@pytest.mark.parametrize("name", ["gaussian", "mixture"])
def test_tracked_densities_are_the_exact_ones_for_small_steps(name):
    """Random, with the root of the steps: a third at 8 times as many."""
    p = {
        "gaussian": Gaussian(jnp.array([0.5, -1.0]), jnp.diag(jnp.array([1.0, 0.25]))),
        "mixture": GaussianMixture(
            jnp.log(jnp.array([0.2, 0.8])),
            jnp.array([[-1.0, 0.0], [1.0, 1.0]]),
            0.2 * jnp.stack([jnp.eye(2)] * 2),
        ),
    }[name]

    def error(n):
        grid = cj.karras_sigmas(n, 0.05, 40.0)[:-1]
        sampler, key = cj.samplers.Tracked(), jax.random.key(5)
        x, info = cj.sample(key, p, sampler, (2000, 2), grid)
        return info.log_density[-1] - p.log_prob(x, grid[-1])

    fine, coarse = error(1024), error(128)
    assert jnp.abs(fine).mean() < 0.3
    assert jnp.abs(coarse).mean() > 2 * jnp.abs(fine).mean()


def test_mistakes_are_told():
    p, x = Gaussian(jnp.zeros(1), jnp.eye(1)), jnp.ones((1, 1))
    with pytest.raises(ValueError, match="must be at least 3"):
        cj.log_likelihood(p, x, jnp.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="probes must be a positive whole number"):
        cj.log_likelihood_estimate(jax.random.key(0), p, x, GRID, probes=0)
    with pytest.raises(ValueError, match="draws must be at least 2"):
        cj.elbo(jax.random.key(0), p, x, GRID, draws=1)
