"""Definition 4.1: shadows of the composition are shadows of its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import compjax as cj
from compjax import analysis
from compjax.testing import strategies

GAUSSIAN = cj.densities.Gaussian
COORDINATES = tuple(np.eye(2)[i : i + 1] for i in range(2))


@given(strategies.factorized_gaussians(), strategies.rotations(2))
def test_factorized_gaussians_compose_projectively(parts, q):
    """Also in turned features, where the projections turn with them."""
    turned = [p.pushforward(q.T) for p in (parts[0], *parts[1])]
    composed = cj.densities.compose_gaussians(turned[0], turned[1:])
    shadows = tuple(matrix @ np.asarray(q) for matrix in COORDINATES)
    errors = analysis.gaussian_projective_error(composed, turned[1:], shadows)
    # Quadratic in float32 times a condition number of at most 20.
    assert max(errors) < 1e-9


@given(strategies.factorized_gaussians())
def test_other_features_are_not_composed(parts):
    """Projections that are not the features: the check must fail."""
    background, conditionals = parts
    composed = cj.densities.compose_gaussians(background, conditionals)
    swapped = analysis.gaussian_projective_error(
        composed, conditionals, COORDINATES[::-1]
    )
    # Conditional i's shadow off its block is the background's, narrowed here to .9.
    assert min(swapped) > 1e-4


def test_error_is_the_divergence_from_each_part():
    """KL(N(0, 1) || N(1, 4)) by hand: log 2 + (1 + 1) / 8 - 1/2."""
    composed = GAUSSIAN(np.zeros(2), np.eye(2))
    part = GAUSSIAN(np.array([1.0, 5.0]), np.diag([4.0, 1.0]))
    (error,) = analysis.gaussian_projective_error(composed, (part,), COORDINATES[:1])
    assert np.isclose(error, np.log(2) - 0.25, rtol=1e-6)


def compare(seed, samples, parts, permutations=99):
    blocks = (lambda x: x[:, :2], lambda x: x[:, 2:4])
    key = jax.random.key(seed)
    return analysis.projective_error(key, samples, parts, blocks, permutations)


@settings(max_examples=3)
@given(strategies.factorized_conditionals())
def test_samples_of_the_composition_pass_and_of_a_part_fail(parts):
    # Bonferroni at 99 shuffles: the smallest p-value is 2/100.  Six draws in all, so
    # a level of .02 would reject one true composition in eight; 0 < p is all we ask.
    composed = np.asarray(parts.composition().sample(jax.random.key(1), 150))
    assert compare(0, composed, parts.conditionals).p_value > 0.02
    far = composed.copy()
    far[:, 2:4] += 6.0
    found = compare(2, far, parts.conditionals)
    assert found.p_value == 0.02
    assert found.comparisons[1].distance > found.comparisons[1].quantile


def test_parts_may_be_samples():
    draw = lambda i: np.asarray(jax.random.normal(jax.random.key(i), (100, 4)))
    assert compare(0, draw(1), (draw(2), draw(3))).p_value > 0.02


UNIT = GAUSSIAN(jnp.zeros(2), jnp.eye(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: analysis.gaussian_projective_error(UNIT, (), ()), "at least one"),
        (
            lambda: analysis.gaussian_projective_error(UNIT, (UNIT,), COORDINATES),
            "1 parts and 2 projections",
        ),
        (
            lambda: analysis.projective_error(
                jax.random.key(0), np.ones((2, 3)), (UNIT,), COORDINATES[:1]
            ),
            "projects no batch",
        ),
        (
            lambda: analysis.projective_error(
                jax.random.key(0), np.ones(3), (UNIT,), COORDINATES[:1]
            ),
            r"samples must be \[n",
        ),
        (
            lambda: analysis.projective_error(
                jax.random.key(0), np.ones((2, 3)), (UNIT,), (np.ones(2),)
            ),
            "matrix",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
