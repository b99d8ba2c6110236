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


@pytree
class SingleObject:
    """CLEVR scenes with at most one object, and where it is.

    Three kinds of example: the *empty* scene; one object with its `location`; one
    object with its location withheld, `null`, which so means exactly one object
    somewhere.  Cameras and lamps do not move.

    Args:
        size: Height and width of the image, in pixels.
        batch: Number of scenes.
        empty: Probability of the empty scene.
        null: Probability that the location of an object is withheld.

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

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}.")
        for name in ("empty", "null"):
            value = as_float(getattr(self, name))
            if (p := concrete(value)) is not None and not 0 <= p <= 1:
                raise ValueError(f"{name} is a probability, got {p}.")
            set_fields(self, **{name: value})

    def __call__(self, key: PRNGKey) -> tuple[Float[Array, "b h w 3"], Any]:
        """Images in [-1, 1] and their conditions."""
        key_scene, key_empty, key_null = jax.random.split(key, 3)
        is_empty = jax.random.bernoulli(key_empty, self.empty, (self.batch,))
        is_null = jax.random.bernoulli(key_null, self.null, (self.batch,))

        def example(key: PRNGKey, is_empty: Array) -> tuple[Array, Array]:
            scene = scenes.sample(key, 1, 1, jitter=0.0)
            xy = scenes.pixel_coords(scene, self.size)[0, :2]
            scene = dataclasses.replace(scene, present=scene.present & ~is_empty)
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
        return 2 * images - 1, condition
