"""Which object each pixel shows, and scenes in which every object can be seen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from compjax.scenes.camera import camera_rays, check_size
from compjax.scenes.placement import rearrange, sample
from compjax.scenes.scene import Scene, check_single
from compjax.scenes.shapes import bodies
from compjax.scenes.tracer import nearest
from compjax.types import Number, PRNGKey

RULE_SIZE = (240, 320)
"""Height and width of the picture in which CLEVR counts an object's pixels."""

MIN_PIXELS = 200
"""Pixels in it that must show each object, and the ground."""

RESTARTS = 1000
"""Sets of objects tried before one is taken although something in it is hidden."""


def object_map(scene: Scene, size: tuple[int, int] = RULE_SIZE) -> Int[Array, "h w"]:
    """Which object the middle of each pixel shows.

    Args:
        scene: one scene (`jax.vmap` for a batch).
        size: height and width in pixels.

    Returns:
        `[h, w]`: the object's slot, or the number of slots where there is none.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Example:
        >>> scene = sample(jax.random.key(0), 2, 2)
        >>> sorted(set(np.asarray(object_map(scene, (24, 32))).ravel().tolist()))
        [0, 1, 2]
    """
    middle = np.full((1, 2), 0.5, np.float32)
    origin, direction = camera_rays(scene.camera, check_size(size), middle)
    _, index = nearest(bodies(check_single(scene)), origin, direction)
    return jnp.minimum(index[0], scene.present.shape[0])


def visible_pixels(scene: Scene, size: tuple[int, int] = RULE_SIZE) -> Int[Array, " n"]:
    """How many pixels show each object, with what stands before it taken away.

    Args:
        scene: one scene (`jax.vmap` for a batch).
        size: height and width of the picture; CLEVR's rule counts in 320 x 240.

    Returns:
        `[n]`, 0 in slots without an object.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Source: CLEVR, Johnson et al. 2017, the generator's visibility check.

    Example:
        >>> visible_pixels(sample(jax.random.key(0), 1, 1)) > 200
        Array([ True], dtype=bool)
    """
    n = scene.present.shape[0]
    return jnp.bincount(object_map(scene, size).ravel(), length=n + 1)[:n]


def sample_visible(
    key: PRNGKey, min_objects: int, max_objects: int, jitter: Number = 1.0
) -> Scene:
    """A random scene drawn as CLEVR draws it, with its last rule: nothing is hidden.

    As `sample`; where an object, or the ground, shows on fewer than 200 pixels of 320 x
    240, all objects are drawn anew before the same camera and under the same lamps, as
    many as before.  After 1000 sets the last is taken as it is.

    Counting the pixels costs about what a fast picture costs: draw single scenes in
    `jax.lax.map` rather than batches in `jax.vmap`, where all wait for the last.

    Args:
        key: decides everything.
        min_objects: the fewest objects, at least 0.
        max_objects: the most, at most 10.
        jitter: as for `sample`.

    Returns:
        A Scene; objects fill its first slots.

    Raises:
        ValueError: unless ``0 <= min_objects <= max_objects <= 10``.

    Source: CLEVR, Johnson et al. 2017, generator defaults.

    Example:
        >>> scene = sample_visible(jax.random.key(0), 5, 5)
        >>> bool((visible_pixels(scene) >= 200).all())
        True
    """
    key_again, key = jax.random.split(key)
    scene = sample(key, min_objects, max_objects, jitter)

    def hidden(state: tuple[Array, Scene]) -> Array:
        attempt, scene = state
        return (attempt < RESTARTS) & ~everything_shows(scene)

    def again(state: tuple[Array, Scene]) -> tuple[Array, Scene]:
        attempt, scene = state
        return attempt + 1, rearrange(jax.random.fold_in(key_again, attempt), scene)

    return jax.lax.while_loop(hidden, again, (jnp.int32(0), scene))[1]


def everything_shows(scene: Scene) -> Array:
    """Whether each object, and the ground, has the 200 pixels that CLEVR asks for.

    Example:
        >>> bool(everything_shows(sample(jax.random.key(0), 1, 1)))
        True
    """
    count = visible_pixels(scene)
    height, width = RULE_SIZE
    ground = height * width - count.sum() >= MIN_PIXELS
    return ground & ((count >= MIN_PIXELS) | ~scene.present).all()
