"""Sprites as images: scenes on a grid of places, labelled completely or not.

Two things differ between experiments 1 and 2 of Bradley 2025, and are apart here:
whether the labels of a training image name *all* of its objects (completeness), and how
many labels it may have (cardinality).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from ml_collections import ConfigDict

from compjax import analysis, densities
from compjax.types import (
    Number,
    PRNGKey,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
)

PRESENT = 0.5
"""Strength from which a place counts as occupied: half of a template."""


class World(NamedTuple):
    """What sprites look like, and where they may stand.

    Args:
        templates: `[T, p, p]`, the objects.
        places: Places along a side of the image.
        scale: Standard deviation of the noise floor.
    """

    templates: Float[np.ndarray, "t p p"]
    places: int
    scale: float

    @property
    def side(self) -> int:
        """Of the image, in pixels."""
        return self.places * self.templates.shape[1]

    def density(self, required: tuple[int, ...], others: Any) -> densities.Sprites:
        """The exact law of a scene, of vectors place by place; see `image`.

        Args:
            required: Places that hold an object.
            others: Probabilities of 0, 1, ... objects elsewhere.
        """
        flat = self.templates.reshape(len(self.templates), -1)
        return densities.Sprites(flat, others, self.scale, self.places**2, required)

    def image(self, x: Any) -> Array:
        """Images `[b, h, w, 1]` of vectors place by place, `[b, places^2 p^2]`."""
        return from_places(x, self.places)

    def vector(self, images: Any) -> Array:
        """The inverse of `image`."""
        return by_place(images, self.places).reshape(len(images), -1)

    def optimum(self, counts: Any, labelled: Number) -> WindowOptimum:
        """What windows of one place learn where one object has a label.

        Args:
            counts: Relative probabilities of 0, 1, ... objects.
            labelled: Probability that an image keeps its label.
        """
        rate = analysis.base_rates(counts, self.places**2, labelled).window
        flat = self.templates.reshape(len(self.templates), -1)
        law = lambda counts, *required: densities.Sprites(
            flat, counts, self.scale, 1, required
        )
        other = law(jnp.stack([1 - rate, rate]))
        return WindowOptimum(law(jnp.ones(1), 0), other, self.places)

    def score(self, density: densities.Sprites) -> ImageScore:
        """The score of a scene's law, of images.

        Args:
            density: Of vectors, as `density` gives it.
        """
        return ImageScore(density, self.places)

    def strength(self, images: Any) -> Float[np.ndarray, "b n"]:
        """How strongly each place shows an object: 1 a template, 0 nothing."""
        scene = self.density((), [1.0])
        return np.asarray(
            jax.jit(densities.Sprites.strength)(scene, self.vector(images))
        )

    def centres(self) -> Float[np.ndarray, "n 2"]:
        """Of the places, in pixels: x rightwards, y downwards."""
        p = self.templates.shape[1]
        at = (np.arange(self.places) + 0.5) * p
        return np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)


def by_place(images: Any, places: int) -> Float[Array, "b n d"]:
    """The pixels of every place, of images `[b, h, w, 1]`."""
    b, h, w, _ = images.shape
    x = jnp.reshape(images, (b, places, h // places, places, w // places))
    return x.swapaxes(2, 3).reshape(b, places**2, -1)


def from_places(x: Any, places: int) -> Float[Array, "b h w 1"]:
    """The inverse of `by_place`, also of all in one vector, `[b, n d]`."""
    x = jnp.reshape(x, (len(x), places, places, -1))
    p = math.isqrt(x.shape[-1])
    x = x.reshape(-1, places, places, p, p).swapaxes(2, 3)
    return x.reshape(-1, places * p, places * p, 1)


@pytree
class ImageScore:
    """The score of a density of vectors, place by place, as one of images."""

    density: Any
    places: int = static()

    def __call__(self, x: Float[Array, "b h w 1"], sigma: Any) -> Array:
        flat = by_place(x, self.places).reshape(len(x), -1)
        return from_places(self.density(flat, sigma), self.places)


@pytree
class WindowOptimum:
    """The best network of windows of one place: what it learns, with no training.

    Its score of a place is that of a place with an object where the condition names
    it, and of one that holds an object at the base rate where it does not, whatever is
    asked for elsewhere: `analysis.windowed_family`, of images and for conditions
    `[b, places, places, 1]`.

    Args:
        named: Law of the pixels of a place that is named.
        other: Of one that is not.
        places: Along a side of the image.
    """

    named: Any
    other: Any
    places: int = static()

    def __call__(
        self, x: Float[Array, "b h w 1"], sigma: Any, condition: Any
    ) -> Float[Array, "b h w 1"]:
        blocks = by_place(x, self.places)
        b, n, d = blocks.shape
        level = jnp.repeat(jnp.broadcast_to(as_float(sigma), (b,)), n)
        named, other = (
            law(blocks.reshape(-1, d), level).reshape(b, n, d)
            for law in (self.named, self.other)
        )
        asked = jnp.broadcast_to(condition.reshape(-1, n, 1) > 0, (b, n, 1))
        return from_places(jnp.where(asked, named, other), self.places)


def make_world(config: ConfigDict) -> World:
    """The world of a configuration: smooth random templates of one norm."""
    w = config.world
    keys = jax.random.split(jax.random.key(w.seed), w.templates)
    taps = jnp.array([0.25, 0.5, 0.25])
    smooth = lambda key: jax.scipy.signal.convolve2d(
        jax.random.normal(key, (w.pixels, w.pixels)), jnp.outer(taps, taps), mode="same"
    )
    templates = np.asarray(jax.vmap(smooth)(keys))
    norms = np.sqrt((templates**2).sum((1, 2), keepdims=True))
    return World(w.norm * templates / norms, w.places, w.scale)


@pytree
class Sprites:
    r"""An endless set of sprites: `key -> (x0, condition)`, a `Stream`.

    An image holds 1 to `most` objects, every number equally often.  One of them, at
    random, has a label, and each of the others with the probability `completeness`: at
    1 all objects are named (experiment 1), at 0 one of them (experiments 2 and 3).

    Args:
        templates: `[T, p, p]`.
        counts: `[n]`, probabilities of 1, 2, ..., n objects.
        completeness: In [0, 1].
        null: Probability that all labels of an image are withheld.
        scale: Standard deviation of the noise floor.
        places: Places along a side.
        batch: Images of a call.
        encode: From `[b, places, places]` of booleans to conditions.

    Raises:
        ValueError: If a probability is outside [0, 1].
    """

    templates: Any
    counts: Any
    completeness: Number
    null: Number
    scale: Number
    places: int = static()
    batch: int = static()
    encode: Any = static()

    def __post_init__(self) -> None:
        for name in ("templates", "counts", "completeness", "null", "scale"):
            set_fields(self, **{name: as_float(getattr(self, name))})
        for name in ("completeness", "null"):
            value = concrete(getattr(self, name))
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}.")

    def __call__(self, key: PRNGKey) -> tuple[Float[Array, "b h w 1"], Any]:
        """Images `[b, h, w, 1]` and conditions."""
        key, key_null = jax.random.split(key)
        x0, named = self.draw(key, self.batch)
        told = jax.random.bernoulli(key_null, 1 - self.null, (self.batch, 1, 1))
        return x0, self.encode(named & told)

    def draw(
        self, key: PRNGKey, b: int
    ) -> tuple[Float[Array, "b h w 1"], Bool[Array, "b g g"]]:
        """Images, and which of their objects have a label."""
        keys, n = jax.random.split(key, 5), self.places**2
        logs = jnp.log(self.counts)
        count = 1 + jax.random.categorical(keys[0], logs, shape=(b, 1))
        order = jnp.argsort(jax.random.uniform(keys[1], (b, n)), axis=1)
        rank = jnp.argsort(order, axis=1)
        present = rank < count
        also = jax.random.bernoulli(keys[2], self.completeness, (b, n))
        named = (rank == 0) | (present & also)
        which = jax.random.randint(keys[3], (b, n), 0, len(self.templates))
        x0 = jnp.where(present[..., None, None], self.templates[which], 0.0)
        x0, g = from_places(x0, self.places), self.places
        x0 = x0 + self.scale * jax.random.normal(keys[4], x0.shape)
        return x0, named.reshape(b, g, g)


def as_channel(named: Bool[Array, "b g g"]) -> Float[Array, "b g g 1"]:
    """Labels as an image, one cell a place: a spatial condition."""
    return named[..., None].astype(float)


def as_vector(named: Bool[Array, "b g g"]) -> Float[Array, "b n"]:
    """Labels as a vector of zeros and ones, whose norm grows with their number."""
    return named.reshape(len(named), -1).astype(float)


def as_mean(named: Bool[Array, "b g g"]) -> Float[Array, "b n"]:
    """The mean of one-hot tokens: more labels are no larger than one."""
    vector = as_vector(named)
    return vector / jnp.maximum(vector.sum(1, keepdims=True), 1)


ENCODINGS = {"channel": as_channel, "vector": as_vector, "mean": as_mean}


class Requests(NamedTuple):
    """What is asked of every model, the same of all.

    Args:
        named: `[n, places, places]`, the places asked for.
        true: `[n, h, w, 1]`, scenes that hold objects there and nowhere else.
    """

    named: Bool[np.ndarray, "n g g"]
    true: Float[np.ndarray, "n h w 1"]


def draw_requests(world: World, n: int, k: int, seed: int) -> Requests:
    """N requests of k random places, and true scenes."""
    rng = np.random.default_rng((seed, k))
    places = world.places**2
    named = np.stack([rng.permutation(places) < k for _ in range(n)])
    which = rng.integers(len(world.templates), size=(n, places))
    scene = np.where(named[..., None, None], world.templates[which], 0.0)
    noise = world.scale * rng.standard_normal(scene.shape)
    grid = named.reshape(n, world.places, world.places)
    return Requests(grid, np.asarray(world.image(scene + noise)))
