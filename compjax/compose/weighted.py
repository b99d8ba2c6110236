"""Weighted sums of scores: `compose` and its special cases, one dataclass for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scores import as_score, check_score
from compjax.types import (
    ScoreFn,
    Sigma,
    Weight,
    as_float,
    concrete,
    pytree,
    static,
)


@pytree
class WeightedSum:
    r"""$\sum_i c_i(\sigma)\, s_i(x, \sigma)$, keeping its parts and coefficients.

    An *anchored* sum is affine: its first score is the background, whose coefficient is
    what the weights of the others leave of one.

    Args:
        scores: The k scores.
        weights: What `as_weights` returns, for all scores but an anchor.
        anchored: Whether the first score takes the remaining weight.
    """

    scores: tuple[Any, ...]
    weights: Any
    anchored: bool = static()

    def coefficients(self, sigma: Sigma) -> Array:
        """The coefficients of the scores at a noise level, `[k]` or `[k, b]`."""
        return anchored_coefficients(self.weights, sigma, self.anchored)

    def parts(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "k b *d"]:
        """The scores before they are summed, `[k, b, *d]`."""
        parts = [score(x, sigma) for score in self.scores]
        for i, part in enumerate(parts):
            check_space(f"Operand {i}", part.shape, x)
        return jnp.stack(parts)

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return contract(self.coefficients(sigma), self.parts(x, sigma))

    @property
    def log_density(self) -> Any:
        """`sum_i c_i log p_i`, present when every part is an annealed density."""
        logs = [score.log_density for score in self.scores]
        return lambda x, sigma: contract(
            self.coefficients(sigma), jnp.stack([log(x, sigma) for log in logs])
        )

    def __repr__(self) -> str:
        name = "compose" if self.anchored else "product"
        operands = ", ".join(map(repr, self.scores))
        return f"{name}({operands}, weights={show_weights(self.weights)})"


def check_space(role: str, shape: tuple[int, ...], x: Array) -> None:
    """Raises a ValueError unless a score has the shape of its input.

    Example:
        >>> check_space("Operand 0", (1, 3), jnp.ones((1, 2)))
        Traceback (most recent call last):
        ...
        ValueError: Operand 0 returned shape (1, 3) for x of shape (1, 2): scores of ...
    """
    if shape != x.shape:
        raise ValueError(
            f"{role} returned shape {shape} for x of shape {x.shape}: scores of one "
            "composition live on one space."
        )


def contract(coefficients: Array, values: Array) -> Array:
    """`sum_i c_i v_i` for `c: [k]` or `[k, b]` and `v: [k, b, ...]`.

    Example:
        >>> contract(jnp.array([1.0, 2.0]), jnp.ones((2, 1, 3)))
        Array([[3., 3., 3.]], dtype=float32)
    """
    if coefficients.shape[1:] not in ((), (1,), values.shape[1:2]):
        raise ValueError(
            f"Weights of shape {coefficients.shape} do not fit a batch of "
            f"{values.shape[1]}: give [k], or [k, b]."
        )
    if coefficients.ndim == 1:  # many times faster than multiply and sum, on a CPU
        highest = jax.lax.Precision.HIGHEST  # not TF32
        return jnp.tensordot(coefficients, values, axes=1, precision=highest)
    extra = (1,) * (values.ndim - coefficients.ndim)
    return (coefficients.reshape(coefficients.shape + extra) * values).sum(0)


def anchored_coefficients(weights: Any, sigma: Sigma, anchored: bool) -> Array:
    """Weights at a noise level, led by `1 - their sum` if there is an anchor.

    Example:
        >>> anchored_coefficients(as_weights(None, 2), 1.0, True)
        Array([-1.,  1.,  1.], dtype=float32)
    """
    if isinstance(weights, tuple):
        values = [as_float(w(sigma)) if callable(w) else w for w in weights]
        weights = jnp.stack(jnp.broadcast_arrays(*values))
    if anchored:
        weights = jnp.concatenate([1 - weights.sum(0, keepdims=True), weights])
    return weights


def as_weights(weights: Any, k: int) -> Any:
    """Checked weights of k scores: an array `[k]` or `[k, b]`, or a mixed tuple.

    Args:
        weights: None for ones, an array, or a sequence of numbers and functions of
            sigma (which are lifted into pytrees).
        k: How many there must be.

    Returns:
        An array if all are numbers, else a tuple of scalars and pytree callables.

    Raises:
        ValueError: If there are not k of them.

    Example:
        >>> as_weights([1, 2], 2)
        Array([1., 2.], dtype=float32)
    """
    if weights is None:
        return jnp.ones(k)
    if callable(weights):
        shape = ()
    else:
        shape = (len(weights),) if isinstance(weights, Sequence) else jnp.shape(weights)
    if shape[:1] != (k,) or len(shape) > 2:
        raise ValueError(
            f"{k} scores need {k} weights, got {weights!r}: give one number, "
            "or one function of sigma, for each."
        )
    if isinstance(weights, Sequence) and any(map(callable, weights)):
        return tuple(as_score(w) if callable(w) else as_float(w) for w in weights)
    if isinstance(weights, Sequence) and k:
        return jnp.stack([as_float(w) for w in weights])
    return as_float(weights)


def show_weights(weights: Any) -> str:
    """How weights print: rounded numbers, or the names of functions."""
    if isinstance(weights, tuple):
        return "[" + ", ".join(show_weights(w) for w in weights) + "]"
    if callable(weights):
        return getattr(getattr(weights, "func", None), "__name__", repr(weights))
    values = concrete(weights)
    if values is None or values.size > 16:
        return f"{weights.dtype}{list(weights.shape)}"
    return str(np.round(values.astype(float), 4).tolist())


def compose(
    background: ScoreFn, *conditionals: ScoreFn, weights: Any = None
) -> WeightedSum:
    r"""The composition of conditionals over a background.

    $$s_b + \sum_i w_i\,(s_i - s_b)$$

    With unit weights this is Bradley's operator $p_b \prod_i p_i / p_b$.  Choose the
    background with care: the *empty* one composes projectively, the *unconditional* one
    gives the Bayes composition (docs/math.md).

    Args:
        background: $s_b$.
        *conditionals: $s_1, \dots, s_k$.
        weights: k numbers or functions of sigma; ones if None.

    Returns:
        A weighted sum; an annealed density when all its parts are.

    Raises:
        ValueError: If an operand is not a score function, or there are not k weights.

    Source: Bradley et al. 2025 (2502.04549), definition 5.1 and eq. 6.

    Example:
        >>> from compjax.densities import Gaussian
        >>> b = Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> right, up = (Gaussian(m, jnp.eye(2)) for m in jnp.eye(2))
        >>> compose(b, right, up)(jnp.ones((1, 2)), 0.0)  # N([1, 1], 1) is centred here
        Array([[0., 0.]], dtype=float32)
    """
    _check_operands(background, *conditionals)
    weights = as_weights(weights, len(conditionals))
    return WeightedSum((background, *conditionals), weights, anchored=True)


def product(*scores: ScoreFn, weights: Any = None) -> WeightedSum:
    r"""The product of densities, $\sum_i w_i s_i$.

    It has no background, so it can never be larger than any of its factors allows:
    a product of one-object models holds no two-object image.

    Args:
        *scores: $s_1, \dots, s_k$, at least one.
        weights: k numbers or functions of sigma; ones if None.

    Returns:
        A weighted sum; an annealed density when all its parts are.

    Raises:
        ValueError: If there is no operand, one is not a score function, or there are
            not k weights.

    Example:
        >>> from compjax.densities import Gaussian
        >>> a = Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> product(a, a)(jnp.ones((1, 1)), 0.0)
        Array([[-2.]], dtype=float32)
    """
    if not scores:
        raise ValueError("product needs at least one score function.")
    _check_operands(*scores)
    return WeightedSum(scores, as_weights(weights, len(scores)), anchored=False)


def power(score: ScoreFn, beta: Weight) -> WeightedSum:
    r"""The power $p^\beta$, $\beta\, s$: sharper for beta > 1, flatter below.

    Args:
        score: $s$.
        beta: A number or a function of sigma.

    Returns:
        A weighted sum of one part.

    Example:
        >>> from compjax.densities import Gaussian
        >>> power(Gaussian(jnp.zeros(1), jnp.eye(1)), 3)(jnp.ones((1, 1)), 0.0)
        Array([[-3.]], dtype=float32)
    """
    return product(score, weights=(beta,))


def guide(unconditional: ScoreFn, conditional: ScoreFn, weight: Weight) -> WeightedSum:
    r"""Guidance, $s_u + w\,(s_c - s_u)$: `compose` with one conditional.

    Args:
        unconditional: $s_u$, returned at w = 0; a weaker model for autoguidance.
        conditional: $s_c$, returned at w = 1.
        weight: $w$, a number or a function of sigma.

    Returns:
        A weighted sum.

    Source: Ho and Salimans 2022 (2207.12598), with their weight plus one.

    Example:
        >>> from compjax.densities import Gaussian
        >>> u, c = (Gaussian(m * jnp.ones(1), jnp.eye(1)) for m in (0.0, 1.0))
        >>> guide(u, c, 2)(jnp.zeros((1, 1)), 0.0)
        Array([[2.]], dtype=float32)
    """
    return compose(unconditional, conditional, weights=(weight,))


def negate(background: ScoreFn, unwanted: ScoreFn, weight: Weight = 1.0) -> WeightedSum:
    r"""Negation, $s_b - w\,(s_n - s_b)$: `compose` with a negative weight.

    The density $p_b (p_b / p_n)^w$ may not be normalisable; `contrast` always is.

    Args:
        background: $s_b$.
        unwanted: $s_n$.
        weight: $w$, a number or a function of sigma.

    Returns:
        A weighted sum.

    Source: Du et al. 2020 (2004.06030), over a background of one's choice.

    Example:
        >>> from compjax.densities import Gaussian
        >>> b, n = (Gaussian(m * jnp.ones(1), jnp.eye(1)) for m in (0.0, 1.0))
        >>> negate(b, n)(jnp.zeros((1, 1)), 0.0)
        Array([[-1.]], dtype=float32)
    """
    minus = Negated(as_score(weight)) if callable(weight) else -as_float(weight)
    return compose(background, unwanted, weights=(minus,))


@pytree
class Negated:
    """The function `sigma -> -weight(sigma)`."""

    weight: Any

    def __call__(self, sigma: Sigma) -> Array:
        return -as_float(self.weight(sigma))


def _check_operands(*scores: Any) -> None:
    for i, score in enumerate(scores):
        check_score(score, f"Operand {i}")
