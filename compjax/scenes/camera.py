"""CLEVR's camera: from the world to pixels, and from pixels to rays.

Pixel coordinates are continuous: x runs right from 0 to the width, y down from 0 to
the height, and pixel `(i, j)` is the unit square whose centre is
``(j + 0.5, i + 0.5)``.  The frame is always CLEVR's, 4 wide and 3 high; `size` only
chooses how many pixels it is cut into, so a square image has pixels that are wider than
they are high, as when a CLEVR picture is resized to a square.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.scenes.scene import Scene
from compjax.scenes.vectors import Vec, cross, dot, unit, vec

FOCAL_LENGTH = 35 / 32
"""In units of the sensor's width: Blender's 35 mm lens over its 32 mm sensor."""

ASPECT = 4 / 3
"""Width over height of CLEVR's frame."""

UP = (0.0, 0.0, 1.0)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """`size` as it is, once it is known to be a height and a width in pixels.

    Raises:
        ValueError: if either is less than one.

    Example:
        >>> check_size((48, 64))
        (48, 64)
    """
    if len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"size = {size}: give (height, width), at least one pixel each."
        )
    return size


def camera_axes(position: Vec) -> tuple[Vec, Vec, Vec]:
    """The camera's axes right, up and backward; it looks at the origin, unrolled.

    Example:
        >>> right, up, backward = camera_axes(vec((0.0, -2.0, 0.0)))
        >>> float(right.x), float(up.z), float(backward.y)
        (1.0, 1.0, -1.0)
    """
    backward = unit(position)
    right = unit(cross(vec(UP), backward))
    return right, cross(backward, right), backward


def project(
    points: Float[Array, "n 3"], camera: Float[Array, "3"]
) -> Float[Array, "n 3"]:
    """Where points of the world appear: `(x, y, depth)`, x and y as fractions.

    With the camera's axes and the point seen from it, `(X, Y, -Z)` in them, and the
    focal length f in units of the frame's width, ``x = 1/2 + f X / Z`` from the left
    and ``y = 1/2 - (4/3) f Y / Z`` from the top; the frame is the unit square.

    Args:
        points: `[n, 3]` in world units.
        camera: `[3]`, where the camera stands, looking at the origin.

    Returns:
        `[n, 3]`: fractions of the width and height, and Z in world units.

    Source: CLEVR, Johnson et al. 2017, generator defaults (camera of base_scene).

    Example:
        >>> project(jnp.zeros((1, 3)), jnp.array([3.0, 0.0, 4.0]))
        Array([[0.5, 0.5, 5. ]], dtype=float32)
    """
    position = vec(camera)
    right, up, backward = camera_axes(position)
    ray = Vec(points[:, 0], points[:, 1], points[:, 2]) - position
    depth = -dot(ray, backward)
    x = 0.5 + FOCAL_LENGTH * dot(ray, right) / depth
    y = 0.5 - FOCAL_LENGTH * ASPECT * dot(ray, up) / depth
    return jnp.stack([x, y, depth], axis=-1)


def pixel_coords(scene: Scene, size: tuple[int, int]) -> Float[Array, "n 3"]:
    """Where the centre of every object slot appears in an image of this size.

    CLEVR's `pixel_coords`, but exact: not rounded to whole pixels.

    Args:
        scene: one scene (`jax.vmap` for a batch).
        size: height and width of the image, in pixels.

    Returns:
        `[n, 3]`: x in pixels rightwards, y in pixels downwards, and the depth along the
        viewing axis in world units; slots without an object have values too.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Source: CLEVR, Johnson et al. 2017, generator defaults.

    Example:
        >>> import jax
        >>> from compjax.scenes import sample
        >>> scene = sample(jax.random.key(0), 3, 3)
        >>> pixel_coords(scene, (64, 64)).shape
        (3, 3)
    """
    height, width = check_size(size)
    centres = jnp.concatenate([scene.xy, scene.size[:, None]], axis=-1)
    scale = jnp.array([width, height, 1.0])
    return project(centres, scene.camera) * scale[None, :]


def camera_rays(
    camera: Float[Array, "3"], size: tuple[int, int], supersample: int
) -> tuple[Vec, Vec]:
    """The rays through a grid of `supersample**2` points in every pixel.

    Returns:
        The rays' common origin, and their unit directions, each component
        `[supersample**2, height, width]`.

    Example:
        >>> origin, direction = camera_rays(jnp.array([3.0, 0.0, 4.0]), (2, 4), 2)
        >>> direction.x.shape
        (4, 2, 4)
    """
    height, width = size
    origin = vec(camera)
    right, up, backward = camera_axes(origin)
    inside = (jnp.arange(supersample) + 0.5) / supersample
    across = (jnp.arange(width)[None, :] + inside[:, None]) / width
    down = (jnp.arange(height)[None, :] + inside[:, None]) / height
    x = ((across - 0.5) / FOCAL_LENGTH)[None, :, None, :]
    y = ((0.5 - down) / (FOCAL_LENGTH * ASPECT))[:, None, :, None]

    def component(right: Array, up: Array, backward: Array) -> Array:
        return (right * x + up * y - backward).reshape(-1, height, width)

    direction = Vec(
        component(right.x, up.x, backward.x),
        component(right.y, up.y, backward.y),
        component(right.z, up.z, backward.z),
    )
    return origin, unit(direction)
