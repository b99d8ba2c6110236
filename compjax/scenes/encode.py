"""What a network is told of a scene: conditions, all made through one interface.

An encoding is a pure function `(values, told) -> condition`.  Row i of `values` says
something of each of k objects of example i, its location or its colour, and `told`
which of the k are mentioned; so one function encodes no object, one, or a set.  In
every condition the last channel means *unknown*: it is 0 in an encoding and in `empty`,
which says that there is nothing, and 1 in `null`, which says nothing.

*Empty* and *null* are different conditions, and composition needs the former: `compose`
divides by the density of its background, and Bradley et al. (2025) obtain length
generalisation with the background "there is no object", not with "an image of any
kind", which already holds objects of its own.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.scenes.camera import check_size
from compjax.scenes.scene import COLORS
from compjax.types import concrete

Told = Any
"""`[b, k]`, which of the k objects are mentioned; all of them if None.  Where none is,
the condition is `empty`: there is nothing.  Only `null` says that nothing is known."""


def location(xy: Any, told: Told = None, frequencies: int = 32) -> Float[Array, "b d"]:
    r"""Where objects are, as a vector: Fourier features of their coordinates, summed.

    With the coordinate $u \in [-1, 1]$ across the frame, the features along an axis are
    $\sin(\pi m u / 2)$ and $\cos(\pi m u / 2)$ for m = 1, ..., `frequencies`; those of
    one object are scaled to norm 1, as a one-hot label has.

    Args:
        xy: `[b, k, 2]`, fractions of the frame, x rightwards and y downwards:
            `pixel_coords` divided by width and height.
        told: `[b, k]`, which of them are mentioned.
        frequencies: how many along each axis; 32 tell places 1/32 of the frame apart.

    Returns:
        `[b, 4 * frequencies + 1]`.

    Raises:
        ValueError: if shapes do not fit, a told place is outside the frame, or
            `frequencies` is below 1.

    Source: the papers do not say how locations enter the network; this choice is ours.

    Example:
        >>> condition = location(jnp.array([[[0.5, 0.5]]]))
        >>> condition.shape, round(float(jnp.linalg.norm(condition)), 4)
        ((1, 129), 1.0)
    """
    if frequencies < 1:
        raise ValueError(f"frequencies = {frequencies}: give at least 1.")
    xy, told = _places(xy, told)
    m = jnp.arange(1, frequencies + 1)
    angle = jnp.pi / 2 * jnp.einsum("bkc,m->bkcm", 2 * xy - 1, m)
    waves = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    waves = waves.reshape(*waves.shape[:2], -1) / jnp.sqrt(2.0 * frequencies)
    return _with_known((waves * told[..., None]).sum(axis=1))


def locations(
    xy: Any, told: Told = None, grid: tuple[int, int] = (16, 16)
) -> Float[Array, "b rows columns 2"]:
    """Where objects are, as a grid over the frame: 1 in cells that hold a told object.

    Args:
        xy: `[b, k, 2]`, fractions of the frame, as for `location`.
        told: `[b, k]`, which of them are mentioned.
        grid: rows and columns.

    Returns:
        `[b, rows, columns, 2]`; `reshape(b, -1)` makes a label vector of it.

    Raises:
        ValueError: if shapes do not fit, a told place is outside the frame, or `grid`
            is not two positive numbers.

    Source: the papers do not say how locations enter the network; this choice is ours.

    Example:
        >>> two = jnp.array([[[0.1, 0.1], [0.6, 0.1]]])
        >>> locations(two, grid=(2, 2))[0, :, :, 0]
        Array([[1., 1.],
               [0., 0.]], dtype=float32)
    """
    rows, columns = check_size(grid)
    xy, told = _places(xy, told)
    # The last cell holds its far edge too; places outside are in no cell.
    cells = jnp.array([columns, rows])[None, None]
    column, row = jnp.moveaxis(jnp.floor(xy * cells) - (xy == 1), -1, 0)
    across = _one_hot(column, columns)
    down = _one_hot(row, rows) & told[..., None]
    inside = across[:, :, None, :] & down[:, :, :, None]
    return _with_known(inside.any(axis=1)[..., None].astype(xy.dtype))


def bumps(
    xy: Any, told: Told = None, size: tuple[int, int] = (64, 64), width: float = 1 / 32
) -> Float[Array, "b h w 2"]:
    """Where objects are, as an image: a Gaussian bump over each told place.

    Args:
        xy: `[b, k, 2]`, fractions of the frame, as for `location`.
        told: `[b, k]`, which of them are mentioned.
        size: height and width of the image, in pixels.
        width: standard deviation of a bump as a fraction of the image, along each
            axis: 2 pixels in 64.

    Returns:
        `[b, h, w, 2]`; channel 0 would be 1 at the places themselves and is sampled at
        the pixels' centres; of bumps that overlap the higher counts.

    Raises:
        ValueError: if shapes do not fit, a told place is outside the frame, `size` is
            not two positive numbers or `width` is not positive.

    Example:
        >>> condition = bumps(jnp.array([[[10.5 / 32, 3.5 / 32]]]), size=(32, 32))
        >>> float(condition[0, 3, 10, 0]), float(condition[..., 1].max())
        (1.0, 0.0)
    """
    height, across = check_size(size)
    if not width > 0:
        raise ValueError(f"width = {width}: give a positive fraction of the image.")
    xy, told = _places(xy, told)
    columns = ((jnp.arange(across) + 0.5) / across)[None, None] - xy[..., :1]
    rows = ((jnp.arange(height) + 0.5) / height)[None, None] - xy[..., 1:]
    along_x = jnp.exp(-0.5 * (columns / width) ** 2)
    along_y = jnp.exp(-0.5 * (rows / width) ** 2) * told[..., None]
    bump = along_y[:, :, :, None] * along_x[:, :, None, :]
    return _with_known(bump.max(axis=1, initial=0.0)[..., None])


def colors(color: Any, told: Told = None) -> Float[Array, "b d"]:
    """The set of the objects' colours: 1 for each that a told object has.

    Told one object it is the one-hot encoding of its colour.

    Args:
        color: `[b, k]`, indices into `COLORS`.
        told: `[b, k]`, which of them are mentioned.

    Returns:
        `[b, 9]`: eight colours, and the channel of `null`.

    Raises:
        ValueError: if shapes do not fit or a told colour is not an index.

    Example:
        >>> colors(jnp.array([[1, 1, 7]]))
        Array([[0., 1., 0., 0., 0., 0., 0., 1., 0.]], dtype=float32)
    """
    if not isinstance(color, jax.Array) and np.asarray(color).dtype.kind in "US":
        raise ValueError("color holds names; give indices, as COLORS.index('red').")
    color = jnp.asarray(color, jnp.int32)
    if color.ndim != 2:
        raise ValueError(f"color has shape {color.shape}; give [b, k] indices.")
    told = _told(told, color.shape)
    known, mentioned = concrete(color), concrete(told)
    if known is not None and mentioned is not None:
        wrong = known[mentioned & ((known < 0) | (known >= len(COLORS)))]
        if wrong.size:
            raise ValueError(
                f"color = {wrong[0]} is no index into COLORS; give 0 to"
                f" {len(COLORS) - 1}: {', '.join(COLORS)}."
            )
    has = _one_hot(color, len(COLORS)) & told[..., None]
    return _with_known(has.any(axis=1).astype(jnp.result_type(float)))


def empty(like: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    """The condition "there is nothing", shaped as the condition `like`: all zeros.

    It is a statement about the scene, unlike `null`: the background against which
    locations and colours compose is the distribution of pictures *without* objects.

    Example:
        >>> float(empty(colors(jnp.array([[1]]))).max())
        0.0
    """
    return jnp.zeros_like(like)


def null(like: Float[Array | np.ndarray, "..."]) -> Float[Array, "..."]:
    """The condition "nothing is said", shaped as `like`: one in the last channel only.

    It leaves the scene open, unlike `empty`: where only scenes of one object lose their
    label in training, it means one object, somewhere.  Composing over it is the Bayes
    composition, which fails.

    Example:
        >>> null(colors(jnp.array([[1]])))
        Array([[0., 0., 0., 0., 0., 0., 0., 0., 1.]], dtype=float32)
    """
    return jnp.zeros_like(like).at[..., -1].set(1.0)


def _places(xy: Any, told: Told) -> tuple[Array, Array]:
    xy = jnp.asarray(xy, jnp.result_type(float))
    if xy.ndim != 3 or xy.shape[-1] != 2:
        raise ValueError(
            f"xy has shape {xy.shape}; give [b, k, 2]: k places for each of b examples."
        )
    told = _told(told, xy.shape[:2])
    known, mentioned = concrete(xy), concrete(told)
    if known is not None and mentioned is not None:
        outside = ~((known >= 0) & (known <= 1)).all(axis=-1) & mentioned
        if outside.any():
            raise ValueError(
                f"xy = {known[outside][0]} is outside the frame; give fractions from 0"
                " to 1: pixel coordinates divided by width and height."
            )
    return xy, told


def _told(told: Told, shape: tuple[int, ...]) -> Array:
    if told is None:
        return jnp.ones(shape, bool)
    told = jnp.asarray(told, bool)
    if told.shape != shape:
        raise ValueError(f"told has shape {told.shape}; give {shape}, as the values.")
    return told


def _one_hot(index: Array, count: int) -> Array:
    return index[..., None] == jnp.arange(count)[None, None]


def _with_known(said: Float[Array, "b *d"]) -> Float[Array, "b *d_"]:
    return jnp.concatenate([said, jnp.zeros_like(said[..., :1])], axis=-1)
