"""Random scenes: CLEVR's placement rules, and scenes whose objects stand well apart."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from compjax.scenes.camera import project
from compjax.scenes.relations import DIRECTIONS
from compjax.scenes.scene import (
    CAMERA,
    COLORS,
    LAMP_POSITIONS,
    MATERIALS,
    MAX_OBJECTS,
    SHAPES,
    SIZES,
    Scene,
)
from compjax.types import Number, PRNGKey, as_float

HALF_WIDTH = 3.0
"""Objects stand within this distance of the origin, along x and along y."""

MIN_GAP = 0.25
"""Two objects are at least this far apart: between surfaces, not centres."""

MARGIN = 0.4
"""Two objects differ by this much left to right and front to back, so that no relation
between them is ambiguous."""

TRIES = 50
"""Places tried for one object before the whole set is given up."""

RESTARTS = 1000
"""Sets tried before the objects that do not fit are left out."""

CAMERA_JITTER = 0.5
LAMP_JITTER = 1.0


def sample(
    key: PRNGKey, min_objects: int, max_objects: int, jitter: Number = 1.0
) -> Scene:
    """A random scene, drawn as CLEVR draws it.

    The number of objects is uniform from `min_objects` to `max_objects`.  Each in turn
    gets a size and the first of 50 random places that keeps a gap of 0.25 to every
    earlier object and differs from it by 0.4 both left to right and front to back; if
    there is none, the whole set starts again.  Shape, colour, material and rotation are
    uniform.  CLEVR's last rule, 200 visible pixels an object, is `sample_visible`'s.

    CLEVR restarts for ever; here, after 1000 sets, the objects of the last one that
    found no place are left out (their `present` is False), so a count can in principle
    fall short.  One set of ten in eleven succeeds.

    Args:
        key: decides everything; the same key gives the same scene, alone or in a batch.
        min_objects: the fewest objects, at least 0.
        max_objects: the most, at most 10; the scene has `max(max_objects, 1)` slots.
        jitter: scales CLEVR's jitter of the camera (0.5 along each axis) and of the
            lamps (1.0); 0 keeps both in place.

    Returns:
        A Scene; objects fill its first slots.

    Raises:
        ValueError: unless ``0 <= min_objects <= max_objects <= 10``.

    Source: CLEVR, Johnson et al. 2017, generator defaults.

    Example:
        >>> scene = jax.vmap(lambda key: sample(key, 3, 10))(
        ...     jax.random.split(jax.random.key(0), 5)
        ... )
        >>> scene.xy.shape
        (5, 10, 2)
    """
    if not 0 <= min_objects <= max_objects <= MAX_OBJECTS:
        raise ValueError(
            f"min_objects = {min_objects}, max_objects = {max_objects}: give"
            f" 0 <= min_objects <= max_objects <= {MAX_OBJECTS}."
        )
    key_count, key = jax.random.split(key)
    extra = _index(jax.random.uniform(key_count), max_objects - min_objects + 1)
    count = min_objects + extra
    return _scene(key, count, max(max_objects, 1), jitter, jnp.float32(0.0))


def sample_apart(
    key: PRNGKey, objects: int, distance: Number, jitter: Number = 1.0
) -> Scene:
    """A random scene whose objects also stand well apart in the picture.

    As `sample`, with one rule more: the projected centres of any two objects are at
    least `distance` apart.  The rule is about pairs, so the first k objects of the
    scene satisfy it too: they are a request for k locations.

    Args:
        key: decides everything.
        objects: how many, from 1 to 10; also the number of slots.
        distance: the least distance of two centres in a *square* image, as a fraction
            of its width.  Six objects at 0.14 always fit in practice; where objects
            do not fit after 1000 sets they are left out (`present` is False).
        jitter: as for `sample`.

    Returns:
        A Scene.

    Raises:
        ValueError: unless ``1 <= objects <= 10``.

    Example:
        >>> scene = sample_apart(jax.random.key(0), 6, 0.14)
        >>> int(scene.present.sum())
        6
    """
    if not 1 <= objects <= MAX_OBJECTS:
        raise ValueError(f"objects = {objects}: give a number from 1 to {MAX_OBJECTS}.")
    distance = as_float(distance)
    return _scene(key, jnp.int32(objects), objects, jitter, distance)


def first(scene: Scene, objects: int | Int[Array, ""]) -> Scene:
    """The same scene with no more than its first `objects` objects.

    Args:
        scene: one scene (`jax.vmap` for a batch).
        objects: how many slots to keep; later ones are emptied, none is removed.

    Returns:
        A Scene with as many slots.

    Example:
        >>> scenes = jax.vmap(lambda key: sample(key, 6, 6))(
        ...     jax.random.split(jax.random.key(0), 7)
        ... )
        >>> jax.vmap(first)(scenes, jnp.arange(7)).present.sum(axis=1)
        Array([0, 1, 2, 3, 4, 5, 6], dtype=int32)
    """
    kept = jnp.arange(scene.present.shape[0]) < objects
    return dataclasses.replace(scene, present=scene.present & kept)


def rearrange(key: PRNGKey, scene: Scene) -> Scene:
    """A scene with as many objects, drawn anew, before the same camera and lamps.

    Args:
        key: decides the objects.
        scene: whose camera, lamps and number of objects are kept.

    Returns:
        A Scene with as many slots.

    Example:
        >>> old = sample(jax.random.key(0), 3, 3)
        >>> new = rearrange(jax.random.key(1), old)
        >>> bool((new.camera == old.camera).all()), bool((new.xy == old.xy).any())
        (True, False)
    """
    count, n = scene.present.sum(), scene.present.shape[0]
    return _arrange(key, count, n, scene.camera, scene.lamps, jnp.float32(0.0))


def _scene(
    key: PRNGKey,
    count: Int[Array, ""],
    n: int,
    jitter: Number,
    distance: Float[Array, ""],
) -> Scene:
    jitter = as_float(jitter)
    key_stage, key = jax.random.split(key)
    shift = jax.random.uniform(key_stage, (4, 3), minval=-1.0, maxval=1.0)
    camera = jnp.array(CAMERA) + jitter * CAMERA_JITTER * shift[0]
    lamps = jnp.array(LAMP_POSITIONS) + jitter * LAMP_JITTER * shift[1:]
    return _arrange(key, count, n, camera, lamps, distance)


def _arrange(
    key: PRNGKey,
    count: Int[Array, ""],
    n: int,
    camera: Float[Array, "3"],
    lamps: Float[Array, "3 3"],
    distance: Float[Array, ""],
) -> Scene:
    key_place, key_look = jax.random.split(key)
    xy, size, present = _place(key_place, count, n, camera, distance)
    look = jax.random.uniform(key_look, (4, n))
    return Scene(
        xy=xy,
        # CLEVR draws degrees and Blender reads them as radians: a uniform turn.
        rotation=2 * math.pi * look[0],
        size=size,
        shape=_index(look[1], len(SHAPES)),
        color=_index(look[2], len(COLORS)),
        material=_index(look[3], len(MATERIALS)),
        present=present,
        camera=camera,
        lamps=lamps,
    )


def _index(uniform: Float[Array, "*n"], count: int) -> Int[Array, "*n"]:
    """Numbers uniform on [0, 1) made indices uniform on 0, ..., count - 1."""
    return jnp.floor(uniform * count).astype(jnp.int32)


def _place(
    key: PRNGKey,
    count: Int[Array, ""],
    n: int,
    camera: Float[Array, "3"],
    distance: Float[Array, ""],
) -> tuple[Float[Array, "n 2"], Float[Array, " n"], Bool[Array, " n"]]:
    """Draws sets of places until one holds `count` objects, up to `RESTARTS` times."""
    wanted = jnp.arange(n) < count
    # A first object always fits where it falls, so one try is all it needs.
    tries = 1 if n == 1 else TRIES

    def one_set(key):
        key_size, key_xy = jax.random.split(key)
        size = jnp.array(SIZES)[_index(jax.random.uniform(key_size, (n,)), len(SIZES))]
        places = jax.random.uniform(
            key_xy, (n, tries, 2), minval=-HALF_WIDTH, maxval=HALF_WIDTH
        )

        def put(i, placed):
            xy, present = placed
            fits = _fits(places[i], size[i], xy, size, camera, distance)
            fits = (fits | ~present[None, :]).all(axis=1)
            xy = xy.at[i].set(places[i, jnp.argmax(fits)])
            return xy, present.at[i].set(wanted[i] & fits.any())

        nothing = jnp.zeros((n, 2)), jnp.zeros((n,), bool)
        xy, present = jax.lax.fori_loop(0, n, put, nothing)
        return xy, size, present

    if n == 1:
        return one_set(key)

    def unfinished(state):
        attempt, (_, _, present) = state
        return (attempt == 0) | ((attempt < RESTARTS) & (present != wanted).any())

    def again(state):
        attempt, _ = state
        return attempt + 1, one_set(jax.random.fold_in(key, attempt))

    nothing = jnp.zeros((n, 2)), jnp.zeros((n,)), jnp.zeros((n,), bool)
    return jax.lax.while_loop(unfinished, again, (jnp.int32(0), nothing))[1]


def _fits(
    places: Float[Array, "tries 2"],
    radius: Float[Array, ""],
    xy: Float[Array, "m 2"],
    size: Float[Array, " m"],
    camera: Float[Array, "3"],
    distance: Float[Array, ""],
) -> Bool[Array, "tries m"]:
    """Whether an object at each of the places goes together with each earlier one."""
    offset = places[:, None, :] - xy[None, :, :]
    gap = jnp.linalg.norm(offset, axis=-1) - radius - size[None, :]
    # Not a matrix product: some accelerators round those to ten bits.
    along = lambda axis: jnp.abs(offset[..., 0] * axis[0] + offset[..., 1] * axis[1])
    sideways, inward = along(DIRECTIONS["right"]), along(DIRECTIONS["behind"])
    here = _seen(places, jnp.full(places.shape[:1], radius), camera)
    there = _seen(xy, size, camera)
    seen = jnp.linalg.norm(here[:, None, :] - there[None, :, :], axis=-1)
    return (
        (gap >= MIN_GAP)
        & (sideways >= MARGIN)
        & (inward >= MARGIN)
        & (seen >= distance)
    )


def _seen(
    xy: Float[Array, "m 2"], size: Float[Array, " m"], camera: Float[Array, "3"]
) -> Float[Array, "m 2"]:
    """Projected centres, as fractions of the image."""
    return project(jnp.concatenate([xy, size[:, None]], axis=-1), camera)[:, :2]
