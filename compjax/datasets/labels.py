"""What an example shows, and what of it a network is told.

A picture comes with all that is known of its objects, `Objects`; a *label function*
makes the condition of it.  The same functions serve scenes that are drawn on the
device, records that were drawn before, and the released CLEVR, because all three give
`Objects`.  Of several objects, one is *chosen* at random when the example is made; it
is the one that labels of a single object tell.  A random set of objects is *named*: the
chosen one and, if a fair coin says so, each of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from compjax import scenes
from compjax.types import Condition, Number, PRNGKey, as_float, pytree, static


@pytree
class Objects:
    """What is known of the objects in b pictures; leaves are `[b, n]`.

    Args:
        xy: `[b, n, 2]`, where centres appear: fractions of the picture, x rightwards
            and y downwards.
        radius: `[b, n]`, in world units: CLEVR's are 0.7 and 0.35.
        shape: `[b, n]`, index into `scenes.SHAPES`.
        color: `[b, n]`, index into `scenes.COLORS`.
        material: `[b, n]`, index into `scenes.MATERIALS`.
        present: `[b, n]`, whether the slot holds an object.
        chosen: `[b]`, the slot of one random object; -1 where there is none.
        picture: height and width of the pictures, in pixels.
        named: `[b, n]`, which slots are named; None where nobody drew that.

    Example:
        >>> scene = scenes.sample(jax.random.key(0), 1, 3)
        >>> objects = observe(jax.random.key(1), scene, (32, 32))
        >>> objects.xy.shape, objects.chosen.shape
        ((3, 2), ())
    """

    xy: Any
    radius: Any
    shape: Any
    color: Any
    material: Any
    present: Any
    chosen: Any
    picture: tuple[int, int] = static()
    named: Any = None


Label = Callable[[Objects], Condition]
"""What a network is told of pictures; leaves of the condition lead with axis b."""


def observe(key: PRNGKey, scene: scenes.Scene, size: tuple[int, int]) -> Objects:
    """What is known of the objects of one scene, one of them chosen, some named.

    Args:
        key: chooses; every object is as likely as any other.  It also throws the coins:
            of n objects each is named with probability (n + 1) / (2 n), and all of
            them are with probability 2^(1 - n).
        scene: one scene (`jax.vmap` for a batch).
        size: height and width of its picture, in pixels.

    Returns:
        `Objects` without the batch axis.

    Example:
        >>> scene = scenes.sample(jax.random.key(0), 0, 0)
        >>> int(observe(jax.random.key(1), scene, (32, 32)).chosen)
        -1
    """
    height, width = size
    pixels = scenes.pixel_coords(scene, size)[:, :2]
    lots = jax.random.uniform(key, scene.present.shape)
    winner = jnp.argmax(jnp.where(scene.present, lots, -1.0))
    coins = jax.random.bernoulli(jax.random.fold_in(key, 1), shape=lots.shape)
    is_winner = jnp.arange(len(lots)) == winner
    return Objects(
        xy=pixels / jnp.array([[width, height]], pixels.dtype),
        radius=scene.size,
        shape=scene.shape,
        color=scene.color,
        material=scene.material,
        present=scene.present,
        chosen=jnp.where(scene.present.any(), winner, -1).astype(jnp.int32),
        picture=size,
        named=scene.present & (coins | is_winner),
    )


def chosen(objects: Objects) -> Bool[Array, "b n"]:
    """Which slot is the chosen one; none where there is no object."""
    slots = jnp.arange(objects.present.shape[1])
    return slots[None, :] == jnp.asarray(objects.chosen)[:, None]


def _named(objects: Objects) -> Any:
    if objects.named is None:
        raise ValueError(
            "named is None: nobody drew which objects are named; give Objects from"
            " datasets.observe or datasets.example, or set it."
        )
    return objects.named


def location_of_one(objects: Objects) -> Float[Array, "b d"]:
    """The label of `scenes.location`: where the chosen object is.

    Example:
        >>> scene = scenes.sample(jax.random.key(0), 0, 0)
        >>> objects = observe(jax.random.key(1), scene, (32, 32))
        >>> batch = jax.tree.map(lambda leaf: leaf[None], objects)
        >>> location_of_one(batch).any()  # nothing is there: `scenes.empty`
        Array(False, dtype=bool)
    """
    return scenes.location(objects.xy, chosen(objects))


def locations_of_one(objects: Objects) -> Float[Array, "b rows columns 2"]:
    """The label of `scenes.locations`, a grid: where the chosen object is."""
    return scenes.locations(objects.xy, chosen(objects))


def locations_of_some(objects: Objects) -> Float[Array, "b rows columns 2"]:
    """The label of `scenes.locations`, a grid: where the named objects are.

    Raises:
        ValueError: if it was not drawn which objects are named.

    Source: Ours: labels that are incomplete and nevertheless several.
    """
    return scenes.locations(objects.xy, _named(objects))


def locations_of_all(objects: Objects) -> Float[Array, "b rows columns 2"]:
    """The label of `scenes.locations`, a grid: where all objects are."""
    return scenes.locations(objects.xy, objects.present)


def vector_of_one(objects: Objects) -> Float[Array, "b d"]:
    """`locations_of_one` as a vector, for networks whose condition is one: `flat`."""
    return flat(locations_of_one(objects))


def vector_of_some(objects: Objects) -> Float[Array, "b d"]:
    """`locations_of_some` as a vector: `flat`."""
    return flat(locations_of_some(objects))


def vector_of_all(objects: Objects) -> Float[Array, "b d"]:
    """`locations_of_all` as a vector: `flat`."""
    return flat(locations_of_all(objects))


def flat(grid: Float[Array, "b rows columns 2"]) -> Float[Array, "b d"]:
    r"""A grid of `scenes.locations` as a vector: its cells, row by row, and one more.

    The last entry is that of *unknown*, which in the grid every cell has.  One place is
    a one-hot vector, of norm 1, and so is `scenes.null`; `scenes.empty` is zero.  k
    places have the norm $\sqrt{k}$: `UNet`, which scales vectors so that a one-hot has
    entries of variance 1, sees larger ones than it was trained on where k is larger.

    Args:
        grid: `[b, rows, columns, 2]`.

    Returns:
        `[b, rows * columns + 1]`.

    Source: Ours: the papers do not say how locations enter the network.

    Example:
        >>> grid = scenes.locations(jnp.array([[[0.1, 0.1], [0.6, 0.1]]]), grid=(2, 2))
        >>> flat(grid)
        Array([[1., 1., 0., 0., 0.]], dtype=float32)
        >>> flat(scenes.null(grid))
        Array([[0., 0., 0., 0., 1.]], dtype=float32)
    """
    cells = grid[..., 0].reshape(len(grid), -1)
    return jnp.concatenate([cells, grid[:, 0, 0, 1:]], axis=1)


def bumps_of_one(objects: Objects) -> Float[Array, "b h w 2"]:
    """The label of `scenes.bumps`, an image: where the chosen object is."""
    return scenes.bumps(objects.xy, chosen(objects), objects.picture)


def bumps_of_all(objects: Objects) -> Float[Array, "b h w 2"]:
    """The label of `scenes.bumps`, an image: where all objects are."""
    return scenes.bumps(objects.xy, objects.present, objects.picture)


def color_of_one(objects: Objects) -> Float[Array, "b d"]:
    """The label of `scenes.colors`: which colour the chosen object has."""
    return scenes.colors(objects.color, chosen(objects))


def colors_of_all(objects: Objects) -> Float[Array, "b d"]:
    """The label of `scenes.colors`: which colours there are."""
    return scenes.colors(objects.color, objects.present)


def labelled(
    key: PRNGKey,
    images: Float[Array | np.ndarray, "b h w 3"] | UInt8[Array | np.ndarray, "b h w 3"],
    objects: Objects,
    label: Any,
    null: Number = 0.1,
    scale: Number = 2.0,
    offset: Any = 0.5,
) -> tuple[Float[Array, "b h w 3"], Condition]:
    r"""Pictures and what is known of them, as a training example.

    The data are $x_0 = scale\,(image - offset)$, and the condition is the label, or
    *null* with probability `null`.  Where there is no object nothing is withheld, as
    the label says just that; so null means that there are objects, any.

    Args:
        key: decides which labels are withheld.
        images: `[b, h, w, 3]`, floats from 0 to 1 or bytes.
        objects: what is known of them.
        label: a label function such as `location_of_one`, or the label of a recipe.
        null: probability that a label is withheld.
        scale: factor from images to data; with the default offset, data are within
            -1 and 1 and their standard deviation is about 0.5.
        offset: a number or the `[h, w, 3]` image that becomes zero.

    Returns:
        Data `[b, h, w, 3]` and the condition.

    Raises:
        ValueError: if `label` is no function.

    Source: label dropout, Ho and Salimans 2022 (classifier-free guidance).

    Example:
        >>> scene = scenes.sample(jax.random.key(0), 1, 1)
        >>> objects = observe(jax.random.key(1), scene, (8, 8))
        >>> batch = jax.tree.map(lambda leaf: leaf[None], objects)
        >>> white = np.full((1, 8, 8, 3), 255, np.uint8)
        >>> x0, condition = labelled(jax.random.key(2), white, batch, color_of_one)
        >>> float(x0.min()), condition.shape
        (1.0, (1, 9))
    """
    if not callable(label):
        raise ValueError(
            f"label = {label!r}: give a function such as datasets.location_of_one, or"
            " the label of a recipe."
        )
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        images = images.astype(jnp.result_type(float)) / 255
    offset = as_float(offset)
    if offset.ndim:
        offset = offset[None]
    said = label(objects)
    lots = jax.random.bernoulli(key, as_float(null), images.shape[:1])
    withheld = lots & jnp.asarray(objects.present).any(axis=1)

    def choose(said: Array) -> Array:
        rows = withheld.reshape(withheld.shape + (1,) * (said.ndim - 1))
        return jnp.where(rows, scenes.null(said), said)

    return as_float(scale) * (images - offset), jax.tree.map(choose, said)
