"""Vectors of three components, each an array of its own, so that optics reads as such.

Keeping x, y and z apart (instead of on an axis of length three) lets XLA fuse a whole
chain of vector operations into one loop over the rays.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.types import pytree

Scalars = Float[Array, "..."]


@pytree
class Vec:
    """A vector, or an array of vectors: x, y and z broadcast against each other.

    Example:
        >>> up = Vec(jnp.float32(0.0), jnp.float32(0.0), jnp.float32(2.0))
        >>> float(dot(up, up * 3.0))
        12.0
    """

    x: Scalars
    y: Scalars
    z: Scalars

    def __add__(self, other: Vec) -> Vec:
        return Vec(self.x + other.x, self.y + other.y, self.z + other.z)

    def __sub__(self, other: Vec) -> Vec:
        return Vec(self.x - other.x, self.y - other.y, self.z - other.z)

    def __neg__(self) -> Vec:
        return Vec(-self.x, -self.y, -self.z)

    def __mul__(self, scale: Scalars | float) -> Vec:
        return Vec(self.x * scale, self.y * scale, self.z * scale)

    def times(self, other: Vec) -> Vec:
        """The componentwise product, for light of one colour on paint of another."""
        return Vec(self.x * other.x, self.y * other.y, self.z * other.z)


def vec(values: Float[Array | np.ndarray, "3"] | tuple[float, float, float]) -> Vec:
    """The vector with these three components.

    Example:
        >>> float(vec((1.0, 2.0, 3.0)).z)
        3.0
    """
    x, y, z = (jnp.asarray(value, jnp.result_type(float)) for value in values)
    return Vec(x, y, z)


def grey(level: Scalars) -> Vec:
    """Light, or paint, without a hue: one level in all three components.

    Example:
        >>> float(grey(jnp.float32(0.5)).y)
        0.5
    """
    return Vec(level, level, level)


def dot(a: Vec, b: Vec) -> Scalars:
    """The inner product of two vectors.

    Example:
        >>> float(dot(vec((1.0, 2.0, 3.0)), vec((1.0, 0.0, 1.0))))
        4.0
    """
    return a.x * b.x + a.y * b.y + a.z * b.z


def cross(a: Vec, b: Vec) -> Vec:
    """The vector perpendicular to both, right-handed.

    Example:
        >>> float(cross(vec((1.0, 0.0, 0.0)), vec((0.0, 1.0, 0.0))).z)
        1.0
    """
    return Vec(
        a.y * b.z - a.z * b.y,
        a.z * b.x - a.x * b.z,
        a.x * b.y - a.y * b.x,
    )


def norm(a: Vec) -> Scalars:
    """The length of a vector; its gradient is finite at zero.

    Example:
        >>> round(float(norm(vec((3.0, 0.0, 4.0)))), 4)
        5.0
    """
    return jnp.sqrt(dot(a, a) + 1e-12)


def unit(a: Vec) -> Vec:
    """The vector of length one in the same direction.

    Example:
        >>> round(float(unit(vec((3.0, 0.0, 4.0))).z), 4)
        0.8
    """
    return a * (1.0 / norm(a))


def where(condition: Array, a: Vec, b: Vec) -> Vec:
    """`a` where the condition holds, `b` elsewhere.

    Example:
        >>> yes = jnp.asarray(True)
        >>> float(where(yes, vec((1.0, 0.0, 0.0)), vec((2.0, 0.0, 0.0))).x)
        1.0
    """
    return Vec(
        jnp.where(condition, a.x, b.x),
        jnp.where(condition, a.y, b.y),
        jnp.where(condition, a.z, b.z),
    )
