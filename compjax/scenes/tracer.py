"""A ray tracer for CLEVR scenes, in JAX: pure, batched by `jax.vmap`, differentiable.

Colours are linear RGB until the last line.  A point is lit directly by the sun and the
three lamps, through soft shadows (`light`), and sends light on as its material does
(`materials`).  The presets differ in what they know of the light that other surfaces
send: `fast` takes it from formulas and looks once into mirrors, `faithful` follows two
more rays from every point.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scenes.camera import camera_rays, check_size
from compjax.scenes.light import lights, visibility
from compjax.scenes.materials import GROUND_ALBEDO, Frame, Surroundings, frame, leaving
from compjax.scenes.scatter import cosine_lobe, glossy_lobe, low_discrepancy
from compjax.scenes.scene import Scene, check_single
from compjax.scenes.shapes import (
    FAR,
    Body,
    along_sweep,
    bodies,
    ground_hit,
    ground_normal,
    hit,
    if_present,
    normal,
    pick,
)
from compjax.scenes.vectors import Scalars, Vec, dot, grey, where
from compjax.types import pytree

GROUND_IRRADIANCE = 0.92
"""On the ground near the origin, of all lights together: what objects see below."""

BOUNCE = 0.8
"""The part of the ground around an object that its own shadow leaves bright."""

MIRRORED_IRRADIANCE = 0.6
"""On the side of an object that is seen in a mirror, of all lights together."""

FAST_RAYS = 2
FAITHFUL_RAYS = 4
"""Rays along each side of a pixel."""

FAST_BLUR = 0.1
FAITHFUL_BLUR = 0.04
"""Radians between the directions in which neighbouring rays leave a small mirror ball:
over which images of lamps are spread, as a lamp between two rays would be lost."""

WIDE_BLUR = 1.0
"""The same where few rays stand for a hemisphere and must not find caustics."""


@pytree
class Hit:
    """Where rays end: leaves broadcast together.

    Attributes:
        point: on the surface.
        index: of the object it belongs to: n for the ground, n + 1 for nothing.
        direction: of the ray that found it.
    """

    point: Vec
    index: Any
    direction: Vec


def render(
    scene: Scene, size: tuple[int, int] = (64, 64), preset: str = "fast"
) -> Float[Array, "h w 3"]:
    """A picture of the scene, in sRGB from 0 to 1.

    `"fast"`, for training: four rays a pixel, of which the nearest and the farthest hit
    are shaded; metals mirror the ground and each other's paint; light between surfaces
    follows fitted formulas.

    `"faithful"`, for figures: sixteen rays a pixel, all shaded, and from each point two
    more rays into the lobes of its material, whose ends are shaded as `"fast"` does:
    mirrored shadows, light from one surface to the next, contact shadows.

    The picture is differentiable wherever surfaces are seen from inside: positions,
    sizes, lamps and camera have gradients through shading, not through silhouettes.

    Args:
        scene: one scene (`jax.vmap` for a batch).
        size: height and width in pixels; the frame is CLEVR's whatever its ratio.
        preset: `"fast"` or `"faithful"`.

    Returns:
        `[h, w, 3]`.

    Raises:
        ValueError: if `size` is not two positive numbers, there is no such preset, or
            the scene is a batch.

    Source: CLEVR, Johnson et al. 2017, generator defaults (base_scene and materials).

    Example:
        >>> from compjax.scenes import sample
        >>> draw = jax.jit(lambda key: render(sample(key, 1, 1), (24, 32)))
        >>> draw(jax.random.key(0)).shape
        (24, 32, 3)
    """
    check_size(size)
    if preset not in PRESETS:
        raise ValueError(f"preset = {preset!r}: choose {', '.join(PRESETS)}.")
    check_single(scene)
    light = PRESETS[preset](scene, bodies(scene), size)
    return _encode_srgb(jnp.stack([light.x, light.y, light.z], axis=-1))


def _fast(scene: Scene, objects: Body, size: tuple[int, int]) -> Vec:
    """Linear light, `[h, w]`: the two surfaces that each pixel shows."""
    inside = (np.indices((FAST_RAYS, FAST_RAYS)).reshape(2, -1).T + 0.5) / FAST_RAYS
    origin, direction = camera_rays(scene.camera, size, inside)
    found, share = _two_surfaces(objects, origin, direction)
    light = _radiance(scene, objects, found, _assumed, FAST_BLUR) * share
    return Vec(*(channel.sum(axis=0) for channel in (light.x, light.y, light.z)))


def _faithful(scene: Scene, objects: Body, size: tuple[int, int]) -> Vec:
    """Linear light, `[h, w]`: every ray shaded, and what its surroundings send."""
    n = FAITHFUL_RAYS**2

    def add(total: Vec, sample: tuple[Array, Array, Array]):
        inside, first, second = sample
        origin, direction = camera_rays(scene.camera, size, inside[None])
        found = _first_hit(objects, origin, direction)

        def gathered(scene, objects, hit, axes, metal):
            return _traced(scene, objects, hit, axes, metal, first, second)

        light = _radiance(scene, objects, found, gathered, FAITHFUL_BLUR)
        return total + Vec(light.x[0], light.y[0], light.z[0]), None

    dark = grey(jnp.zeros(size))
    total, _ = jax.lax.scan(add, dark, low_discrepancy(n))
    return total * (1.0 / n)


PRESETS = {"fast": _fast, "faithful": _faithful}


def _two_surfaces(objects: Body, origin: Vec, direction: Vec) -> tuple[Hit, Scalars]:
    """What a pixel shows: the nearest and the farthest of the points its rays meet.

    Only these two are shaded, whatever the number of rays: a pixel seldom shows more
    than two surfaces.  Each counts by the share of rays that meet its surface, and half
    if both lie on the same one.

    Returns:
        Where the two rays end, and the shares; all `[2, h, w]`.
    """
    t, index = nearest(objects, origin, direction)
    chosen = jnp.stack([jnp.argmin(t, axis=0), jnp.argmax(t, axis=0)])
    samples = jnp.arange(t.shape[0])[None, :, None, None]
    rows = (chosen[:, None] == samples).astype(t.dtype)

    def choose(values: Array) -> Array:
        return (rows * values[None]).sum(axis=1)

    ray = Vec(choose(direction.x), choose(direction.y), choose(direction.z))
    on = choose(index).astype(index.dtype)
    share = (index[None] == on[:, None]).mean(axis=1)
    share = jnp.where(on[:1] == on[1:], 0.5, share / share.sum(axis=0, keepdims=True))
    return Hit(origin + ray * choose(t), on, ray), share


def _first_hit(
    objects: Body, origin: Vec, direction: Vec, start: Array | int = -1
) -> Hit:
    t, index = nearest(objects, origin, direction, start)
    return Hit(origin + direction * jnp.minimum(t, FAR), index, direction)


def nearest(
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

        def compared(best):
            t = jnp.where(start == i, FAR, hit(body, origin, direction))
            return jnp.minimum(t, best[0]), jnp.where(t < best[0], i, best[1])

        return if_present(body, compared, best), None

    index = jnp.where(ground < FAR, n, n + 1)
    return jax.lax.scan(closer, (ground, index), (jnp.arange(n), objects))[0]


def _radiance(
    scene: Scene, objects: Body, hit: Hit, surroundings: Any, blur: Scalars | float
) -> Vec:
    """The light that points of objects and of the ground send back along their rays.

    Args:
        scene: whose lamps shine.
        objects: its objects, leaves `[n]`.
        hit: where.
        surroundings: `_assumed`, or a function like it.
        blur: as for `materials.leaving`.
    """
    n = objects.radius.shape[0]
    body = pick(objects, hit.index)
    on_object = hit.index < n
    facing = where(on_object, normal(body, hit.point), ground_normal(hit.point))
    axes = frame(facing, where(on_object, hit.point - body.centre, hit.point))
    seen = lights(scene, hit.point)
    free = visibility(objects, seen, hit.point, hit.index)
    around = surroundings(scene, objects, hit, axes, body.metal)
    view = -hit.direction
    light = leaving(body, on_object, axes, view, seen, free, around, blur)
    return where(hit.index <= n, light, grey(jnp.zeros_like(facing.x)))


def _assumed(
    scene: Scene, objects: Body, hit: Hit, axes: Frame, metal: Scalars
) -> Surroundings:
    """What other surfaces send, from formulas fitted to path tracing."""
    n, facing = objects.radius.shape[0], axes.normal
    below = GROUND_ALBEDO * GROUND_IRRADIANCE / jnp.pi
    underneath = below * BOUNCE * 0.5 * (1.0 - facing.z)
    cosine = jnp.where(hit.index < n, underneath, _ground_bounce(hit.point))
    mirror = hit.direction - facing * (2.0 * dot(facing, hit.direction))
    glossy = below * jax.nn.sigmoid(-6.0 * mirror.z)
    sharp = _mirrored(scene, objects, hit, mirror)
    return Surroundings(grey(cosine), grey(glossy), sharp)


def _traced(
    scene: Scene,
    objects: Body,
    hit: Hit,
    axes: Frame,
    metal: Scalars,
    first: Array,
    second: Array,
) -> Surroundings:
    """What other surfaces send to objects, along a ray into each lobe of the material.

    The ground keeps its formula: it sees little but itself.
    """
    facing, on_object = axes.normal, hit.index < objects.radius.shape[0]
    mirror = hit.direction - facing * (2.0 * dot(facing, hit.direction))
    polished = (metal > 0.5) & on_object
    spread = where(polished, mirror, cosine_lobe(axes, first))
    rough, weight = glossy_lobe(axes, -hit.direction, metal, second)

    def arriving(direction: Vec, blur: Any) -> Vec:
        found = _first_hit(objects, hit.point, direction, hit.index)
        return _radiance(scene, objects, found, _assumed, blur)

    sent = arriving(spread, jnp.where(polished, FAST_BLUR, WIDE_BLUR))
    cosine = where(on_object, sent, grey(_ground_bounce(hit.point)))
    return Surroundings(cosine, arriving(rough, FAST_BLUR) * weight, sent)


def _mirrored(scene: Scene, objects: Body, hit: Hit, mirror: Vec) -> Vec:
    """What metal shows: the ground without its shadows, and the paint of objects."""
    n = objects.radius.shape[0]
    if n > 1:
        found = _first_hit(objects, hit.point, mirror, hit.index)
        there, met = found.point, found.index
    else:
        t = ground_hit(hit.point, mirror)
        there, met = hit.point + mirror * t, jnp.where(t < FAR, n, n + 1)
    up = ground_normal(there)
    arriving = [
        light.irradiance * jnp.maximum(dot(up, light.towards), 0.0)
        for light in lights(scene, there)
    ]
    dark = jnp.zeros_like(there.x)
    ground = grey(sum(arriving, dark) * (GROUND_ALBEDO / jnp.pi))
    ground = where(met == n, ground, grey(dark))
    if n == 1:
        return ground
    paint = pick(objects.color, met) * (MIRRORED_IRRADIANCE / jnp.pi)
    return where(met < n, paint, ground)


def _ground_bounce(point: Vec) -> Scalars:
    # The sheet lights itself where it curves: the surplus of path tracing over direct
    # light in empty scenes, whatever the lamps, as a cubic of the way along the sheet.
    u = (jnp.clip(along_sweep(point), -21.0, 0.5) + 10.0) / 10.0
    irradiance = ((-0.0308 * u - 0.0105) * u + 0.0512) * u + 0.0699
    return irradiance / jnp.pi


def _encode_srgb(linear: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
    """Linear light to sRGB, clipped to its range (IEC 61966-2-1)."""
    linear = jnp.clip(linear, 0.0, 1.0)
    curved = 1.055 * jnp.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.where(linear <= 0.0031308, 12.92 * linear, curved)
