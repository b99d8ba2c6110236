import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.analysis import background_report, gaussian_kl, score_kl

GRID = cj.karras_sigmas(60, 0.05, 40.0)
fresh = lambda: jax.random.key(0)


def report(background, conditionals, n=400, as_scores=False):
    parts = (background, *conditionals)
    keys = jax.random.split(jax.random.key(1), len(parts))
    draws = [p.sample(k, n) for p, k in zip(parts, keys, strict=True)]
    if as_scores:  # nothing but the score is left of them
        parts = [jax.tree_util.Partial(type(p).__call__, p) for p in parts]
    return background_report(fresh(), parts[0], parts[1:], draws, GRID)


def setting_a():
    """Objects on an empty background."""
    at = lambda m: cj.densities.Gaussian(jnp.asarray(m), 0.05 * jnp.eye(4))
    return at(jnp.zeros(4)), [at(e) for e in jnp.eye(4)[:3]]


def setting_b(n=3):
    """The same objects; the background holds one of n."""
    _, conditionals = setting_a()
    at = lambda m: cj.densities.Gaussian(jnp.asarray(m), 0.05 * jnp.eye(4))
    return cj.mixture(*(at(e) for e in jnp.eye(4)[:n])), conditionals


def setting_c(q=0.3):
    clutter = cj.densities.BernoulliClutter(jnp.full(4, q), 0.05**0.5)
    return clutter, [clutter.with_object(i) for i in range(3)]


@pytest.mark.parametrize("as_scores", [False, True])
def test_it_warns_of_setting_b(as_scores):
    found = report(*setting_b(), as_scores=as_scores)
    assert found.mixture and found.contained.all()
    assert found.exclusive == ((0, 1), (0, 2), (1, 2))


def test_it_warns_when_the_mixture_holds_other_objects_too():
    assert report(*setting_b(4)).exclusive == ((0, 1), (0, 2), (1, 2))


@pytest.mark.parametrize("q", [0.2, 0.5])
def test_it_does_not_warn_of_clutter(q):
    found = report(*setting_c(q))
    assert not found.mixture and found.contained.all()
    np.testing.assert_allclose(found.log_ratio, 0, atol=1e-3)


def test_it_does_not_warn_of_the_empty_background():
    found = report(*setting_a())
    assert not found.mixture and not found.contained.any()


def test_opposite_shifts_exclude_each_other_and_are_no_mixture():
    at = lambda m: cj.densities.Gaussian(jnp.array([m]), jnp.eye(1))
    found = report(at(0.0), [at(-1.5), at(1.5)])
    # log Z = m_i m_j for shifts of unit Gaussians.  60 trapezoids of V, constant in x.
    assert found.log_ratio[0, 1] == pytest.approx(-(1.5**2), rel=0.02)
    assert not found.mixture


def test_narrow_conditionals_are_contained_and_do_not_exclude():
    wide = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
    narrow = [
        cj.densities.Gaussian(jnp.zeros(2), jnp.diag(v))
        for v in (jnp.array([0.05, 1.0]), jnp.array([1.0, 0.05]))
    ]
    found = report(wide, narrow)
    assert found.contained.all() and not found.mixture


def test_one_conditional_never_warns():
    background, conditionals = setting_b()
    assert not report(background, conditionals[:1]).mixture


def test_the_ratio_is_the_normaliser_of_a_pair():
    """E_b[rho_i rho_j], the integral of p_i p_j / p_b, by quadrature."""
    at = lambda m: cj.densities.Gaussian(jnp.array([m]), 0.5 * jnp.eye(1))
    i, j = at(-0.6), at(0.8)
    b = cj.mixture(i, j)
    x = jnp.linspace(-8, 8, 4001)[:, None]
    logs = np.asarray(i.log_prob(x) + j.log_prob(x) - b.log_prob(x), float)
    expected = np.log(np.exp(logs).sum() * 16 / 4000)
    found = report(b, [i, j], n=20_000)
    # Weights of order one, 20 000 of them: a standard error below 0.01, five of them;
    # and trapezoids of 60 steps, 2 % of the exponent.
    assert found.log_ratio[0, 1] == pytest.approx(expected, abs=0.05 + 0.02)
    assert found.log_ratio[0, 1] == found.log_ratio[1, 0] < -0.2


def test_kl_from_scores():
    p = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
    q = cj.densities.Gaussian(jnp.ones(2), jnp.array([[2.0, 0.5], [0.5, 1.0]]))
    x = p.sample(jax.random.key(1), 20_000)
    grid = cj.karras_sigmas(100, 0.01, 80.0)
    # Six standard errors of 20 000 draws of a sum of order one are 0.04; the grid
    # leaves out what lies below its last level, about sigma^2 = 1e-4.
    assert float(score_kl(fresh(), p, q, x, grid)) == pytest.approx(
        gaussian_kl(p, q), abs=0.04
    )


def test_bad_input():
    background, conditionals = setting_a()
    x = jnp.ones((4, 4))
    with pytest.raises(ValueError, match="as many sets of draws"):
        background_report(fresh(), background, conditionals, [x], GRID)
    with pytest.raises(ValueError, match="must decrease"):
        score_kl(fresh(), background, background, x, GRID[::-1])
    with pytest.raises(ValueError, match="at least one conditional"):
        background_report(fresh(), background, [], [x], GRID)
    with pytest.raises(ValueError, match="in \\(0, 1\\)"):
        background_report(fresh(), background, conditionals, [x] * 4, GRID, ratio=2.0)
