"""Endless streams: pure functions `key -> (x0, condition)`, no files involved.

A `Recipe` says what a set of the papers holds and which label it has; a `Stream` draws
from it for ever, on the device and inside the train step, and
`experiments.scenes.generate` writes a finite number of examples to files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax import scenes
from compjax.datasets.labels import (
    Label,
    Objects,
    bumps_of_one,
    color_of_one,
    labelled,
    location_of_one,
    locations_of_all,
    locations_of_one,
    locations_of_some,
    observe,
)
from compjax.types import (
    Condition,
    Number,
    PRNGKey,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
)

TOGETHER = 64
"""Pictures that an accelerator draws at once: at 128 x 128 each takes about 9 MB."""


class Recipe(NamedTuple):
    """What a set holds, and which label it has.

    Args:
        min_objects: The fewest objects in a picture.
        max_objects: The most; every number between is equally frequent.
        label: A module-level label function.
        examples: How many examples the paper's set has.
    """

    min_objects: int
    max_objects: int
    label: Label
    examples: int


BACKGROUND = Recipe(0, 0, location_of_one, 50_000)
"""Empty scenes: the background of Bradley et al. 2025, experiment A; the number of
examples is the paper's."""

SINGLE = Recipe(1, 1, location_of_one, 1_550_000)
"""One object and its location: the conditionals of experiments A and B.  The number of
examples is not certain: it is recalled, not read in the paper."""

CLUTTERED = Recipe(1, 5, location_of_one, 5 * 500_000)
"""One to five objects and the location of one of them: experiment C.  The number of
examples a count is not certain, as for `SINGLE`; that the object is chosen at random is
second-hand."""

COLORED = Recipe(1, 1, color_of_one, 1_550_000)
"""One object and its colour: figure 5 of Bradley et al. 2025.  The number of examples
is not certain, as for `SINGLE`, whose pictures it can share."""

COUNTS_ALL = Recipe(1, 3, locations_of_all, 3 * 500_000)
"""One to three objects and all locations: Bradley 2025 (local conditional scores),
experiment 1.  The number of examples is not known; this is `CLUTTERED`'s a count."""

COUNTS_ONE = Recipe(1, 3, locations_of_one, 3 * 500_000)
"""One to three objects and the location of one of them: experiments 2 and 3.  The
number of examples is not known, as for `COUNTS_ALL`, whose pictures it can share."""

COUNTS_SOME = Recipe(1, 3, locations_of_some, 3 * 500_000)
"""One to three objects and the locations of some of them.  Ours: with `SINGLE_ALL` it
takes apart what differs between experiments 1 and 2 of Bradley 2025, complete labels
and many labels."""

SINGLE_ALL = Recipe(1, 1, locations_of_all, 3 * 500_000)
"""One object and its location, told as `COUNTS_ALL` tells it: complete, and one.
Ours."""


@pytree
class Stream:
    r"""An endless set: `key -> (x0, condition)`.

    Every call draws `batch` scenes, renders them and labels them.  The data are
    $x_0 = scale\,(image - offset)$; scores are the same up to that map.

    The papers keep empty scenes in a set of their own, the background, and train a
    network of its own on it; `empty` puts some into this set instead, labelled as what
    they are, so that one network learns both.  Labels that are withheld become `null`.

    Args:
        recipe: Which objects and which label, for example `SINGLE`.
        size: Height and width of the image, in pixels.
        batch: Number of examples of a call.
        draw: `(key, min_objects, max_objects, jitter) -> Scene`, a module-level
            function; `scenes.sample_visible` hides no object and costs one more look.
        empty: Probability that a scene loses its objects.
        null: Probability that the label of a scene with objects is withheld.
        jitter: Scales CLEVR's jitter of the camera and of the lamps.
        scale: Factor from images in [0, 1] to data.
        offset: The number, or the image `[h, w, 3]`, that becomes zero.
        mesh: Devices, each of which draws its part of the batch; None leaves the
            drawing to where the key is.  The pictures are the same.

    Raises:
        ValueError: If a probability is outside [0, 1], `batch` is below 1, or does not
            split over the mesh.

    Source: Bradley et al. 2025 (2502.04549), section 10; Bradley 2025 (2509.16447).

    Example:
        >>> stream = Stream(COUNTS_ONE, (16, 16), 2)
        >>> x0, condition = jax.eval_shape(stream, jax.random.key(0))
        >>> x0.shape, condition.shape
        ((2, 16, 16, 3), (2, 16, 16, 2))
    """

    recipe: Recipe = static()
    size: tuple[int, int] = static()
    batch: int = static()
    draw: Callable[..., scenes.Scene] = static(default=scenes.sample)
    empty: Number = 0.0
    null: Number = 0.1
    jitter: Number = 1.0
    scale: Number = 2.0
    offset: Any = 0.5
    mesh: jax.sharding.Mesh | None = static(default=None)

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, Recipe) or not callable(self.recipe.label):
            raise ValueError(
                f"recipe = {self.recipe!r}: give a Recipe with a label function, like"
                " datasets.SINGLE."
            )
        scenes.check_size(self.size)
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}.")
        if self.mesh is not None and self.batch % self.mesh.size:
            raise ValueError(
                f"batch = {self.batch} does not split over {self.mesh.size} devices:"
                " give a multiple of their number."
            )
        for name in ("empty", "null"):
            value = as_float(getattr(self, name))
            if (p := concrete(value)) is not None and not 0 <= p <= 1:
                raise ValueError(f"{name} is a probability, got {p}.")
            set_fields(self, **{name: value})
        for name in ("jitter", "scale", "offset"):
            set_fields(self, **{name: as_float(getattr(self, name))})

    def __call__(self, key: PRNGKey) -> tuple[Float[Array, "b h w 3"], Condition]:
        """Data `[b, h, w, 3]` and conditions."""
        key, key_label = jax.random.split(key)
        images, objects = self.pictures(key)
        return labelled(
            key_label,
            images,
            objects,
            self.recipe.label,
            self.null,
            self.scale,
            self.offset,
        )

    def pictures(self, key: PRNGKey) -> tuple[Float[Array, "b h w 3"], Objects]:
        """Images in [0, 1] and what is known of them, before any label."""
        fewest, most = self.recipe.min_objects, self.recipe.max_objects
        key_scenes, key_empty, key_chosen = jax.random.split(key, 3)
        is_empty = jax.random.bernoulli(key_empty, self.empty, (self.batch,))

        def picture(
            key: PRNGKey, key_chosen: PRNGKey, is_empty: Array
        ) -> tuple[Array, Objects]:
            scene = self.draw(key, fewest, most, self.jitter)
            scene = scenes.first(scene, jnp.where(is_empty, 0, most))
            image = scenes.render(scene, self.size)
            return image, observe(key_chosen, scene, self.size)

        keys = jax.random.split(key_scenes, self.batch)
        keys_chosen = jax.random.split(key_chosen, self.batch)
        # One by one a CPU skips slots without objects; elsewhere many fill the device.
        together = None if jax.default_backend() == "cpu" else TOGETHER

        def part(*each: Array) -> tuple[Array, Objects]:
            return jax.lax.map(lambda one: picture(*one), each, batch_size=together)

        if self.mesh is not None:
            # Else the compiler lets every device draw the whole batch.
            split = jax.P(self.mesh.axis_names)
            part = jax.shard_map(
                part, mesh=self.mesh, in_specs=split, out_specs=split, check_vma=False
            )
        return part(keys, keys_chosen, is_empty)

    def images(
        self, x0: Float[Array | np.ndarray, "b h w 3"]
    ) -> Float[Array, "b h w 3"]:
        """The images that data or samples stand for, clipped to [0, 1]."""
        offset = self.offset[None] if self.offset.ndim else self.offset
        return jnp.clip(x0 / self.scale + offset, 0, 1)


def empty_scene(size: tuple[int, int]) -> Float[Array, "h w 3"]:
    """The picture of no object, with the camera and the lamps where they stand.

    Args:
        size: Height and width of the image, in pixels.

    Example:
        >>> empty_scene((16, 16)).shape
        (16, 16, 3)
    """
    nothing = scenes.sample(jax.random.key(0), 0, 0, jitter=0.0)
    return jax.jit(lambda scene: scenes.render(scene, size))(nothing)


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


def small(scene: scenes.Scene) -> scenes.Scene:
    """The same scene with small rubber objects, of which ten have room in an image.

    Args:
        scene: One scene (`jax.vmap` for a batch).

    Example:
        >>> small(scenes.sample(jax.random.key(0), 3, 3)).size
        Array([0.35, 0.35, 0.35], dtype=float32)
    """
    size = jnp.full_like(scene.size, min(scenes.SIZES))
    return dataclasses.replace(plain(scene), size=size)


def sample_small(
    key: PRNGKey, min_objects: int, max_objects: int, jitter: Number = 1.0
) -> scenes.Scene:
    """`scenes.sample`, made `small`.

    Example:
        >>> sample_small(jax.random.key(0), 2, 2).material
        Array([0, 0], dtype=int32)
    """
    return small(scenes.sample(key, min_objects, max_objects, jitter))


def sample_plain(
    key: PRNGKey, min_objects: int, max_objects: int, jitter: Number = 1.0
) -> scenes.Scene:
    """`scenes.sample`, made `plain`.

    Example:
        >>> sample_plain(jax.random.key(0), 2, 2).material
        Array([0, 0], dtype=int32)
    """
    return plain(scenes.sample(key, min_objects, max_objects, jitter))


def ground_places(side: int = 4, spacing: Number = 1.9) -> Float[np.ndarray, "n 2"]:
    """Places in a square on the ground, in world units; CLEVR's objects stand within 3.

    Args:
        side: Places along each axis.
        spacing: Between neighbours; large objects 1.9 apart do not touch.

    Source: Ours.

    Example:
        >>> ground_places(2, 1.0).tolist()
        [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    """
    along = spacing * (np.arange(side) - (side - 1) / 2)
    return np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)


def sample_at_places(
    key: PRNGKey, min_objects: int, max_objects: int, jitter: Number = 1.0
) -> scenes.Scene:
    """`sample_plain`, with objects at 16 places: `ground_places`, give or take 0.05.

    No two objects share a place, and every place is as likely as any other.  Where
    networks train for minutes this is CLEVR made easy: instead of all of the plane they
    have to learn 16 places.

    Source: Ours.

    Example:
        >>> scene = sample_at_places(jax.random.key(0), 3, 3)
        >>> away = np.abs(scene.xy[:, None] - ground_places()[None]).max(axis=-1)
        >>> bool((away.min(axis=1) < 0.051).all())
        True
    """
    key_scene, key_order, key_off = jax.random.split(key, 3)
    scene = sample_plain(key_scene, min_objects, max_objects, jitter)
    places = jax.random.permutation(
        key_order, jnp.asarray(ground_places(), jnp.float32)
    )
    off = jax.random.uniform(key_off, scene.xy.shape, minval=-0.05, maxval=0.05)
    return dataclasses.replace(scene, xy=places[: len(scene.xy)] + off)


@pytree
class SingleObject:
    r"""Plain CLEVR scenes with at most one object, and where it is: a small `Stream`.

    Three kinds of example: the *empty* scene; one object with its location, a bump; one
    object with its location withheld, `null`, which so means exactly one object
    somewhere.  Camera and lamps do not move, so the empty scene is one image; it is
    subtracted, and what is left to learn is what an object changes:
    $x_0 = scale\,(image - background)$.

    Args:
        size: Height and width of the image, in pixels.
        batch: Number of scenes.
        empty: Probability of the empty scene.
        null: Probability that the location of an object is withheld.
        scale: Factor from images in [0, 1] to data.
        background: `[h, w, 3]`, the empty scene; rendered if None.

    Raises:
        ValueError: If a probability is outside [0, 1], or `batch` below 1.

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
        if self.background is None:
            set_fields(self, background=empty_scene(self.size))
        stream = self.stream()
        set_fields(self, empty=stream.empty, null=stream.null, scale=stream.scale)

    def stream(self) -> Stream:
        """The stream that this one is."""
        return Stream(
            Recipe(1, 1, bumps_of_one, SINGLE.examples),
            self.size,
            self.batch,
            draw=sample_plain,
            empty=self.empty,
            null=self.null,
            jitter=0.0,
            scale=self.scale,
            offset=self.background,
        )

    def __call__(self, key: PRNGKey) -> tuple[Float[Array, "b h w 3"], Condition]:
        """Data `[b, h, w, 3]` and conditions `[b, h, w, 2]`."""
        return self.stream()(key)

    def images(
        self, x0: Float[Array | np.ndarray, "b h w 3"]
    ) -> Float[Array, "b h w 3"]:
        """The images that data or samples stand for, clipped to [0, 1]."""
        return self.stream().images(x0)
