"""CLEVR's camera: from the world to pixels, and from pixels to rays.

Pixel coordinates are continuous: x runs right from 0 to the width, y down from 0 to
the height, and pixel `(i, j)` is the unit square whose centre is
``(j + 0.5, i + 0.5)``.  The frame is always CLEVR's, 4 wide and 3 high; `size` only
chooses how many pixels it is cut into, so a square image has pixels that are wider than
they are high, as when a CLEVR picture is resized to a square.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scenes.scene import CAMERA, MAX_OBJECTS, Scene, check_single
from compjax.scenes.vectors import Vec, cross, dot, unit, vec

FOCAL_LENGTH = 35 / 32
"""In units of the sensor's width: Blender's 35 mm lens over its 32 mm sensor."""

ASPECT = 4 / 3
"""Width over height of CLEVR's frame."""

UP = (0.0, 0.0, 1.0)

EXPECTED = np.array([[0.3, 0.3, 1e-5]])
"""Errors of CLEVR's pixel coordinates: rounded to pixels, and the depth in float32."""

CAMERA_SPREAD = 0.3
"""Standard deviation of CLEVR's camera along each axis, in world units."""


def check_size(size: Any) -> tuple[int, int]:
    """`size` as it is, once it is known to be a height and a width in pixels.

    Raises:
        ValueError: if either is less than one.

    Example:
        >>> check_size((48, 64))
        (48, 64)
    """
    if np.ndim(size) != 1 or len(size) != 2 or min(size) < 1:
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
    points: Float[Array | np.ndarray, "n 3"], camera: Float[Array | np.ndarray, "3"]
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
    position, points = vec(camera), jnp.asarray(points)
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
        ValueError: if `size` is not two positive numbers, or the scene is a batch.

    Source: CLEVR, Johnson et al. 2017, generator defaults.

    Example:
        >>> import jax
        >>> from compjax.scenes import sample
        >>> scene = sample(jax.random.key(0), 3, 3)
        >>> pixel_coords(scene, (64, 64)).shape
        (3, 3)
    """
    height, width = check_size(size)
    check_single(scene)
    centres = jnp.concatenate([scene.xy, scene.size[:, None]], axis=-1)
    scale = jnp.array([width, height, 1.0])
    return project(centres, scene.camera) * scale[None, :]


def solve_camera(
    points: Any, pixels: Any, size: tuple[int, int]
) -> tuple[Float[np.ndarray, "3"], float]:
    """Where the camera stood, from where it saw points of the world.

    The least-squares solution of `project`, in float64.  CLEVR stores pixels rounded
    but depths exactly, so three objects or more determine the camera to far below
    rounding; where one or two leave it open, the nearest to CLEVR's own is taken, in
    units of its jitter.

    Args:
        points: `[n, 3]` in world units.
        pixels: `[n, 3]`: x and y in pixels and the depth, as `pixel_coords`.
        size: height and width of the frame that the pixels count in; unlike
            `pixel_coords` this takes the frame to have square pixels, whatever its
            ratio, as the released dataset's 480 x 320.

    Returns:
        The camera's position `[3]`, and the root mean square of the pixels' errors,
        about 0.4 where all is well: rounding both coordinates.

    Raises:
        ValueError: if the two do not have one shape `[n, 3]` with n from 1 to 10.

    Example:
        >>> points = np.array([[1.0, 2.0, 0.7], [-2.0, 0.0, 0.35], [2.0, -2.0, 0.7]])
        >>> seen = project(jnp.asarray(points), jnp.array([7.0, -6.0, 5.0]))
        >>> pixels = np.asarray(seen) * [320, 240, 1]
        >>> solve_camera(points, pixels, (240, 320))[0].round(3)
        array([ 7., -6.,  5.])
    """
    from scipy.optimize import least_squares

    points, pixels = np.asarray(points, float), np.asarray(pixels, float)
    n = len(points)
    if points.shape != (n, 3) or pixels.shape != (n, 3) or not 1 <= n <= MAX_OBJECTS:
        raise ValueError(
            f"points has shape {points.shape} and pixels {pixels.shape}: give [n, 3],"
            f" 1 to {MAX_OBJECTS} points each."
        )
    height, width = check_size(size)
    # Repeated points, that one program serves every number of them.
    rows = np.arange(MAX_OBJECTS) % n
    scale = np.array([[width, width / ASPECT, 1.0]])
    shift = np.array([[0.0, (height - width / ASPECT) / 2, 0.0]])
    with jax.enable_x64(True):
        told = (points[rows], pixels[rows], scale, shift)
        # SciPy's annotations know the names of its own slopes only.
        slope: Any = lambda camera: np.asarray(_misfit_slope(camera, *told))
        misfit = lambda camera: np.asarray(_misfit(camera, *told))
        solution = least_squares(misfit, CAMERA, slope)
        seen = np.asarray(project(points, solution.x)) * scale + shift
    away = seen[:, :2] - pixels[:, :2]
    return solution.x, float(np.sqrt((away**2).sum(axis=1).mean()))


@jax.jit
def _misfit(camera: Array, points: Array, pixels: Array, scale: Array, shift: Array):
    """Residuals in units of what is to be expected of each, and of the camera."""
    away = (project(points, camera) * scale + shift - pixels) / EXPECTED
    return jnp.concatenate([away.ravel(), (camera - jnp.array(CAMERA)) / CAMERA_SPREAD])


_misfit_slope = jax.jit(jax.jacfwd(_misfit))


def camera_rays(
    camera: Float[Array | np.ndarray, "3"],
    size: tuple[int, int],
    inside: Float[Array | np.ndarray, "m 2"],
) -> tuple[Vec, Vec]:
    """The rays through m points of every pixel, each a part of its width and height.

    Returns:
        The rays' common origin, and their unit directions, each component
        `[m, height, width]`.

    Example:
        >>> middle = jnp.array([[0.5, 0.5]])
        >>> origin, direction = camera_rays(jnp.array([3.0, 0.0, 4.0]), (2, 4), middle)
        >>> direction.x.shape
        (1, 2, 4)
    """
    height, width = size
    origin = vec(camera)
    right, up, backward = camera_axes(origin)
    across = (jnp.arange(width)[None] + inside[:, :1]) / width
    down = (jnp.arange(height)[None] + inside[:, 1:]) / height
    x = ((across - 0.5) / FOCAL_LENGTH)[:, None, :]
    y = ((0.5 - down) / (FOCAL_LENGTH * ASPECT))[:, :, None]
    return origin, unit(right * x + up * y - backward)
