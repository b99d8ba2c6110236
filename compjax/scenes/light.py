"""CLEVR's lights: a sun and three square lamps, their shadows and their reflections.

Irradiance is in Blender's units: a lamp of strength S is a square of radiance
``S / (4 area)``, so from afar it is a point of intensity ``S / 4`` that shines into the
half-space it faces, as the cosine to its axis.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array

from compjax.scenes.camera import camera_axes
from compjax.scenes.scene import Scene
from compjax.scenes.shapes import Body, hull, if_present, turn
from compjax.scenes.vectors import Scalars, Vec, dot, vec
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

SUN_DISTANCE = 1e3
"""Far enough: the sun is a square lamp of the same solid angle so far away."""


LIGHT_COLORS = ((1.0, 1.0, 1.0), *LAMP_COLORS)
"""Of the sun, key, fill and back lamp: the order of `lights`."""


@pytree
class Light:
    """What one square lamp does at points of the scene: leaves broadcast with them.

    Attributes:
        towards: unit vector from the point to the lamp's middle.
        distance: how far that is.
        irradiance: on a surface that faces the lamp and is not in shadow, to be
            multiplied by the lamp's colour.
        spread: the lamp's angular radius seen from the point, in radians.
        right, up, back: the lamp's axes; it shines against `back`.
        half_width: half of its side.
        radiance: of its surface, to be multiplied by its colour.
    """

    towards: Vec
    distance: Scalars
    irradiance: Scalars
    spread: Scalars
    right: Vec
    up: Vec
    back: Vec
    half_width: float
    radiance: float


def lights(scene: Scene, point: Vec) -> list[Light]:
    """The sun and the key, fill and back lamps, as seen from points of the scene."""
    still = jnp.zeros_like(point.x)
    right, up, back = camera_axes(vec(SUN_DIRECTION) * -1.0)
    sun = Light(
        towards=back,
        distance=still + SUN_DISTANCE,
        irradiance=still + SUN_STRENGTH,
        spread=still + SUN_RADIUS,
        right=right,
        up=up,
        back=back,
        half_width=0.5 * math.sqrt(math.pi) * SUN_RADIUS * SUN_DISTANCE,
        radiance=SUN_STRENGTH / (math.pi * SUN_RADIUS**2),
    )
    seen = [sun]
    for i, (strength, width) in enumerate(
        zip(LAMP_STRENGTHS, LAMP_WIDTHS, strict=True)
    ):
        position = vec(scene.lamps[i])
        right, up, back = camera_axes(position)
        offset = position - point
        inverse = jax.lax.rsqrt(dot(offset, offset))
        towards = offset * inverse
        facing = jnp.maximum(dot(towards, back), 0.0)
        lamp = Light(
            towards=towards,
            distance=1.0 / inverse,
            irradiance=strength / 4.0 * facing * inverse * inverse,
            spread=0.5 * width * inverse,
            right=right,
            up=up,
            back=back,
            half_width=0.5 * width,
            radiance=strength / (4.0 * width * width),
        )
        seen.append(lamp)
    return seen


def in_mirror(light: Light, direction: Vec, blur: Scalars | float) -> Scalars:
    """Radiance of the lamp's image in a mirror that looks along `direction`.

    Its edges are ramps of `blur` radians, over which the image keeps its sum.
    """
    facing = dot(direction, light.back)
    reach = light.distance * dot(light.towards, light.back)
    far = reach / jnp.maximum(facing, 1e-3)
    width = blur * light.distance

    def covered(axis: Vec) -> Scalars:
        away = far * dot(direction, axis) - light.distance * dot(light.towards, axis)
        above = jnp.clip(0.5 + (away + light.half_width) / width, 0.0, 1.0)
        return above - jnp.clip(0.5 + (away - light.half_width) / width, 0.0, 1.0)

    shines = (facing > 1e-3) & (reach > 0.0)
    return jnp.where(
        shines, light.radiance * covered(light.right) * covered(light.up), 0.0
    )


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
        return if_present(body, lambda free: shaded(free, i, body), free), None

    def shaded(free: list[Scalars], i: Array, body: Body) -> list[Scalars]:
        # A little slimmer than its hull, as the edges are round.
        slim = 1.0 - 0.07 * body.cube - 0.03 * body.cylinder
        body = dataclasses.replace(body, radius=slim * body.radius)
        p = turn(body, point - body.centre)
        exposed = index != i
        result = []
        for light, part in zip(seen, free, strict=True):
            enter, leave, depth = hull(body, p, turn(body, light.towards))
            middle = jnp.maximum(0.5 * (enter + leave), 0.0)
            half_width = middle * light.spread + 0.01
            share = jnp.clip(0.5 - 0.5 * depth / half_width, 0.0, 1.0)
            share = share * share * (3.0 - 2.0 * share)
            blocked = exposed & (leave > 0.0) & (middle < light.distance)
            result.append(part * jnp.where(blocked, share, 1.0))
        return result

    n = occluders.radius.shape[0]
    clear = [jnp.ones_like(point.x) for _ in seen]
    return jax.lax.scan(behind, clear, (jnp.arange(n), occluders))[0]
