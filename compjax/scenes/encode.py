"""What a network is told of a scene: where an object is, as an image of two channels.

Channel 0 holds a bump where an object is asked for; channel 1 is one where nothing is
known.  *Empty* and *null* are different conditions, and composition needs the former:
`compose` divides by the density of its background, and Bradley et al. (2025) obtain
length generalisation with the background "there is no object", not with "an image of
any kind", which already holds objects of its own.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.scenes.camera import check_size


def location(
    xy: Float[Array, "b 2"], size: tuple[int, int], width: float = 1 / 32
) -> Float[Array, "b h w 2"]:
    """The condition "there is an object at `xy`": a Gaussian bump in channel 0.

    Args:
        xy: `[b, 2]`, in pixels: x rightwards, y downwards, as `pixel_coords` gives.
        size: height and width of the image, in pixels.
        width: standard deviation of the bump as a fraction of the image, along each
            axis: 2 pixels in 64.

    Returns:
        `[b, h, w, 2]`; channel 0 would be 1 at `xy` itself and is sampled at the
        pixels' centres, channel 1 is zero.

    Raises:
        ValueError: if `size` is not two positive numbers or `width` is not positive.

    Example:
        >>> condition = location(jnp.array([[10.5, 3.5]]), (32, 32))
        >>> float(condition[0, 3, 10, 0]), float(condition[..., 1].max())
        (1.0, 0.0)
    """
    height, across = check_size(size)
    if not width > 0:
        raise ValueError(f"width = {width}: give a positive fraction of the image.")
    columns = (jnp.arange(across) + 0.5)[None, :] - xy[:, :1]
    rows = (jnp.arange(height) + 0.5)[None, :] - xy[:, 1:]
    along_x = jnp.exp(-0.5 * (columns / (width * across)) ** 2)
    along_y = jnp.exp(-0.5 * (rows / (width * height)) ** 2)
    bump = along_y[:, :, None] * along_x[:, None, :]
    return jnp.stack([bump, jnp.zeros_like(bump)], axis=-1)


def empty(size: tuple[int, int]) -> Float[Array, "1 h w 2"]:
    """The condition "there is nothing": both channels are zero.

    It is a statement about the scene, unlike `null`: the background against which
    location conditions compose is the distribution of pictures *without* objects.

    Args:
        size: height and width of the image, in pixels.

    Returns:
        `[1, h, w, 2]`, zeros.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Example:
        >>> float(empty((32, 32)).max())
        0.0
    """
    height, width = check_size(size)
    return jnp.zeros((1, height, width, 2))


def null(size: tuple[int, int]) -> Float[Array, "1 h w 2"]:
    """The condition "nothing is said": channel 0 is zero, channel 1 is one.

    It leaves the place open, unlike `empty`: where only scenes of one object lose their
    label in training, it means one object, somewhere.  Composing over it is the Bayes
    composition, which fails.

    Args:
        size: height and width of the image, in pixels.

    Returns:
        `[1, h, w, 2]`.

    Raises:
        ValueError: if `size` is not two positive numbers.

    Example:
        >>> null((32, 32))[0, 0, 0]
        Array([0., 1.], dtype=float32)
    """
    silent = empty(size)
    return silent.at[..., 1].set(1.0)
