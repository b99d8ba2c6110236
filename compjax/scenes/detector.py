"""A trained detector: where the objects in a picture are, and what they look like.

It needs no picture of the empty scene: camera and lamps may stand
anywhere within CLEVR's jitter.  The network is `compjax.networks.HeatMap`, its weights
come with the package, and `experiments/scenes/train_detector.py` made them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from compjax.scenes.camera import check_size
from compjax.scenes.scene import SIZES
from compjax.types import concrete

SIDE = 128
"""Height and width in pixels of what the network sees; images are resized to it."""

MOST = 16
"""Candidates for objects an image is searched for; CLEVR's scenes hold at most 10."""

THRESHOLD = 0.41
"""Candidates that score more are objects: the value that maximised the share of exact
counts in validation renders, none of them in any test."""

BATCH = 32
"""Images the network sees at once, which bounds the memory a large batch takes."""

FARTHEST = 0.5
"""How far values may lie outside 0 to 1 before the image is taken for an error."""

WEIGHTS = Path(__file__).with_name("detector.npz")
"""The weights in float16, each under its path in the parameters."""


class Detections(NamedTuple):
    """Candidates for objects in each of b images, best first.

    Args:
        xy: `[b, m, 2]`, where their centres appear, in pixels of the image: x to the
            right and y down, in the convention of `pixel_coords`.
        score: `[b, m]`, from 0 to 1; descending.
        valid: `[b, m]`, whether the candidate counts as an object.  What is not valid
            says nothing, and is there so that shapes are fixed.
        color: `[b, m]`, index into `COLORS`.
        shape: `[b, m]`, index into `SHAPES`.
        size: `[b, m]`, radius in world units, one of `SIZES`.
        material: `[b, m]`, index into `MATERIALS`.
    """

    xy: Float[Array, "b m 2"]
    score: Float[Array, "b m"]
    valid: Bool[Array, "b m"]
    color: Int[Array, "b m"]
    shape: Int[Array, "b m"]
    size: Float[Array, "b m"]
    material: Int[Array, "b m"]


def detect(images: Any) -> Detections:
    """The objects in pictures of CLEVR scenes, rendered or generated.

    Pictures of any size and ratio are resized to 128 x 128 by averaging, or
    interpolated where they are smaller.  It is made for 32 pixels and more, and for
    objects of which CLEVR's rule holds: at least 200 pixels of 320 x 240 are visible.

    Args:
        images: `[b, h, w, 3]`, sRGB in [0, 1].  Values a little outside, as generated
            images have, are taken as the nearest; it may run inside `jax.jit`.

    Returns:
        Detections of 16 candidates an image, of which those that are `valid` count.
        Inside `jax.jit` an image that is not finite has none.

    Raises:
        ValueError: if this is no batch of colour images in floating point, or if values
            that can be looked at are not finite, or further than 0.5 outside [0, 1].

    Source: Zhou et al. 2019, "Objects as points" (1904.07850).

    Example:
        >>> from compjax.scenes import render, sample
        >>> image = jax.jit(lambda key: render(sample(key, 3, 3), (64, 64)))
        >>> found = detect(image(jax.random.key(2))[None])
        >>> found.xy.shape, int(found.valid.sum())
        ((1, 16, 2), 3)
    """
    images = _check(images)
    return _detect(_load(WEIGHTS), images)


def valid_xy(found: Detections) -> list[np.ndarray]:
    """Where the objects are, as a list of one array an image.

    Args:
        found: what `detect` returns.

    Returns:
        b arrays `[m_i, 2]` in pixels, as `match` and `compjax.analysis.tally` take.

    Example:
        >>> [xy.shape for xy in valid_xy(detect(np.full((2, 32, 32, 3), 0.5)))]
        [(0, 2), (0, 2)]
    """
    xy, valid = np.asarray(found.xy), np.asarray(found.valid)
    return [places[kept] for places, kept in zip(xy, valid, strict=True)]


def resize(
    images: Float[Array | np.ndarray, "b h w 3"], size: tuple[int, int]
) -> Float[Array, "b height width 3"]:
    """Pictures on another grid, along each axis by itself.

    Where the grid gets coarser each pixel is the average of the area it covers; where
    it gets finer, values are interpolated between the centres of pixels.

    Args:
        images: `[b, h, w, 3]`.
        size: height and width to resize to.

    Returns:
        `[b, *size, 3]`; a constant picture stays the same.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Example:
        >>> image = np.arange(12.0).reshape(1, 1, 4, 3)
        >>> resize(image, (1, 2))[0, 0, :, 0]
        Array([1.5, 7.5], dtype=float32)
    """
    height, width = check_size(size)
    down = jnp.asarray(resampling(images.shape[1], height))
    across = jnp.asarray(resampling(images.shape[2], width))
    precise = jax.lax.Precision.HIGHEST
    rows = jnp.einsum("ij,bjkc->bikc", down, images, precision=precise)
    return jnp.einsum("ij,bkjc->bkic", across, rows, precision=precise)


@functools.lru_cache(maxsize=64)
def resampling(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The matrix that takes a row of `old` pixels to one of `new`; see `resize`.

    Args:
        old: pixels there are.
        new: pixels there are to be.

    Example:
        >>> resampling(3, 2)
        array([[0.6666667 , 0.33333334, 0.        ],
               [0.        , 0.33333334, 0.6666667 ]], dtype=float32)
    """
    edges = np.arange(new + 1) * old / new
    if new <= old:
        cells = np.arange(old)
        low = np.maximum(edges[:-1, None], cells)
        high = np.minimum(edges[1:, None], cells + 1)
        return (np.maximum(high - low, 0) * new / old).astype(np.float32)
    centres = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, old - 1)
    return np.maximum(1 - np.abs(centres[:, None] - np.arange(old)), 0).astype(
        np.float32
    )


def decode(maps: Any, threshold: float = THRESHOLD) -> Detections:
    """The peaks of heat-maps, best first.

    A peak is a cell whose heat no neighbour exceeds.

    Args:
        maps: `compjax.networks.heatmap.Maps` of a batch of images.
        threshold: candidates that score more are valid.

    Returns:
        Detections, whose `xy` are fractions of the width and height.

    Example:
        >>> from compjax.networks.heatmap import Maps
        >>> heat = jnp.full((1, 8, 8), -5.0).at[0, 2, 4].set(5.0)
        >>> classes = jnp.zeros((1, 8, 8, 2))
        >>> found = decode(Maps(heat, classes, classes, classes, classes, classes))
        >>> found.xy[0, 0], int(found.valid.sum())
        (Array([0.5625, 0.3125], dtype=float32), 1)
    """
    b, height, width = maps.heat.shape
    highest = jax.lax.reduce_window(
        maps.heat, -jnp.inf, jax.lax.max, (1, 3, 3), (1, 1, 1), "SAME"
    )
    peaks = jnp.where(maps.heat >= highest, maps.heat, -jnp.inf)
    heat, cell = jax.lax.top_k(peaks.reshape(b, -1), MOST)

    def there(values: Array) -> Array:
        flat = values.reshape(b, height * width, -1)
        return jnp.take_along_axis(flat, cell[..., None], axis=1)

    corner = jnp.stack([cell % width, cell // width], axis=-1) + 0.5
    score = jax.nn.sigmoid(heat)
    best = lambda logits: jnp.argmax(there(logits), axis=-1)
    return Detections(
        xy=(corner + there(maps.offset)) / jnp.array([width, height])[None, None],
        score=score,
        valid=score > threshold,
        color=best(maps.color),
        shape=best(maps.shape),
        size=jnp.array(SIZES)[best(maps.size)],
        material=best(maps.material),
    )


@jax.jit
def _detect(params: Any, images: Float[Array, "b h w 3"]) -> Detections:
    from compjax.networks.heatmap import HeatMap

    module, params = HeatMap(), jax.tree.map(jnp.float32, params)
    height, width = images.shape[1:3]

    def one(image: Float[Array, "h w 3"]) -> Detections:
        seen = resize(jnp.clip(image, 0, 1)[None], (SIDE, SIDE))
        found = decode(module.apply({"params": params}, seen))
        return jax.tree.map(lambda x: x[0], found)

    found = jax.lax.map(one, images, batch_size=min(BATCH, max(len(images), 1)))
    return found._replace(xy=found.xy * jnp.array([width, height])[None, None])


@functools.lru_cache(maxsize=2)
def _load(file: Path) -> Any:
    """Parameters, from arrays named by their path, such as `stem/kernel`."""
    params: dict[str, Any] = {}
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            *path, last = name.split("/")
            inner = params
            for part in path:
                inner = inner.setdefault(part, {})
            inner[last] = arrays[name]
    return params


def _check(images: Any) -> Any:
    if not hasattr(images, "shape"):
        images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != 3 or not all(images.shape[1:]):
        raise ValueError(
            f"images has shape {images.shape}: give [b, h, w, 3], so a single image as"
            " image[None]."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images is of type {images.dtype}: give floating point in [0, 1], so bytes"
            " divided by 255."
        )
    values = concrete(images)
    if values is not None and values.size:
        low, high = values.min(), values.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError(
                "images has values that are not finite; find their source."
            )
        if low < -FARTHEST or high > 1 + FARTHEST:
            raise ValueError(
                f"images has values from {low:.3g} to {high:.3g}: give sRGB in [0, 1],"
                " clipped if a model made them."
            )
    return jnp.asarray(images, jnp.float32)
