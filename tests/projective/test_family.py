"""The family of the prediction study: frozen, and sampled as compjax samples it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from experiments.projective import family

SIGMAS = np.asarray(cj.karras_sigmas(300, 0.01, 80.0), float)


def first_of_each_kind():
    return list(family.family(SIGMAS, 1))


def gaussians(means, covs):
    pairs = zip(means, covs, strict=True)
    return [cj.densities.Gaussian(mean, cov) for mean, cov in pairs]


def test_the_family_is_frozen():
    """Sums over all members, in their order: the family has not been edited."""
    members = list(family.family(SIGMAS))
    assert [m.kind for m in members[::40]] == [
        make(np.random.default_rng(0)).kind for make in family.KINDS
    ]
    assert len(members) == 240
    total = sum(
        (i + 1) * sum(np.sum(np.cos(array)) for array in m[1:])
        for i, m in enumerate(members)
    )
    assert total == pytest.approx(TOTAL, abs=1e-3)


TOTAL = 677834.7491871538


@pytest.mark.parametrize("i", range(len(family.KINDS)))
def test_scores_are_those_of_the_library(i):
    member = first_of_each_kind()[i]
    d = member.means.shape[1]
    means, covs = member.conditional_means, member.conditional_covs
    parts = gaussians(member.means, member.covs)
    conditionals = gaussians(means, covs)
    background = cj.mixture(*parts) if len(parts) > 1 else parts[0]
    composed = cj.compose(background, *conditionals)
    x = np.random.default_rng(0).normal(size=(16, d))
    if len(parts) > 1:
        expected = family.mixture_score(member, x, 0.7)
    else:
        precision, pull = family.composed(member, 0.7)
        expected = pull - x @ precision
    # float32 times condition numbers of up to a hundred.
    np.testing.assert_allclose(
        composed(jnp.asarray(x, jnp.float32), 0.7), expected, rtol=1e-3, atol=1e-3
    )


def test_a_sampled_law_is_that_of_the_library():
    member = first_of_each_kind()[1]
    parts = [
        cj.densities.Gaussian(m, c)
        for m, c in zip(
            [*member.means, *member.conditional_means],
            [*member.covs, *member.conditional_covs],
            strict=True,
        )
    ]
    x, _ = cj.sample(
        jax.random.key(0),
        cj.compose(*parts),
        cj.samplers.Ancestral(),
        (20_000, 3),
        jnp.asarray(SIGMAS[::6], jnp.float32),
    )
    mean, cov = family.sampled_gaussian(member, SIGMAS[::6])
    # Six standard errors of means, and of second moments.
    scale = np.sqrt(np.diag(cov))
    assert (np.abs(x.mean(0) - mean) < 6 * scale / 20_000**0.5).all()
    error = np.abs(np.cov(np.asarray(x).T) - cov) / np.outer(scale, scale)
    assert error.max() < 6 * 2**0.5 / 20_000**0.5


def test_what_errs_for_factorized_conditionals_is_the_step():
    exact = first_of_each_kind()[0]
    assert 0 < family.gaussian_error(exact, SIGMAS) < 0.002
    # The covariance errs by one order of the step, and KL by the square of that.
    ratio = family.gaussian_error(exact, SIGMAS[::2]) / family.gaussian_error(
        exact, SIGMAS
    )
    assert 3 < ratio < 5


def test_the_error_of_samples_has_no_bias_and_sees_setting_b():
    """Equal parts compose to themselves; distant ones do not."""
    cov = np.eye(2)[None].repeat(2, 0)
    coarse = SIGMAS[::2]
    at = lambda gap: np.array([[0.0, 0.0], [gap, 0.0]])
    same, apart = (family.Member("", at(gap), cov, at(gap), cov) for gap in (0.0, 3.0))
    rng = np.random.default_rng(0)
    n = 10_000
    # Twice the error is chi-squared over n with 143 degrees of freedom, less its mean:
    # a standard deviation of sqrt(2 * 143) / 2n = 0.0008; four of them, and 0.003 for
    # the steps.
    assert abs(family.mixture_error(same, coarse, n, rng)) < 4 * 0.0008 + 0.003
    assert family.mixture_error(apart, coarse, n, rng) > 0.02
