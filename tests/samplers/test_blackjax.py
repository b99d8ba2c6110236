"""Kernels against blackjax's, whose chains run one by one on a log-density.

Its kernels do not serve here: they take gradients of a log-density, which learned
scores do not have, and the core needs JAX alone.
"""

import blackjax
import jax
import jax.numpy as jnp

from compjax.densities import GaussianMixture
from compjax.samplers import HMC, MALA, mcmc

SIGMA = 0.5


def target():
    return GaussianMixture(
        jnp.log(jnp.array([0.3, 0.7])),
        jnp.array([[-1.0, 0.0], [1.0, 0.5]]),
        0.3 * jnp.stack([jnp.eye(2)] * 2),
    )


def log_density(x):
    return target().log_prob(x[None], SIGMA)[0]


def chains(kernel, init, **numbers):
    """One move of 256 of blackjax's chains."""
    x = target().sample(jax.random.key(0), 256, SIGMA)
    keys = jax.random.split(jax.random.key(1), 256)
    step = lambda key, x: kernel(key, init(x, log_density), log_density, **numbers)
    with jax.debug_key_reuse(False):
        return x, *jax.vmap(step)(keys, x)


def test_mala_accepts_with_blackjaxs_probability():
    """Where it accepts, its new position is the proposal: ours gives it the same."""
    h = jnp.float32(0.4)
    x, state, info = chains(
        blackjax.mala.build_kernel(), blackjax.mala.init, step_size=h
    )
    accepted = info.is_accepted
    assert 0.2 < accepted.mean() < 0.95
    here, there = (mcmc._look(target(), y, SIGMA) for y in (x, state.position))
    ratio = there.log_density - here.log_density
    ratio += mcmc._towards(there, here, h) - mcmc._towards(here, there, h)
    mine = jnp.exp(jnp.minimum(ratio, 0))
    # float32: log-densities of size 10 have rounding errors of 1e-6, and a few add up.
    assert jnp.abs(jnp.where(accepted, mine - info.acceptance_rate, 0)).max() < 2e-5
    assert MALA(h / SIGMA**2).step_size * SIGMA**2 == h


def test_hmc_ends_where_blackjax_does_and_accepts_alike():
    stride, leapfrogs = 0.35, 4
    x, _, info = chains(
        blackjax.hmc.build_kernel(),
        blackjax.hmc.init,
        step_size=stride,
        inverse_mass_matrix=jnp.ones(2),
        num_integration_steps=leapfrogs,
    )
    kernel = HMC(stride / SIGMA, leapfrogs)
    start = mcmc.Phase(mcmc._look(target(), x, SIGMA), info.momentum)
    end = mcmc._leapfrog(target(), start, SIGMA, kernel.step_size, leapfrogs)
    assert jnp.abs(end.x - info.proposal.position).max() < 2e-5
    energy = lambda s: mcmc._half_square(s.momentum) - s.point.log_density
    mine = jnp.exp(jnp.minimum(energy(start) - energy(end), 0))
    assert jnp.abs(mine - info.acceptance_rate).max() < 5e-5
    assert info.acceptance_rate.min() < 0.9
