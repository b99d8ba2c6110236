r"""A network whose windows are exact by construction, at every noise level.

The architecture of experiment 3 of Bradley 2025 is known only to be patch-based; this
one, its windows and its coordinates are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.types import Condition, Sigma, as_float


class Local(nn.Module):
    r"""One network on crops of the image: each tile of outputs sees its window only.

    $$D_i(x, \sigma, c) = \mathrm{net}(x_{N_i}, \sigma, c_{L_i})_i$$

    The image is cut into tiles.  Around each lies its window, which the network sees
    with the conditions in it, with absolute coordinates (the floor and its perspective
    are not the same everywhere), and with a channel that is 1 inside of the image and
    of the window.  Of what the network makes of the window, the tile is kept.

    `reach` and `condition_reach` may each be None, for all of the image, which takes
    either half of locality away.

    Args:
        net: A denoiser of images with image conditions, such as `UNet`, for crops of
            side `tile + 2 * reach`, or of the image's sides where reach is None.  Its
            `condition_channels` are those of a condition (of the whole grid of
            conditions, cell by cell, if `condition_reach` is None) and three more.
        tile: Side of a tile, in pixels.
        reach: Pixels that a tile sees beyond its edges, on every side; None for all.
        condition_reach: The same for conditions: a cell is seen where its pixels are.
        radius: A function of sigma: pixels and conditions further away are withheld at
            that noise level, though the reach is larger; None withholds no more.
        told: For each tile, row by row, the tile whose conditions it is told; None for
            its own.  A permutation leaves everything as sparse as it was, and wrong: a
            placebo.

    Raises:
        ValueError: If a field is out of range; or, when it is traced, if shapes do not
            fit.

    Source: Ours, after Bradley 2025, experiment 3.

    Example:
        >>> import jax
        >>> from compjax.networks import UNet
        >>> net = UNet(channels=8, channel_mult=(1,), condition_channels=1 + 3)
        >>> module = Local(net, tile=4, reach=2, condition_reach=0)
        >>> x, condition = jnp.ones((2, 8, 8, 1)), jnp.zeros((1, 2, 2, 1))
        >>> variables = jax.eval_shape(
        ...     module.init, jax.random.key(0), x, 1.0, condition
        ... )
        >>> jax.eval_shape(module.apply, variables, x, 1.0, condition).shape
        (2, 8, 8, 1)
    """

    net: nn.Module
    tile: int
    reach: int | None = 0
    condition_reach: int | None = 0
    radius: Callable[[Any], Any] | None = None
    told: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("reach", "condition_reach"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must be at least 0, got {value}.")
        if self.tile < 1:
            raise ValueError(f"tile must be at least 1, got {self.tile}.")
        if self.reach is not None and (self.condition_reach or 0) > self.reach:
            raise ValueError(
                f"condition_reach = {self.condition_reach} lies outside of the crops, "
                f"which end at reach = {self.reach}: enlarge the reach, or take None."
            )
        super().__post_init__()

    @property
    def sigma_data(self) -> float:
        """The network's: standard deviation of the data."""
        return self.net.sigma_data  # type: ignore[attr-defined]

    def log_variance(self, sigma: Sigma) -> Float[Array, " b"]:
        """The network's: how well it denoises at each noise level."""
        return self.net.log_variance(sigma)  # type: ignore[attr-defined]

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma, condition: Condition
    ) -> Float[Array, "b h w c"]:
        b, h, w, _ = x.shape
        condition = self._checked(x, condition)
        sigma = jnp.broadcast_to(as_float(sigma), (b,))
        rows, columns = (_windows(side, self.tile, self.reach) for side in (h, w))
        distance = jnp.asarray(_distances(rows, columns, self.tile), x.dtype)[None]
        crop = lambda a: _crops(a, rows, columns)

        seen = distance <= (jnp.inf if self.reach is None else self.reach)
        if self.radius is not None:
            limit = as_float(self.radius(sigma)).reshape(-1, 1, 1, 1)
            seen = seen & (distance <= limit)
        inside = jnp.broadcast_to(seen, (b, *seen.shape[1:]))[..., None]
        window = jnp.where(inside, crop(x), 0.0)
        if self.condition_reach is None:
            every = condition.reshape(b, 1, 1, 1, -1)
            told = jnp.broadcast_to(every, (*inside.shape[:-1], every.shape[-1]))
        else:
            near = seen & (distance <= self.condition_reach)
            told = jnp.where(near[..., None], crop(_enlarged(condition, h, w)), 0.0)
        if self.told is not None:
            told = told[:, np.array(self.told)]
        where = jnp.where(inside, crop(_coordinates(x)), 0.0)
        planes = jnp.concatenate([told, where, inside.astype(x.dtype)], axis=-1)

        # One network and one level for all windows, which are only a longer batch.
        merge = lambda a: a.reshape(-1, *a.shape[2:])
        levels = jnp.repeat(sigma, window.shape[1])
        D = self.net(merge(window), levels, merge(planes)).reshape(window.shape)
        return _joined(D, self.tile, self.reach, x.shape)

    @nn.nowrap
    def _checked(self, x: Array, condition: Condition) -> Array:
        """The condition of every sample, where it fits and the network can take it."""
        b, h, w, _ = x.shape
        if h % self.tile or w % self.tile:
            raise ValueError(f"Tiles of {self.tile} pixels do not divide x {x.shape}.")
        tiles = h * w // self.tile**2
        if self.told is not None and sorted(self.told) != list(range(tiles)):
            raise ValueError(
                f"told must be a permutation of the {tiles} tiles, got {self.told}."
            )
        shape = () if condition is None else jnp.shape(condition)
        if len(shape) != 4 or shape[0] not in (1, b) or h % shape[1] or w % shape[2]:
            raise ValueError(
                f"condition of shape {shape} for x of shape {x.shape}: it must be "
                f"[{b} or 1, H, W, c] with cells that divide the image."
            )
        cells = shape[1] * shape[2] if self.condition_reach is None else 1
        needed, found = cells * shape[3] + 3, self.net.condition_channels  # type: ignore
        if needed != found:
            raise ValueError(
                f"net.condition_channels = {found}: for conditions {shape} with "
                f"condition_reach = {self.condition_reach} it must be {needed}."
            )
        return jnp.broadcast_to(jnp.asarray(condition), (b, *shape[1:]))


def _windows(side: int, tile: int, reach: int | None) -> Int[np.ndarray, "t n"]:
    """Of every tile along an axis, the pixels of its window; they may lie outside.

    Without an end the window is the whole axis, turned until the tile is in the middle.
    """
    first = np.arange(0, side, tile)[:, None]
    if reach is None:
        return (first - (side - tile) // 2 + np.arange(side)[None]) % side
    return first - reach + np.arange(tile + 2 * reach)[None]


def _distances(
    rows: np.ndarray, columns: np.ndarray, tile: int
) -> Float[np.ndarray, "t n m"]:
    """Chebyshev distances of windows' pixels from their tiles; infinite outside."""

    def along(pixels: np.ndarray) -> np.ndarray:
        first = tile * np.arange(len(pixels))[:, None]
        away = np.maximum(0, np.maximum(first - pixels, pixels - first - tile + 1))
        inside = (pixels >= 0) & (pixels < len(pixels) * tile)
        return np.where(inside, away, np.inf)

    far = np.maximum(along(rows)[:, None, :, None], along(columns)[None, :, None, :])
    return far.reshape(-1, rows.shape[1], columns.shape[1])


def _crops(
    a: Float[Array, "b h w c"], rows: np.ndarray, columns: np.ndarray
) -> Float[Array, "b t n m c"]:
    """The windows of images; what lies outside is anything."""
    inside = lambda pixels, side: np.clip(pixels, 0, side - 1)
    a = a[:, inside(rows, a.shape[1])]
    a = a[:, :, :, inside(columns, a.shape[3])]
    a = a.swapaxes(2, 3)
    return a.reshape(a.shape[0], -1, *a.shape[3:])


def _joined(
    D: Float[Array, "b t n m c"], tile: int, reach: int | None, shape: tuple[int, ...]
) -> Float[Array, "b h w c"]:
    """The tiles in the middle of windows, side by side."""
    b, h, w, c = shape
    top, left = ((s - tile) // 2 if reach is None else reach for s in (h, w))
    D = D[:, :, top : top + tile, left : left + tile]
    D = D.reshape(b, h // tile, w // tile, tile, tile, c)
    return D.swapaxes(2, 3).reshape(shape)


def _enlarged(condition: Array, h: int, w: int) -> Array:
    """Cells of a condition as squares of pixels."""
    condition = jnp.repeat(condition, h // condition.shape[1], 1)
    return jnp.repeat(condition, w // condition.shape[2], 2)


def _coordinates(x: Array) -> Float[Array, "b h w 2"]:
    """Rows and columns of pixels, in [-1, 1]."""
    b, h, w, _ = x.shape
    at = jnp.meshgrid(jnp.linspace(-1, 1, h), jnp.linspace(-1, 1, w), indexing="ij")
    return jnp.broadcast_to(jnp.stack(at, axis=-1)[None], (b, h, w, 2)).astype(x.dtype)
