"""CLEVR's lights: a sun and three square lamps, their shadows and their reflections.

Irradiance is in Blender's units: a lamp of strength S is a square of radiance
``S / (4 area)``, so from afar it is a point of intensity ``S / 4`` that shines into the
half-space it faces, as the cosine to its axis.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array

from compjax.scenes.scene import Scene
from compjax.scenes.shapes import Body, hull, turn
from compjax.scenes.vectors import Scalars, Vec, dot, unit, vec
from compjax.types import pytree

LAMP_STRENGTHS = (100.0, 30.0, 50.0)
LAMP_COLORS = (
    (1.0, 0.9323092, 0.8166636),
    (0.7616662, 0.8177196, 1.0),
    (1.0, 1.0, 1.0),
)
LAMP_WIDTHS = (0.5, 0.5, 1.0)
"""Of key, fill and back lamp, in the order of `Scene.lamps`."""

SUN_STRENGTH = 0.45
SUN_DIRECTION = (-0.414496, 0.194583, -0.889005)
"""The way sunlight travels."""

SUN_RADIUS = 0.1
"""The sun's angular radius, in radians."""


LIGHT_COLORS = ((1.0, 1.0, 1.0), *LAMP_COLORS)
"""Of the sun, key, fill and back lamp: the order of `lights`."""


@pytree
class Light:
    """What one light does at points of the scene: leaves broadcast with the points.

    Attributes:
        towards: unit vector from the point to the light.
        distance: how far the light is.
        irradiance: on a surface that faces the light and is not in shadow, to be
            multiplied by the light's colour.
        spread: the light's angular radius seen from the point, in radians.
    """

    towards: Vec
    distance: Scalars
    irradiance: Scalars
    spread: Scalars


def lights(scene: Scene, point: Vec) -> list[Light]:
    """The sun and the key, fill and back lamps, as seen from points of the scene."""
    still = jnp.zeros_like(point.x)
    sunward = vec(SUN_DIRECTION) * -1.0
    seen = [Light(sunward, still + 1e3, still + SUN_STRENGTH, still + SUN_RADIUS)]
    for i, (strength, width) in enumerate(
        zip(LAMP_STRENGTHS, LAMP_WIDTHS, strict=True)
    ):
        position = vec(scene.lamps[i])
        offset = position - point
        inverse = jax.lax.rsqrt(dot(offset, offset))
        towards = offset * inverse
        facing = jnp.maximum(dot(towards, unit(position)), 0.0)
        irradiance = strength / 4.0 * facing * inverse * inverse
        seen.append(Light(towards, 1.0 / inverse, irradiance, 0.5 * width * inverse))
    return seen


def color(amounts: list[Scalars]) -> Vec:
    """The colour of so much of each of the lights together.

    Example:
        >>> sun_and_key = color([jnp.float32(amount) for amount in (1, 1, 0, 0)])
        >>> round(float(sun_and_key.z), 3)
        1.817
    """
    nothing = jnp.zeros_like(amounts[0])
    light = Vec(nothing, nothing, nothing)
    for amount, (red, green, blue) in zip(amounts, LIGHT_COLORS, strict=True):
        light = light + Vec(amount * red, amount * green, amount * blue)
    return light


def visibility(
    occluders: Body, seen: list[Light], point: Vec, index: Array
) -> list[Scalars]:
    """How much of each light each point sees, from 0 to 1.

    An object hides the part of a light that its hull covers: with the depth at which
    the ray to the light's middle passes below the hull, and the half-width of the
    penumbra there (distance times the light's angular radius), the visible part falls
    smoothly from 1 to 0 as depth / half-width goes from -1 to 1.

    Args:
        occluders: the objects, leaves `[n]`.
        seen: the lights, as `lights` gives them.
        point: where light arrives.
        index: the object each point lies on, n for the ground; a convex body casts no
            shadow on itself beyond facing away from the light.
    """

    def behind(free: list[Scalars], numbered: tuple[Array, Body]):
        i, body = numbered
        # A little slimmer than its hull, as the edges are round.
        slim = 1.0 - 0.07 * body.cube - 0.03 * body.cylinder
        body = dataclasses.replace(body, radius=slim * body.radius)
        p = turn(body, point - body.centre)
        exposed = (index != i) & (body.present > 0.5)
        result = []
        for light, part in zip(seen, free, strict=True):
            enter, leave, depth = hull(body, p, turn(body, light.towards))
            middle = jnp.maximum(0.5 * (enter + leave), 0.0)
            half_width = middle * light.spread + 0.01
            share = jnp.clip(0.5 - 0.5 * depth / half_width, 0.0, 1.0)
            share = share * share * (3.0 - 2.0 * share)
            blocked = exposed & (leave > 0.0) & (middle < light.distance)
            result.append(part * jnp.where(blocked, share, 1.0))
        return result, None

    n = occluders.radius.shape[0]
    clear = [jnp.ones_like(point.x) for _ in seen]
    return jax.lax.scan(behind, clear, (jnp.arange(n), occluders))[0]


def glint(light: Light, n: Vec, view: Vec, roughness: Scalars | float) -> Scalars:
    """The GGX highlight of a light: reflected radiance per irradiance and reflectance.

    With the half vector h, ``D(h) (n.l) / (4 (l.h)^2)``: the microfacet model with
    Kelemen's approximation of its shadowing term.  The light's angular radius adds to
    the roughness, as the highlight of a large lamp is as wide as the lamp.
    """
    half = light.towards + view
    inverse_square = 1.0 / (dot(half, half) + 1e-6)
    aligned = jnp.maximum(dot(n, half), 0.0)
    facet_square = jnp.minimum(aligned * aligned * inverse_square, 1.0)
    tilt = dot(light.towards, half)
    tilt_square = jnp.maximum(tilt * tilt * inverse_square, 0.01)
    alpha_square = roughness * roughness + 0.25 * light.spread * light.spread
    width = facet_square * (alpha_square - 1.0) + 1.0
    cosine = jnp.maximum(dot(n, light.towards), 0.0)
    return alpha_square * cosine / (4.0 * jnp.pi * width * width * tilt_square)
