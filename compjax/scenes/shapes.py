"""Rays against CLEVR's shapes: sphere, rounded cube, rounded cylinder, and the ground.

In a frame of its own, turned and scaled to radius one, each of the three bodies is
``f(p) <= 1`` for one convex function

    f(p) = sum_i q_i^e,   q_i = max(a_i - inner, 0) / (1 - inner),

where a is (|x|, |y|, |z|) for the cube (e = 3, inner = 0.75: exactly the vertices of
CLEVR's mesh) and for the sphere (e = 2, inner = 0), and (sqrt(x^2 + y^2), |z|) for the
cylinder (e = 4, inner = 0.9).  A convex function restricted to a ray is convex, so
Newton's method started outside approaches the first hit from outside and never
oversteps.  It starts at the sharp-edged hull of the body, where most rays have arrived.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from compjax.scenes.scene import COLOR_RGB, MATERIALS, SHAPES, Scene
from compjax.scenes.vectors import Scalars, Vec, dot, unit
from compjax.types import pytree

T = TypeVar("T")

CUBE_INNER = 0.75
CYLINDER_INNER = 0.9
NEWTON_STEPS = 3

FAR = 1e6
"""The distance of things a ray does not hit."""

SWEEP_AXIS = (-0.9032, 0.4292)
SWEEP_ORIGIN = -14.009
SWEEP_FOCUS = 11.24485
SWEEP_SCALE = 12.22569
SWEEP_END = 2.4
"""The studio's floor sweeps up into a wall: with ``s`` running along `SWEEP_AXIS` from
`SWEEP_ORIGIN` below the world's origin, its height is
``(SWEEP_SCALE / (SWEEP_FOCUS - s))**6``, fitted to the profile of CLEVR's mesh up to
`SWEEP_END`."""


@pytree
class Body:
    """One object, as numbers alone, or many in arrays that broadcast together.

    `cube`, `cylinder`, `metal` and `present` are 0 or 1.
    """

    centre: Vec
    cosine: Scalars
    sine: Scalars
    radius: Scalars
    cube: Scalars
    cylinder: Scalars
    color: Vec
    metal: Scalars
    present: Scalars


def bodies(scene: Scene) -> Body:
    """The objects of a scene, each leaf `[n]`.

    Example:
        >>> from compjax.scenes import sample
        >>> bodies(sample(jax.random.key(0), 2, 2)).radius.shape
        (2,)
    """
    color = jnp.array(COLOR_RGB)[scene.color]

    def flag(condition: Array) -> Array:
        return condition.astype(scene.xy.dtype)

    return Body(
        centre=Vec(scene.xy[:, 0], scene.xy[:, 1], scene.size),
        cosine=jnp.cos(scene.rotation),
        sine=jnp.sin(scene.rotation),
        radius=scene.size,
        cube=flag(scene.shape == SHAPES.index("cube")),
        cylinder=flag(scene.shape == SHAPES.index("cylinder")),
        color=Vec(color[:, 0], color[:, 1], color[:, 2]),
        metal=flag(scene.material == MATERIALS.index("metal")),
        present=flag(scene.present),
    )


def turn(body: Body, v: Vec) -> Vec:
    """A world vector in the body's axes, scaled so that the radius is one."""
    scale = 1.0 / body.radius
    return Vec(
        (body.cosine * v.x + body.sine * v.y) * scale,
        (body.cosine * v.y - body.sine * v.x) * scale,
        v.z * scale,
    )


def turn_back(body: Body, v: Vec) -> Vec:
    """A vector in the body's axes in the world's, its length unchanged."""
    return Vec(
        body.cosine * v.x - body.sine * v.y,
        body.sine * v.x + body.cosine * v.y,
        v.z,
    )


def hull(body: Body, p: Vec, d: Vec) -> tuple[Scalars, Scalars, Scalars]:
    """Where the ray `p + t d`, in the body's frame, is inside its sharp-edged hull.

    The hull of the cube is a box, that of the cylinder a sharp cylinder, that of the
    sphere the sphere: intersections of slabs and of the quadric
    ``x^2 + y^2 + s z^2 <= 1`` (s is 1 for the sphere, 0 for the cylinder).

    Returns:
        The t at which the ray enters and leaves, and how deep it passes below the
        surface, in world units: negative for rays that miss.
    """

    def slab(p: Scalars, d: Scalars) -> tuple[Scalars, Scalars]:
        inverse = 1.0 / jnp.where(jnp.abs(d) < 1e-6, 1e-6, d)
        half = jnp.abs(inverse)
        return -p * inverse - half, -p * inverse + half

    s = 1.0 - body.cylinder
    square = d.x * d.x + d.y * d.y + s * d.z * d.z + 1e-9
    nearest = -(p.x * d.x + p.y * d.y + s * p.z * d.z) / square
    x, y, z = p.x + nearest * d.x, p.y + nearest * d.y, p.z + nearest * d.z
    miss = x * x + y * y + s * z * z
    half = jnp.sqrt(jnp.maximum(1.0 - miss, 1e-9) / square)
    cubic = body.cube > 0.5
    x_in, x_out = slab(p.x, d.x)
    y_in, y_out = slab(p.y, d.y)
    z_in, z_out = slab(p.z, d.z)
    enter = jnp.where(cubic, jnp.maximum(x_in, y_in), nearest - half)
    leave = jnp.where(cubic, jnp.minimum(x_out, y_out), nearest + half)
    enter, leave = jnp.maximum(enter, z_in), jnp.minimum(leave, z_out)
    round_depth = body.radius * (1.0 - jnp.sqrt(miss + 1e-9))
    depth = jnp.where(cubic, FAR, round_depth)
    return enter, leave, jnp.minimum(depth, 0.5 * (leave - enter))


def implicit(body: Body, p: Vec) -> tuple[Scalars, Vec]:
    """The convex function whose unit level set is the surface, and its gradient."""
    cubic, sharp = body.cube > 0.5, body.cylinder > 0.5
    inner = CUBE_INNER * body.cube + CYLINDER_INNER * body.cylinder
    power = 2.0 + body.cube + 2.0 * body.cylinder
    scale = 1.0 / (1.0 - inner)

    def term(a: Scalars) -> tuple[Scalars, Scalars]:
        q = jnp.maximum(a - inner, 0.0) * scale
        rest = jnp.where(cubic, q, jnp.where(sharp, q * q, 1.0))
        return q * q * rest, power * scale * q * rest

    across = jnp.sqrt(p.x * p.x + p.y * p.y + 1e-12)
    value_x, slope_x = term(jnp.where(sharp, across, jnp.abs(p.x)))
    value_y, slope_y = term(jnp.where(sharp, 0.0, jnp.abs(p.y)))
    value_z, slope_z = term(jnp.abs(p.z))
    gradient = Vec(
        slope_x * jnp.where(sharp, p.x / across, jnp.sign(p.x)),
        jnp.where(sharp, slope_x * p.y / across, slope_y * jnp.sign(p.y)),
        slope_z * jnp.sign(p.z),
    )
    return value_x + value_y + value_z, gradient


def hit(body: Body, origin: Vec, direction: Vec) -> Scalars:
    """How far along each ray the body is first hit from outside; `FAR` if it is not."""
    p, d = turn(body, origin - body.centre), turn(body, direction)
    t, _, depth = hull(body, p, d)
    value = jnp.ones_like(t)
    for _ in range(NEWTON_STEPS):
        value, gradient = implicit(body, p + d * t)
        slope = dot(gradient, d)
        step = jnp.maximum(value - 1.0, 0.0) / jnp.maximum(-slope, 1e-3)
        t = t + jnp.minimum(step, 2.0 * body.radius)
    value, _ = implicit(body, p + d * t)
    # Rays past a rounded edge run away or converge slowly: they end above one.
    missed = (depth <= 0.0) | (value > 1.02) | (t < 1e-3) | (body.present < 0.5)
    return jnp.where(missed, FAR, t)


def normal(body: Body, point: Vec) -> Vec:
    """The outward unit normal of the body at a point of its surface."""
    _, gradient = implicit(body, turn(body, point - body.centre))
    return unit(turn_back(body, gradient))


def along_sweep(point: Vec) -> Scalars:
    """How far along the sheet's profile, away from the camera, a point is."""
    return SWEEP_ORIGIN + SWEEP_AXIS[0] * point.x + SWEEP_AXIS[1] * point.y


def sweep(point: Vec) -> tuple[Scalars, Scalars]:
    """The ground's height below or above a point, and its slope along the sweep."""
    along = along_sweep(point)
    reach = SWEEP_FOCUS - jnp.minimum(along, SWEEP_END)
    height = (SWEEP_SCALE / reach) ** 6
    return height, 6.0 * height / reach


def ground_hit(origin: Vec, direction: Vec) -> Scalars:
    """How far along each ray the ground is; `FAR` for rays that go up and away.

    The height of the ray above the ground is a concave function of t, so Newton's
    method started below the ground comes up to the hit and never oversteps.
    """
    rise = SWEEP_AXIS[0] * direction.x + SWEEP_AXIS[1] * direction.y
    start = SWEEP_ORIGIN + SWEEP_AXIS[0] * origin.x + SWEEP_AXIS[1] * origin.y
    floor = jnp.where(
        direction.z < -1e-4, origin.z / jnp.maximum(-direction.z, 1e-4), FAR
    )
    wall = jnp.where(rise > 1e-4, (SWEEP_END - start) / jnp.maximum(rise, 1e-4), FAR)
    t = jnp.minimum(floor, wall)
    hits = t < FAR
    t = jnp.where(hits, t, 0.0)
    for _ in range(NEWTON_STEPS):
        p = origin + direction * t
        height, slope = sweep(p)
        t = t + (p.z - height) / jnp.maximum(slope * rise - direction.z, 1e-4)
    return jnp.where(hits & (t > 0.0), t, FAR)


def ground_normal(point: Vec) -> Vec:
    """The upward unit normal of the ground."""
    _, slope = sweep(point)
    up = jnp.ones_like(slope)
    return unit(Vec(-SWEEP_AXIS[0] * slope, -SWEEP_AXIS[1] * slope, up))


def if_present(body: Body, change: Callable[[T], T], state: T) -> T:
    """`change(state)`, or `state` where the slot is empty: then nothing is computed.

    In a batch made by `jax.vmap` the change is computed all the same; `jax.lax.map`
    over scenes, the faster of the two on a CPU, saves the time.
    """
    return jax.lax.cond(body.present > 0.5, change, lambda state: state, state)


def pick(objects: T, index: Array) -> T:
    """What belongs to the object each ray hit: `[n]` leaves get the shape of `index`.

    A chain of selections, which XLA fuses into what follows; a gather would not be.
    Where `index` is no object's, the first one's.
    """

    def chain(leaf: Array) -> Array:
        picked = jnp.full(index.shape, leaf[0])
        for i in range(1, leaf.shape[0]):
            picked = jnp.where(index == i, leaf[i], picked)
        return picked

    return jax.tree.map(chain, objects)
