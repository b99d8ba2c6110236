"""Endless streams: pure functions `key -> (x0, condition)`, no files involved."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax import scenes
from compjax.types import (
    Number,
    PRNGKey,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
)


def plain(scene: scenes.Scene) -> scenes.Scene:
    """The same scene with large rubber objects: shapes, colours and places remain.

    A small object is three pixels wide in an image of 48, too few for a network that
    trains in minutes.

    Args:
        scene: One scene (`jax.vmap` for a batch).

    Example:
        >>> plain(scenes.sample(jax.random.key(0), 3, 3)).size
        Array([0.7, 0.7, 0.7], dtype=float32)
    """
    large = jnp.full_like(scene.size, max(scenes.SIZES))
    return dataclasses.replace(
        scene, size=large, material=jnp.zeros_like(scene.material)
    )


@pytree
class SingleObject:
    r"""Plain CLEVR scenes with at most one object, and where it is.

    Three kinds of example: the *empty* scene; one object with its `location`; one
    object with its location withheld, `null`, which so means exactly one object
    somewhere.  Camera and lamps do not move, so the empty scene is one image; it is
    subtracted, and what is left to learn is what an object changes:
    $x_0 = scale\,(image - background)$.  Scores are the same up to that translation.

    Args:
        size: Height and width of the image, in pixels.
        batch: Number of scenes.
        empty: Probability of the empty scene.
        null: Probability that the location of an object is withheld.
        scale: Factor from images in [0, 1] to data.
        background: `[h, w, 3]`, the empty scene; rendered if None.

    Raises:
        ValueError: If a probability is outside [0, 1].

    Example:
        >>> stream = SingleObject((16, 16), 2)
        >>> x0, condition = jax.eval_shape(stream, jax.random.key(0))
        >>> x0.shape, condition.shape
        ((2, 16, 16, 3), (2, 16, 16, 2))
    """

    size: tuple[int, int] = static()
    batch: int = static()
    empty: Number = 0.2
    null: Number = 0.15
    scale: Number = 2.0
    background: Any = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}.")
        for name in ("empty", "null"):
            value = as_float(getattr(self, name))
            if (p := concrete(value)) is not None and not 0 <= p <= 1:
                raise ValueError(f"{name} is a probability, got {p}.")
            set_fields(self, **{name: value})
        set_fields(self, scale=as_float(self.scale))
        if self.background is None:
            nothing = scenes.sample(jax.random.key(0), 0, 0, jitter=0.0)
            render = jax.jit(lambda scene: scenes.render(scene, self.size))
            set_fields(self, background=render(nothing))

    def __call__(self, key: PRNGKey) -> tuple[Float[Array, "b h w 3"], Any]:
        """Data `[b, h, w, 3]` and conditions `[b, h, w, 2]`."""
        key_scene, key_empty, key_null = jax.random.split(key, 3)
        is_empty = jax.random.bernoulli(key_empty, self.empty, (self.batch,))
        is_null = jax.random.bernoulli(key_null, self.null, (self.batch,))

        def example(key: PRNGKey, is_empty: Array) -> tuple[Array, Array]:
            scene = plain(scenes.sample(key, 1, 1, jitter=0.0))
            xy = scenes.pixel_coords(scene, self.size)[0, :2]
            scene = scenes.first(scene, jnp.where(is_empty, 0, 1))
            return scenes.render(scene, self.size), xy

        keys = jax.random.split(key_scene, self.batch)
        images, xy = jax.vmap(example)(keys, is_empty)
        choose = lambda flag: flag[:, None, None, None]
        condition = jnp.where(
            choose(is_empty),
            scenes.empty(self.size),
            jnp.where(
                choose(is_null), scenes.null(self.size), scenes.location(xy, self.size)
            ),
        )
        return self.scale * (images - self.background[None]), condition

    def images(self, x0: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """The images that data or samples stand for, clipped to [0, 1]."""
        return jnp.clip(x0 / self.scale + self.background[None], 0, 1)
