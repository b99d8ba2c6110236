"""The theorems of projective composition, as numbers that must vanish.

Each function evaluates both sides of one statement and returns their difference, so
that a reader can watch it vanish under the hypothesis, and grow when that is broken.
docs/math.md states and proves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.analysis.distances import gaussian_kl
from compjax.compose import compose, pullback
from compjax.densities import FactorizedConditionals, Gaussian, compose_gaussians
from compjax.types import Bijection, Number, ScoreFn, Sigma, as_float


def composition_error(
    background: ScoreFn,
    conditionals: Sequence[ScoreFn],
    target: ScoreFn,
    x: Any,
    sigma: Sigma,
    weights: Any = None,
) -> Float[Array, " b"]:
    r"""How far the composed score is from that of the noised composition.

    $$\|\nabla\log C[p^\sigma](x) - \nabla\log \hat p^\sigma(x)\| \;/\;
      \max(1, \|\nabla\log \hat p^\sigma(x)\|)$$

    Args:
        background: $p_b$.
        conditionals: $p_1, \dots, p_k$.
        target: The law $\hat p$ that is claimed to be composed, exact at every level:
            `parts.composition()` for factorized conditionals.
        x: `[b, *d]`.
        sigma: Noise level.
        weights: As `compose`.

    Returns:
        `[b]`, zero up to rounding where the theorem applies.

    Raises:
        ValueError: If weights do not fit, or target and composition differ in shape.

    Source: Bradley et al. 2025, theorem 5.3 and lemma 7.1.

    Example:
        >>> at = lambda m: Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> parts = FactorizedConditionals.from_blocks(
        ...     ((0,), (1,)), (at(0.0), at(0.0)), (at(1.0), at(2.0))
        ... )
        >>> x = jnp.ones((1, 2))
        >>> composition_error(*parts, parts.composition(), x, 0.5).round(4)
        Array([0.], dtype=float32)
    """
    composed = compose(background, *conditionals, weights=weights)
    return _relative(composed(x, sigma), target(x, sigma))


def commutation_defect(
    composition: ScoreFn,
    target: ScoreFn,
    x: Any,
    sigma: Sigma,
) -> Float[Array, ""]:
    r"""How far composing and noising are from commuting.

    $$D(\sigma) = E\,\lVert s - s^* \rVert^2$$

    between the composed score s and that of the noised composition, $s^*$.

    With x from the noised target, $KL(C[p] \,\|\, \text{sampled law}) \le
    \tfrac12 \int D\,d\sigma^2$ for the reverse SDE (Girsanov).  It checks a
    certificate where an exact target exists.

    Args:
        composition: Of noised parts.
        target: The exact score of the noised composition.
        x: `[b, *d]`, samples of the noised target.
        sigma: Their noise level.

    Returns:
        A scalar, in units of 1 / x^2.

    Raises:
        ValueError: If the two scores differ in shape.

    Source: Song et al. 2021 (2101.09258), theorem 1, for the bound.

    Example:
        >>> a, b = (Gaussian(jnp.full(1, m), jnp.eye(1)) for m in (0.0, 1.0))
        >>> round(float(commutation_defect(a, b, jnp.zeros((3, 1)), 1.0)), 4)
        0.25
    """
    x = as_float(x)
    composed, exact = composition(x, sigma), target(x, sigma)
    _check_shapes(composed, exact)
    return ((composed - exact) ** 2).sum(tuple(range(1, x.ndim))).mean()


def equivariance_error(
    operator: Callable[..., ScoreFn],
    operands: Sequence[ScoreFn],
    bijection: Bijection,
    x: Any,
    sigma: Sigma,
) -> Float[Array, " b"]:
    r"""How far an operator is from commuting with a change of coordinates.

    $$C[A\sharp p] = A\sharp\,C[p]$$

    It holds for operators of degree one in the density, so for `compose` with all
    weights, and not for `product`.

    Args:
        operator: `(*operands) -> score`.
        operands: Score functions of z.
        bijection: $z = A(x)$.
        x: `[b, d]`, in the coordinates that A maps from.
        sigma: Noise level, in the coordinates of z.

    Returns:
        `[b]`, the norm of the difference over that of the score or 1, whichever is
        larger.

    Source: Bradley et al. 2025, lemma 6.2; with weights, ours.

    Example:
        >>> from compjax.compose import product
        >>> from compjax.testing import SinhArcsinh
        >>> a, b = (Gaussian(jnp.full(1, m), jnp.eye(1)) for m in (-1.0, 1.0))
        >>> bend, x = SinhArcsinh(jnp.zeros(1), jnp.full(1, 0.5)), jnp.ones((1, 1))
        >>> equivariance_error(compose, (a, b), bend, x, 0.5).round(4)
        Array([0.], dtype=float32)
        >>> bool(equivariance_error(product, (a, b), bend, x, 0.5)[0] > 0.1)
        True
    """
    before = operator(*(pullback(p, bijection) for p in operands))
    after = pullback(operator(*operands), bijection)
    return _relative(before(x, sigma), after(x, sigma))


class Features(NamedTuple):
    """Parts that factorize in features z = A(x), seen in x, and their composition.

    Args:
        background: The background's annealed density in x.
        conditionals: The conditionals'.
        composition: The law that theorem 6.1 says they compose to at sigma = 0.
    """

    background: Any
    conditionals: tuple[Any, ...]
    composition: Any


def in_features(parts: FactorizedConditionals, bijection: Bijection) -> Features:
    r"""Parts that factorize in the features of a bijection, in the coordinates of x.

    $$A\sharp\hat p(z) = (A\sharp p_b)(z|_{M_b}) \prod_i (A\sharp p_i)(z|_{M_i})$$

    `compose` of these parts at sigma = 0, which knows nothing of A, is the law
    `composition`.  Above 0 both are annealed in z: true of noise in x only if A is
    orthogonal (`densities.Rotated`).

    Args:
        parts: Factorized conditionals, laws of z.
        bijection: $z = A(x)$.

    Returns:
        The parts and their composition, as functions of x.

    Source: Bradley et al. 2025, theorem 6.1.

    Example:
        >>> from compjax.testing import Affine
        >>> at = lambda m: Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> z = FactorizedConditionals.from_blocks(
        ...     ((0,), (1,)), (at(0.0), at(0.0)), (at(1.0), at(2.0))
        ... )
        >>> shear = Affine(jnp.array([[1.0, 1.5], [0.0, 1.0]]), jnp.zeros(2))
        >>> composition_error(*in_features(z, shear), jnp.ones((1, 2)), 0.0).round(4)
        Array([0.], dtype=float32)
    """
    background, *conditionals = (
        pullback(p, bijection) for p in (parts.background, *parts.conditionals)
    )
    composition = pullback(parts.composition(), bijection)
    return Features(background, tuple(conditionals), composition)


def commutation_kl(
    background: Gaussian,
    conditionals: Sequence[Gaussian],
    sigma: Number,
    weights: Any = None,
) -> float:
    r"""The divergence of composing noised Gaussians from noising their composition.

    $$KL\bigl(C[p^\sigma] \,\|\, C[p]^\sigma\bigr)$$

    Args:
        background: $p_b$.
        conditionals: $p_1, \dots, p_k$.
        sigma: Noise level.
        weights: `[k]`; ones if None.

    Returns:
        Nats; zero at every sigma if and only if the two commute.

    Raises:
        ValueError: If a composed precision is not positive definite.

    Source: ours, for the commutation in Bradley et al. 2025, section 7.

    Example:
        >>> at = lambda mean, *variance: Gaussian(np.array(mean), np.diag(variance))
        >>> background = at([0.0, 0.0], 1.0, 1.0)
        >>> parts = at([2.0, 0.0], 0.1, 1.0), at([0.0, 2.0], 1.0, 0.1)
        >>> shear = np.array([[1.0, -1.5], [0.0, 1.0]])
        >>> round(commutation_kl(background, parts, 1.0), 6)
        0.0
        >>> pushed = [p.pushforward(shear) for p in (background, *parts)]
        >>> commutation_kl(pushed[0], pushed[1:], 1.0) > 0.1
        True
    """
    on_path = compose_gaussians(background, conditionals, weights, sigma)
    target = compose_gaussians(background, conditionals, weights).noised(sigma)
    return gaussian_kl(on_path, target)


def mean_shift_products(background_mean: Any, means: Any) -> Float[np.ndarray, "k k"]:
    r"""The inner products $(\mu_i - \mu_b)^T (\mu_j - \mu_b)$ of mean shifts.

    Off the diagonal they vanish for conditionals that factorize in orthogonal features:
    each shift lives in its own block.  The converse is false: parts that differ in
    variance alone have no shifts and need not factorize.

    Args:
        background_mean: $\mu_b$, `[*d]`.
        means: $\mu_1, \dots, \mu_k$, `[k, *d]`.

    Returns:
        `[k, k]`, in double precision.

    Raises:
        ValueError: If the shapes do not fit.

    Source: Bradley et al. 2025, lemma 8.1.

    Example:
        >>> mean_shift_products(np.ones(2), np.array([[3.0, 1.0], [1.0, 2.0]]))
        array([[4., 0.],
               [0., 1.]])
    """
    origin, means = (np.asarray(v, np.float64) for v in (background_mean, means))
    if means.ndim < 1 or means.shape[1:] != origin.shape:
        raise ValueError(
            f"means must be [k, *d] for a background mean {origin.shape}, got "
            f"{means.shape}."
        )
    shifts = (means - origin[None]).reshape(len(means), -1)
    return shifts @ shifts.T


def _relative(actual: Array, expected: Array) -> Array:
    """The norm of the difference over that of the expectation, at least 1."""
    _check_shapes(actual, expected)
    norm = lambda v: jnp.sqrt((v**2).reshape(len(v), -1).sum(1))
    return norm(actual - expected) / jnp.maximum(1.0, norm(expected))


def _check_shapes(actual: Array, expected: Array) -> None:
    if actual.shape != expected.shape:
        raise ValueError(
            f"The composed score has shape {actual.shape}, its target "
            f"{expected.shape}: both must live on the space of x."
        )
