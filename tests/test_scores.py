import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax.tree_util import Partial

import compjax as cj
from compjax import scores
from compjax.testing import (
    assert_close,
    assert_same_score,
    assert_score_is_gradient,
    strategies,
)

ROUND_TRIPS = {
    "denoiser": (scores.denoise, cj.score_from_denoiser),
    "epsilon": (scores.epsilon, cj.score_from_epsilon),
    "velocity": (scores.velocity, cj.score_from_velocity),
}
denoise = jax.jit(lambda score, x, sigma: score.denoise(x, sigma))


def energy(density, x, sigma):
    return -density.log_prob(x, sigma)


@pytest.mark.parametrize("kind", ["denoiser", "epsilon", "velocity"])
@given(strategies.any_densities(), strategies.points(), strategies.noise_levels())
def test_parametrisations_round_trip(kind, density, x, sigma):
    read, lift = ROUND_TRIPS[kind]
    score = lift(Partial(read, density))
    # Reading D and dividing by sigma^2 loses |x| 2^-23 / sigma^2 at small sigma.
    tolerance = 1e-4 * (1 + 1 / float(sigma) ** 2)
    assert_same_score(score, density, x, sigma, tolerance)
    assert_close(denoise(score, x, sigma), denoise(density, x, sigma))


@given(strategies.gaussian_mixtures(), strategies.points(), strategies.noise_levels())
def test_energy_gives_score_and_log_density(density, x, sigma):
    score = scores.score_from_energy(Partial(energy, density))
    assert_same_score(score, density, x, sigma)
    assert_score_is_gradient(score, x, sigma)


def test_denoiser_of_a_two_point_law():
    # Data +-1 with equal odds: E[x0 | x] = tanh(x / sigma^2), worked out by hand.
    points = cj.densities.GaussianMixture(
        jnp.zeros(2), jnp.array([[-1.0], [1.0]]), 1e-6 * jnp.ones((2, 1, 1))
    )
    x = jnp.linspace(-2, 2, 9)[:, None]
    np.testing.assert_allclose(points.denoise(x, 0.7), np.tanh(x / 0.49), atol=1e-4)


@pytest.mark.parametrize("kind", ["denoiser", "epsilon", "velocity"])
def test_zero_and_finite_gradients_at_sigma_zero(kind):
    lift = getattr(cj, f"score_from_{kind}")
    score = lift(lambda x, sigma: 0.5 * x)
    x = jnp.ones((2, 3))
    assert (score(x, 0.0) == 0).all()
    gradient = jax.grad(lambda sigma: score(x, sigma).sum())(0.0)
    assert np.isfinite(gradient)
    mixed = score(x, jnp.array([0.0, 1.0]))
    assert (mixed[0] == 0).all() and (mixed[1] != 0).all()


def test_per_sample_levels_match_scalar_ones():
    score = cj.score_from_epsilon(lambda x, sigma: x)
    x, sigma = jnp.ones((3, 2, 2)), jnp.array([0.5, 1.0, 2.0])
    expected = [score(x[i : i + 1], sigma[i])[0] for i in range(3)]
    np.testing.assert_allclose(score(x, sigma), expected)


def test_edm_preconditioning_has_unit_variances():
    # The design conditions of EDM (its appendix B.6): with x = x0 + sigma eps and
    # x0 of variance sigma_data^2, input and target of F have variance one.
    sigma = jnp.logspace(-2, 2, 9)
    c_skip, c_out, c_in, _ = scores.edm_preconditioning(sigma, 0.5)
    np.testing.assert_allclose(c_in**2 * (sigma**2 + 0.25), 1, rtol=1e-5)
    target = (1 - c_skip) ** 2 * 0.25 + c_skip**2 * sigma**2
    np.testing.assert_allclose(target, c_out**2, rtol=1e-4)


class Linear:
    """Stands in for a linen module: hashable by value, with `apply`."""

    def __eq__(self, other):
        return isinstance(other, Linear)

    def __hash__(self):
        return 0

    def apply(self, variables, x, sigma, condition):
        shift = 0.0 if condition is None else condition
        return variables["params"] * x + shift


def test_network_is_a_conditional_score_and_a_score():
    network = cj.Network(Linear(), jnp.float32(0.5))
    x, c = jnp.ones((2, 3)), jnp.ones((1, 3))
    np.testing.assert_allclose(network.denoise(x, 2.0, c), 1.5 * x)
    np.testing.assert_allclose(network(x, 2.0), (0.5 * x - x) / 4)
    bound = cj.condition(network, c)
    np.testing.assert_allclose(bound(x, 2.0), network(x, 2.0, c))
    np.testing.assert_allclose(bound.denoise(x, 2.0), 1.5 * x)
    assert not hasattr(bound, "log_density")


def test_as_score_keeps_pytrees_and_lifts_functions():
    density = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
    assert cj.as_score(density) is density
    assert jax.tree.leaves(cj.as_score(jnp.tanh)) == []
    with pytest.raises(ValueError, match="callable"):
        cj.as_score(3.0)
    with pytest.raises(ValueError, match="lift it with"):
        cj.condition(jnp.tanh, jnp.ones(1))
