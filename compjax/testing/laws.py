"""The laws of scores and compositions, as assertions.

Errors are measured relative to the largest entry of the expected score at each point
(at least 1), because rounding in float32 is relative to what was added up.  The default
tolerance is float32's precision, 1e-7, times a condition number of a few hundred (that
of the covariances that `strategies` draws) times the few dozen operations of a
composition.

Both sides run jitted, once compiled for each structure, so that hypothesis can afford
many examples; `VARIANTS` is for the other ways to run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from compjax.compose import pullback
from compjax.scores import as_score
from compjax.types import AnnealedDensity, Bijection, Density, ScoreFn, Sigma

TOLERANCE = 1e-3


@jax.jit
def _evaluate(score: ScoreFn, x: Any, sigma: Sigma) -> Any:
    return score(x, sigma)


@jax.jit
def _gradient(density: AnnealedDensity, x: Any, sigma: Sigma) -> Any:
    return jax.grad(lambda x: density.log_density(x, sigma).sum())(x)


def assert_same_score(
    actual: ScoreFn,
    expected: ScoreFn,
    x: Any,
    sigma: Sigma,
    tolerance: float = TOLERANCE,
) -> None:
    """Asserts that two score functions agree at the points x.

    Args:
        actual: A score function.
        expected: Another.
        x: `[b, *d]`.
        sigma: Noise level.
        tolerance: Of the largest difference, relative to the largest expected entry.

    Raises:
        AssertionError: If they differ.

    Example:
        >>> from compjax import compose, densities
        >>> p = densities.Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> assert_same_score(compose(p), p, jnp.ones((1, 1)), 0.5)
    """
    assert_close(
        _evaluate(as_score(actual), x, sigma),
        _evaluate(as_score(expected), x, sigma),
        tolerance,
    )


def assert_score_is_gradient(
    density: AnnealedDensity, x: Any, sigma: Sigma, tolerance: float = TOLERANCE
) -> None:
    """Asserts that the score is the gradient of the log-density.

    Args:
        density: Anything with a score and `log_density`.
        x: `[b, *d]`.
        sigma: Noise level.
        tolerance: As `assert_same_score`.

    Raises:
        AssertionError: If they differ.

    Example:
        >>> from compjax import densities, mixture
        >>> a, b = (densities.Gaussian(jnp.full(1, m), jnp.eye(1)) for m in (-1, 1))
        >>> assert_score_is_gradient(mixture(a, b), jnp.ones((1, 1)), 0.5)
    """
    gradient = _gradient(density, x, sigma)
    assert_close(_evaluate(density, x, sigma), gradient, tolerance)


def assert_commutes_with_noise(
    composition: ScoreFn,
    target: Density,
    x: Any,
    sigma: Sigma,
    tolerance: float = TOLERANCE,
) -> None:
    """Asserts C[p^t] = N_t C[p]: composing noised parts is noising the composition.

    Args:
        composition: The composition of the parts, evaluated on noised parts.
        target: The exact composed law, whose score at sigma is the right answer.
        x: `[b, *d]`.
        sigma: Noise level.
        tolerance: As `assert_same_score`.

    Raises:
        AssertionError: If composing and noising do not commute there.

    Source: Bradley et al. 2025, theorem 5.3 and lemma 7.1.

    Example:
        >>> from compjax import compose, densities
        >>> at = lambda m: densities.Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> parts = densities.FactorizedConditionals.from_blocks(
        ...     ((0,), (1,)), (at(0.0), at(0.0)), (at(1.0), at(2.0))
        ... )
        >>> composed = compose(parts.background, *parts.conditionals)
        >>> x = jnp.ones((1, 2))
        >>> assert_commutes_with_noise(composed, parts.composition(), x, 0.5)
    """
    assert_same_score(composition, target, x, sigma, tolerance)


def assert_permutation_invariant(
    operator: Callable[..., ScoreFn],
    operands: Sequence[ScoreFn],
    x: Any,
    sigma: Sigma,
    tolerance: float = TOLERANCE,
) -> None:
    """Asserts that the order of an operator's operands does not matter.

    Args:
        operator: `(*operands) -> score`.
        operands: At most 5, of which every order is tried.
        x: `[b, *d]`.
        sigma: Noise level.
        tolerance: As `assert_same_score`.

    Raises:
        AssertionError: If two orders differ.

    Example:
        >>> from compjax import densities, product
        >>> a, b = (densities.Gaussian(jnp.full(1, m), jnp.eye(1)) for m in (-1, 1))
        >>> assert_permutation_invariant(product, (a, b), jnp.ones((1, 1)), 0.5)
    """
    expected = operator(*operands)
    for order in itertools.permutations(operands):
        assert_same_score(operator(*order), expected, x, sigma, tolerance)


def assert_equivariant(
    operator: Callable[..., ScoreFn],
    operands: Sequence[ScoreFn],
    bijection: Bijection,
    x: Any,
    sigma: Sigma,
    tolerance: float = TOLERANCE,
) -> None:
    """Asserts C[A#p] = A#C[p]: the operator does not depend on coordinates.

    It holds for operators of degree one in the density, whose weights sum to one.

    Args:
        operator: `(*operands) -> score`.
        operands: Score functions of z.
        bijection: `z = A(x)`.
        x: `[b, d]`, points in the coordinates that A maps from.
        sigma: Noise level, in the coordinates of z.
        tolerance: As `assert_same_score`.

    Raises:
        AssertionError: If pulling back before and after the operator differ.

    Source: Bradley et al. 2025, lemma 6.2.

    Example:
        >>> from compjax import compose, densities
        >>> from compjax.testing import Affine
        >>> a, b = (densities.Gaussian(jnp.full(1, m), jnp.eye(1)) for m in (-1, 1))
        >>> double = Affine(2 * jnp.eye(1), jnp.zeros(1))
        >>> assert_equivariant(compose, (a, b), double, jnp.ones((1, 1)), 0.5)
    """
    before = operator(*(pullback(p, bijection) for p in operands))
    after = pullback(operator(*operands), bijection)
    assert_same_score(before, after, x, sigma, tolerance)


def assert_single_trace(fn: Callable[..., Any], *arguments: tuple[Any, ...]) -> None:
    """Asserts that one compiled program serves several tuples of arguments.

    Args:
        fn: A function of pytrees.
        *arguments: Tuples to call it with, in turn.

    Raises:
        AssertionError: If `jax.jit(fn)` is traced more than once.

    Example:
        >>> from compjax import densities, power
        >>> p, x = densities.Gaussian(jnp.zeros(1), jnp.eye(1)), jnp.ones((1, 1))
        >>> evaluate = lambda score, x, sigma: score(x, sigma)
        >>> assert_single_trace(evaluate, (power(p, 2), x, 0.5), (power(p, 3), x, 0.7))
    """
    import chex

    chex.clear_trace_counter()
    traced_once = jax.jit(chex.assert_max_traces(fn, n=1))
    for args in arguments:
        traced_once(*args)


def assert_close(actual: Any, expected: Any, tolerance: float = TOLERANCE) -> None:
    """Asserts that two arrays agree, row by row.

    Args:
        actual: `[b, ...]`, or a scalar.
        expected: Another, of the same shape.
        tolerance: Of the largest difference in a row, relative to the largest entry
            expected there, or to 1.

    Raises:
        AssertionError: If shapes or values differ, or a value is not finite.

    Example:
        >>> assert_close(jnp.array([[1000.0, 0.0]]), jnp.array([[1000.5, 0.5]]))
    """
    import chex

    actual, expected = jnp.asarray(actual), jnp.asarray(expected)
    chex.assert_equal_shape([actual, expected])
    chex.assert_tree_all_finite((actual, expected))
    row = tuple(range(1, expected.ndim))
    scale = jnp.maximum(1.0, jnp.abs(expected).max(row, keepdims=True))
    chex.assert_trees_all_close(
        actual / scale, expected / scale, rtol=0.0, atol=tolerance
    )
