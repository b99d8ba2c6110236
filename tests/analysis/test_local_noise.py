"""Windows at all levels, couplings at each, and a divergence along noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax import analysis
from compjax.densities import BernoulliClutter, Gaussian, GaussianMixture, Independent
from compjax.testing import assert_close, strategies

fresh = lambda: jax.random.key(0)
MIXTURE = GaussianMixture(
    jnp.array([0.0, 1.0]),
    jnp.array([[1.0, -0.5, 0.0], [-1.0, 0.5, 2.0]]),
    jnp.stack([0.3 * jnp.eye(3), 0.2 * jnp.eye(3) + 0.1]),
)
Y = jnp.array([[0.3, -0.2, 0.5], [0.0, 0.0, 0.0], [-0.6, 0.1, 0.2]])


def test_the_denoiser_tends_to_the_cumulant_gradient_as_one_over_the_variance():
    limit = analysis.cumulant_gradient(MIXTURE, Y)
    error = lambda sigma: (MIXTURE.denoise(sigma**2 * Y, sigma) - limit) * sigma**2
    # The covariance of x0 and |x0|^2 under the tilted law, from draws and weights.
    x = MIXTURE.sample(jax.random.key(1), 400_000)
    for y, near, far in zip(Y, error(8.0), error(16.0), strict=True):
        weights = jax.nn.softmax(x @ y)[:, None]
        square = (x**2).sum(1, keepdims=True)
        mean = lambda v, w=weights: (w * v).sum(0)
        covariance = mean(x * square) - mean(x) * mean(square)
        # 400 000 draws of products of order one: five standard errors are 0.015.  The
        # next order is 1 / 8^2 of this one, and D has lost 256 y of float32's digits.
        np.testing.assert_allclose(near, -covariance / 2, atol=0.03)
        np.testing.assert_allclose(far, -covariance / 2, atol=0.03)
    assert jnp.abs(error(16.0)).max() > 0.5  # the rate is not faster


def test_cumulant_gradient_of_a_gaussian():
    p = Gaussian(jnp.array([1.0, 2.0]), jnp.array([[2.0, 0.5], [0.5, 1.0]]))
    y = jnp.array([[1.0, -1.0]])
    np.testing.assert_allclose(
        analysis.cumulant_gradient(p, y), [[1 + 1.5, 2 - 0.5]], rtol=1e-6
    )


D = 5
EDGES = st.lists(st.booleans(), min_size=10, max_size=10)


def jacobian(p, x, sigma):
    """Of the denoiser, `[d, d]`."""
    return jax.jacfwd(lambda x: p.denoise(x[None], sigma)[0])(x)


jacobians = jax.jit(jax.vmap(jacobian, (None, None, 0)))
SIGMAS = jnp.array([0.3, 1.0, 3.0])


@given(EDGES, strategies.arrays((10,), 0.3, 1.0), strategies.arrays((D,), -2.0, 2.0))
def test_windows_of_a_gaussian(edges, weights, x):
    cov = np.zeros((D, D))
    cov[np.triu_indices(D, 1)] = np.where(edges, weights, 0)
    cov = cov + cov.T + np.diag(cov.sum(0) + cov.sum(1) + 0.5)
    windows = analysis.gaussian_windows(cov)
    found = np.abs(jacobians(Gaussian(np.zeros(D), cov), x, SIGMAS))
    # Exact zeros stay zeros in a Cholesky factor, and in what is made of it.
    assert found[:, ~windows].max(initial=0) < 1e-6
    # Covariances that are not negative: a path of length l adds (0.3 / 4.5)^l at least,
    # and is seen at some level.
    assert found.max(0)[windows].min() > 1e-6
    # By powers: a path through the graph, or none.
    reach = np.linalg.matrix_power((cov != 0).astype(int), D) > 0
    np.testing.assert_array_equal(windows, reach)


def test_paths_can_cancel():
    """Connected coordinates of which one never hears the other: the exception."""
    cov = np.array(
        [[3, 0, 1, 1], [0, 3, 1, -1], [1, 1, 3, 0], [1, -1, 0, 3]], dtype=float
    )
    assert analysis.gaussian_windows(cov).all()
    found = jacobians(Gaussian(np.zeros(4), cov), jnp.ones(4), SIGMAS)
    assert np.abs(found[:, 0, 1]).max() < 1e-6
    assert np.abs(found[:, 0, 2]).min() > 1e-3
    # As theorem L says, what is never heard is independent.
    assert cov[0, 1] == 0


def test_a_window_at_one_level_is_no_window_at_all_levels():
    """An autoregression: its score at sigma = 0 sees nearest neighbours only."""
    lag = np.abs(np.arange(D)[:, None] - np.arange(D)[None])
    p = Gaussian(np.zeros(D), 0.7**lag)
    assert analysis.gaussian_windows(p.cov).all()
    score = np.abs(jax.jacfwd(lambda x: p(x[None], 0.0)[0])(jnp.ones(D)))
    assert score[lag > 1].max() < 1e-5 and score[lag == 1].min() > 0.5
    found = np.abs(jacobians(p, jnp.ones(D), SIGMAS))
    # 0.7^4 is correlated still; the last level is far from the first.
    assert found[1].min() > 1e-3


@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_couplings_are_those_of_the_jacobians(sigma):
    root = np.array([[1.0, 0.3, 0.0], [-0.5, 0.8, 0.4], [0.2, 0.1, 1.1]])
    p = Gaussian(np.zeros(3), root @ root.T)
    found = analysis.gaussian_coupling(p.cov, sigma)
    of_score = jax.jacfwd(lambda x: p(x[None], sigma)[0])(jnp.ones(3))
    of_denoiser = jacobian(p, jnp.ones(3), sigma)
    for actual, j in ((found.score, of_score), (found.denoiser, of_denoiser)):
        beside = jnp.abs(j) / jnp.abs(jnp.diagonal(j))[:, None]
        # The denoiser's Jacobian cancels against 1: float32 times sigma^2.
        np.testing.assert_allclose(actual, beside, atol=3e-5)


def test_opposite_ways():
    """The score's coupling falls with noise, and the denoiser's rises."""
    sigmas, rho = np.array([0.1, 0.5, 1.0, 3.0, 10.0]), 0.5
    cov = jnp.array([[1.0, rho], [rho, 1.0]])
    score, denoiser = jax.vmap(lambda s: analysis.gaussian_coupling(cov, s))(
        jnp.asarray(sigmas, jnp.float32)
    )
    v = sigmas**2
    np.testing.assert_allclose(score[:, 0, 1], rho / (1 + v), rtol=1e-4)
    np.testing.assert_allclose(
        denoiser[:, 0, 1], rho * v / (1 + v - rho**2), rtol=1e-3, atol=1e-6
    )
    assert (np.diff(score[:, 0, 1]) < 0).all()
    assert (np.diff(denoiser[:, 0, 1]) > 0).all()


@given(strategies.gaussians(4), strategies.points(3, 4), strategies.noise_levels())
def test_projection_commutes_with_noise(p, x, sigma):
    masks = ((2, 0), (3,))
    q = analysis.projection(p, masks)
    assert q.blocks == ((2, 0), (3,), (1,))
    noised = p.noised(sigma)
    parts = [
        Gaussian(noised.mean[i], noised.cov[i][:, i]).log_prob(x[:, i])
        for i in map(jnp.array, ([2, 0], [3], [1]))
    ]
    assert_close(q.log_prob(x, sigma), sum(parts))


def dense(p):
    """An `Independent` of Gaussians as one."""
    n = sum(map(len, p.blocks))
    mean, cov = np.zeros(n), np.zeros((n, n))
    for block, part in zip(p.blocks, p.parts, strict=True):
        mean[list(block)], cov[np.ix_(block, block)] = part.mean, part.cov
    return Gaussian(mean, cov)


@given(strategies.gaussians(3), strategies.gaussians(2), strategies.gaussians(1))
def test_projection_is_the_nearest(p, other, single):
    """Pythagoras: KL(p, r) = KL(p, q) + KL(q, r) for every product r."""
    r = dense(Independent(((0, 1), (2,)), (other, single)))
    q = dense(analysis.projection(p, ((0, 1),)))
    kl = analysis.gaussian_kl
    # Double precision of float32 moments, whose condition is a few hundred.
    assert np.isclose(kl(p, r), kl(p, q) + kl(q, r), rtol=1e-4, atol=1e-5)


def tied(rho):
    return Gaussian(jnp.zeros(2), jnp.array([[1.0, rho], [rho, 1.0]]))


HALVES = ((0,), (1,))
GRID = jnp.geomspace(30.0, 0.01, 150)
along = jax.jit(analysis.kl_along_noise, static_argnums=4)


def test_kl_along_noise():
    rho, p = 0.8, tied(0.8)
    found = along(fresh(), p, analysis.projection(p, HALVES), GRID, 20_000)
    v = 1 + np.asarray(GRID, float) ** 2
    epsilon = -np.log1p(-((rho / v) ** 2)) / 2
    expected = epsilon - epsilon[0]
    # Trapezoids of 150 steps are good to 1e-3 of it.
    error = np.abs(found.lost - expected)
    assert (error <= 4.5 * found.error + 2e-3 * expected + 1e-7).all()
    assert expected[-1] > 0.5 and found.error[-1] < 0.01
    # tr (P - I / v)^2 (C + sigma^2 I), by hand.
    squares = 2 * rho**2 / (v * (v**2 - rho**2))
    np.testing.assert_allclose(found.squares, squares, rtol=0.1, atol=1e-7)


def test_its_standard_errors():
    p = tied(0.8)
    q = analysis.projection(p, HALVES)
    keys = jax.random.split(fresh(), 60)
    run = lambda key: analysis.kl_along_noise(key, p, q, GRID[::5], 200)
    found = jax.jit(lambda keys: jax.lax.map(run, keys))(keys)
    spread = found.lost.std(0, ddof=1)[1:]
    # 60 runs know a standard deviation to 9 %, four of them.
    np.testing.assert_allclose(found.error.mean(0)[1:], spread, rtol=0.4)


def test_the_score_error_is_not_monotone():
    """Two correlated modes: the divergence falls, its rate rises and falls again."""
    modes = jnp.array([[2.0, 2.0], [-2.0, -2.0]])
    p = GaussianMixture(jnp.zeros(2), modes, jnp.stack([0.05 * jnp.eye(2)] * 2))
    q = analysis.projection(p, HALVES)
    found = along(fresh(), p, q, jnp.geomspace(60.0, 0.02, 150), 4000)
    # One coordinate tells the other: log 2 nats.
    error = abs(float(found.lost[-1]) - np.log(2))
    assert error < 4 * float(found.error[-1]) + 2e-3
    low, peak, high = found.squares[-1], found.squares.max(), found.squares[0]
    assert low < 1e-3 * peak and high < 1e-3 * peak and peak > 0.1


def test_bad_input():
    with pytest.raises(ValueError, match=r"\[d, d\]"):
        analysis.gaussian_windows(np.ones(3))
    with pytest.raises(ValueError, match="positive definite"):
        analysis.gaussian_windows(-np.eye(2))
    with pytest.raises(ValueError, match=r"\[d, d\]"):
        analysis.gaussian_coupling(np.ones(3), 1.0)
    with pytest.raises(ValueError, match="Masks are disjoint"):
        analysis.projection(tied(0.5), ((0, 2),))
    with pytest.raises(ValueError, match="at least 2"):
        analysis.kl_along_noise(fresh(), tied(0.5), tied(0.0), GRID, 1)
    with pytest.raises(ValueError, match="must decrease"):
        analysis.kl_along_noise(fresh(), tied(0.5), tied(0.0), GRID[::-1], 10)


def test_a_level_of_zero_counts_as_the_one_before():
    clutter = BernoulliClutter(jnp.array([0.3, 0.5]), 0.2)
    q = analysis.projection(clutter, ((1,), (0,)))
    found = along(fresh(), clutter, q, jnp.array([1.0, 0.5, 0.0]), 10)
    np.testing.assert_array_equal(found.lost, 0)  # it factorises already
    p = tied(0.5)
    q = analysis.projection(p, HALVES)
    found = along(fresh(), p, q, jnp.array([1.0, 0.5, 0.0]), 10)
    assert found.lost[1] == found.lost[2] > 0
