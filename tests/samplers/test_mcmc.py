"""Markov kernels: they keep their target, and the known mistakes would be seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.densities import Gaussian, GaussianMixture
from compjax.samplers import HMC, MALA, UHMC, ULA, mcmc, run_kernel, score_only

SIGMA = 0.1
CHAINS = 8192
"""Relative standard error of a variance: sqrt(2 / 8192) = 1.6 %."""


def ill_conditioned():
    """Variances 2 and 0.02 at SIGMA, turned by 29 degrees: condition number 100."""
    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    noised = turn @ np.diag([1.99, 0.01]) @ turn.T
    return Gaussian(jnp.zeros(2), jnp.asarray(noised)), turn


def worst_deviation(kernel, moves):
    """Of marginal variances in the principal axes, in standard errors, from 0."""
    target, turn = ill_conditioned()
    x, move = run_kernel(
        jax.random.key(0), kernel, jnp.zeros((CHAINS, 2)), target, SIGMA, moves
    )
    variances = (np.asarray(x) @ turn).var(0)
    truth = np.array([1.99, 0.01]) + SIGMA**2
    return np.abs(variances / truth - 1).max() / np.sqrt(2 / CHAINS), move


EXACT = {
    "MALA": (MALA(1.0), 600),
    "HMC": (HMC(1.2, leapfrogs=8), 60),
    "HMC with damping": (HMC(1.2, leapfrogs=4, damping=0.7), 150),
    "MALA, score only": (score_only(MALA(1.0), points=0), 600),
    "HMC, score only": (score_only(HMC(1.2, leapfrogs=8), points=0), 60),
}


@pytest.mark.parametrize("name", EXACT)
def test_metropolis_kernels_keep_an_ill_conditioned_gaussian(name):
    """From a point; two variances, so 4 standard errors leave one failure in 8000."""
    kernel, moves = EXACT[name]
    deviation, move = jax.tree.map(np.asarray, worst_deviation(kernel, moves))
    assert deviation < 4
    assert 0.2 < move.acceptance.mean() < 0.98


def test_ula_has_the_variance_of_its_recursion():
    """x' = (1 - h/v) x + sqrt(2h) e has variance v / (1 - h / 2v), in every axis."""
    target, turn = ill_conditioned()
    kernel = ULA(0.8)  # h = 0.008
    x, _ = run_kernel(
        jax.random.key(1), kernel, jnp.zeros((CHAINS, 2)), target, SIGMA, 700
    )
    v, h = np.array([1.99, 0.01]) + SIGMA**2, 0.8 * SIGMA**2
    biased = v / (1 - h / (2 * v))
    found = (np.asarray(x) @ turn).var(0)
    assert np.abs(found / biased - 1).max() < 4 * np.sqrt(2 / CHAINS)
    assert abs(found[1] / v[1] - 1) > 0.15  # the bias is there to be seen


class Pooled(MALA):
    """One decision for the whole batch."""

    def step(self, key, state, target, sigma):
        key_noise, key_accept = jax.random.split(key)
        h = self.step_size * sigma**2
        proposal = mcmc._look(target, mcmc._langevin(key_noise, state, h), sigma)
        ratio = proposal.log_density - state.log_density
        ratio += mcmc._towards(proposal, state, h) - mcmc._towards(state, proposal, h)
        accepted, probability = mcmc._metropolis(key_accept, ratio.sum()[None])
        accepted = jnp.broadcast_to(accepted, ratio.shape)
        probability = jnp.broadcast_to(probability, ratio.shape)
        return mcmc._choose(accepted, proposal, state), mcmc.Move(
            jnp.int32(1), probability
        )


class WrongVariance(MALA):
    """Proposals of variance 2h, weighed as if it were h."""

    def step(self, key, state, target, sigma):
        key_noise, key_accept = jax.random.split(key)
        h = self.step_size * sigma**2
        proposal = mcmc._look(target, mcmc._langevin(key_noise, state, h), sigma)
        ratio = proposal.log_density - state.log_density
        back, there = (
            -((b.x - a.x - h * a.score) ** 2).sum(1) / (2 * h)
            for a, b in ((proposal, state), (state, proposal))
        )
        accepted, probability = mcmc._metropolis(key_accept, ratio + back - there)
        return mcmc._choose(accepted, proposal, state), mcmc.Move(
            jnp.int32(1), probability
        )


class SharedMomentum(HMC):
    """Momentum updated in place: old and new kinetic energy cancel."""

    def step(self, key, state, target, sigma):
        key_momentum, key_accept = jax.random.split(key)
        start = mcmc._refreshed(key_momentum, state, self.damping)
        end = mcmc._leapfrog(target, start, sigma, self.step_size, self.leapfrogs)
        ratio = end.point.log_density - start.point.log_density
        accepted, probability = mcmc._metropolis(key_accept, ratio)
        return mcmc._choose(accepted, end, start), mcmc.Move(jnp.int32(1), probability)


class NoTurn(HMC):
    """Rejected samples keep their direction, though momenta persist."""

    def step(self, key, state, target, sigma):
        key_momentum, key_accept = jax.random.split(key)
        start = mcmc._refreshed(key_momentum, state, self.damping)
        end = mcmc._leapfrog(target, start, sigma, self.step_size, self.leapfrogs)
        ratio = end.point.log_density - start.point.log_density
        ratio += ((start.momentum**2).sum(1) - (end.momentum**2).sum(1)) / 2
        accepted, probability = mcmc._metropolis(key_accept, ratio)
        return mcmc._choose(accepted, end, start), mcmc.Move(jnp.int32(1), probability)


WRONG = {
    "one decision for a batch": (Pooled(1.0), 600),
    "proposal of another variance": (WrongVariance(1.0), 600),
    "kinetic energy cancels": (SharedMomentum(1.2, leapfrogs=8), 60),
    "no turn after rejection": (NoTurn(2.4, leapfrogs=2, damping=0.97), 600),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_same_check_rejects_wrong_kernels(name):
    kernel, moves = WRONG[name]
    assert worst_deviation(kernel, moves)[0] > 8


def two_modes():
    return GaussianMixture(
        jnp.log(jnp.array([0.3, 0.7])),
        jnp.array([[-1.0, 0.0], [1.0, 0.5]]),
        0.3 * jnp.stack([jnp.eye(2)] * 2),
    )


@pytest.mark.parametrize(
    "kernel",
    [
        MALA(0.2),
        HMC(0.35, leapfrogs=6),
        score_only(MALA(0.2)),
        score_only(HMC(0.35, leapfrogs=6)),
    ],
    ids=["MALA", "HMC", "MALA, score only", "HMC, score only"],
)
def test_metropolis_kernels_keep_a_mixture(kernel):
    """Means, variances and the weight of a mode, against samples of the mixture."""
    target, sigma = two_modes(), 1.0
    x, _ = run_kernel(
        jax.random.key(2), kernel, jnp.zeros((CHAINS, 2)), target, sigma, 150
    )
    exact = target.sample(jax.random.key(3), 400_000, sigma)
    features = lambda x: jnp.concatenate([x, x**2, x[:, :1] > 0], axis=1)
    mine, truth = features(x), features(exact)
    error = jnp.sqrt(truth.var(0) * (1 / CHAINS + 1 / 400_000))
    assert (jnp.abs(mine.mean(0) - truth.mean(0)) / error).max() < 4.5


def test_acceptance_is_that_of_quadrature():
    """MALA on a standard normal in equilibrium, one dimension, against a double sum."""
    n, h = 2000, 1.0
    quantiles = jax.scipy.stats.norm.ppf((np.arange(n) + 0.5) / n)
    x, noise = np.meshgrid(quantiles, quantiles, indexing="ij")
    y = x - h * x + np.sqrt(2 * h) * noise
    q = lambda a, b: -((b - a + h * a) ** 2) / (4 * h)
    ratio = (x**2 - y**2) / 2 + q(y, x) - q(x, y)
    expected = np.exp(np.minimum(ratio, 0)).mean()
    target = Gaussian(jnp.zeros(1), 0.75 * jnp.eye(1))
    x0 = jax.random.normal(jax.random.key(4), (200_000, 1))
    _, move = run_kernel(jax.random.key(5), MALA(4.0), x0, target, 0.5, 1)
    # The sum's own error is of order 1 / n; that of the mean sd / sqrt(200 000).
    assert abs(float(move.acceptance.mean()) - expected) < 4 / n + 0.4 / 447 * 4


def test_energy_errors_obey_creutz():
    """E exp(-dH) = 1 in equilibrium, for any leapfrog step."""
    target, sigma = two_modes(), 0.5
    x = target.sample(jax.random.key(6), 200_000, sigma)
    kernel = HMC(1.0, leapfrogs=3)
    state = kernel.init(jax.random.key(7), x, target, sigma)
    end = mcmc._leapfrog(target, state, sigma, kernel.step_size, 3)
    energy = lambda s: (s.momentum**2).sum(1) / 2 - s.point.log_density
    ratios = jnp.exp(energy(state) - energy(end))
    assert abs(ratios.mean() - 1) < 4.5 * ratios.std() / 447
    assert ratios.std() > 0.05  # there is something to cancel


@pytest.mark.parametrize(
    "kernel", [ULA(), MALA(), UHMC(), HMC(), score_only(HMC())], ids=str
)
def test_samples_of_a_batch_do_not_know_of_each_other(kernel):
    target = two_modes()
    x = jax.random.normal(jax.random.key(8), (5, 2))
    moved = lambda x: run_kernel(jax.random.key(9), kernel, x, target, 1.0, 7)
    other = x.at[0].set(50.0)
    (a, move_a), (b, move_b) = moved(x), moved(other)
    assert (a[1:] == b[1:]).all()
    assert (move_a.acceptance[1:] == move_b.acceptance[1:]).all()


def test_scores_without_density_decide_alike_where_the_line_is_exact():
    """A Gaussian's score is linear, so that the trapezoid is exact, up to rounding."""
    target, _ = ill_conditioned()
    bare = cj.as_score(lambda x, sigma: target(x, sigma))
    x = jax.random.normal(jax.random.key(10), (512, 2))
    run = lambda kernel, p: run_kernel(jax.random.key(11), kernel, x, p, SIGMA, 1)[1]
    exact, line = run(MALA(1.0), target), run(score_only(MALA(1.0), 0), bare)
    assert jnp.abs(exact.acceptance - line.acceptance).max() < 1e-3


@pytest.mark.parametrize("points", [0, 1, 2, 3])
def test_lobatto_rules_are_exact_to_their_degree(points):
    """On the line from 0 to 1 the integral of t^d is 1 / (d + 1)."""
    for degree in range(2 * points + 2):
        score = cj.as_score(lambda x, sigma, d=degree: x**d)
        look = lambda x, score=score: mcmc.Point(x, score(x, 1.0), None)
        found = mcmc._log_ratio(
            cj.samplers.PathIntegral(score, points),
            look(jnp.zeros((1, 1)) + 1e-20),
            look(jnp.ones((1, 1))),
            1.0,
        )[0]
        assert abs(float(found[0]) - 1 / (degree + 1)) < 1e-6
    score = cj.as_score(lambda x, sigma: x ** (2 * points + 2))
    found = mcmc._log_ratio(
        cj.samplers.PathIntegral(score, points),
        mcmc.Point(jnp.zeros((1, 1)), jnp.zeros((1, 1)), None),
        mcmc.Point(jnp.ones((1, 1)), jnp.ones((1, 1)), None),
        1.0,
    )[0]
    assert abs(float(found[0]) - 1 / (2 * points + 3)) > 1e-5


def test_what_is_not_finite_is_not_accepted():
    """A density that is nan beyond 1: chains stay within, and say how often."""
    wall = Walled(Gaussian(jnp.zeros(1), jnp.eye(1)))
    x, move = run_kernel(
        jax.random.key(12), MALA(0.5), jnp.zeros((256, 1)), wall, 1.0, 50
    )
    assert jnp.isfinite(x).all() and (x <= 1).all()
    assert 0.2 < move.acceptance.mean() < 0.95


@cj.types.pytree
class Walled:
    inside: Gaussian

    def log_density(self, x, sigma):
        return jnp.where(x[:, 0] > 1, jnp.nan, self.inside.log_density(x, sigma))

    def __call__(self, x, sigma):
        return jnp.where(x > 1, jnp.nan, self.inside(x, sigma))


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="step_size must be a positive number"):
        MALA(0.0)
    with pytest.raises(ValueError, match="leapfrogs must be a positive whole number"):
        HMC(leapfrogs=0)
    with pytest.raises(ValueError, match=r"damping must lie in \[0, 1\)"):
        UHMC(damping=1.0)
    with pytest.raises(ValueError, match="0, 1, 2 or 3 points"):
        score_only(MALA(), points=4)
    bare = cj.as_score(lambda x, sigma: -x)
    with pytest.raises(ValueError, match="has no log_density to decide by"):
        run_kernel(jax.random.key(0), MALA(), jnp.ones((2, 1)), bare, 1.0, 1)


def test_step_sizes_may_depend_on_sigma():
    target = two_modes()
    half = lambda sigma: 0.5 / sigma
    x = jnp.ones((3, 2))
    run = lambda kernel: run_kernel(jax.random.key(13), kernel, x, target, 2.0, 3)[0]
    assert (run(ULA(half)) == run(ULA(0.25))).all()
    assert dataclasses.replace(MALA(0.1), step_size=0.3).step_size == jnp.float32(0.3)
