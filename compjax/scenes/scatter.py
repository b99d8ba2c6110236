"""Directions in which surfaces scatter light, from points of the unit square."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scenes.materials import RUBBER_ROUGHNESS, Frame, metal_alphas
from compjax.scenes.vectors import Scalars, Vec, dot, unit


def low_discrepancy(n: int) -> tuple[Array, Array, Array]:
    """Three evenly spread sets of n points of the unit square, in unrelated orders.

    Example:
        >>> [points.shape for points in low_discrepancy(16)]
        [(16, 2), (16, 2), (16, 2)]
    """
    from scipy.stats import qmc

    points = qmc.Sobol(6, scramble=True, rng=np.random.default_rng(0)).random(n)
    first, second, third = np.split(points.astype(np.float32), 3, axis=1)
    return jnp.asarray(first), jnp.asarray(second), jnp.asarray(third)


def cosine_lobe(axes: Frame, uniform: Float[Array, "2"]) -> Vec:
    """A direction about the normal, as likely as the cosine to it."""
    angle, radius = 2.0 * jnp.pi * uniform[0], jnp.sqrt(uniform[1])
    around = axes.around * (radius * jnp.cos(angle))
    along = axes.along * (radius * jnp.sin(angle))
    return unit(around + along + axes.normal * jnp.sqrt(1.0 - uniform[1]))


def glossy_lobe(
    axes: Frame, view: Vec, metal: Scalars, uniform: Float[Array, "2"]
) -> tuple[Vec, Scalars]:
    """A direction from the glossy lobe of rubber or of metal, and its weight.

    Facets are drawn as likely as their area D seen from above; the weight, that of
    Kelemen's shadowing as in `materials.glint`, makes up for it.
    """
    narrow, wide = metal_alphas()
    angle, level = 2.0 * jnp.pi * uniform[0], uniform[1]
    ggx = jnp.sqrt(level / (1.0 - level))
    beckmann = RUBBER_ROUGHNESS * jnp.sqrt(-jnp.log1p(-level))
    across = jnp.where(metal > 0.5, narrow * ggx, beckmann) * jnp.cos(angle)
    rise = jnp.where(metal > 0.5, wide * ggx, beckmann) * jnp.sin(angle)
    half = unit(axes.normal + axes.around * across + axes.along * rise)
    tilt = dot(view, half)
    direction = half * (2.0 * tilt) - view
    cosine = dot(axes.normal, direction)
    # Radiance is L D (n.l) / (4 (l.h)^2) over directions l; their density is
    # D (n.h) / (4 (v.h)).
    weight = cosine / jnp.maximum(tilt * dot(axes.normal, half), 1e-2)
    good = (tilt > 0.0) & (cosine > 0.0)
    return direction, jnp.where(good, jnp.minimum(weight, 2.0), 0.0)
