"""Square windows on images: their sums, and sides that depend on the noise level."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from compjax.types import Number, Sigma, align, as_float, whole

Window = int | tuple[tuple[Number, int], ...]
"""A side in pixels; or `((0.0, side), (sigma, side), ...)`, each from its level up."""


def as_window(window: Any, parity: int | None = 1) -> Window:
    """A side, or a schedule of sides, after a check.

    Args:
        window: A side in pixels; or a schedule, a sequence of `(sigma, side)` with
            rising sigma that begins at 0, each side being that from its level up.
        parity: 1 if sides must be odd, because windows have a pixel at their centre;
            None if they may be anything.

    Raises:
        ValueError: If a side is not positive, or even where it must be odd, or a
            schedule does not begin at 0 and rise.

    Example:
        >>> as_window([(0, 3), (2, 7)])
        ((0.0, 3), (2.0, 7))
        >>> as_window(4)
        Traceback (most recent call last):
        ...
        ValueError: A window has a pixel at its centre: its side must be odd, got 4.
    """
    if np.ndim(window) == 0:
        return _as_side(window, parity)
    if np.ndim(window) != 2 or np.shape(window)[1] != 2:
        raise ValueError(
            f"A window is a side, or a sequence of (sigma, side), got {window}."
        )
    starts = [float(start) for start, _ in window]
    if starts[0] != 0 or not (np.diff(starts) > 0).all():
        raise ValueError(
            f"A schedule of windows begins at sigma = 0 and rises, got {starts}."
        )
    sides = [_as_side(side, parity) for _, side in window]
    return tuple(zip(starts, sides, strict=True))


def _as_side(side: Any, parity: int | None) -> int:
    side = whole("a window's side", side)
    if parity is not None and side % 2 != parity:
        raise ValueError(
            f"A window has a pixel at its centre: its side must be odd, got {side}."
        )
    return side


def sides_of(window: Window) -> tuple[int, ...]:
    """Every side that occurs.

    Example:
        >>> sides_of(((0.0, 3), (2.0, 7)))
        (3, 7)
    """
    return (window,) if isinstance(window, int) else tuple(side for _, side in window)


def at_window(
    window: Window, fn: Callable[..., Array], sigma: Array, *arrays: Array
) -> Array:
    """`fn(side, sigma, *arrays)` with the side that a noise level calls for.

    Sides are shapes, so every side of a schedule is compiled; one of them runs, or all
    of them where every sample has a noise level of its own.

    Args:
        window: As `as_window` returns it.
        fn: `(side, sigma, *arrays) -> [b, ...]`.
        sigma: `[]` or `[b]`.
        arrays: Each `[b, ...]`.

    Example:
        >>> schedule = ((0.0, 3), (2.0, 7))
        >>> area = lambda side, sigma, x: side**2 * x
        >>> at_window(schedule, area, jnp.array([1.0, 5.0]), jnp.ones(2))
        Array([ 9., 49.], dtype=float32)
    """
    if isinstance(window, int):
        return fn(window, sigma, *arrays)
    if sigma.ndim:
        one = lambda *a: at_window(window, fn, a[0], *(v[None] for v in a[1:]))[0]
        return jax.vmap(one)(sigma, *arrays)
    starts = as_float([start for start, _ in window])
    which = (sigma >= starts).sum() - 1
    branches = [partial(fn, side) for _, side in window]
    return jax.lax.switch(which, branches, sigma, *arrays)


def box_sum(values: Float[Array, "*n h w"], sides: tuple[int, int]) -> Array:
    """Sums over all windows that lie in the image, `[*n, h - p + 1, w - q + 1]`.

    Rows, then columns, each as p shifted copies: differences of running sums would be
    of the same cost, but lose digits where a window holds little of the image's total.

    Args:
        values: `[*n, h, w]`.
        sides: p, q, rows and columns of a window.

    Example:
        >>> box_sum(jnp.ones((3, 3)), (2, 3))
        Array([[6.],
               [6.]], dtype=float32)
    """
    for axis, side in zip((values.ndim - 2, values.ndim - 1), sides, strict=True):
        stop = values.shape[axis] - side + 1
        cut = partial(jax.lax.slice_in_dim, values, axis=axis)
        total = cut(0, stop)
        for offset in range(1, side):
            total = total + cut(offset, offset + stop)
        values = total
    return values


def centred_sum(values: Float[Array, "*n h w"], side: int) -> Float[Array, "*n h w"]:
    """Sums over the window around every pixel, cut where the image ends.

    Args:
        values: `[*n, h, w]`.
        side: Of the windows, odd.

    Example:
        >>> centred_sum(jnp.ones((3, 3)), 3)
        Array([[4., 6., 4.],
               [6., 9., 6.],
               [4., 6., 4.]], dtype=float32)
    """
    reach = [min(side // 2, n - 1) for n in values.shape[-2:]]
    return _padded_sum(values, reach, "constant")


def circular_sum(values: Float[Array, "*n h w"], side: int) -> Float[Array, "*n h w"]:
    """Sums over the window around every pixel of an image that has no ends.

    Args:
        values: `[*n, h, w]`.
        side: Of the windows, odd, at most that of the image.

    Example:
        >>> circular_sum(jnp.eye(3), 3)[0]
        Array([3., 3., 3.], dtype=float32)
    """
    return _padded_sum(values, [side // 2] * 2, "wrap")


def _padded_sum(values: Array, reach: list[int], mode: str) -> Array:
    pads = [(0, 0)] * (values.ndim - 2) + [(r, r) for r in reach]
    padded = jnp.pad(values, pads, mode=mode)
    return box_sum(padded, (2 * reach[0] + 1, 2 * reach[1] + 1))


def covering_sum(values: Float[Array, "*n p q"], sides: tuple[int, int]) -> Array:
    """For every pixel the sum over the windows that hold it: `box_sum` transposed.

    Args:
        values: One for every window that lies in the image, `[*n, p, q]`.
        sides: Rows and columns of a window.

    Example:
        >>> covering_sum(jnp.ones((1, 2)), (1, 2))
        Array([[1., 2., 1.]], dtype=float32)
    """
    pads = [(0, 0)] * (values.ndim - 2) + [(side - 1, side - 1) for side in sides]
    return box_sum(jnp.pad(values, pads), sides)


def as_images(data: Any) -> Array:
    """Images as floats, after a check that they are `[N, h, w, c]` with N at least 1.

    Example:
        >>> as_images(np.zeros((2, 3)))
        Traceback (most recent call last):
        ...
        ValueError: data must be images [N, h, w, c], and some, got (2, 3).
    """
    data = as_float(data)
    if data.ndim != 4 or not data.size:
        raise ValueError(
            f"data must be images [N, h, w, c], and some, got {data.shape}."
        )
    return data


def check_images(x: Array, sigma: Sigma, data: Array) -> None:
    """Raises a ValueError unless x is images as in the data, and sigma fits them.

    Example:
        >>> check_images(jnp.ones((1, 2, 2, 1)), 1.0, jnp.ones((5, 2, 2, 1)))
    """
    if x.shape[1:] != data.shape[1:]:
        h, w, c = data.shape[1:]
        raise ValueError(f"x must be [b, {h}, {w}, {c}], got {x.shape}.")
    align(sigma, x)


def squares(x: Float[Array, "b *k c"], images: Float[Array, "n *k c"]) -> Array:
    """Squared distances of pixels, summed over channels, `[b, n, *k]`.

    Example:
        >>> squares(jnp.ones((1, 1, 1, 2)), jnp.zeros((1, 1, 1, 2))).ravel()
        Array([2.], dtype=float32)
    """
    return ((x[:, None] - images[None]) ** 2).sum(-1)


def per_pixel(fresh: Bool[Array, " n"]) -> Bool[Array, "n 1 1"]:
    """`[n]` as `[n, 1, 1]`, which broadcasts against images.

    Example:
        >>> per_pixel(jnp.array([True])).shape
        (1, 1, 1)
    """
    return fresh[:, None, None]
