"""What CLEVR's three surfaces do with light: rubber, metal, and the ground.

Radiance that leaves a surface towards the eye, with F the Fresnel factor of the view:

    ground  0.8 (E / pi + L_cosine)
    rubber  (1 - F(1.2)) [(1 - F(1.4)) color (E / pi + L_cosine) + F(1.4) color velvet]
            + F(1.2) 0.8 (highlights + L_glossy)
    metal   color [0.4 (highlights + L_glossy) + 0.6 (images of the lamps + L_mirror)]

E, highlights, velvet and images are what the four lights send directly; the L are the
radiance of everything else, averaged over each lobe of the surface (`Surroundings`).

Source: the node groups Rubber and MyMetal of CLEVR's generator (Johnson et al. 2017);
the lobes are those of Cycles: Beckmann and GGX microfacets, Ashikhmin's velvet.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from compjax.scenes.light import Light, color, in_mirror
from compjax.scenes.shapes import Body
from compjax.scenes.vectors import Scalars, Vec, cross, dot, unit, where
from compjax.types import pytree

GROUND_ALBEDO = 0.8
RUBBER_GLOSS = 0.8
"""Reflectance of the glossy lobe of rubber, grey."""

RUBBER_ROUGHNESS = 0.35
METAL_ROUGHNESS = 0.2
"""Microfacet alpha of the glossy lobes."""

METAL_ANISOTROPY = 0.25
"""Makes highlights on metal longer along the vertical than around it: alpha is
multiplied by 1 - a around the axis, and divided by it along the axis."""

METAL_GLOSSY = 0.4
"""The share of metal's rough lobe; the rest mirrors, with alpha 0.01."""

VELVET_SPREAD = 0.6


@pytree
class Frame:
    """The axes of a surface at a point: unit vectors at right angles.

    `around` runs about the object's vertical axis, as Blender lays the tangents of
    meshes without texture coordinates; `along` is at right angles to it and `normal`.
    """

    normal: Vec
    around: Vec
    along: Vec


def frame(normal: Vec, offset: Vec) -> Frame:
    """The axes at the point that is `offset` from the object's centre."""
    about = Vec(-offset.y, offset.x, jnp.zeros_like(offset.z))
    along = unit(cross(normal, about))
    return Frame(normal, cross(along, normal), along)


@pytree
class Surroundings:
    """Radiance that arrives otherwise than directly from a light, averaged over lobes.

    Attributes:
        cosine: over the hemisphere, weighted by the cosine to the normal.
        glossy: over the rough lobe about the mirror direction.
        mirror: from the mirror direction.
    """

    cosine: Vec
    glossy: Vec
    mirror: Vec


def leaving(
    body: Body,
    on_object: Array,
    axes: Frame,
    view: Vec,
    seen: list[Light],
    free: list[Scalars],
    around: Surroundings,
    blur: Scalars | float,
) -> Vec:
    """Radiance from points of objects and of the ground towards the eye.

    Args:
        body: the object each point lies on, anything where it lies on none.
        on_object: whether it lies on one; on the ground otherwise.
        axes: of the surface there, with its outward normal.
        view: unit vector from the point towards the eye.
        seen: the lights, as `lights` gives them.
        free: how much of each light is not in shadow, as `visibility` gives it.
        around: the light that other surfaces send.
        blur: radians over which the edges of lamps seen in metal are spread.
    """
    normal = axes.normal
    cosine = jnp.maximum(dot(normal, view), 1e-3)
    arriving = [light.irradiance * part for light, part in zip(seen, free, strict=True)]
    lit = [
        part * jnp.maximum(dot(normal, light.towards), 0.0)
        for light, part in zip(seen, arriving, strict=True)
    ]
    matte = color(lit) * (1.0 / jnp.pi) + around.cosine

    metal = body.metal > 0.5
    glossy = [glint(light, axes, view, metal) for light in seen]
    glossy = color([a * g for a, g in zip(arriving, glossy, strict=True)])
    glossy = glossy + around.glossy

    mirror = normal * (2.0 * cosine) - view
    images = [
        part * in_mirror(light, mirror, blur)
        for light, part in zip(seen, free, strict=True)
    ]
    mirrored = color(images) + around.mirror
    metallic = glossy * METAL_GLOSSY + mirrored * (1.0 - METAL_GLOSSY)

    velvet = [
        part * velvet_lobe(light.towards, normal, view)
        for light, part in zip(seen, arriving, strict=True)
    ]
    inner, outer = fresnel(cosine, 1.4), fresnel(cosine, 1.2)
    cloth = matte * (1.0 - inner) + color(velvet) * inner
    rubber = body.color.times(cloth) * (1.0 - outer) + glossy * (RUBBER_GLOSS * outer)

    surface = where(metal, body.color.times(metallic), rubber)
    return where(on_object, surface, matte * GROUND_ALBEDO)


def fresnel(cosine: Scalars, index: float) -> Scalars:
    """How much a dielectric reflects of unpolarised light, at the cosine to its normal.

    Example:
        >>> round(float(fresnel(jnp.float32(1.0), 1.5)), 3)
        0.04
    """
    g = jnp.sqrt(index * index - 1.0 + cosine * cosine)
    perpendicular = (g - cosine) / (g + cosine)
    ratio = (cosine * (g + cosine) - 1.0) / (cosine * (g - cosine) + 1.0)
    return 0.5 * perpendicular * perpendicular * (1.0 + ratio * ratio)


def glint(light: Light, axes: Frame, view: Vec, metal: Array) -> Scalars:
    """The highlight of a light: reflected radiance per irradiance and reflectance.

    With the half vector h, ``D(h) (n.l) / (4 (l.h)^2)``: microfacets with Kelemen's
    approximation of their shadowing.  D is Beckmann's on rubber and anisotropic GGX on
    metal.  The light's angular radius adds to the roughness, as the highlight of a
    large lamp is as wide as the lamp.
    """
    normal, half = axes.normal, light.towards + view
    inverse_square = 1.0 / (dot(half, half) + 1e-6)
    aligned = jnp.maximum(dot(normal, half), 0.0)
    facet = jnp.clip(aligned * aligned * inverse_square, 1e-4, 1.0)
    tilt = dot(light.towards, half)
    tilt_square = jnp.maximum(tilt * tilt * inverse_square, 0.01)
    lamp = 0.25 * light.spread * light.spread
    # GGX: around the vertical axis, and along it.
    around, along = metal_alphas()
    across, rise = dot(axes.around, half), dot(axes.along, half)
    around_square, along_square = around * around + lamp, along * along + lamp
    stretched = (across * across / around_square + rise * rise / along_square) * (
        inverse_square
    ) + facet
    ggx = jax.lax.rsqrt(around_square * along_square) / (stretched * stretched)
    # Beckmann, of the same for rubber.
    square = RUBBER_ROUGHNESS**2 + lamp
    beckmann = jnp.exp((1.0 - 1.0 / facet) / square) / (square * facet * facet)
    density = jnp.where(metal, ggx, beckmann) / jnp.pi
    cosine = jnp.maximum(dot(normal, light.towards), 0.0)
    return density * cosine / (4.0 * tilt_square)


def metal_alphas() -> tuple[float, float]:
    """GGX alpha of metal around the vertical axis and along it.

    Example:
        >>> metal_alphas()
        (0.15000000000000002, 0.26666666666666666)
    """
    narrow = 1.0 - METAL_ANISOTROPY
    return METAL_ROUGHNESS * narrow, METAL_ROUGHNESS / narrow


def velvet_lobe(towards: Vec, normal: Vec, view: Vec) -> Scalars:
    """Ashikhmin's velvet: reflected radiance per irradiance and reflectance."""
    half = unit(towards + view)
    facing = jnp.maximum(dot(normal, view), 1e-3)
    lit = jnp.maximum(dot(normal, towards), 0.0)
    upright = jnp.clip(dot(normal, half), 1e-3, 1.0)
    slant = jnp.maximum(dot(view, half), 1e-3)
    sine_square = jnp.maximum(1.0 - upright * upright, 1e-3)
    inverse = 1.0 / VELVET_SPREAD**2
    falloff = jnp.exp(-upright * upright / sine_square * inverse)
    density = falloff * inverse / (jnp.pi * sine_square * sine_square)
    shadowing = jnp.minimum(1.0, 2.0 * upright / slant * jnp.minimum(facing, lit))
    return 0.25 * density * shadowing / facing
