"""Smooth bijections of vectors, for `pullback` and the equivariance law."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.types import Bijection, as_float, concrete, pytree, set_fields


@pytree
class Affine(Bijection):
    """`z = matrix @ x + shift`: a rotation, a shear, a change of units.

    Args:
        matrix: `[d, d]`, invertible.
        shift: `[d]`.

    Raises:
        ValueError: If the matrix is singular.

    Example:
        >>> float(Affine(2 * jnp.eye(2), jnp.zeros(2)).log_det(jnp.ones(2)))
        1.3862943649291992
    """

    matrix: Any
    shift: Any

    def __post_init__(self) -> None:
        set_fields(self, matrix=as_float(self.matrix), shift=as_float(self.shift))
        det = concrete(jnp.linalg.det(self.matrix))
        if det is not None and not abs(det) > 1e-6:
            raise ValueError(
                f"The matrix must be invertible; its determinant is {det}."
            )

    def forward(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """`matrix @ x + shift`."""
        return self.matrix @ x + self.shift

    def inverse(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """`matrix^-1 (z - shift)`."""
        return jnp.linalg.solve(self.matrix, z - self.shift)

    def log_det(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """`log |det matrix|`, the same everywhere."""
        del x  # linear
        return jnp.linalg.slogdet(self.matrix)[1]


@pytree
class SinhArcsinh(Bijection):
    """`z_j = sinh(tail_j * arcsinh(x_j) + skew_j)`, a smooth map of each coordinate.

    Args:
        skew: `[d]`.
        tail: `[d]`, positive.

    Source: Jones and Pewsey 2009.

    Example:
        >>> bend = SinhArcsinh(jnp.full(1, 0.3), jnp.full(1, 1.2))
        >>> x = jnp.array([0.7])
        >>> bool(jnp.allclose(bend.inverse(bend.forward(x)), x, atol=1e-6))
        True
    """

    skew: Any
    tail: Any

    def __post_init__(self) -> None:
        set_fields(self, skew=as_float(self.skew), tail=as_float(self.tail))
        if (tail := concrete(self.tail)) is not None and not (tail > 0).all():
            raise ValueError(f"tail must be positive, got {tail}.")

    def forward(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """`sinh(tail * arcsinh(x) + skew)`."""
        return jnp.sinh(self.tail * jnp.arcsinh(x) + self.skew)

    def inverse(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """`sinh((arcsinh(z) - skew) / tail)`."""
        return jnp.sinh((jnp.arcsinh(z) - self.skew) / self.tail)

    def log_det(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The sum of the logarithms of the slopes."""
        slope = self.tail * jnp.cosh(self.tail * jnp.arcsinh(x) + self.skew)
        return (jnp.log(slope) - 0.5 * jnp.log1p(x**2)).sum()


@pytree
class Chain(Bijection):
    """One bijection after another, the first first.

    Args:
        parts: The bijections.

    Example:
        >>> double = Affine(2 * jnp.eye(1), jnp.zeros(1))
        >>> Chain((double, double)).forward(jnp.ones(1))
        Array([4.], dtype=float32)
    """

    parts: tuple[Any, ...]

    def forward(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """All parts in turn."""
        for part in self.parts:
            x = part.forward(x)
        return x

    def inverse(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """All inverses, the last part's first."""
        for part in reversed(self.parts):
            z = part.inverse(z)
        return z

    def log_det(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The sum along the way."""
        total = jnp.zeros(())
        for part in self.parts:
            total, x = total + part.log_det(x), part.forward(x)
        return total
