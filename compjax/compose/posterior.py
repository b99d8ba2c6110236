"""Sums of scores weighted by who explains x, all three bounded by their parts.

`mixture` is an OR, `contrast` a NOT, `harmonic_mean` an AND.  They compare densities
with each other, so an unknown constant would act as a hidden weight: they demand exact
densities.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.compose.weighted import as_weights, contract
from compjax.scores import check_score
from compjax.types import Density, Number, PRNGKey, ScoreFn, Sigma, pytree


@pytree
class Mixture(Density):
    r"""$\sum_i w_i p_i$ with weights that sum to one: itself a density.

    Args:
        densities: The m parts.
        log_weights: `[m]`, normalised.
    """

    densities: tuple[Any, ...]
    log_weights: Float[Array, " m"]

    def _joint(self, x: Array, sigma: Sigma) -> Array:
        """`log w_i + log p_i(x)`, `[m, b]`."""
        logs = [density.log_prob(x, sigma) for density in self.densities]
        return self.log_weights[:, None] + jnp.stack(logs)

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        responsibilities = jax.nn.softmax(self._joint(x, sigma), axis=0)
        parts = jnp.stack([density(x, sigma) for density in self.densities])
        return contract(responsibilities, parts)

    def log_prob(
        self, x: Float[Array, "b *d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""
        return jax.nn.logsumexp(self._joint(x, sigma), axis=0)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n *d"]:
        """`[n, *d]` independent draws at a noise level."""
        key_which, key_parts = jax.random.split(key)
        which = jax.random.categorical(key_which, self.log_weights, shape=(n,))
        keys = jax.random.split(key_parts, len(self.densities))
        draws = jnp.stack(
            [p.sample(k, n, sigma) for p, k in zip(self.densities, keys, strict=True)]
        )
        return draws[which, jnp.arange(n)]


@pytree
class Contrast:
    r"""The annealed density $p_k^2 / (p_k + p_a)$; see `contrast`."""

    keep: Any
    avoid: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        s_keep, s_avoid = self.keep(x, sigma), self.avoid(x, sigma)
        r_avoid = _share(self.avoid, self.keep, x, sigma)
        return s_keep + r_avoid * (s_keep - s_avoid)

    def log_density(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, " b"]:
        """`2 log p_k - log(p_k + p_a)`, `[b]`."""
        keep, avoid = self.keep.log_prob(x, sigma), self.avoid.log_prob(x, sigma)
        return 2 * keep - jnp.logaddexp(keep, avoid)


@pytree
class HarmonicMean:
    r"""The annealed density $p_a p_b / (p_a + p_b)$; see `harmonic_mean`."""

    a: Any
    b: Any

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        # Each part counts as much as the *other* explains x.
        r_a = _share(self.a, self.b, x, sigma)
        return (1 - r_a) * self.a(x, sigma) + r_a * self.b(x, sigma)

    def log_density(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, " b"]:
        """`log p_a + log p_b - log(p_a + p_b)`, `[b]`."""
        a, b = self.a.log_prob(x, sigma), self.b.log_prob(x, sigma)
        return a + b - jnp.logaddexp(a, b)


def _share(p: Any, q: Any, x: Array, sigma: Sigma) -> Array:
    """`p / (p + q)`, shaped to multiply a score."""
    share = jax.nn.sigmoid(p.log_prob(x, sigma) - q.log_prob(x, sigma))
    return share.reshape(share.shape + (1,) * (x.ndim - 1))


def mixture(*densities: ScoreFn, log_weights: Any = None) -> Mixture:
    r"""The mixture $\sum_i w_i p_i$: OR.  Mixtures commute with noise.

    Args:
        *densities: Exact densities, at least one.
        log_weights: `[m]`, normalised here; equal weights if None.

    Returns:
        A density.

    Raises:
        ValueError: If an operand is not a density, or there are not m weights.

    Example:
        >>> from compjax.densities import Gaussian
        >>> a, b = (Gaussian(m * jnp.ones(1), jnp.eye(1)) for m in (-2.0, 2.0))
        >>> mixture(a, b)(jnp.zeros((1, 1)), 0.5)
        Array([[0.]], dtype=float32)
    """
    if not densities:
        raise ValueError("mixture needs at least one density.")
    _check_densities("mixture", *densities)
    logs = as_weights(log_weights, len(densities))
    if isinstance(logs, tuple) or logs.ndim != 1:
        raise ValueError(f"log_weights must be m numbers, got {log_weights!r}.")
    return Mixture(densities, jax.nn.log_softmax(logs))


def contrast(keep: ScoreFn, avoid: ScoreFn) -> Contrast:
    r"""What `keep` has and `avoid` has not, $p_k^2 / (p_k + p_a)$: a bounded NOT.

    Never larger than $p_k$, so it is always normalisable.

    Args:
        keep: $p_k$, an exact density.
        avoid: $p_a$, an exact density.

    Returns:
        An annealed density.

    Raises:
        ValueError: If an operand is not a density.

    Source: Garipov et al. 2023 (2309.16115), contrast with equal priors.

    Example:
        >>> from compjax.densities import Gaussian
        >>> a, b = (Gaussian(m * jnp.ones(1), jnp.eye(1)) for m in (0.0, 1.0))
        >>> bool(contrast(a, b)(jnp.zeros((1, 1)), 0.0)[0, 0] < 0)
        True
    """
    _check_densities("contrast", keep, avoid)
    return Contrast(keep, avoid)


def harmonic_mean(a: ScoreFn, b: ScoreFn) -> HarmonicMean:
    r"""What both have, $p_a p_b / (p_a + p_b)$: a bounded AND.

    Args:
        a: An exact density.
        b: An exact density.

    Returns:
        An annealed density.

    Raises:
        ValueError: If an operand is not a density.

    Source: Garipov et al. 2023 (2309.16115), harmonic mean with equal priors.

    Example:
        >>> from compjax.densities import Gaussian
        >>> a, b = (Gaussian(m * jnp.ones(1), jnp.eye(1)) for m in (0.0, 1.0))
        >>> harmonic_mean(a, b)(jnp.full((1, 1), 0.5), 0.0)
        Array([[0.]], dtype=float32)
    """
    _check_densities("harmonic_mean", a, b)
    return HarmonicMean(a, b)


def _check_densities(operator: str, *densities: Any) -> None:
    for i, density in enumerate(densities):
        check_score(density, f"Operand {i} of {operator}")
        if not (hasattr(density, "log_prob") and hasattr(density, "sample")):
            raise ValueError(
                f"Operand {i} of {operator} must be an exact density with log_prob and "
                f"sample, got {type(density).__name__}: an unknown normalisation would "
                "be a hidden weight."
            )
