"""Each theorem vanishes under its hypothesis, and does not when that is broken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compjax as cj
from compjax import analysis
from compjax.testing import strategies

FACTORIZED = strategies.factorized_conditionals()
X = strategies.points(4, 5)
LEVELS = strategies.noise_levels()
# float32 times the condition number of the densities, a few hundred, as in the laws of
# compjax.testing.
ROUNDING = 1e-3

composition_error = jax.jit(analysis.composition_error)
feature_error = jax.jit(
    lambda parts, bijection, x: analysis.composition_error(
        *analysis.in_features(parts, bijection), x, 0.0
    )
)


@given(FACTORIZED, X, LEVELS)
def test_theorem_5_3(parts, x, sigma):
    error = composition_error(*parts, parts.composition(), x, sigma)
    assert error.max() < ROUNDING


def gaussian(mean, *variances):
    return cj.densities.Gaussian(np.array(mean), np.diag(variances))


def test_theorem_5_3_needs_disjoint_masks_and_the_background():
    background = gaussian([0.0, 0.0], 1.0, 1.0)
    right, up = gaussian([2.0, 0.0], 0.1, 1.0), gaussian([0.0, 2.0], 1.0, 0.1)
    target = gaussian([2.0, 2.0], 0.1, 0.1)
    x = jnp.ones((1, 2))
    error = lambda b, *parts: composition_error(b, parts, target, x, 0.5)[0]
    assert error(background, right, up) < ROUNDING
    overlapping = gaussian([1.5, 2.0], 0.5, 0.1)  # also moves coordinate 0
    assert error(background, right, overlapping) > 0.1
    mixture = cj.mixture(right, up)  # the unconditional background: setting B
    assert error(mixture, right, up) > 0.1


def test_composition_error_hears_weights_and_shapes():
    b, moved = gaussian([0.0], 1.0), gaussian([1.0], 1.0)
    x = jnp.ones((3, 1))
    error = lambda target, weights: composition_error(
        b, (moved,), target, x, 0.5, weights
    ).max()
    # A shift at equal variance, taken twice.
    assert error(gaussian([2.0], 1.0), [2.0]) < ROUNDING
    assert error(gaussian([2.0], 1.0), None) > 0.1
    wrong = cj.as_score(lambda x, sigma: jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="the space of x"):
        error(wrong, None)


@given(FACTORIZED, strategies.bijections(5), X)
def test_theorem_6_1(parts, bijection, x):
    # A bend and two maps with condition numbers of about ten each multiply rounding.
    assert feature_error(parts, bijection, x).max() < 10 * ROUNDING


@given(FACTORIZED, strategies.bijections(5), strategies.bijections(5), X)
def test_theorem_6_1_needs_one_map_for_all_parts(parts, bijection, other, x):
    """One part bent by another map: zero only where the two maps agree."""
    background, conditionals, composition = analysis.in_features(parts, bijection)
    bent = cj.pullback(parts.conditionals[1], other)
    error = composition_error(
        background, (conditionals[0], bent), composition, x, 0.0
    ).max()
    same = jnp.abs(bent(x, 0.0) - conditionals[1](x, 0.0)).max() < 0.1
    assert bool(same) or error > ROUNDING


@given(FACTORIZED, strategies.bijections(5), X, LEVELS)
def test_lemma_6_2(parts, bijection, x, sigma):
    operands = (parts.background, *parts.conditionals)
    error = lambda operator: analysis.equivariance_error(
        operator, operands, bijection, x, sigma
    )
    weighted = lambda *p: cj.compose(*p, weights=[0.5, 2.5])
    assert error(weighted).max() < 10 * ROUNDING


def test_lemma_6_2_needs_degree_one():
    operands = gaussian([0.0, 1.0], 1.0, 2.0), gaussian([1.0, 0.0], 0.5, 1.0)
    bend = cj.testing.SinhArcsinh(jnp.full(2, 0.3), jnp.full(2, 1.4))
    error = lambda operator: analysis.equivariance_error(
        operator, operands, bend, jnp.ones((1, 2)), 0.5
    )[0]
    assert error(cj.product) > 0.05
    halves = lambda *p: cj.product(*p, weights=[0.5, 0.5])
    assert error(halves) < ROUNDING


FEATURES = {
    "identity": np.eye(2),
    "rotation": np.array([[0.6, -0.8], [0.8, 0.6]]),
    "scale": np.diag([1.0, 3.0]),
    "shear .5": np.array([[1.0, 0.5], [0.0, 1.0]]),
    "shear 1.5": np.array([[1.0, 1.5], [0.0, 1.0]]),
}


def seen_through(matrix):
    """Parts that factorize in z = A x, in the coordinates of x."""
    inverse = np.linalg.inv(matrix)
    z = (
        gaussian([0.0, 0.0], 1.0, 1.0),
        gaussian([2.0, 0.0], 0.1, 1.0),
        gaussian([0.0, 2.0], 1.0, 0.1),
    )
    background, *conditionals = (p.pushforward(inverse) for p in z)
    return background, conditionals


@pytest.mark.parametrize("name", FEATURES)
def test_commutation_in_features(name):
    """Lemma 7.1: zero where blocks are orthogonal, and nowhere else."""
    parts = seen_through(FEATURES[name])
    divergences = [analysis.commutation_kl(*parts, s) for s in (0.0, 0.3, 1.0, 3.0)]
    assert divergences[0] < 1e-9
    if "shear" in name:
        assert min(divergences[1:3]) > 1e-3
    else:
        # Quadratic in float32's 1e-7 times a condition number of at most 90.
        assert max(divergences) < 1e-9


def test_commutation_kl_is_the_scalar_formula():
    """Its direction and its weights: guidance of weight 2, by hand."""
    b, moved = gaussian([0.0], 1.0), gaussian([1.0], 0.5)

    def guided(noise):  # precision and mean of p_b (p / p_b)^2
        precision = 1 / (1 + noise) + 2 * (1 / (0.5 + noise) - 1 / (1 + noise))
        return precision, 2 * 1 / (0.5 + noise) / precision

    (on_path, mean), (clean, target) = guided(0.49), guided(0.0)
    ratio = (1 / on_path) / (1 / clean + 0.49)
    gap = (mean - target) ** 2 / (1 / clean + 0.49)
    expected = (ratio - 1 - np.log(ratio) + gap) / 2
    assert expected > 1e-3
    # float32 moments of order one.
    found = analysis.commutation_kl(b, (moved,), 0.7, weights=[2.0])
    assert np.isclose(found, expected, rtol=1e-4)


@given(strategies.arrays((3, 3), -1.0, 1.0), strategies.arrays((3, 3), -2.0, 2.0))
def test_equal_covariances_commute_under_any_linear_map(root, means):
    cov = root @ root.T + 0.3 * jnp.eye(3)
    background, *conditionals = (cj.densities.Gaussian(m, cov) for m in means)
    assert analysis.commutation_kl(background, conditionals, 0.7) < 1e-7


@given(strategies.factorized_gaussians(3), strategies.rotations(3), st.floats(0.2, 0.8))
def test_lemma_8_1(parts, q, shear):
    background, conditionals = parts
    products = lambda matrix: analysis.mean_shift_products(
        matrix @ background.mean, jnp.stack([matrix @ p.mean for p in conditionals])
    )
    shifts = products(jnp.eye(3))
    off = lambda gram: np.abs(gram - np.diag(np.diagonal(gram))).max()
    assert off(shifts) < 1e-5 and off(products(q)) < 1e-4
    # Sheared features: shifts of coordinates 0 and 1 now have the product s d_0 d_1.
    sheared = products(jnp.eye(3).at[0, 1].set(shear))
    expected = shear * np.sqrt(shifts[0, 0] * shifts[1, 1])
    assert np.isclose(abs(sheared[0, 1]), expected, atol=1e-4)


def test_mean_shifts_of_one_space():
    with pytest.raises(ValueError, match=r"\[k, \*d\]"):
        analysis.mean_shift_products(np.ones(2), np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"\[k, \*d\]"):
        analysis.mean_shift_products(1.0, 1.0)
