import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings

import compjax as cj
from compjax.samplers import Ancestral, Churn, DPMSolverPP, Euler, Heun
from compjax.testing import assert_close, assert_single_trace, strategies
from compjax.types import Sampler

SAMPLERS = {
    "euler": Euler(),
    "heun": Heun(),
    "dpm": DPMSolverPP(),
    "ancestral": Ancestral(),
    "ancestral_half": Ancestral(0.5),
    "churn": Churn(20.0, 0.05, 50.0, 1.003),
}
KEY = jax.random.key
UNIT = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))


@pytest.mark.parametrize(
    ("sampler", "order"), [(Euler(), 1), (Heun(), 2), (DPMSolverPP(), 2)]
)
@settings(max_examples=5)
@given(strategies.gaussians(2), strategies.points(4, 2))
def test_convergence_order(sampler, order, p, start):
    """Halving the steps divides the error by 2^order, on grids that end above 0."""
    high, low = 4.0, 0.5
    # The flow of a Gaussian, along the eigenvectors of its covariance, in float64:
    # (x - m)_i(sigma) is proportional to sqrt(lambda_i + sigma^2).
    values, vectors = np.linalg.eigh(np.asarray(p.cov, float))
    factors = np.sqrt((values + low**2) / (values + high**2))
    centred = (np.asarray(start, float) - np.asarray(p.mean, float)) @ vectors
    exact = np.asarray(p.mean) + (centred * factors) @ vectors.T

    def error(n):
        grid = cj.log_snr_sigmas(n, low, high)[:-1]
        x, _ = cj.sample(KEY(0), p, sampler, (4, 2), grid, start=start)
        return np.abs(x - exact).max()

    coarse, fine = error(9), error(17)  # 8 and 16 steps
    if fine > 3e-5:  # above float32's rounding; else too exact to see an order
        slope = np.log2(coarse / fine)
        assert slope > order - 0.35
        # Errors of opposite signs may cancel in a multistep method, never in Euler's.
        assert slope < 1.35 or order == 2


def moments_of_steps(name, sigmas):
    """The exact variance that a sampler gives data of variance one: steps are linear.

    For score -x / (1 + s^2) every step is x <- a x + b noise, worked out by hand.
    """
    if name == "dpm":
        return multistep_variance(sigmas)
    variance = sigmas[0] ** 2
    for s, t in itertools.pairwise(sigmas):
        slope = lambda s: s / (1 + s**2)  # dx/dsigma = slope * x
        if name == "churn":
            gamma = min(20.0 / (len(sigmas) - 1), 2**0.5 - 1) * (0.05 <= s <= 50)
            variance += (1.003 * s) ** 2 * ((1 + gamma) ** 2 - 1)
            s = s * (1 + gamma)
        if name in ("euler", "heun", "churn"):
            a = 1 + (t - s) * slope(s)
            if name != "euler" and t > 0:
                a = 1 + (t - s) * (slope(s) + slope(t) * a) / 2
            variance *= a**2
        else:
            eta = {"ancestral": 1.0, "ancestral_half": 0.5}[name]
            up2 = eta**2 * t**2 * (s**2 - t**2) / s**2
            a = 1 + (np.sqrt(t**2 - up2) - s) * slope(s)
            variance = a**2 * variance + up2
    return variance


def multistep_variance(sigmas):
    """The same for DPM-Solver++(2M), whose state is (x, D before), both linear in x."""
    a, before, h_before = 1.0, 0.0, np.inf
    for s, t in itertools.pairwise(sigmas):
        denoised = a / (1 + s**2)
        h = np.log(s / t) if t > 0 else 0.0
        ahead = denoised + h / (2 * h_before) * (denoised - before)
        a = t / s * a + (1 - t / s) * ahead
        before, h_before = denoised, h
    return (a * sigmas[0]) ** 2


@pytest.mark.parametrize("name", SAMPLERS)
def test_moments_are_those_of_the_discretisation(name):
    n, sigmas = 200_000, cj.karras_sigmas(20, 0.02, 10.0)
    x, _ = cj.sample(KEY(1), UNIT, SAMPLERS[name], (n, 1), sigmas)
    variance = moments_of_steps(name, np.asarray(sigmas, float))
    # Standard errors of the mean and of the variance of n normal draws; five of them.
    assert abs(float(x.mean())) < 5 * np.sqrt(variance / n)
    assert abs(float(x.var()) / variance - 1) < 5 * np.sqrt(2 / n) + 1e-4


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_mixture_is_sampled(name):
    p = cj.densities.GaussianMixture(
        jnp.log(jnp.array([0.3, 0.7])),
        jnp.array([[-2.0], [1.0]]),
        jnp.array([[[0.2]], [[0.5]]]),
    )
    sigmas = cj.karras_sigmas(150, 0.005, 30.0)
    x, _ = cj.sample(KEY(2), p, SAMPLERS[name], (4000, 1), sigmas)
    exact = p.sample(KEY(3), 4000)
    assert scipy.stats.ks_2samp(x[:, 0], exact[:, 0]).pvalue > 1e-3


@settings(max_examples=5)
@given(strategies.factorized_conditionals(2))
def test_theorem_5_3_by_sampling(parts):
    """Composed scores of factorized conditionals sample their exact composition."""
    composed = cj.compose(parts.background, *parts.conditionals)
    sigmas = cj.karras_sigmas(100, 0.01, 40.0)
    x, _ = cj.sample(KEY(0), composed, Heun(), (5000, 5), sigmas)
    exact = parts.composition().sample(KEY(1), 5000)
    for i in range(5):  # 25 comparisons in all: a false alarm in 4000 runs
        assert scipy.stats.ks_2samp(x[:, i], exact[:, i]).pvalue > 1e-5


def test_bayes_composition_fades_as_one_over_k():
    """Appendix G, eq. 17: over the unconditional, k objects have strength 1/k."""
    n, k = 8, 4
    at = lambda mean: cj.densities.Gaussian(mean, 0.02**2 * jnp.eye(n))
    parts = [at(row) for row in jnp.eye(n)]
    sigmas = cj.karras_sigmas(60, 0.002, 20.0)
    run = lambda background: cj.sample(
        KEY(0), cj.compose(background, *parts[:k]), Ancestral(), (256, n), sigmas
    )[0].mean(0)
    np.testing.assert_allclose(run(at(jnp.zeros(n))), [1] * k + [0] * k, atol=0.02)
    # The fixed point 1 - (k - 1) w with responsibilities w = 1/k on the active set.
    np.testing.assert_allclose(
        run(cj.mixture(*parts)), [1 / k] * k + [0] * k, atol=0.03
    )


def nan_at_zero(x, sigma):
    return jnp.where(sigma > 0, -x / (1 + sigma**2), jnp.nan)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_score_is_never_evaluated_at_zero(name):
    score = cj.as_score(nan_at_zero)
    x, info = cj.sample(KEY(0), score, SAMPLERS[name], (8, 3), cj.karras_sigmas(6))
    assert np.isfinite(x).all()
    expected = 11 if name in ("heun", "churn") else 6
    assert int(info.evaluations.sum()) == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_trajectory_is_the_path_of_sample(name):
    sigmas, shape = cj.karras_sigmas(5), (8, 1)
    x, _ = cj.sample(KEY(0), UNIT, SAMPLERS[name], shape, sigmas)
    xs, info = cj.trajectory(KEY(0), UNIT, SAMPLERS[name], shape, sigmas)
    assert xs.shape == (6, 8, 1) and info.evaluations.shape == (5,)
    np.testing.assert_array_equal(xs[-1], x)
    start = jnp.ones(shape)
    xs, _ = cj.trajectory(KEY(0), UNIT, SAMPLERS[name], shape, sigmas, start=start)
    np.testing.assert_array_equal(xs[0], start)


@pytest.mark.parametrize("name", SAMPLERS)
def test_same_samples_on_one_and_four_devices(name):
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
    sharding = jax.NamedSharding(mesh, jax.P("data"))
    p = cj.densities.Gaussian(jnp.ones(2), jnp.eye(2))
    sigmas = cj.karras_sigmas(5)
    one, _ = cj.sample(KEY(0), p, SAMPLERS[name], (8, 2), sigmas)
    four, _ = cj.sample(KEY(0), p, SAMPLERS[name], (8, 2), sigmas, sharding=sharding)
    assert four.sharding.is_equivalent_to(sharding, 2)
    # The same draws; sums may be ordered differently.
    assert_close(jax.device_get(four), jax.device_get(one), tolerance=1e-5)


def test_keys_decide_everything_and_vmap_gives_independent_populations():
    sigmas = cj.karras_sigmas(5)
    run = lambda key: cj.sample(key, UNIT, Ancestral(), (4, 1), sigmas)[0]
    keys = lambda: jax.random.split(KEY(0), 3)
    with jax.debug_key_reuse(False):  # it takes keys in a vmapped scan for one key
        together = jax.vmap(run)(keys())
    for i in range(3):
        np.testing.assert_allclose(together[i], run(keys()[i]), rtol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_numbers_never_retrace():
    p = lambda m: cj.densities.Gaussian(m * jnp.ones(1), jnp.eye(1))
    sample = lambda key, score, sampler, sigmas: cj.sample(
        key, score, sampler, (4, 1), sigmas
    )
    for samplers in [
        (Ancestral(0.2), Ancestral(1)),
        (Churn(1.0), Churn(5, 0.1, 3, 1.01)),
        (Heun(), Heun()),
    ]:
        assert_single_trace(
            sample,
            (KEY(0), cj.compose(p(0), p(1)), samplers[0], cj.karras_sigmas(5)),
            (
                KEY(1),
                cj.compose(p(2), p(3), weights=[2]),
                samplers[1],
                cj.karras_sigmas(5, 0.1, 5),
            ),
        )


def test_composition_weights_are_learnable_through_the_sampler():
    # At Gaussians of equal covariance the composed mean is linear in the weight, so
    # its derivative is what the weight moves: m_1 - m_b, times the flow's contraction.
    p = lambda m: cj.densities.Gaussian(jnp.full(1, m), jnp.eye(1))
    sigmas = cj.karras_sigmas(64, 0.002, 80.0)

    def mean(w, sampler):
        composed = cj.compose(p(0.0), p(3.0), weights=w)
        return cj.sample(KEY(0), composed, sampler, (64, 1), sigmas)[0].mean()

    for name, sampler in SAMPLERS.items():
        gradient = jax.grad(mean)(jnp.array([0.4]), sampler)
        assert np.isfinite(gradient).all(), name
        np.testing.assert_allclose(gradient, 3.0, rtol=0.05, err_msg=name)


@pytest.mark.parametrize("name", SAMPLERS)
def test_gradients_with_respect_to_sampler_numbers_are_finite(name):
    def mean(sampler):
        return cj.sample(KEY(0), UNIT, sampler, (16, 1), cj.karras_sigmas(6))[0].mean()

    for leaf in jax.tree.leaves(jax.grad(mean)(SAMPLERS[name])):
        assert np.isfinite(leaf), name


def test_churn_without_churn_is_heun():
    sigmas, shape = cj.karras_sigmas(8), (16, 1)
    heun, _ = cj.sample(KEY(0), UNIT, Heun(), shape, sigmas)
    churn, _ = cj.sample(KEY(0), UNIT, Churn(0.0), shape, sigmas)
    np.testing.assert_allclose(churn, heun, rtol=1e-5, atol=1e-6)


def test_no_eta_is_euler():
    sigmas, shape = cj.karras_sigmas(8), (16, 1)
    euler, _ = cj.sample(KEY(0), UNIT, Euler(), shape, sigmas)
    ancestral, _ = cj.sample(KEY(0), UNIT, Ancestral(0.0), shape, sigmas)
    np.testing.assert_allclose(ancestral, euler, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_obey_the_protocol(name):
    assert isinstance(SAMPLERS[name], Sampler)


GRID = np.array([2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigmas": np.array([1.0, 2.0, 0.0])}, "from 1.0 to 2.0 at step 0"),
        ({"sigmas": np.array([2.0, 0.0, 0.0])}, "from 0.0 to 0.0 at step 1"),
        ({"sigmas": np.array([2.0, -1.0])}, "not negative"),
        ({"sigmas": np.array([np.nan, 1.0])}, "finite"),
        ({"sigmas": np.array([2.0])}, "n >= 1"),
        ({"score": jnp.tanh}, "lift it with"),
        ({"sampler": Heun}, "construct one"),
        ({"shape": (0, 1)}, "positive sizes"),
        ({"start": jnp.ones((3, 1))}, r"start has shape \(3, 1\)"),
    ],
)
def test_bad_input(change, message):
    good = {"score": UNIT, "sampler": Heun(), "shape": (2, 1), "sigmas": GRID}
    given_ = good | change
    start = given_.pop("start", None)
    with pytest.raises(ValueError, match=message):
        cj.sample(KEY(0), *given_.values(), start=start)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ancestral(1.5), "eta must lie in"),
        (lambda: Churn(-1.0), "s_churn must not be negative"),
    ],
)
def test_bad_sampler_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()
