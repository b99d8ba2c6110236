"""Degenerate input ends in an error or in a diagnostic, never in a silent nan."""

import jax
import jax.numpy as jnp
import pytest

import compjax as cj
from compjax.densities import Gaussian
from compjax.samplers import (
    HMC,
    MALA,
    Ancestral,
    And,
    Euler,
    FeynmanKac,
    Or,
    Superposition,
    UnbiasedFeynmanKac,
    corrected,
    run_kernel,
    tune,
    virial,
)

GRID = cj.karras_sigmas(16, 0.05, 10.0)


def at(mean, variance):
    return Gaussian(jnp.full(2, mean), variance * jnp.eye(2))


@cj.types.pytree
class Broken:
    """Scores that are not numbers below noise level 1."""

    def __call__(self, x, sigma):
        return jnp.where(sigma < 1, jnp.nan, -x)

    def log_density(self, x, sigma):
        return jnp.where(sigma < 1, jnp.nan, -(x**2).sum(1) / 2)


SAMPLERS = {
    "Euler": Euler(),
    "Ancestral": Ancestral(),
    "MALA": corrected(Ancestral(), MALA(), 2),
    "Feynman-Kac": FeynmanKac(),
    "Feynman-Kac, densities": UnbiasedFeynmanKac(),
    "AND": Superposition(And()),
    "OR": Superposition(Or()),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_scores_that_are_not_numbers_are_told(name):
    score = cj.product(at(0.0, 1.0), Broken())
    for run in (cj.sample, cj.trajectory):
        with pytest.raises(ValueError, match="of 32 samples are not finite"):
            run(jax.random.key(0), score, SAMPLERS[name], (32, 2), GRID)


@pytest.mark.parametrize("sampler", [Ancestral(), FeynmanKac(), UnbiasedFeynmanKac()])
def test_negative_precision_is_no_silent_sample(sampler):
    """2 / 1 - 1 / 0.1 < 0: no density, and the virial, -1 for all of them, tells."""
    score = cj.guide(at(0.0, 0.1), at(0.5, 1.0), 2.0)
    grid = cj.karras_sigmas(400, 0.01, 10.0)[:-1]
    x, info = cj.sample(jax.random.key(1), score, sampler, (256, 2), grid)
    assert jnp.isfinite(x).all()
    assert virial(x, score(x, grid[-1])) > 0
    if hasattr(info, "virial"):
        assert info.virial[-1] > 0
        assert abs(info.virial[5] + 1) < 0.3  # where the noise is wide it is one


def test_one_negative_direction_of_eight_is_seen():
    """-1 in seven of them and above 0 in one: -7/8 and more, where -1 is expected."""
    wide = Gaussian(jnp.zeros(8), jnp.eye(8).at[0, 0].set(0.1))
    score = cj.guide(wide, Gaussian(jnp.zeros(8), jnp.eye(8)), 2.0)
    grid = cj.karras_sigmas(400, 0.01, 10.0)[:-1]
    for sampler in (FeynmanKac(), UnbiasedFeynmanKac()):
        _, info = cj.sample(jax.random.key(7), score, sampler, (1024, 8), grid)
        # In a sound composition the error is sqrt(2 / 8192) / sqrt(ESS).
        assert info.virial[-1] > -0.8


def test_the_virial_leaves_out_the_dead():
    p = at(0.0, 1.0)
    x = p.sample(jax.random.key(8), 4000)
    score = p(x, 0.0)
    logs = jnp.zeros(4000).at[0].set(-jnp.inf)
    found = virial(x.at[0].set(jnp.nan), score.at[0].set(jnp.nan), logs)
    assert abs(found + 1) < 4.5 * (2 / 8000) ** 0.5


def test_samplers_with_a_start_of_their_own_take_no_corrector():
    with pytest.raises(ValueError, match=r"FeynmanKac\(kernel=...\)"):
        corrected(FeynmanKac(), MALA(), 1)
    with pytest.raises(ValueError, match="moves must be a positive whole number"):
        tune(jax.random.key(0), MALA(), at(0.0, 1.0), (8, 2), GRID, moves=0)


@pytest.mark.parametrize("kernel", [MALA(1e6), HMC(1e3)], ids=["MALA", "HMC"])
def test_chains_that_reject_everything_stay_and_say_so(kernel):
    start = at(0.0, 1.0).sample(jax.random.key(2), 64)
    x, move = run_kernel(jax.random.key(3), kernel, start, at(0.0, 1.0), 1.0, 5)
    assert (x == start).all()
    assert move.acceptance.max() < 1e-6


def test_tuning_finds_a_step_from_where_everything_is_rejected():
    tuned = tune(jax.random.key(4), MALA(100.0), at(0.0, 1.0), (64, 2), GRID, moves=60)
    _, info = cj.sample(
        jax.random.key(5),
        at(0.0, 1.0),
        corrected(Euler(), tuned, 4),
        (256, 2),
        GRID,
    )
    assert 0.4 < float(info.acceptance[2:].mean()) < 0.8


def test_an_empty_product_says_so_by_its_normaliser():
    """Two boxes that do not meet: log Z falls without end as the noise does."""
    left = cj.densities.Box(jnp.array([-1.0, -1.0]), jnp.array([-0.5, 1.0]))
    right = cj.densities.Box(jnp.array([0.5, -1.0]), jnp.array([1.0, 1.0]))
    grid = cj.karras_sigmas(100, 0.02, 10.0)[:-1]
    _, info = cj.sample(
        jax.random.key(6), cj.product(left, right), UnbiasedFeynmanKac(), (512, 2), grid
    )
    # At sigma the best point, in the middle, has two factors exp(-(1/2)^2 / 2 sigma^2).
    assert float(info.log_normalizer[-1]) < -0.25 / 0.02**2 / 2
