"""The empirical law against sums over the data in double precision, and autodiff."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

import compjax as cj
from compjax.densities.streaming import include, nothing_yet, over_chunks
from compjax.testing import (
    VARIANTS,
    assert_close,
    assert_same_score,
    assert_score_is_gradient,
    strategies,
)

EMPIRICAL = cj.densities.Empirical
DATA = strategies.arrays((7, 3), -3.0, 3.0)
LAWS = st.builds(EMPIRICAL, DATA, st.sampled_from([1, 3, 64]))
LEVELS = strategies.noise_levels(0.1, 20.0)

evaluate = jax.jit(lambda p, x, sigma: p(x, sigma))
denoise = jax.jit(lambda p, x, sigma: p.denoise(x, sigma))
log_prob = jax.jit(lambda p, x, sigma: p.log_prob(x, sigma))


def brute_force(p, x, sigma):
    """`log p` and `E[x0 | x]`, in double precision."""
    x, data, sigma = np.asarray(x, float), np.asarray(p.data, float), float(sigma)
    logs = scipy.stats.norm.logpdf(x[:, None], data[None], sigma).sum(-1)
    total = logsumexp(logs, axis=1)
    return total - np.log(len(data)), np.exp(logs - total[:, None]) @ data


@given(LAWS, strategies.points(), LEVELS)
def test_against_sums_over_the_data(p, x, sigma):
    log, mean = brute_force(p, x, sigma)
    # float32 of an exponent of three squares, each at most (4 + 3)^2 / 2 sigma^2, and
    # of the terms beside it; the mean is 3 at most times the error of its exponents.
    error = 1e-6 * (20 + 3 * 7**2 / (2 * float(sigma) ** 2))
    np.testing.assert_allclose(log_prob(p, x, sigma), log, rtol=0, atol=error)
    np.testing.assert_allclose(denoise(p, x, sigma), mean, rtol=0, atol=6 * error)


@given(LAWS, strategies.points(), LEVELS)
def test_score_is_gradient(p, x, sigma):
    assert_score_is_gradient(p, x, sigma)


@given(DATA, strategies.points(), strategies.noise_levels(0.5, 10.0))
def test_is_a_mixture_of_narrow_gaussians(data, x, sigma):
    """A covariance of 1e-6 instead of none changes sigma^2 by 4e-6 of itself."""
    narrow = jnp.broadcast_to(1e-6 * jnp.eye(3), (7, 3, 3))
    mixture = cj.densities.GaussianMixture(jnp.zeros(7), data, narrow)
    assert_same_score(EMPIRICAL(data, 3), mixture, x, sigma)
    a, b = log_prob(EMPIRICAL(data, 3), x, sigma), log_prob(mixture, x, sigma)
    # Exponents are at most 3 * 7^2 / 2 sigma^2 = 294; 4e-6 and float32 of those.
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@given(DATA, strategies.points(), LEVELS)
def test_chunks_do_not_matter(data, x, sigma):
    reference = evaluate(EMPIRICAL(data, 7), x, sigma)
    for chunk in (1, 2, 5, 100):
        assert_close(evaluate(EMPIRICAL(data, chunk), x, sigma), reference)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_agree(variant):
    p = EMPIRICAL(jax.random.normal(jax.random.key(0), (7, 2, 3)), 2)
    x = jax.random.normal(jax.random.key(1), (4, 2, 3))
    run = VARIANTS[variant](lambda p, x, sigma: p(x, sigma))
    for sigma in (jnp.float32(0.5), jnp.arange(1.0, 5.0)):
        assert_close(run(p, x, sigma), evaluate(p, x, sigma))


def test_levels_of_samples():
    p = EMPIRICAL(jax.random.normal(jax.random.key(0), (7, 2)), 3)
    x = jax.random.normal(jax.random.key(1), (3, 2))
    levels = jnp.array([0.3, 1.0, 5.0])
    one_by_one = [p.log_prob(x[i : i + 1], levels[i])[0] for i in range(3)]
    assert_close(p.log_prob(x, levels), jnp.stack(one_by_one))


def test_limits():
    data = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 4.0]])
    p = EMPIRICAL(data, 2)
    x = jnp.array([[0.4, 0.1], [0.2, 3.0], [1.0, 0.0]])
    nearest = data[jnp.array([0, 2, 1])]
    # The others weigh exp(-.1 / 1e-4) or less: nothing.
    for sigma in (0.0, 0.01):
        np.testing.assert_array_equal(p.denoise(x, sigma), nearest)
    assert (p(x, 0.0) == 0).all()
    np.testing.assert_array_equal(p.log_prob(x), [-np.inf, -np.inf, np.inf])
    for sigma in (0.0, jnp.zeros(3)):
        gradient = jax.grad(lambda x, s: p(x, s).sum() + p.denoise(x, s).sum())
        assert (gradient(x, sigma) == 0).all()
    # Weights differ by |data|^2 / sigma^2 = 17e-6 around 1 / 3, and so by 4 * 2e-6.
    mean = jnp.broadcast_to(data.mean(0, keepdims=True), x.shape)
    np.testing.assert_allclose(p.denoise(x, 1e3), mean, atol=1e-4)


def test_samples_are_the_data_with_noise():
    p = EMPIRICAL(jnp.array([[0.0, 1.0], [10.0, 2.0]]))
    clean = np.asarray(p.sample(jax.random.key(0), 1000))
    assert set(map(tuple, clean)) == {(0.0, 1.0), (10.0, 2.0)}
    # Six standard errors of 1000 fair coins.
    assert abs((clean[:, 0] > 5).mean() - 0.5) < 6 * 0.5 / 1000**0.5
    noised = np.asarray(p.sample(jax.random.key(1), 1000, 0.5))
    noise = noised - np.where(noised[:, :1] > 5, [[10.0, 2.0]], [[0.0, 1.0]])
    assert scipy.stats.kstest(noise.ravel() / 0.5, "norm").pvalue > 1e-3


def test_reverse_diffusion_ends_in_the_data():
    p = EMPIRICAL(jax.random.normal(jax.random.key(0), (5, 4)))
    sigmas = cj.karras_sigmas(20, 0.01, 20.0)
    x, _ = cj.sample(jax.random.key(1), p, cj.samplers.Heun(), (16, 4), sigmas)
    distances = jnp.abs(x[:, None] - p.data[None]).max(-1).min(1)
    # Points are a few apart, and the last step goes to the nearest from sigma = 0.01.
    assert float(distances.max()) < 1e-4


def test_gradients_pass_through_chunks():
    """In the data too, against differences of the brute force in double precision."""
    data = jnp.array([[0.0], [1.0], [3.0]])
    x = jnp.array([[0.7]])
    total = lambda data: EMPIRICAL(data, 2).denoise(x, 0.8).sum()
    gradient = jax.grad(total)(data)
    for i in range(3):
        ends = []
        for step in (1e-5, -1e-5):
            moved = np.asarray(data, float)
            moved[i] += step
            logs = -((0.7 - moved[:, 0]) ** 2) / (2 * 0.8**2)
            ends.append(np.exp(logs - logsumexp(logs)) @ moved[:, 0])
        # A central difference of 1e-5 in double precision is good to 1e-9.
        assert abs(gradient[i, 0] - (ends[0] - ends[1]) / 2e-5) < 1e-5


def test_running_average_of_extreme_weights():
    """Log-weights of 1e30 apart, in either order: no overflow, no NaN."""
    for logs in ([-1e30, 0.0, 1e30], [1e30, 0.0, -1e30]):
        average = nothing_yet((1, 1))
        for i, log in enumerate(logs):
            average = include(average, jnp.full((1, 1), log), jnp.full((1, 1), 1.0 * i))
        assert float(average.mean()[0, 0]) == logs.index(1e30)


@given(st.integers(1, 9), st.integers(1, 12))
def test_every_item_is_read_once(n, chunk):
    def count(seen, items, fresh):
        return seen.at[items].add(fresh.astype(jnp.int32))

    seen = over_chunks(count, jnp.zeros(n, jnp.int32), jnp.arange(n), chunk)
    np.testing.assert_array_equal(seen, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EMPIRICAL(np.zeros((0, 2))), r"N >= 1, got \(0, 2\)"),
        (lambda: EMPIRICAL(np.zeros((2, 2)), 0), "chunk"),
        (lambda: EMPIRICAL(np.zeros((2, 2)))(jnp.ones((1, 3)), 1.0), r"\[b, 2\]"),
        (
            lambda: EMPIRICAL(np.zeros((2, 2)))(jnp.ones((2, 2)), jnp.ones(3)),
            "one for each sample",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
