"""OR against the exact mixture, AND against equal densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax import analysis
from compjax.densities import Gaussian
from compjax.samplers import And, Or, Superposition

GRID = cj.karras_sigmas(256, 0.01, 20.0)
N = 4096


def at(*mean, variance=0.04):
    return Gaussian(jnp.array(mean), variance * jnp.eye(len(mean)))


def test_or_samples_the_mixture_with_its_weights():
    parts = at(-1.0, 0.0), at(1.0, 0.5), at(0.0, 1.5)
    weights = np.array([0.2, 0.3, 0.5])
    sampler = Superposition(Or(log_weights=np.log(weights)))
    x, info = cj.sample(jax.random.key(0), cj.product(*parts), sampler, (N, 2), GRID)
    means = [np.asarray(part.mean) for part in parts]
    nearest = np.argmin([((np.asarray(x) - m) ** 2).sum(1) for m in means], axis=0)
    shares = np.bincount(nearest, minlength=3) / N
    assert np.abs(shares - weights).max() < 4 * np.sqrt(0.25 / N) + 0.02
    for i, mean in enumerate(means):
        mine = np.asarray(x)[nearest == i]
        assert np.abs(mine.mean(0) - mean).max() < 0.03
        law = analysis.reverse_law(parts[i], 2, GRID)  # the steps' own error
        assert mine.var(0) == pytest.approx(np.diag(law.cov), rel=4 * (2 / 800) ** 0.5)
    assert jnp.abs(info.weights.sum(1) - 1).max() < 1e-5


def test_estimated_densities_differ_as_the_exact_ones():
    parts = at(-0.5, variance=1.0), at(1.0, variance=0.5)
    grid = cj.karras_sigmas(512, 0.05, 40.0)[:-1]  # ends where densities are smooth
    x, info = cj.sample(
        jax.random.key(1), cj.product(*parts), Superposition(Or()), (512, 1), grid
    )
    exact = parts[1].log_prob(x, grid[-1]) - parts[0].log_prob(x, grid[-1])
    found = info.log_densities[-1, 1] - info.log_densities[-1, 0]
    assert jnp.abs(found - exact).mean() < 0.1
    assert exact.std() > 1  # they differ among the samples


@pytest.mark.parametrize("k", [2, 3, 4])
def test_and_ends_where_all_densities_agree(k):
    angle = 2 * np.pi * np.arange(k) / k
    means = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    parts = [at(*mean, variance=1.0) for mean in means]
    x, _ = cj.sample(
        jax.random.key(2), cj.product(*parts), Superposition(And()), (512, 3), GRID
    )
    logs = jnp.stack([part.log_prob(x, 0.01) for part in parts])
    assert (logs.max(0) - logs.min(0)).mean() < 0.15  # 256 steps; below 1e-2 at 8192
    assert x[:, 2].std() > 0.7  # where they always agree, nothing was lost


def test_offsets_move_and_to_one_side():
    parts = at(-1.0, 0.0, variance=1.0), at(1.0, 0.0, variance=1.0)
    sampler = Superposition(And(offsets=jnp.array([0.0, 1.0])))
    x, _ = cj.sample(jax.random.key(3), cj.product(*parts), sampler, (512, 2), GRID)
    # log p_2 - log p_1 = 2 x_1 at unit variance
    assert 2 * x[:, 0].mean() == pytest.approx(1.0, abs=0.1)


def test_equal_models_are_no_trouble():
    """Scores that never differ leave the weights undecided: equal ones are taken."""
    p = at(0.5, -0.5, variance=1.0)
    for rule in (And(), Or()):
        x, info = cj.sample(
            jax.random.key(4), cj.product(p, p), Superposition(rule), (N, 2), GRID
        )
        assert jnp.abs(info.weights - 0.5).max() < 1e-3
        assert jnp.abs(x.mean(0) - p.mean).max() < 0.1


def test_grids_that_end_in_zero_give_numbers():
    """The flow-matching implementation divides by zero at its end."""
    parts = at(-1.0, 0.0), at(1.0, 0.0)
    for rule in (And(), Or()):
        x, info = cj.sample(
            jax.random.key(5), cj.product(*parts), Superposition(rule), (64, 2), GRID
        )
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((x, info)))


def test_mistakes_are_told():
    p = at(0.0)
    go = lambda score, **more: cj.sample(
        jax.random.key(0), score, Superposition(Or()), (4, 1), GRID, **more
    )
    with pytest.raises(ValueError, match="needs several scores"):
        go(p)
    with pytest.raises(ValueError, match="would ignore"):
        go(cj.product(p, p, weights=[5.0, 1.0]))
    with pytest.raises(ValueError, match=r"rule must be Or\(\) or And"):
        Superposition(Or)
    with pytest.raises(ValueError, match="ridge must not be negative"):
        And(ridge=-1.0)
    with pytest.raises(ValueError, match="two scores or more, got 1"):
        go(cj.power(p, 1.0))
    with pytest.raises(ValueError, match="give no start"):
        go(cj.product(p, p), start=jnp.zeros((4, 1)))
    with pytest.raises(ValueError, match="temperature must be positive"):
        Or(temperature=0.0)


@cj.types.pytree
class Unnormalised:
    """A log-sum-exp of energies without their normalisers, as in published code."""

    parts: tuple

    def log_density(self, x, sigma):
        energies = [
            -((x - part.mean[None]) ** 2).sum(1) / (2 * (part.cov[0, 0] + sigma**2))
            for part in self.parts
        ]
        return jax.nn.logsumexp(jnp.stack(energies), axis=0)

    def __call__(self, x, sigma):
        return jax.grad(lambda x: self.log_density(x, sigma).sum())(x)


def test_mixtures_need_normalised_densities():
    """A wide and a narrow mode weigh half each; without normalisers 0.16 to 0.01."""
    parts = at(-1.5, 0.0, variance=0.16), at(1.5, 0.0, variance=0.01)
    sampler = cj.samplers.UnbiasedFeynmanKac()  # whatever the path, its end is right

    def share_of_the_wide_mode(score):
        x, _ = cj.sample(jax.random.key(6), score, sampler, (N, 2), GRID)
        return float((x[:, 0] < 0).mean())

    error = 4.5 * np.sqrt(0.25 / N) * 2  # resampled particles are worth fewer
    assert abs(share_of_the_wide_mode(cj.mixture(*parts)) - 0.5) < error
    assert abs(share_of_the_wide_mode(Unnormalised(parts)) - 0.5) > 4 * error
