"""A small fully convolutional network that sees objects as peaks of a heat-map.

Unlike the other modules of this package it is no denoiser: it takes an image to maps on
a grid of half its resolution, one of them the logit of "here is an object's centre".

Source: Zhou et al. 2019, "Objects as points" (CenterNet, 1904.07850).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.networks.magnitude import normalize
from compjax.types import PRNGKey

STRIDE = 2
"""Pixels of the image to a cell of the maps, along each axis."""

MULTIPLE = 16
"""Height and width of an image are multiples of this."""

RARE = -4.0
"""The heat before training: one cell in fifty holds an object, not every other one."""

SPREAD = 1.0
"""Standard deviation, in cells, of the bump around a centre where heat costs less."""

IGNORED = 3.0
"""Cells around an object that may be found or not, in which heat costs nothing."""

NEARBY = 0.5
"""Standard deviation, in cells, of where around a centre the other maps are trained:
the peak of the heat may be a cell off."""

OFFSET_WEIGHT = 0.5
CLASS_WEIGHT = 0.2
"""Of the other terms of the loss, the heat's being one."""


class Maps(NamedTuple):
    """What the network says of every cell of its grid.

    Args:
        heat: `[b, h, w]`, logit of "the centre of an object is in this cell".
        offset: `[b, h, w, 2]`, from the centre of the cell to that of the object, x
            then y, in cells.
        color: `[b, h, w, colors]`, logits.
        shape: `[b, h, w, shapes]`, logits.
        size: `[b, h, w, sizes]`, logits.
        material: `[b, h, w, materials]`, logits.
    """

    heat: Array
    offset: Array
    color: Array
    shape: Array
    size: Array
    material: Array


class Targets(NamedTuple):
    """The objects in a batch of images: what the network is to say.

    Args:
        xy: `[b, n, 2]`, where their centres appear, as fractions of width and height.
        present: `[b, n]`, whether the slot holds an object that is to be found.
        ignored: `[b, n]`, whether it holds one that may be found or not.
        color: `[b, n]`, index.
        shape: `[b, n]`, index.
        size: `[b, n]`, index.
        material: `[b, n]`, index.
    """

    xy: Array
    present: Array
    ignored: Array
    color: Array
    shape: Array
    size: Array
    material: Array


class HeatMap(nn.Module):
    """Maps at half the resolution of an image, from features at 1/4, 1/8 and 1/16.

    Features go down to 1/16, where one cell sees the largest object whole, and up again
    to 1/4; the last layer writes a block of 2x2 cells for each of those.  Layers are
    normalised over channels, pixel by pixel, so an image is seen the same in any batch.

    Args:
        channels: at 1/4, 1/8 and 1/16 of the resolution.
        classes: numbers of colours, shapes, sizes and materials.

    Source: Zhou et al. 2019 (CenterNet, 1904.07850); the network is our own.

    Example:
        >>> module = HeatMap(channels=(4, 8, 8))
        >>> images = jnp.zeros((1, 32, 32, 3))
        >>> maps, _ = module.init_with_output(jax.random.key(0), images)
        >>> maps.heat.shape, maps.color.shape
        ((1, 16, 16), (1, 16, 16, 8))
    """

    channels: tuple[int, int, int] = (48, 80, 96)
    classes: tuple[int, int, int, int] = (8, 3, 2, 2)

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Maps:
        """Maps of images in [0, 1], whose height and width are multiples of 16."""
        height, width = images.shape[1:3]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(
                f"images are {height} x {width} pixels: resize them to multiples of"
                f" {MULTIPLE}."
            )
        fine, middle, coarse = self.channels
        quarter = nn.Conv(fine, (3, 3), name="stem")(_fold(4 * (images - 0.5), 4))
        quarter = Residual(name="quarter_in")(quarter)
        eighth = nn.Conv(middle, (3, 3), 2, name="down_8")(_placed(quarter))
        for i in range(2):
            eighth = Residual(name=f"eighth_in_{i}")(eighth)
        x = nn.Conv(coarse, (3, 3), 2, name="down_16")(eighth)
        x = Residual(name="sixteenth")(x)
        x = eighth + _twice(nn.Dense(middle, name="up_8")(x))
        x = Residual(name="eighth_out")(x)
        x = quarter + _twice(nn.Dense(fine, name="up_4")(x))
        x = Residual(name="quarter_out")(x)
        x = nn.silu(nn.Dense(2 * fine, name="mix")(normalize(x, -1)))
        # A block of cells for each pixel that is left, as 4 pixels made one.
        cells = (4 // STRIDE) ** 2
        outputs = nn.Dense(cells * (3 + sum(self.classes)), name="maps")(x)
        x = _unfold(outputs, 4 // STRIDE)
        ends = [3 + sum(self.classes[:i]) for i in range(len(self.classes))]
        heat, *classes = jnp.split(x, ends, axis=-1)
        return Maps(heat[..., 0] + RARE, heat[..., 1:], *classes)


def detection_loss(
    key: PRNGKey, maps: Maps, objects: Targets
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    r"""How badly maps describe objects: CenterNet's loss.

    For the heat p of a cell, with y the largest bump of any centre there,

    $$-(1-p)^2 \log p \text{ where a centre is}, \qquad
        -(1-y)^4 p^2 \log(1-p) \text{ elsewhere},$$

    summed over cells and divided by the number of objects; and per object, in a cell
    drawn near its centre, the absolute error of the offset and the cross-entropies of
    the four classes.

    Args:
        key: Draws the cells in which offsets and classes are trained.
        maps: Of a batch of images.
        objects: Of the same images.

    Returns:
        The loss, and its terms by name.

    Source: Zhou et al. 2019 (CenterNet, 1904.07850), eq. 1; the bump has one width.

    Example:
        >>> heat = jnp.full((1, 2, 2), -9.0).at[0, 1, 0].set(9.0)
        >>> off, classes = jnp.zeros((1, 2, 2, 2)), jnp.zeros((1, 2, 2, 1))
        >>> maps = Maps(heat, off, classes, classes, classes, classes)
        >>> one, none = jnp.ones((1, 1), bool), jnp.zeros((1, 1), int)
        >>> objects = Targets(jnp.array([[[0.25, 0.75]]]), one, ~one, *[none] * 4)
        >>> loss, terms = detection_loss(jax.random.key(0), maps, objects)
        >>> float(terms["heat"]) < 1e-6
        True
    """
    b, height, width = maps.heat.shape
    centre = objects.xy * jnp.array([width, height])[None, None]
    count = jnp.maximum(objects.present.sum(), 1)
    across = centre[..., :1] - (jnp.arange(width) + 0.5)[None, None]
    down = centre[..., 1:] - (jnp.arange(height) + 0.5)[None, None]

    def largest(spread: float, among: Array) -> Array:
        bumps = [jnp.exp(-((d / spread) ** 2) / 2) for d in (across, down)]
        bump = bumps[1][:, :, :, None] * bumps[0][:, :, None, :]
        return (bump * among[:, :, None, None]).max(axis=1)

    def inside(cell: Array) -> tuple[Array, Array, Array]:
        x = jnp.clip(cell[..., 0], 0, width - 1)
        return jnp.arange(b)[:, None], jnp.clip(cell[..., 1], 0, height - 1), x

    at = inside(jnp.floor(centre).astype(jnp.int32))
    holds = jnp.zeros((b, height, width)).at[at].max(objects.present.astype(float))
    bump = largest(SPREAD, objects.present)
    # exp(-1/2) is the height of a bump at its standard deviation.
    counts = largest(IGNORED, objects.ignored) < math.exp(-0.5)
    p, log_p = jax.nn.sigmoid(maps.heat), jax.nn.log_sigmoid(maps.heat)
    log_not = jax.nn.log_sigmoid(-maps.heat)
    elsewhere = (1 - bump) ** 4 * p**2 * log_not * counts
    heat = -jnp.where(holds > 0, (1 - p) ** 2 * log_p, elsewhere).sum() / count

    near = centre + NEARBY * jax.random.normal(key, centre.shape)
    cell = jnp.floor(near).astype(jnp.int32)
    at = inside(cell)

    def mean(error: Array) -> Array:
        return (error * objects.present).sum() / count

    def entropy(logits: Array, index: Array) -> Array:
        chosen = jax.nn.log_softmax(logits[at])
        return mean(-jnp.take_along_axis(chosen, index[..., None], -1)[..., 0])

    where = jnp.stack([at[2], at[1]], axis=-1) + 0.5
    away = jnp.abs(maps.offset[at] - (centre - where)).sum(axis=-1)
    terms = {
        "heat": heat,
        "offset": mean(jnp.minimum(away, 8.0)),
        "color": entropy(maps.color, objects.color),
        "shape": entropy(maps.shape, objects.shape),
        "size": entropy(maps.size, objects.size),
        "material": entropy(maps.material, objects.material),
    }
    weights = [1.0, OFFSET_WEIGHT] + [CLASS_WEIGHT] * 4
    loss = sum(w * term for w, term in zip(weights, terms.values(), strict=True))
    return jnp.asarray(loss), terms


class Residual(nn.Module):
    """`x` plus a 3x3 convolution of it, normalised over channels beforehand.

    Example:
        >>> x = jnp.ones((1, 4, 4, 2))
        >>> Residual().init_with_output(jax.random.key(0), x)[0].shape
        (1, 4, 4, 2)
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """As many channels as `x` has."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        shift = self.param("shift", nn.initializers.zeros, (channels,))
        y = nn.silu(
            normalize(x, -1) * scale[None, None, None] + shift[None, None, None]
        )
        return x + nn.Conv(channels, (3, 3))(y)


def _placed(x: Float[Array, "b h w c"]) -> Float[Array, "b h w _"]:
    """Features, and where they are: how large an object looks depends on it."""
    b, height, width, _ = x.shape
    across, down = jnp.linspace(-1, 1, width), jnp.linspace(-1, 1, height)
    place = jnp.stack(jnp.meshgrid(across, down), axis=-1)
    return jnp.concatenate(
        [x, jnp.broadcast_to(place, (b, height, width, 2)).astype(x.dtype)], axis=-1
    )


def _fold(x: Float[Array, "b h w c"], by: int) -> Float[Array, "b _ _ _"]:
    """Blocks of pixels as channels."""
    b, height, width, channels = x.shape
    x = x.reshape(b, height // by, by, width // by, by, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height // by, width // by, -1)


def _unfold(x: Float[Array, "b h w c"], by: int) -> Float[Array, "b _ _ _"]:
    """Channels as blocks of pixels."""
    b, height, width, channels = x.shape
    x = x.reshape(b, height, width, by, by, channels // by**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height * by, width * by, -1)


def _twice(x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
    """Every pixel as four."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
