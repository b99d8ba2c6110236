"""Gaussians and their mixtures, which noise keeps Gaussian: N(m, C + sigma^2 I)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.types import (
    Density,
    Number,
    PRNGKey,
    Sigma,
    align,
    as_float,
    concrete,
    pytree,
    set_fields,
)


@pytree
class Gaussian(Density):
    r"""The density of $N(mean, cov)$, at noise level sigma $N(mean, cov + \sigma^2 I)$.

    Args:
        mean: `[d]`.
        cov: `[d, d]`, symmetric and positive definite.

    Raises:
        ValueError: If shapes do not fit or `cov` is not a covariance.

    Example:
        >>> p = Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> p(jnp.ones((1, 2)), 0.0)
        Array([[-1., -1.]], dtype=float32)
        >>> p.sample(jax.random.key(0), 3).shape
        (3, 2)
    """

    mean: Any
    cov: Any

    def __post_init__(self) -> None:
        set_fields(self, mean=as_float(self.mean), cov=as_float(self.cov))
        d = self.mean.shape[-1:]
        if self.mean.ndim != 1 or self.cov.shape != d + d:
            raise ValueError(
                "A Gaussian needs mean [d] and cov [d, d], got "
                f"{self.mean.shape} and {self.cov.shape}."
            )
        check_covariance(self.cov, "cov")

    def __call__(self, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b d"]:
        def score(x: Array, sigma: Array) -> Array:
            return _score(self.mean, factor(self.cov, sigma), x)

        return at_levels(score, x, sigma, self.mean.shape)

    def log_prob(
        self, x: Float[Array, "b d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""

        def log_prob(x: Array, sigma: Array) -> Array:
            return _log_prob(self.mean, factor(self.cov, sigma), x)

        return at_levels(log_prob, x, sigma, self.mean.shape)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """`[n, d]` independent draws at a noise level."""
        unit = jax.random.normal(key, (n, *self.mean.shape))
        return self.mean[None] + unit @ factor(self.cov, as_float(sigma)).T

    def noised(self, sigma: Number) -> Gaussian:
        r"""The law at a noise level, itself a Gaussian: $N(mean, cov + \sigma^2 I)$."""
        noise = as_float(sigma) ** 2 * jnp.eye(len(self.mean))
        return Gaussian(self.mean, self.cov + noise)

    def pushforward(self, matrix: Any) -> Gaussian:
        """The law of `matrix @ x`.

        Args:
            matrix: `[m, d]`, of full row rank.

        Raises:
            ValueError: If the shape does not fit, or the rank is less than m.

        Example:
            >>> p = Gaussian(jnp.array([1.0, 2.0]), jnp.eye(2))
            >>> p.pushforward(jnp.array([[1.0, 1.0]]))
            Gaussian(mean=[3.0], cov=[[2.0]])
        """
        matrix = as_float(matrix)
        if matrix.ndim != 2 or matrix.shape[1:] != self.mean.shape:
            raise ValueError(
                f"The matrix must be [m, {len(self.mean)}], got {matrix.shape}."
            )
        return Gaussian(matrix @ self.mean, matrix @ self.cov @ matrix.T)

    def marginal(self, indices: Any) -> Gaussian:
        """The law of some coordinates, in the order given.

        Raises:
            ValueError: If `indices` are not different coordinates of this density.

        Example:
            >>> p = Gaussian(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.5], [0.5, 3.0]]))
            >>> p.marginal((1,))
            Gaussian(mean=[2.0], cov=[[3.0]])
        """
        kept = check_indices(indices, len(self.mean))
        return Gaussian(self.mean[kept], self.cov[np.ix_(kept, kept)])


@pytree
class GaussianMixture(Density):
    r"""The density $\sum_i w_i N(mean_i, cov_i)$ with weights that sum to one.

    Args:
        log_weights: `[m]`, normalised at construction.
        means: `[m, d]`.
        covs: `[m, d, d]`, each symmetric and positive definite.

    Raises:
        ValueError: If shapes do not fit or some `cov` is not a covariance.

    Example:
        >>> means = jnp.array([[-1.0], [1.0]])
        >>> p = GaussianMixture(jnp.zeros(2), means, jnp.ones((2, 1, 1)))
        >>> p(jnp.zeros((1, 1)), 0.5)
        Array([[0.]], dtype=float32)
    """

    log_weights: Any
    means: Any
    covs: Any

    def __post_init__(self) -> None:
        logs, means, covs = map(as_float, (self.log_weights, self.means, self.covs))
        m, d = (means.shape + (0, 0))[:2]
        if logs.shape != (m,) or means.ndim != 2 or covs.shape != (m, d, d) or not m:
            raise ValueError(
                "A mixture needs log_weights [m], means [m, d] and covs [m, d, d], got "
                f"{logs.shape}, {means.shape} and {covs.shape}."
            )
        check_covariance(covs, "covs")
        set_fields(self, log_weights=jax.nn.log_softmax(logs), means=means, covs=covs)

    def _joint(self, factors: Array, x: Array) -> Array:
        """`log w_i + log N_i(x)`, `[m, b]`."""
        logs = jax.vmap(_log_prob, (0, 0, None))(self.means, factors, x)
        return self.log_weights[:, None] + logs

    def __call__(self, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b d"]:
        def score(x: Array, sigma: Array) -> Array:
            factors = factor(self.covs, sigma)
            responsibilities = jax.nn.softmax(self._joint(factors, x), axis=0)
            scores = jax.vmap(_score, (0, 0, None))(self.means, factors, x)
            return (responsibilities[..., None] * scores).sum(0)

        return at_levels(score, x, sigma, self.means.shape[1:])

    def log_prob(
        self, x: Float[Array, "b d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""

        def log_prob(x: Array, sigma: Array) -> Array:
            return jax.nn.logsumexp(self._joint(factor(self.covs, sigma), x), axis=0)

        return at_levels(log_prob, x, sigma, self.means.shape[1:])

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """`[n, d]` independent draws at a noise level."""
        key_which, key_unit = jax.random.split(key)
        which = jax.random.categorical(key_which, self.log_weights, shape=(n,))
        unit = jax.random.normal(key_unit, (n, self.means.shape[1]))
        factors = factor(self.covs, as_float(sigma))[which]
        return self.means[which] + jnp.einsum("nij,nj->ni", factors, unit)

    def marginal(self, indices: Any) -> GaussianMixture:
        """The law of some coordinates, as `Gaussian.marginal`."""
        kept = check_indices(indices, self.means.shape[1])
        covs = self.covs[:, kept[:, None], kept[None]]
        return GaussianMixture(self.log_weights, self.means[:, kept], covs)


def compose_gaussians(
    background: Gaussian,
    conditionals: Sequence[Gaussian],
    weights: Any = None,
    sigma: Number = 0.0,
) -> Gaussian:
    r"""The composition of Gaussians that were noised to a level: a Gaussian.

    $$C^{-1} = P_b + \sum_i w_i\,(P_i - P_b), \qquad
      C^{-1} m = P_b m_b + \sum_i w_i\,(P_i m_i - P_b m_b)$$

    with precisions $P = (cov + \sigma^2 I)^{-1}$.  It is the law on the annealed path,
    $C[p^\sigma]$; the noised composition is `compose_gaussians(...).noised(sigma)`, and
    in general another one (docs/math.md, "Commutation").

    Args:
        background: $p_b$.
        conditionals: $p_1, \dots, p_k$; without any, the background is what is noised.
        weights: `[k]`; ones if None.
        sigma: Noise level of all parts.

    Returns:
        The composition.

    Raises:
        ValueError: If dimensions or weights do not fit, or the composed precision is
            not positive definite, so that no law has this score.

    Source: Bradley et al. 2025, definition 5.1, for Gaussians.

    Example:
        >>> b = Gaussian(jnp.zeros(2), jnp.eye(2))
        >>> right, up = (Gaussian(m, jnp.eye(2)) for m in jnp.eye(2))
        >>> compose_gaussians(b, (right, up)).mean
        Array([1., 1.], dtype=float32)
    """
    parts = (background, *conditionals)
    if any(part.mean.shape != background.mean.shape for part in parts):
        shapes = [part.mean.shape for part in parts]
        raise ValueError(f"All parts must live on one space, got means {shapes}.")
    w = jnp.ones(len(conditionals)) if weights is None else as_float(weights)
    if w.shape != (len(conditionals),):
        raise ValueError(
            f"{len(conditionals)} conditionals need as many weights, got {w.shape}."
        )
    coefficients = jnp.concatenate([1 - w.sum(keepdims=True), w])
    precisions = jnp.linalg.inv(jnp.stack([p.noised(sigma).cov for p in parts]))
    precision = jnp.tensordot(coefficients, precisions, 1)
    if (value := concrete(precision)) is not None:
        smallest = np.linalg.eigvalsh(value.astype(np.float64)).min()
        if smallest <= np.finfo(np.float32).eps * np.abs(value).max():
            raise ValueError(
                "The composed precision is not positive definite (its smallest "
                f"eigenvalue is {smallest:.3g}), so no law has this score: lower the "
                "weights, or narrow the conditionals against the background."
            )
    means = jnp.stack([part.mean for part in parts])
    cov = jnp.linalg.inv(precision)
    mean = cov @ jnp.einsum("k,kij,kj->i", coefficients, precisions, means)
    return Gaussian(mean, (cov + cov.T) / 2)


def factor(cov: Float[Array, "*m d d"], sigma: Array) -> Float[Array, "*m d d"]:
    """The Cholesky factor of `cov + sigma**2 I`.

    Cholesky rather than eigenvectors, because it stays differentiable where
    eigenvalues coincide, as they do at every multiple of the identity.

    Example:
        >>> factor(jnp.eye(1), jnp.sqrt(3.0))
        Array([[2.]], dtype=float32)
    """
    noise = sigma**2 * jnp.eye(cov.shape[-1], dtype=cov.dtype)
    return jnp.linalg.cholesky(cov + jnp.broadcast_to(noise, cov.shape))


# Both go through the inverse factor and matrix products: XLA's triangular solve of 10^5
# right-hand sides, fused with a sum over components, was seen to return wrong rows.


def _whiten(mean: Array, chol: Array, x: Array) -> tuple[Array, Array]:
    """`L^-1 (x - mean)` of every row, and `L^-1`."""
    inverse = jax.scipy.linalg.solve_triangular(chol, jnp.eye(len(mean)), lower=True)
    return (x - mean[None]) @ inverse.T, inverse


def _log_prob(mean: Array, chol: Array, x: Array) -> Array:
    unit, _ = _whiten(mean, chol, x)
    log_volume = jnp.log(jnp.diagonal(chol)).sum() + len(mean) / 2 * np.log(2 * np.pi)
    return -0.5 * (unit**2).sum(1) - log_volume


def _score(mean: Array, chol: Array, x: Array) -> Array:
    unit, inverse = _whiten(mean, chol, x)
    return -unit @ inverse


def at_levels(
    fn: Callable[[Array, Array], Array],
    x: Float[Array, "b *d"],
    sigma: Sigma,
    event: tuple[int, ...],
) -> Array:
    """`fn(x, sigma)` of a function that knows one noise level at a time.

    A scalar sigma stays scalar: one factorisation serves the whole batch.

    Args:
        fn: `(x [b, *d], sigma []) -> [b, ...]`.
        x: `[b, *d]`.
        sigma: A scalar or `[b]`.
        event: The shape `d` that the density lives on.

    Raises:
        ValueError: If x or sigma has the wrong shape.

    Example:
        >>> at_levels(lambda x, s: s * x, jnp.ones((2, 1)), jnp.arange(2.0), (1,))
        Array([[0.],
               [1.]], dtype=float32)
    """
    if x.shape[1:] != event:
        raise ValueError(f"x must be [b, {', '.join(map(str, event))}], got {x.shape}.")
    align(sigma, x)  # checks the shape
    sigma = as_float(sigma)
    if sigma.ndim == 0:
        return fn(x, sigma)
    return jax.vmap(lambda x, sigma: fn(x[None], sigma)[0])(x, sigma)


def check_covariance(cov: Any, name: str) -> None:
    """Raises a ValueError unless `[..., d, d]` is symmetric positive definite.

    Example:
        >>> check_covariance(-np.eye(1), "cov")
        Traceback (most recent call last):
        ...
        ValueError: cov must be positive definite; its smallest eigenvalue is -1.
    """
    value = concrete(cov)
    if value is None:
        return
    if not np.isfinite(value).all() or not np.allclose(
        value, np.swapaxes(value, -1, -2), atol=1e-6 * np.abs(value).max(initial=0)
    ):
        raise ValueError(f"{name} must be finite and symmetric, got {value}.")
    eigenvalues = np.linalg.eigvalsh(value.astype(np.float64))
    smallest = eigenvalues.min(initial=np.inf)
    # Below this, float32 cannot factor it.
    if smallest <= np.finfo(np.float32).eps * eigenvalues.max(initial=0):
        raise ValueError(
            f"{name} must be positive definite; its smallest eigenvalue is "
            f"{smallest:.3g}."
        )


def check_indices(indices: Any, n: int) -> np.ndarray:
    """`indices` as an array; a ValueError unless they differ and lie in `range(n)`.

    Example:
        >>> check_indices((2, 0), 3)
        array([2, 0])
    """
    kept = tuple(int(i) for i in indices)
    if not kept or len(set(kept)) < len(kept) or not set(kept) <= set(range(n)):
        raise ValueError(
            f"indices are different coordinates of 0 to {n - 1}, at least one; got "
            f"{kept}."
        )
    return np.array(kept)
