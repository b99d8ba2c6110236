"""A ray tracer for CLEVR scenes, in JAX: pure, batched by `jax.vmap`, differentiable.

Colours are linear RGB until the last line.  A surface sends out

    rubber: color / pi * E + Fresnel * (highlights + mirrored surroundings),
    metal:  color * (40 % rough + 60 % nearly mirror) of the same,

with the irradiance E of four lights behind their shadows, and of the light that the
ground sends back up.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.scenes.camera import camera_rays, check_size
from compjax.scenes.light import color, glint, lights, visibility
from compjax.scenes.scene import Scene
from compjax.scenes.shapes import (
    FAR,
    Body,
    bodies,
    ground_hit,
    ground_normal,
    hit,
    normal,
    pick,
    sweep,
)
from compjax.scenes.vectors import Scalars, Vec, dot, where

GROUND_ALBEDO = 0.8
GROUND_IRRADIANCE = 0.92
"""On the ground near the origin, of all lights together: what objects see below."""

BOUNCE = 0.6
"""The part of the ground around an object that its own shadow leaves bright."""

MIRRORED_IRRADIANCE = 0.6
"""On the side of an object that is seen in a mirror, of all lights together."""

RUBBER_ROUGHNESS = 0.35
METAL_ROUGHNESS = 0.2
MIRROR_ROUGHNESS = 0.05
"""GGX roughness; the mirror part of metal is CLEVR's 0.01, widened to what rays that
are not many find without sparkling."""


def render(
    scene: Scene, size: tuple[int, int] = (64, 64), supersample: int = 2
) -> Float[Array, "h w 3"]:
    """A picture of the scene, in sRGB from 0 to 1.

    Every pixel averages `supersample**2` rays in linear light.  Each ray finds the
    nearest object or the ground, and gathers light there from the sun and the key, fill
    and back lamps, through soft shadows; metals mirror the ground and each other's
    colour.  Light that bounces between objects, and the size of the lamps beyond its
    softening of shadows and highlights, are approximated.

    The picture is differentiable wherever surfaces are seen from inside: positions,
    sizes, lamps and camera have gradients through shading, not through silhouettes.

    Args:
        scene: one scene (`jax.vmap` for a batch).
        size: height and width in pixels; the frame is CLEVR's whatever its ratio.
        supersample: rays along each side of a pixel.

    Returns:
        `[h, w, 3]`.

    Raises:
        ValueError: if `size` is not two positive numbers or `supersample` is below 1.

    Source: CLEVR, Johnson et al. 2017, generator defaults (base_scene and materials).

    Example:
        >>> from compjax.scenes import sample
        >>> draw = jax.jit(lambda key: render(sample(key, 1, 1), (24, 32)))
        >>> draw(jax.random.key(0)).shape
        (24, 32, 3)
    """
    check_size(size)
    if supersample < 1:
        raise ValueError(f"supersample = {supersample}: give at least 1 ray a side.")
    origin, direction = camera_rays(scene.camera, size, supersample)
    objects = bodies(scene)
    point, index, direction, share = _two_surfaces(objects, origin, direction)
    light = _radiance(scene, objects, point, index, direction) * share
    channels = [channel.sum(axis=0) for channel in (light.x, light.y, light.z)]
    return _encode_srgb(jnp.stack(channels, axis=-1))


def _two_surfaces(
    objects: Body, origin: Vec, direction: Vec
) -> tuple[Vec, Array, Vec, Scalars]:
    """What a pixel shows: the nearest and the farthest of the points its rays meet.

    Only these two are shaded, whatever the number of rays: a pixel seldom shows more
    than two surfaces.  Each counts by the share of rays that meet its surface, and half
    if both lie on the same one.

    Returns:
        Points, the objects they lie on (n for the ground), directions of the rays, and
        shares; all `[2, h, w]`.
    """
    t, index = _nearest(objects, origin, direction)
    chosen = jnp.stack([jnp.argmin(t, axis=0), jnp.argmax(t, axis=0)])
    samples = jnp.arange(t.shape[0])[None, :, None, None]
    rows = (chosen[:, None] == samples).astype(t.dtype)

    def choose(values: Array) -> Array:
        return (rows * values[None]).sum(axis=1)

    ray = Vec(choose(direction.x), choose(direction.y), choose(direction.z))
    on = choose(index).astype(index.dtype)
    share = (index[None] == on[:, None]).mean(axis=1)
    share = jnp.where(on[:1] == on[1:], 0.5, share / share.sum(axis=0, keepdims=True))
    return origin + ray * choose(t), on, ray, share


def _radiance(
    scene: Scene, objects: Body, point: Vec, index: Array, direction: Vec
) -> Vec:
    """The light that points of objects and of the ground send back along their rays."""
    n = objects.radius.shape[0]
    body = pick(objects, index)
    on_object = index < n
    facing = where(on_object, normal(body, point), ground_normal(point))
    seen = lights(scene, point)
    free = visibility(objects, seen, point, index)
    arriving = [light.irradiance * part for light, part in zip(seen, free, strict=True)]
    direct = color(
        [
            part * jnp.maximum(dot(facing, light.towards), 0.0)
            for light, part in zip(seen, arriving, strict=True)
        ]
    )
    ground = (direct + _ground_bounce(point)) * (GROUND_ALBEDO / jnp.pi)

    # Objects: a matte or a mirrored part, and a highlight of each light.
    cosine = jnp.clip(-dot(facing, direction), 0.0, 1.0)
    mirror = direction + facing * (2.0 * cosine)
    metal = body.metal > 0.5
    rough = jnp.where(metal, METAL_ROUGHNESS, RUBBER_ROUGHNESS)
    view = -direction
    broad = [glint(light, facing, view, rough) for light in seen]
    narrow = [glint(light, facing, view, MIRROR_ROUGHNESS) for light in seen]
    gloss = jnp.where(metal, 0.4, 1.0)
    highlight = color(
        [
            part * (gloss * wide + (1.0 - gloss) * thin)
            for part, wide, thin in zip(arriving, broad, narrow, strict=True)
        ]
    )
    below = GROUND_ALBEDO * GROUND_IRRADIANCE
    bounced = below * BOUNCE * 0.5 * (1.0 - facing.z)
    matte = body.color.times(direct + _grey(bounced)) * (1.0 / jnp.pi)
    blurred = below / jnp.pi * jax.nn.sigmoid(-6.0 * mirror.z)
    sharp = _mirrored(scene, objects, point, mirror, index)
    shine = highlight + _grey(gloss * blurred) + sharp * (1.0 - gloss)
    fresnel = 0.0083 + 0.9917 * (1.0 - cosine) ** 5
    rubber = matte * (1.0 - fresnel) + shine * (0.8 * fresnel)
    surface = where(metal, body.color.times(shine), rubber)
    light = where(on_object, surface, ground)
    return where(index <= n, light, _grey(jnp.zeros_like(cosine)))


def _nearest(
    objects: Body, origin: Vec, direction: Vec, start: Array | int = -1
) -> tuple[Scalars, Array]:
    """The distance to the first thing each ray meets, and which.

    Rays that start on an object do not meet it again, as bodies are convex.

    Args:
        objects: leaves `[n]`.
        origin: where rays start.
        direction: unit vectors.
        start: the object each ray starts on, if any.

    Returns:
        The distance, and the object's number: n for the ground, n + 1 for nothing.
    """
    n = objects.radius.shape[0]
    ground = ground_hit(origin, direction)

    def closer(best, numbered):
        i, body = numbered
        t = jnp.where(start == i, FAR, hit(body, origin, direction))
        return (jnp.minimum(t, best[0]), jnp.where(t < best[0], i, best[1])), None

    index = jnp.where(ground < FAR, n, n + 1)
    return jax.lax.scan(closer, (ground, index), (jnp.arange(n), objects))[0]


def _mirrored(
    scene: Scene, objects: Body, point: Vec, mirror: Vec, index: Array
) -> Vec:
    """What metal shows: the ground without its shadows, and the paint of objects."""
    n = objects.radius.shape[0]
    if n > 1:
        t, met = _nearest(objects, point, mirror, index)
    else:
        t = ground_hit(point, mirror)
        met = jnp.where(t < FAR, n, n + 1)
    there = point + mirror * t
    up = ground_normal(there)
    arriving = [
        light.irradiance * jnp.maximum(dot(up, light.towards), 0.0)
        for light in lights(scene, there)
    ]
    ground = _grey(sum(arriving, jnp.zeros_like(t)) * (GROUND_ALBEDO / jnp.pi))
    ground = where(met == n, ground, _grey(jnp.zeros_like(t)))
    if n == 1:
        return ground
    paint = pick(objects.color, met) * (MIRRORED_IRRADIANCE / jnp.pi)
    return where(met < n, paint, ground)


def _ground_bounce(point: Vec) -> Vec:
    # The sheet lights itself where it curves: fitted to the surplus of path tracing
    # over direct light, 3 to 7 % on the floor and more towards the wall.
    _, slope = sweep(point)
    return _grey(0.04 + 0.15 * slope / (1.0 + slope * slope))


def _grey(level: Scalars) -> Vec:
    return Vec(level, level, level)


def _encode_srgb(linear: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Linear light to sRGB, clipped to its range (IEC 61966-2-1)."""
    linear = jnp.clip(linear, 0.0, 1.0)
    curved = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.where(linear <= 0.0031308, 12.92 * linear, curved)
