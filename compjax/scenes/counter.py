"""Finds the objects in a picture, and matches them with the locations asked for.

The finder knows three things about CLEVR pictures taken without jitter: what the empty
scene looks like, that objects have one of eight paints on a grey ground, and how large
an object looks at each pixel, as it stands on the ground before a known camera.
Dividing the picture by the empty one leaves the paint: ground is grey and near 1, a
shadow is grey and somewhat darker, a grey object is darker still, and the other paints
have a hue that shadows, mixing with the ground and dim light do not change.  Objects
are then silhouettes of one paint and of a possible size, found largest first.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from compjax.scenes.camera import ASPECT, FOCAL_LENGTH, check_size
from compjax.scenes.placement import HALF_WIDTH
from compjax.scenes.scene import CAMERA, COLOR_RGB, SIZES

SILHOUETTES = ((1.0, 1.0, 2.0), (1.0, 1.35, 4.0), (1.25, 1.35, 3.0))
"""Half-width a, half-height b and exponent p of ``|x / a|^p + |y / b|^p <= 1``, in
units of the object's radius: about what a sphere, a cylinder and a cube look like."""

MARGIN = 1.2
"""An object found explains what looks like it in its silhouette, this much larger."""

SLACK = 0.3
"""How far outside CLEVR's square an object may stand, in world units."""

SMOOTHING = 0.5
"""Standard deviation, in pixels, of the blur that steadies noisy colours."""

SATURATION = 0.17
"""Paint whose channels differ by more than this part of the largest has a hue."""

DIM = 0.4
"""Paint darker than this, over the ground, needs the contrast of paint this bright."""

GREY = 0.57
"""Grey darker than this, over the ground, is grey paint; between it and 1, shadow."""

SHARE = 0.4
"""The part of a silhouette that must be seen, net of the ground it covers."""


def hit_radius(size: tuple[int, int]) -> float:
    """How far from a requested location an object may be and count as a hit.

    Args:
        size: height and width of the image, in pixels.

    Returns:
        6 pixels at a width of 128, scaled with the width.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Example:
        >>> hit_radius((64, 64))
        3.0
    """
    _, width = check_size(size)
    return 6.0 * width / 128.0


def match(
    found: Float[Array | np.ndarray, "m 2"],
    requested: Float[Array | np.ndarray, "k 2"],
    radius: float,
) -> Bool[np.ndarray, " k"]:
    """Which requested locations have an object of their own within the radius.

    Args:
        found: `[m, 2]` in pixels, as `find_objects` gives them.
        requested: `[k, 2]` in pixels.
        radius: in pixels, as `hit_radius` gives it.

    Returns:
        `[k]`, true for hits: the requests that occur in `pairs`.

    Raises:
        ValueError: if `radius` is not positive.

    Example:
        >>> found = np.array([[10.0, 10.0]])
        >>> match(found, np.array([[9.0, 10.0], [11.0, 10.0]]), 3.0).sum()
        np.int64(1)
    """
    hits = np.zeros(len(np.reshape(requested, (-1, 2))), bool)
    hits[pairs(found, requested, radius)[:, 1]] = True
    return hits


def pairs(
    found: Float[Array | np.ndarray, "m 2"],
    requested: Float[Array | np.ndarray, "k 2"],
    radius: float,
) -> Int[np.ndarray, "p 2"]:
    """Which object answers which request.

    One object answers one request; among all pairings it takes one with the most pairs
    within the radius, and among those the closest (Hungarian algorithm).

    Args:
        found: `[m, 2]` in pixels.
        requested: `[k, 2]` in pixels.
        radius: in pixels, as `hit_radius` gives it.

    Returns:
        `[p, 2]`, row by row the numbers of an object and of its request.

    Raises:
        ValueError: if `radius` is not positive.

    Example:
        >>> found = np.array([[10.0, 10.0], [30.0, 10.0]])
        >>> pairs(found, np.array([[29.0, 10.0], [50.0, 10.0]]), 3.0)
        array([[1, 0]])
    """
    from scipy.optimize import linear_sum_assignment

    if not radius > 0:
        raise ValueError(f"radius = {radius}: give a positive number of pixels.")
    found, requested = np.reshape(found, (-1, 2)), np.reshape(requested, (-1, 2))
    distance = np.linalg.norm(requested[:, None] - found[None], axis=-1)
    near = distance <= radius
    # One pair more is worth more than any shortening of the others.
    gain = near * (1.0 + len(requested) - distance / radius)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    kept = near[rows, columns]
    return np.stack([columns[kept], rows[kept]], axis=1)


def find_objects(
    image: Float[Array | np.ndarray, "_ _ 3"],
    background: Float[Array | np.ndarray, "_ _ 3"],
) -> Float[np.ndarray, "m 2"]:
    """Where the objects in a picture are.

    Made for pictures `render` draws of scenes without jitter, and for what a model of
    such pictures generates, from 32 pixels upwards.  Runs on the host.

    Args:
        image: `[h, w, 3]`, sRGB; values outside 0 to 1 are taken as the nearest.
        background: `[h, w, 3]`, `render` of the scene without objects.

    Returns:
        `[m, 2]`: x rightwards and y downwards in pixels, in the convention of
        `pixel_coords`; the largest visible first.

    Raises:
        ValueError: if the two images are not colour images of one shape.

    Example:
        >>> import jax
        >>> from compjax.scenes import first, pixel_coords, render, sample
        >>> scene = sample(jax.random.key(0), 1, 1, jitter=0.0)
        >>> draw = jax.jit(lambda scene: render(scene, (32, 32)))
        >>> image, background = draw(scene), draw(first(scene, 0))
        >>> found = find_objects(np.asarray(image), np.asarray(background))
        >>> wanted = np.asarray(pixel_coords(scene, (32, 32)))[:, :2]
        >>> match(found, wanted, hit_radius((32, 32)))
        array([ True])
    """
    image, background = np.asarray(image, float), np.asarray(background, float)
    if image.ndim != 3 or image.shape[-1] != 3 or image.shape != background.shape:
        raise ValueError(
            f"image has shape {image.shape} and background {background.shape}: give two"
            " images [h, w, 3] of one size."
        )
    layers, ground = _layers(image, background)
    centres, areas, discs, halos = _discs(image.shape[:2])
    found = []
    unexplained = np.ones(layers.shape)
    while True:
        # What a silhouette of one paint gains: its paint that is yet unexplained, minus
        # the ground it covers.  Other paints count nothing: they may stand in front.
        gains = discs @ (layers * unexplained) - (discs @ ground)[:, None]
        gains[gains < SHARE * areas[:, None]] = 0.0
        best, paint = np.unravel_index(np.argmax(gains), gains.shape)
        if gains[best, paint] == 0.0:
            return np.reshape(found, (-1, 2))
        found.append(centres[best])
        unexplained[:, paint] *= 1.0 - halos[best].toarray()[0]


def _layers(
    image: Float[np.ndarray, "h w 3"], background: Float[np.ndarray, "h w 3"]
) -> tuple[Float[np.ndarray, "p 8"], Float[np.ndarray, " p"]]:
    """How much each pixel looks like each of the eight paints, and like the ground."""
    from scipy.ndimage import gaussian_filter

    ratio = _decode_srgb(image) / np.maximum(_decode_srgb(background), 1e-3)
    ratio = gaussian_filter(ratio, (SMOOTHING, SMOOTHING, 0.0)).reshape(-1, 3)
    largest, smallest = ratio.max(axis=1), ratio.min(axis=1)
    saturation = (largest - smallest) / np.maximum(largest, DIM)
    colored = np.clip((saturation - SATURATION) / 0.1 + 0.5, 0.0, 1.0)
    brightness = ratio.mean(axis=1)
    dark = np.clip((GREY - brightness) / 0.1 + 0.5, 0.0, 1.0)
    # Each pixel goes to the paint of the nearest hue.
    away = np.abs(_hue(ratio)[:, None] - _hue(np.array(COLOR_RGB[1:]))[None])
    nearest = np.argmin(np.minimum(away, 2 * math.pi - away), axis=1)
    hued = np.eye(len(COLOR_RGB) - 1)[nearest] * colored[:, None]
    grey = (1.0 - colored) * dark
    ground = (1.0 - colored) * (1.0 - dark) * (brightness < 1.3)
    return np.concatenate([grey[:, None], hued], axis=1), ground


def _hue(rgb: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, " p"]:
    red, green, blue = rgb.T
    return np.arctan2(math.sqrt(3) / 2 * (green - blue), red - 0.5 * (green + blue))


def _decode_srgb(image: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 3"]:
    image = np.clip(image, 0.0, 1.0)
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


@functools.lru_cache(maxsize=8)
def _discs(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, Any, Any]:
    """Every silhouette an object can have: centres, areas, pixels, and pixels grown.

    An object of radius r whose centre appears at a pixel stands where the ray through
    that pixel meets the plane z = r; its depth there gives the size it appears in.
    """
    from scipy.sparse import csr_matrix, vstack

    height, width = size
    step = min(1.0, width / 64)
    x, y = np.meshgrid(
        np.arange(step / 2, width, step), np.arange(step / 2, height, step)
    )
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + 0.5
    camera = np.array(CAMERA)
    backward = camera / np.linalg.norm(camera)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right = right / np.linalg.norm(right)
    across = (x / width - 0.5) / FOCAL_LENGTH
    up = (0.5 - y / height) / (FOCAL_LENGTH * ASPECT)
    ray = (
        across[..., None] * right + up[..., None] * np.cross(backward, right) - backward
    )
    centres, discs, halos = [], [], []
    for radius in SIZES:
        depth = (radius - camera[2]) / ray[..., 2]
        stands = camera + depth[..., None] * ray
        possible = np.all(np.abs(stands[..., :2]) <= HALF_WIDTH + SLACK, axis=-1)
        possible &= depth > 0
        for a, b, power in SILHOUETTES:
            for cx, cy, z in zip(
                x[possible], y[possible], depth[possible], strict=True
            ):
                reach = radius * FOCAL_LENGTH / z
                half_width, half_height = a * reach * width, b * reach * ASPECT * height
                away = np.abs(pixels[..., 0] - cx) / half_width
                away = (
                    away**power + (np.abs(pixels[..., 1] - cy) / half_height) ** power
                )
                away = away ** (1 / power)
                # The edge is as soft as a pixel.
                edge = math.sqrt(half_width * half_height)
                disc, halo = (
                    np.clip((grown - away) * edge + 0.5, 0, 1)
                    for grown in (1.0, MARGIN)
                )
                discs.append(csr_matrix(disc.ravel()))
                halos.append(csr_matrix(halo.ravel()))
                centres.append((cx, cy))
    discs, halos = vstack(discs, format="csr"), vstack(halos, format="csr")
    return np.array(centres), np.asarray(discs.sum(axis=1)).ravel(), discs, halos
