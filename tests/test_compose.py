from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import compjax as cj
from compjax import types
from compjax.testing import (
    VARIANTS,
    Affine,
    SinhArcsinh,
    assert_close,
    assert_commutes_with_noise,
    assert_equivariant,
    assert_permutation_invariant,
    assert_same_score,
    assert_score_is_gradient,
    assert_single_trace,
    strategies,
)

evaluate = jax.jit(lambda score, x, sigma: score(x, sigma))
parts_of = jax.jit(lambda score, x, sigma: score.parts(x, sigma))
log_density = jax.jit(lambda p, x, sigma: p.log_density(x, sigma))


@jax.jit
def noised_samples(p, sigma):
    key_data, key_noise = jax.random.split(jax.random.key(0))
    clean = p.sample(key_data, 50_000)
    return clean + sigma * jax.random.normal(key_noise, clean.shape)


@jax.jit
def gradient_of_log_det(bijection, x):
    return jax.vmap(jax.grad(bijection.log_det))(x)


@jax.jit
def there_and_back(bijection, x):
    jacobians = jax.vmap(jax.jacobian(bijection.forward))(x)
    return (
        jax.vmap(bijection.inverse)(jax.vmap(bijection.forward)(x)),
        jax.vmap(bijection.log_det)(x),
        jnp.linalg.slogdet(jacobians)[1],
    )


MIXTURES = [strategies.gaussian_mixtures() for _ in range(3)]
LEVELS = strategies.noise_levels()
POINTS = strategies.points()


def rising(sigma):
    """A weight that is a function of the noise level."""
    return sigma / (1 + sigma)


OPERATORS = {
    "compose": lambda a, b, c: cj.compose(a, b, c, weights=[0.7, rising]),
    "product": lambda a, b, c: cj.product(a, b, c, weights=[0.5, 1.5, -0.3]),
    "power": lambda a, b, c: cj.power(a, 1.7),
    "guide": lambda a, b, c: cj.guide(a, b, 2.5),
    "guide_by_level": lambda a, b, c: cj.guide(a, b, rising),
    "negate": lambda a, b, c: cj.negate(a, b, 0.4),
    "negate_by_level": lambda a, b, c: cj.negate(a, b, rising),
    "mixture": lambda a, b, c: cj.mixture(a, b, c, log_weights=[0.0, 1.0, -1.0]),
    "contrast": lambda a, b, c: cj.contrast(a, b),
    "harmonic_mean": lambda a, b, c: cj.harmonic_mean(a, b),
    "switch": lambda a, b, c: cj.switch(a, b, 1.0),
    "nested": lambda a, b, c: cj.guide(cj.mixture(a, b), cj.product(b, c), 1.5),
}
DEGREE_ONE = sorted(OPERATORS.keys() - {"product", "power", "nested"})


@pytest.mark.parametrize("name", OPERATORS)
def test_score_is_gradient(name):
    @given(*MIXTURES, POINTS, LEVELS)
    def check(a, b, c, x, sigma):
        assert_score_is_gradient(OPERATORS[name](a, b, c), x, sigma)

    check()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", OPERATORS)
def test_variants_agree(name, variant):
    def evaluate(parts, x, sigma):
        return OPERATORS[name](*parts)(x, sigma)

    run, together = VARIANTS[variant](evaluate), jax.jit(evaluate)

    @settings(max_examples=3 if variant in ("eager", "vmap") else 20)
    @given(*MIXTURES, POINTS, LEVELS)
    def check(a, b, c, x, sigma):
        for level in (sigma, sigma * jnp.array([0.5, 0.9, 1.1, 2.0])):
            assert_close(run((a, b, c), x, level), together((a, b, c), x, level))

    check()


@given(*MIXTURES, strategies.weights(2), POINTS, LEVELS)
def test_algebra(a, b, c, w, x, sigma):
    same = lambda p, q: assert_same_score(p, q, x, sigma)
    np.testing.assert_array_equal(cj.compose(a)(x, sigma), a(x, sigma))
    same(cj.compose(a, b), b)
    same(cj.compose(a, b, c, weights=[0.0, 0.0]), a)
    same(cj.guide(a, b, w[0]), cj.compose(a, b, weights=w[:1]))
    same(cj.guide(a, b, 0.0), a)
    same(cj.guide(a, b, 1.0), b)
    same(cj.negate(a, b, w[0]), cj.compose(a, b, weights=-w[:1]))
    same(cj.power(a, w[0]), cj.product(a, weights=w[:1]))
    same(cj.power(cj.power(a, w[0]), w[1]), cj.power(a, w[0] * w[1]))
    # C[p_b; p_1, p_2] = p_1 p_2 / p_b
    same(cj.compose(a, b, c), cj.product(b, c, a, weights=[1.0, 1.0, -1.0]))
    # keep^2 / (keep + avoid) times (keep + avoid) / 2 is keep^2 / 2
    both = cj.product(cj.contrast(a, b), cj.mixture(a, b))
    same(both, cj.power(a, 2.0))
    same(cj.product(cj.harmonic_mean(a, b), cj.mixture(a, b)), cj.product(a, b))


@given(*MIXTURES, strategies.weights(2), POINTS, LEVELS)
def test_order_does_not_matter(a, b, c, w, x, sigma):
    assert_permutation_invariant(cj.product, (a, b, c), x, sigma)
    assert_permutation_invariant(cj.mixture, (a, b, c), x, sigma)
    assert_permutation_invariant(
        lambda *parts: cj.compose(a, *parts), (a, b, c), x, sigma
    )
    assert_same_score(
        cj.compose(a, b, c, weights=w), cj.compose(a, c, b, weights=w[::-1]), x, sigma
    )


@pytest.mark.parametrize("name", DEGREE_ONE)
def test_equivariant_under_bijections(name):
    """Lemma 6.2, for every operator of degree one in the density."""

    @given(*MIXTURES, strategies.bijections(), POINTS, LEVELS)
    def check(a, b, c, bijection, x, sigma):
        if name in ("mixture", "contrast", "harmonic_mean"):
            a, b, c = (PulledDensity(p, bijection) for p in (a, b, c))
            pulled = OPERATORS[name](a, b, c)
            whole = cj.pullback(OPERATORS[name](a.score, b.score, c.score), bijection)
            assert_same_score(pulled, whole, x, sigma)
        else:
            assert_equivariant(OPERATORS[name], (a, b, c), bijection, x, sigma)

    check()


@types.pytree
class PulledDensity(types.Density):
    """A density of x = A^-1(z): what mixture and contrast demand of a pulled part."""

    score: Any
    bijection: Any

    def __call__(self, x, sigma):
        return cj.pullback(self.score, self.bijection)(x, sigma)

    def log_prob(self, x, sigma=0.0):
        return cj.pullback(self.score, self.bijection).log_density(x, sigma)

    def sample(self, key, n, sigma=0.0):
        return jax.vmap(self.bijection.inverse)(self.score.sample(key, n, sigma))


@given(*MIXTURES, strategies.bijections(), POINTS, LEVELS)
def test_product_is_not_equivariant(a, b, c, bijection, x, sigma):
    """The negative control: weights that sum to two count the Jacobian twice."""
    pulled = cj.product(cj.pullback(a, bijection), cj.pullback(b, bijection))
    whole = cj.pullback(cj.product(a, b), bijection)
    jacobian = gradient_of_log_det(bijection, x)
    assert_close(evaluate(pulled, x, sigma) - jacobian, evaluate(whole, x, sigma))


def test_equivariance_of_a_product_is_refuted():
    a = cj.densities.Gaussian(np.zeros(1), np.eye(1))
    bend = SinhArcsinh(np.zeros(1), np.full(1, 0.5))
    with pytest.raises(AssertionError):
        assert_equivariant(cj.product, (a, a), bend, jnp.ones((1, 1)), 0.5)


@given(strategies.bijections(), POINTS)
def test_bijections_of_the_tests(bijection, x):
    x_back, log_det, log_det_by_autodiff = there_and_back(bijection, x)
    assert_close(x_back, x, tolerance=2e-3)
    assert_close(log_det, log_det_by_autodiff)


@given(strategies.factorized_conditionals(), strategies.points(4, 5), LEVELS)
def test_factorized_conditionals_commute_with_noise(parts, x, sigma):
    """Theorem 5.3 at every noise level."""
    composed = cj.compose(parts.background, *parts.conditionals)
    assert_commutes_with_noise(composed, parts.composition(), x, sigma)


def feature_space_gaussians(matrix):
    """Factorized conditionals in z, seen as Gaussians in x = matrix @ z."""
    laws = [
        (np.zeros(2), np.eye(2)),
        (np.array([2.0, 0.0]), np.diag([0.1, 1.0])),
        (np.array([0.0, 2.0]), np.diag([1.0, 0.1])),
        (np.array([2.0, 2.0]), np.diag([0.1, 0.1])),  # the exact composition
    ]
    return [
        cj.densities.Gaussian(matrix @ mean, matrix @ cov @ matrix.T)
        for mean, cov in laws
    ]


ROTATION = np.array([[0.8, -0.6], [0.6, 0.8]])


@pytest.mark.parametrize("matrix", [ROTATION, np.diag([1.0, 3.0])])
@given(strategies.points(4, 2), LEVELS)
def test_orthogonal_and_blockwise_features_commute(matrix, x, sigma):
    """Lemma 7.1 and its extension to maps within the blocks."""
    background, *conditionals, target = feature_space_gaussians(matrix)
    assert_commutes_with_noise(cj.compose(background, *conditionals), target, x, sigma)


@pytest.mark.parametrize("shear", [0.5, 1.5])
def test_sheared_features_do_not_commute(shear):
    """The failure: exact at sigma = 0, wrong above it."""
    matrix = np.array([[1.0, shear], [0.0, 1.0]])
    background, *conditionals, target = feature_space_gaussians(matrix)
    composed = cj.compose(background, *conditionals)
    x = jnp.array([[1.0, -1.0], [0.5, 2.0]])
    assert_commutes_with_noise(composed, target, x, 0.0)
    with pytest.raises(AssertionError):
        assert_commutes_with_noise(composed, target, x, 0.5, tolerance=0.05)


@given(strategies.points(4, 2), LEVELS)
def test_mean_shifts_commute_under_any_linear_map(x, sigma):
    """Equal covariances compose exactly without orthogonality (our Theorem N)."""
    matrix = np.array([[1.0, 1.5], [0.0, 1.0]])
    at = lambda z: cj.densities.Gaussian(matrix @ np.array(z), matrix @ matrix.T)
    composed = cj.compose(at([0.0, 0.0]), at([2.0, 0.0]), at([0.0, 2.0]))
    assert_commutes_with_noise(composed, at([2.0, 2.0]), x, sigma)


@given(MIXTURES[0], MIXTURES[1], LEVELS)
def test_mixtures_commute_with_noise(a, b, sigma):
    """A noised mixture is the mixture of the noised: their samples share one score."""
    p = cj.mixture(a, b, log_weights=[0.0, 1.0])
    x = noised_samples(p, sigma)
    s = np.asarray(evaluate(p, x, sigma))
    # Stein: E[s] = 0 and E[x s^T] = -I where s is the score of x's law; six errors.
    outer = np.asarray(x)[:, :, None] * s[:, None, :]
    for values, mean in ((s, 0.0), (outer, -np.eye(3))):
        error = np.abs(values.mean(0) - mean)
        assert (error < 6 * values.std(0) / 50_000**0.5 + 1e-6).all()


@given(strategies.clutters(), POINTS, LEVELS)
def test_bayes_composition_of_clutter_shifts_by_the_count(p, x, sigma):
    """Appendix G: C_Bayes = C_proj (p_b / p_u)^(k-1), in densities, at every level."""
    parts = [p.with_object(i) for i in range(3)]
    unconditional = cj.mixture(*parts)
    projective = log_density(cj.compose(p, *parts), x, sigma)
    bayes = log_density(cj.compose(unconditional, *parts), x, sigma)
    ratio = log_density(p, x, sigma) - log_density(unconditional, x, sigma)
    assert_close(bayes, projective + 2 * ratio)


@settings(max_examples=3)  # each compiles anew
@given(*MIXTURES, strategies.weights(2), strategies.weights(2), POINTS)
def test_numbers_never_retrace(a, b, c, w, v, x):
    evaluate = lambda score, x, sigma: score(x, sigma)  # a fresh one, to count
    assert_single_trace(
        evaluate,
        (cj.compose(a, b, weights=w[:1]), x, 0.5),
        (cj.compose(b, c, weights=[3]), x, 0.7),
        (cj.guide(c, a, v[1]), x, 2.0),
    )
    assert_single_trace(
        evaluate, (cj.switch(a, b, 1), x, 0.5), (cj.switch(b, a, 0.3), x, 0.5)
    )
    assert_single_trace(
        evaluate,
        (cj.compose(a, b, weights=[rising]), x, 0.5),
        (cj.compose(b, c, weights=[rising]), x, 0.7),
    )


@given(*MIXTURES, strategies.weights(2), POINTS)
def test_weights_are_differentiable(a, b, c, w, x):
    """d/dw_i of the composed score is the delta s_i - s_b."""
    jacobian = jacobian_in_weights((a, b, c), w, x)
    parts = parts_of(cj.compose(a, b, c), x, 0.5)
    assert_close(jacobian, parts[1:] - parts[:1])


@jax.jit
def jacobian_in_weights(parts, w, x):
    score = lambda w: cj.compose(*parts, weights=w)(x, 0.5)
    return jnp.moveaxis(jax.jacobian(score)(w), -1, 0)


def test_switch_pays_for_one_part_only():
    evaluations = []

    def counted(name, x):
        jax.debug.callback(lambda: evaluations.append(name))
        return x

    low, high = (
        cj.as_score(lambda x, sigma, name=name: counted(name, x)) for name in "lh"
    )
    jax.jit(cj.switch(low, high, 1.0)._choose, static_argnums=(0, 1))(
        low, high, jnp.ones((1, 1)), 0.5
    )
    jax.effects_barrier()
    assert evaluations == ["l"]


def test_log_density_is_there_only_when_every_part_has_one():
    a = cj.densities.Gaussian(jnp.zeros(3), jnp.eye(3))
    bare = cj.as_score(jnp.tanh)
    assert hasattr(cj.compose(a, a), "log_density")
    assert not hasattr(cj.compose(a, bare), "log_density")
    assert not hasattr(cj.switch(bare, a, 1.0), "log_density")
    assert not hasattr(cj.pullback(bare, Affine(np.eye(3), np.zeros(3))), "log_density")


def test_compositions_print_readably():
    a = cj.densities.Gaussian(jnp.zeros(1), jnp.eye(1))
    one = "Gaussian(mean=[0.0], cov=[[1.0]])"
    assert repr(cj.guide(a, a, 2)) == f"compose({one}, {one}, weights=[2.0])"
    assert repr(cj.compose(a, a, weights=[rising])).endswith("weights=[rising])")


A = cj.densities.Gaussian(np.zeros(3), np.eye(3))
B = cj.densities.Gaussian(np.zeros(2), np.eye(2))
WIDE = cj.as_score(lambda x, sigma: jnp.ones((len(x), 2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cj.compose(A, jnp.tanh), "Operand 1 is a plain function"),
        (lambda: cj.compose(A, A, weights=[1.0, 2.0]), "1 scores need 1 weights"),
        (lambda: cj.compose(A, A, weights=np.ones(3)), "1 scores need 1 weights"),
        (lambda: cj.compose(A, A, weights=2.0), "1 scores need 1 weights"),
        (lambda: cj.product(), "at least one"),
        (lambda: cj.mixture(), "at least one"),
        (lambda: cj.compose(A, WIDE)(jnp.ones((1, 3)), 1.0), r"Operand 1 returned"),
        (lambda: cj.compose(A, B)(jnp.ones((1, 3)), 1.0), r"\[b, 2\]"),
        (
            lambda: cj.mixture(A, cj.power(A, 2.0)),
            "Operand 1 of mixture .* WeightedSum",
        ),
        (lambda: cj.contrast(cj.compose(A), A), "Operand 0 of contrast"),
        (lambda: cj.mixture(A, A, log_weights=[0.0]), "2 scores need 2 weights"),
        (lambda: cj.switch(A, A, -1.0), "not negative; got -1.0"),
        (lambda: cj.pullback(A, A), "Gaussian lacks forward"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
