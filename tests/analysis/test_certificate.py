import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import compjax as cj
from compjax.analysis import (
    certificate,
    commutation_defect,
    criterion,
    effective_sample_size,
    kl_bound,
)
from compjax.testing import VARIANTS, assert_close, strategies

evaluate = jax.jit(criterion)
certify = lambda composition, n, steps, **options: certificate(
    jax.random.key(0),
    composition,
    (n, 2),
    cj.karras_sigmas(steps, 0.01, 40.0),
    **options,
)


@jax.jit
def heat_remainder(composition, x, sigma):
    """`d log u / d tau - (laplacian log u + |grad log u|^2) / 2`, by autodiff."""
    log = lambda x, tau: composition.log_density(x[None], jnp.sqrt(tau))[0]

    def at(x):
        tau = sigma**2
        slope = jax.grad(log)(x, tau)
        laplacian = jnp.trace(jax.hessian(log)(x, tau))
        return jax.grad(log, argnums=1)(x, tau) - (laplacian + slope @ slope) / 2

    return jax.vmap(at)(x)


weighted_mixtures = given(
    strategies.gaussian_mixtures(),
    strategies.gaussian_mixtures(),
    strategies.gaussian_mixtures(),
    strategies.weights(2),
    strategies.points(),
    strategies.noise_levels(0.5, 5.0),
)


@weighted_mixtures
def test_it_is_what_the_heat_equation_leaves(b, p, q, weights, x, sigma):
    composed = cj.compose(b, p, q, weights=weights)
    # Second derivatives are of order w s^2 with s up to some tens; float32 of their
    # sum, relative to that scale.
    s = np.abs(np.asarray(composed.parts(x, sigma)))
    scale = 1 + (1 + np.abs(weights).sum()) * (s**2).sum(-1).max()
    actual, expected = heat_remainder(composed, x, sigma), -evaluate(composed, x, sigma)
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-4)


@weighted_mixtures
def test_any_part_may_be_called_the_background(b, p, q, weights, x, sigma):
    composed = cj.compose(b, p, q, weights=weights)
    first = jnp.array([1 - weights.sum(), *weights])
    turned = cj.product(q, b, p, weights=jnp.roll(first, 1))
    # V is a difference of squares of weighted scores: float32 relative to those.
    s = np.abs(np.asarray(composed.parts(x, sigma)))
    scale = 1 + (1 + np.abs(weights).sum()) ** 2 * (s**2).sum(-1).max()
    actual, expected = evaluate(turned, x, sigma), evaluate(composed, x, sigma)
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-5)


@given(
    strategies.factorized_conditionals(),
    strategies.points(4, 5),
    strategies.noise_levels(0.3, 5.0),
)
def test_factorized_conditionals_have_none(parts, x, sigma):
    composed = cj.compose(parts.background, *parts.conditionals)
    deltas = np.asarray(composed.parts(x, sigma))
    # What is left of delta_i off its block is rounding of the scores themselves.
    scale = 1 + (deltas**2).sum(-1).max()
    np.testing.assert_allclose(evaluate(composed, x, sigma) / scale, 0, atol=1e-5)


def spread(composition, x, sigma):
    """The range of V over the points, relative to the size of its terms."""
    parts = np.asarray(composition.parts(x, sigma))
    terms = ((parts[1:] - parts[:1]) ** 2).sum(-1).max()
    return float(np.ptp(evaluate(composition, x, sigma)) / (terms + 1e-3))


@given(
    strategies.gaussians(),
    strategies.arrays((2, 3), -2.0, 2.0),
    strategies.weights(2),
    strategies.points(),
    strategies.noise_levels(0.3, 5.0),
)
def test_shifts_of_equal_covariance_commute_at_any_angle(b, shifts, w, x, sigma):
    moved = [cj.densities.Gaussian(b.mean + shift, b.cov) for shift in shifts]
    composed = cj.compose(b, *moved, weights=w)
    # Scores are accurate to 1e-7 times a condition number of a few hundred, of which V
    # has the square of (1 + sum of weights), at most 50.
    assert spread(composed, x, sigma) < 1e-2


def test_broken_hypotheses_do_not_commute():
    x = 2 * jax.random.normal(jax.random.key(0), (64, 2))
    shift = jnp.array([1.0, 0.5])
    unit = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))
    wide = cj.densities.Gaussian(shift, jnp.diag(jnp.array([1.0, 3.0])))
    narrow = cj.densities.Gaussian(-shift, jnp.array([[1.0, 0.4], [0.4, 0.7]]))
    assert spread(cj.compose(unit, wide, narrow), x, 1.0) > 0.1


def sheared(shear):
    """Sections 7 and 7.2: factorized in z, seen through x = S z."""
    shear = np.array([[1.0, shear], [0.0, 1.0]])
    seen = lambda mean, variances: cj.densities.Gaussian(
        shear @ np.array(mean), shear @ np.diag(variances) @ shear.T
    )
    background = seen([0.0, 0.0], [1.0, 1.0])
    conditionals = seen([1.0, 0.0], [0.3, 1.0]), seen([0.0, 1.0], [1.0, 0.3])
    return cj.compose(background, *conditionals), seen([1.0, 1.0], [0.3, 0.3])


def test_guidance_is_exact_if_and_only_if_the_delta_has_constant_norm():
    unit, moved = (cj.densities.Gaussian(m * jnp.ones(2), jnp.eye(2)) for m in (0, 1))
    wide = cj.densities.Gaussian(jnp.ones(2), 2 * jnp.eye(2))
    x = jax.random.normal(jax.random.key(0), (64, 2))
    assert spread(cj.guide(unit, moved, 4.0), x, 1.0) < 1e-4
    assert spread(cj.guide(unit, wide, 4.0), x, 1.0) > 0.1
    # w^2 |d|^2 / 2 - w |d|^2 / 2 with d = 1 / (1 + 1) in each of two coordinates.
    expected = (4.0**2 - 4.0) / 2 * 2 * 0.25
    np.testing.assert_allclose(
        evaluate(cj.guide(unit, moved, 4.0), x, 1.0), expected, rtol=1e-5
    )


def moments(x, weights):
    """Weighted mean and covariance."""
    mean = weights @ x
    return mean, (x - mean).T @ (weights[:, None] * (x - mean))


@pytest.mark.parametrize("sampler", [cj.samplers.Ancestral(), cj.samplers.Euler()])
def test_weights_recover_the_target_of_sheared_gaussians(sampler):
    composed, target = sheared(0.9)
    # The flow forgets a wrong start slowly, in proportion to sigma: give the right one.
    start = target.sample(jax.random.key(3), 40_000, 40.0)
    report = certify(composed, 40_000, 400, sampler=sampler, start=start)
    x, even = np.asarray(report.x, float), np.full(40_000, 1 / 40_000)
    weights = np.asarray(jax.nn.softmax(report.log_weights), float)
    wrong = np.asarray(jax.nn.softmax(-report.log_weights), float)
    size = 40_000 * float(report.effective_sample_size)
    assert size > 20_000
    # Six standard errors of a second moment of x at that sample size, whose size is at
    # most sqrt(2) times the largest variance, 0.55; and what 400 steps leave, which is
    # of first order: 2 % of it.
    tolerance = 6 * 2**0.5 * 0.55 / size**0.5 + 0.02 * 0.55

    def error(weights):
        mean, cov = moments(x, weights)
        return np.abs(np.concatenate([mean - target.mean, (cov - target.cov).ravel()]))

    assert error(weights).max() < tolerance
    assert error(even).max() > 3 * tolerance
    assert error(wrong).max() > 2 * error(even).max() - tolerance


def test_weights_recover_the_target_of_mixtures():
    """Setting B on a line, where nothing is Gaussian: moments by quadrature."""
    at = lambda m: cj.densities.Gaussian(jnp.array([m]), 0.25 * jnp.eye(1))
    left, right = at(-1.0), at(1.5)
    composed = cj.compose(cj.mixture(left, right), left, right)
    grid = np.linspace(-8, 8, 4001)
    logs = np.asarray(composed.log_density(jnp.asarray(grid)[:, None], 0.0), float)
    density = np.exp(logs - logs.max())
    density /= density.sum()
    expected = np.array([density @ grid, density @ grid**2])
    report = certificate(
        jax.random.key(1), composed, (40_000, 1), cj.karras_sigmas(400, 0.01, 40.0)
    )
    x = np.asarray(report.x, float)[:, 0]
    weights = np.asarray(jax.nn.softmax(report.log_weights), float)
    size = 40_000 * float(report.effective_sample_size)
    # Six standard errors of x and x^2, whose standard deviations are below 0.25 here,
    # and 2 % of the second moment for 400 steps.
    tolerance = 6 * 0.25 / size**0.5 + 0.02 * expected[1]
    values = np.stack([x, x**2])
    assert np.abs(values @ weights - expected).max() < tolerance
    assert np.abs(values.mean(1) - expected).max() > 1.5 * tolerance


def test_an_exact_composition_has_the_certificate_of_one():
    report = certify(sheared(0.0)[0], 64, 16)
    # delta_1 and delta_2 have no coordinate in common; what is left is rounding of
    # squares: 1e-7 of V's terms, whose integral over the path is of order ten.
    np.testing.assert_allclose(report.log_weights, jnp.zeros(64), atol=1e-5)
    assert max(report.integral, report.kl_bound) < 1e-5
    assert report.effective_sample_size > 1 - 1e-5


def test_weights_are_trapezoids_and_the_last_step_is_a_rectangle():
    """Shifts of 1 and 2 along one axis: V = 2 / (1 + sigma^2)^2 everywhere."""
    at = lambda m: cj.densities.Gaussian(jnp.array([m, 0.0]), jnp.eye(2))
    composed, grid = cj.compose(at(0.0), at(1.0), at(2.0)), np.array([4.0, 2.0, 1.0, 0])
    report = certificate(jax.random.key(0), composed, (4, 2), grid)
    v = 2 / (1 + grid**2) ** 2
    expected = 12 * (v[0] + v[1]) / 2 + 3 * (v[1] + v[2]) / 2 + v[2]
    np.testing.assert_allclose(report.log_weights, expected, rtol=1e-4)


@settings(max_examples=10)
@given(st.floats(0.5, 1.5))
def test_the_certificate_grows_with_the_shear(shear):
    less, more = (certify(sheared(s)[0], 512, 32) for s in (0.5 * shear, shear))
    assert less.integral < more.integral
    assert less.effective_sample_size > more.effective_sample_size
    assert less.kl_bound < more.kl_bound


def gaussian_kl(mean, cov, target):
    """`KL(N(mean, cov) || target)`."""
    precision = np.linalg.inv(np.asarray(target.cov, float))
    gap = np.asarray(target.mean, float) - mean
    change = precision @ cov
    logs = np.log(np.linalg.det(change))
    return (np.trace(change) - len(mean) - logs + gap @ precision @ gap) / 2


def test_the_bound_holds_and_the_defect_agrees():
    """Both sides of the truth: KL(sampled || target) and KL(target || sampled)."""
    composed, target = sheared(0.9)
    report = certify(composed, 40_000, 400)
    x = np.asarray(report.x, float)
    sampled = cj.densities.Gaussian(x.mean(0), np.cov(x.T))
    forward = gaussian_kl(x.mean(0), np.cov(x.T), target)
    backward = gaussian_kl(
        np.asarray(target.mean, float), np.asarray(target.cov, float), sampled
    )
    assert 0.01 < forward < float(report.kl_bound)
    levels, draw = np.geomspace(0.01, 40.0, 60), target.sample
    defects = [
        commutation_defect(composed, target, draw(jax.random.key(2), 2000, s), s)
        for s in jnp.asarray(levels, jnp.float32)
    ]
    bound = np.trapezoid(np.array(defects, float), levels**2) / 2
    assert 0.01 < backward < bound
    exact, product = sheared(0.0)
    x = product.sample(jax.random.key(2), 100, 0.5)
    assert commutation_defect(exact, product, x, 0.5) < 1e-9


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_agree(variant):
    composed, _ = sheared(0.9)
    x = jax.random.normal(jax.random.key(0), (4, 2))
    run = VARIANTS[variant](criterion)
    assert_close(run(composed, x, jnp.float32(0.7)), evaluate(composed, x, 0.7))
    levels = jnp.array([0.3, 0.7, 1.0, 2.0])
    assert_close(run(composed, x, levels), evaluate(composed, x, levels))


def shifted(x, sigma, condition):
    """A conditional score: Gaussians of a mean and a width of their own."""
    mean, width = condition[:, :2], condition[:, 2:]
    return -(x - mean) / (width**2 + sigma**2)


CONDITIONS = jnp.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.5], [1.0, 1.0, 0.8]])[:, None]


@pytest.mark.parametrize("chunk", [None, 1])
def test_conditions_are_certified_like_scores_and_padding_costs_nothing(chunk):
    score = cj.as_score(shifted)
    bound = [cj.condition(score, c) for c in CONDITIONS]
    apart = cj.compose(*bound, weights=[1.0, 2.0])
    padding = jnp.full((2, 1, 3), 7.0)
    together = cj.compose_conditions(
        score,
        CONDITIONS[0],
        jnp.concatenate([CONDITIONS[1:], padding]),
        weights=[1.0, 2.0, 0.0, 0.0],
        chunk=chunk,
    )
    a, b = certify(apart, 64, 16), certify(together, 64, 16)
    assert float(a.deviation.max()) > 0.1
    for x, y in zip(a, b, strict=True):
        # The same operations in another order: float32 over 16 steps.
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_one_population_on_one_device_or_four():
    composed, _ = sheared(0.9)
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
    over_batch = jax.NamedSharding(mesh, jax.P("data"))
    together = certify(composed, 64, 16)
    spread_out = certify(composed, 64, 16, sharding=over_batch)
    assert spread_out.x.sharding.is_equivalent_to(over_batch, 2)
    for x, y in zip(together, spread_out, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4)


def test_weights_of_paths():
    logs = np.array([0.3, -1.0, 2.0, 0.1])
    weights = np.exp(logs)
    expected = weights.sum() ** 2 / (weights**2).sum() / 4
    np.testing.assert_allclose(effective_sample_size(logs + 300), expected, rtol=1e-4)
    expected = np.log(weights.mean()) - logs.mean()
    np.testing.assert_allclose(kl_bound(logs + 300), expected, atol=1e-4)


UNIT = cj.densities.Gaussian(jnp.zeros(2), jnp.eye(2))


@pytest.mark.parametrize(
    ("composition", "message"),
    [
        (UNIT, "needs the parts"),
        (cj.product(UNIT, UNIT), "sum to 2"),
        (cj.compose(UNIT, cj.compose(UNIT, UNIT)), "itself a composition"),
        (cj.guide(UNIT, UNIT, lambda sigma: sigma), "change along the grid"),
        (cj.compose(UNIT, UNIT, weights=jnp.ones((1, 8))), "one composition at a time"),
        (
            cj.compose_conditions(
                cj.as_score(shifted), CONDITIONS[0], CONDITIONS[1:].repeat(8, axis=1)
            ),
            "one composition at a time",
        ),
    ],
)
def test_bad_compositions(composition, message):
    with pytest.raises(ValueError, match=message):
        certify(composition, 8, 4)


def test_samplers_that_look_elsewhere_are_told():
    with pytest.raises(ValueError, match="between the levels of the grid"):
        certify(sheared(0.9)[0], 8, 4, sampler=cj.samplers.Heun())
    with pytest.raises(ValueError, match="the space of x"):
        commutation_defect(
            UNIT, cj.as_score(lambda x, s: x[:, :1]), jnp.ones((1, 2)), 1.0
        )
