"""Densities seen in turned coordinates, which isotropic noise cannot tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Array, Float

from compjax.types import (
    Density,
    Number,
    PRNGKey,
    Sigma,
    as_float,
    concrete,
    pytree,
    set_fields,
)


@pytree
class Rotated(Density):
    r"""The density of x when $z = Qx$ follows a given one, Q orthogonal.

    $$p(x) = p_z(Qx), \qquad s(x, \sigma) = Q^T s_z(Qx, \sigma)$$

    Noise commutes with Q, so this is exact at every noise level.  Parts that factorize
    in the features z compose exactly in x as well.

    Args:
        density: $p_z$, an exact density on `[d]`.
        matrix: $Q$, `[d, d]`, rows orthonormal; reflections are as good as rotations.

    Raises:
        ValueError: If `density` is not one, or `matrix` is not orthogonal.

    Source: Bradley et al. 2025, lemma 7.1.

    Example:
        >>> import jax.numpy as jnp
        >>> from compjax.densities import Gaussian
        >>> z = Gaussian(jnp.array([3.0, 0.0]), jnp.eye(2))
        >>> swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> Rotated(z, swap)(jnp.zeros((1, 2)), 0.0)
        Array([[0., 3.]], dtype=float32)
    """

    density: Any
    matrix: Any

    def __post_init__(self) -> None:
        if not (hasattr(self.density, "log_prob") and hasattr(self.density, "sample")):
            raise ValueError(
                f"Rotated needs an exact density, got {type(self.density).__name__}."
            )
        matrix = as_float(self.matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"The matrix must be [d, d], got {matrix.shape}.")
        if (value := concrete(matrix)) is not None:
            error = np.abs(value @ value.T - np.eye(len(value))).max(initial=0)
            # A product of rotations in float32 is orthogonal to within 1e-5.
            if not error < 1e-4:
                raise ValueError(
                    "The matrix must be orthogonal, as noise commutes with no other; "
                    f"Q Q^T is off by {error:.3g}."
                )
        set_fields(self, matrix=matrix)

    def __call__(self, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b d"]:
        return self.density(self._forward(x), sigma) @ self.matrix

    def log_prob(
        self, x: Float[Array, "b d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""
        return self.density.log_prob(self._forward(x), sigma)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """`[n, d]` independent draws at a noise level."""
        return self.density.sample(key, n, sigma) @ self.matrix

    def _forward(self, x: Array) -> Array:
        """The features $z = Qx$ of every row."""
        d = len(self.matrix)
        if x.shape[1:] != (d,):
            raise ValueError(f"x must be [b, {d}], got {x.shape}.")
        return x @ self.matrix.T
