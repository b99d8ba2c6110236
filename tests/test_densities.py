import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings

import compjax as cj
from compjax.testing import (
    VARIANTS,
    assert_close,
    assert_score_is_gradient,
    strategies,
)

evaluate = jax.jit(lambda p, x, sigma: p(x, sigma))
log_prob = jax.jit(lambda p, x, sigma: p.log_prob(x, sigma))
sample = jax.jit(lambda p, key, sigma: p.sample(key, 100_000, sigma))

LAWS = {
    "gaussian": strategies.gaussians(),
    "mixture": strategies.gaussian_mixtures(),
    "clutter": strategies.clutters(),
    "independent": strategies.independents(),
}


@pytest.mark.parametrize("law", LAWS)
def test_score_is_gradient(law):
    @given(LAWS[law], strategies.points(), strategies.noise_levels())
    def check(density, x, sigma):
        assert_score_is_gradient(density, x, sigma)

    check()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("law", LAWS)
def test_variants_agree(law, variant):
    run = VARIANTS[variant](lambda p, x, sigma: p(x, sigma))

    @settings(max_examples=3 if variant in ("eager", "vmap") else 20)
    @given(LAWS[law], strategies.points(), strategies.noise_levels())
    def check(density, x, sigma):
        # Rounding differs with the order of operations: float32 times the condition.
        levels = sigma * jnp.array([0.5, 1.0, 1.5, 2.0])
        for level in (sigma, levels):
            assert_close(run(density, x, level), evaluate(density, x, level))

    check()


@pytest.mark.parametrize("law", LAWS)
def test_per_sample_levels_match_scalar_ones(law):
    @given(LAWS[law], strategies.points(), strategies.noise_levels())
    def check(density, x, sigma):
        levels = sigma * jnp.array([0.5, 1.0, 1.5, 2.0])
        one_by_one = [log_prob(density, x[i : i + 1], levels[i])[0] for i in range(4)]
        assert_close(log_prob(density, x, levels), jnp.stack(one_by_one))

    check()


@given(strategies.gaussians(), strategies.points(), strategies.noise_levels())
def test_gaussian_against_scipy(p, x, sigma):
    mean, cov = np.asarray(p.mean, float), np.asarray(p.cov, float)
    oracle = scipy.stats.multivariate_normal(mean, cov + float(sigma) ** 2 * np.eye(3))
    # float32 times the condition number, at most a few hundred, of a sum of squares.
    np.testing.assert_allclose(
        log_prob(p, x, sigma), oracle.logpdf(x), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("law", ["mixture", "clutter", "independent"])
def test_normalised_at_every_level(law):
    # Trapezoids on a grid that reaches 8 standard deviations: spectral accuracy, so
    # the tolerance is float32's, summed over 10^4 points.
    axis = np.linspace(-20, 20, 401)
    grid = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
    two = {
        "mixture": strategies.gaussian_mixtures(2),
        "clutter": strategies.clutters(2),
        "independent": strategies.independents(2),
    }

    @given(two[law], strategies.noise_levels(0.3, 1.5))
    def check(density, sigma):
        total = np.exp(np.asarray(log_prob(density, grid, sigma), float)).sum() * 0.01
        assert abs(total - 1) < 1e-3

    check()


@pytest.mark.parametrize("law", LAWS)
def test_samples_have_the_score_identity(law):
    # Stein: E[s(x)] = 0 and E[x s(x)^T] = -I under p_sigma.  100 000 draws; the
    # tolerance is six standard errors, estimated from the same draws.
    @given(LAWS[law], strategies.noise_levels(0.5, 3.0))
    def check(density, sigma):
        x = sample(density, jax.random.key(0), sigma)
        s = evaluate(density, x, sigma)
        outer = np.asarray(x[:, :, None] * s[:, None, :])
        for values, mean in ((np.asarray(s), 0.0), (outer, -np.eye(3))):
            error = np.abs(values.mean(0) - mean)
            assert (error < 6 * values.std(0) / 100_000**0.5 + 1e-6).all()

    check()


def test_noising_a_sample_is_sampling_at_a_level():
    p = cj.densities.GaussianMixture(
        jnp.zeros(2), jnp.array([[-2.0], [2.0]]), 0.1 * jnp.ones((2, 1, 1))
    )
    clean = p.sample(jax.random.key(0), 20_000)
    noised = clean + 0.7 * jax.random.normal(jax.random.key(1), clean.shape)
    direct = p.sample(jax.random.key(2), 20_000, 0.7)
    assert scipy.stats.ks_2samp(noised[:, 0], direct[:, 0]).pvalue > 1e-3


def test_covariance_gradient_at_a_multiple_of_the_identity():
    def log_prob(cov):
        return cj.densities.Gaussian(jnp.zeros(2), cov).log_prob(jnp.ones((1, 2)))[0]

    gradient = jax.grad(log_prob)(jnp.eye(2))
    # d/dC [-x^T C^-1 x / 2 - log det C / 2] = (C^-1 x x^T C^-1 - C^-1) / 2 at C = I
    np.testing.assert_allclose(gradient, (np.ones((2, 2)) - np.eye(2)) / 2, atol=1e-6)


@given(strategies.clutters(4), strategies.points(4, 4))
def test_unconditional_clutter_is_background_times_count(p, x):
    # Appendix G, exactly: the mixture of all conditionals counts the coordinates that
    # are on, p_u(x) = p_b(x) * mean_i P(z_i = 1 | x) / q_i.
    unconditional = cj.mixture(*(p.with_object(i) for i in range(4)))
    on, off = (
        scipy.stats.norm(m, float(p.scale)).logpdf(np.asarray(x, float)) for m in (1, 0)
    )
    q = np.asarray(p.probabilities, float)
    posterior = 1 / (1 + (1 - q) / q * np.exp(off - on))
    expected = np.asarray(p.log_prob(x), float) + np.log((posterior / q).mean(1))
    np.testing.assert_allclose(
        unconditional.log_prob(x), expected, rtol=1e-3, atol=1e-3
    )


def test_factorized_conditionals_unpack_and_compose():
    at = lambda m: cj.densities.Gaussian(jnp.full(1, m), jnp.eye(1))
    parts = cj.densities.FactorizedConditionals.from_blocks(
        ((0,), (1,), (2,)), (at(0.0), at(0.0), at(5.0)), (at(1.0), at(2.0))
    )
    background, conditionals = parts
    means = lambda p: p.denoise(jnp.zeros((1, 3)), 1e3)[0]
    np.testing.assert_allclose(means(background), [0, 0, 5], atol=1e-2)
    np.testing.assert_allclose(means(conditionals[1]), [0, 2, 5], atol=1e-2)
    np.testing.assert_allclose(means(parts.composition()), [1, 2, 5], atol=1e-2)


GAUSSIAN = cj.densities.Gaussian
IDENTITY = np.eye(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GAUSSIAN(np.zeros(2), np.eye(3)), r"\(2,\) and \(3, 3\)"),
        (lambda: GAUSSIAN(np.zeros(2), -IDENTITY), "positive definite"),
        (lambda: GAUSSIAN(np.zeros(2), IDENTITY + [[0, 1], [0, 0]]), "symmetric"),
        (lambda: GAUSSIAN(np.zeros(2), IDENTITY)(jnp.ones((1, 3)), 1.0), r"\[b, 2\]"),
        (
            lambda: GAUSSIAN(np.zeros(2), IDENTITY)(jnp.ones((4, 2)), jnp.ones(3)),
            "one for each sample",
        ),
        (
            lambda: cj.densities.GaussianMixture(
                np.zeros(2), np.zeros((3, 1)), np.ones((3, 1, 1))
            ),
            "log_weights",
        ),
        (lambda: cj.densities.BernoulliClutter(np.array([1.5]), 1.0), r"\[0, 1\]"),
        (lambda: cj.densities.BernoulliClutter(np.array([0.5]), 0.0), "positive"),
        (
            lambda: cj.densities.Independent(
                ((0,), (0,)), (GAUSSIAN(np.zeros(1), np.eye(1)),) * 2
            ),
            "partition",
        ),
        (
            lambda: cj.densities.Independent(((0,), (1,)), ()),
            "2 blocks need as many parts",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
