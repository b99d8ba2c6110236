"""How fast the weights of a composition change."""

import jax
import jax.numpy as jnp
from hypothesis import given, settings

import compjax as cj
from compjax import analysis
from compjax.samplers import scaled_weight_rate, weight_rate
from compjax.testing import strategies


@settings(max_examples=20, deadline=None)
@given(strategies.gaussians(3), strategies.gaussians(3), strategies.points())
def test_affine_rates_are_the_criterion(p, q, x):
    """Theorem N's V, which is written down elsewhere in another way."""
    composed = cj.compose(p, q, p, weights=[0.7, -0.4])
    mine = weight_rate(composed.coefficients(0.8), composed.parts(x, 0.8))
    v = analysis.criterion(composed, x, 0.8)
    size = float(jnp.abs(composed.parts(x, 0.8)).max()) ** 2
    assert jnp.abs(mine - v).max() < 1e-5 * (size + 1)


@settings(max_examples=20, deadline=None)
@given(strategies.gaussians(3), strategies.gaussians(3), strategies.points())
def test_rates_solve_the_equation_they_are_made_for(p, q, x):
    """d log pi / d tau' = FP(pi) / pi + g, all but g by automatic differentiation."""
    c = jnp.array([1.3, 0.9])
    pi = cj.product(p, q, weights=c)
    sigma = 0.9

    def log_pi(x, tau):
        return pi.log_density(x[None], jnp.sqrt(tau))[0]

    tau = jnp.float32(sigma**2)
    change = jax.vmap(lambda x: -jax.grad(log_pi, 1)(x, tau))(x)  # reverse time
    score = jax.vmap(jax.grad(log_pi), (0, None))(x, tau)
    trace = jax.vmap(lambda x: jnp.trace(jax.hessian(log_pi)(x, tau)))(x)
    square = (score**2).sum(1)
    parts = pi.parts(x, sigma)

    def left(drift, variance):
        flow = -drift * (trace + square) + variance / 2 * (trace + square)
        return change - flow

    total = c.sum()
    size = float(jnp.abs(square).max() + jnp.abs(trace).max()) + 1
    plain = weight_rate(c, parts) - left(1.0, 1.0)
    scaled = scaled_weight_rate(c, parts, trace) - left(1 / total, 1 / total)
    assert jnp.abs(plain).max() < 2e-4 * size
    assert jnp.abs(scaled).max() < 2e-4 * size
