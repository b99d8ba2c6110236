"""Sixteen places on the ground, of which every image is asked for some."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from compjax import datasets, scenes
from compjax.datasets.labels import chosen
from compjax.scenes.camera import camera_rays
from compjax.scenes.scene import CAMERA, MAX_OBJECTS

MOST = MAX_OBJECTS
"""Of the places, those that an image may be asked for."""


class Told(NamedTuple):
    """How a label of training tells, and how it is asked for more.

    Args:
        whole: The label function that tells all objects in the same encoding.
        named: Which objects a label of training names, `[b, n]`.
    """

    whole: datasets.labels.Label
    named: Any


def _present(objects: datasets.Objects) -> Any:
    return objects.present


def _named(objects: datasets.Objects) -> Any:
    return objects.named


TOLD = {
    datasets.vector_of_one: Told(datasets.vector_of_all, chosen),
    datasets.vector_of_some: Told(datasets.vector_of_all, _named),
    datasets.vector_of_all: Told(datasets.vector_of_all, _present),
    datasets.locations_of_one: Told(datasets.locations_of_all, chosen),
    datasets.locations_of_some: Told(datasets.locations_of_all, _named),
    datasets.locations_of_all: Told(datasets.locations_of_all, _present),
}


class Requests(NamedTuple):
    """n lists of ten places, whose first k are a request of k.

    Args:
        scene: n scenes with true objects at these places, in this order.
        xy: `[n, 10, 2]`, where their centres appear, in pixels.
        rest: `[n, r, 2]`, the other places, which nobody asks for.
        elsewhere: `[n, 10, 2]`, random places: chance is scored against them, as the
            requests of two images share places.
        size: Height and width of the images.
    """

    scene: scenes.Scene
    xy: Float[np.ndarray, "n k 2"]
    rest: Float[np.ndarray, "n r 2"]
    elsewhere: Float[np.ndarray, "n k 2"]
    size: tuple[int, int]

    def conditions(self, label: datasets.labels.Label, some: slice, k: int) -> Any:
        """What a network with this label is told of the first k places."""
        scene = jax.tree.map(lambda leaf: leaf[some], self.scene)
        see = lambda one: datasets.observe(
            jax.random.key(0), scenes.first(one, k), self.size
        )
        return TOLD[label].whole(jax.vmap(see)(scene))

    def renders(self, k: int) -> np.ndarray:
        """True pictures of the first k requests, as bytes."""
        images = np.asarray(_draw(self.scene, k, self.size))
        return np.round(255 * images).astype(np.uint8)

    def unasked(self, k: int) -> Float[np.ndarray, "n r 2"]:
        """The places that are not among the first k."""
        return np.concatenate([self.xy[:, k:], self.rest], axis=1)


def draw_requests(
    config: ConfigDict, stream: datasets.Stream, ground: Any = None
) -> Requests:
    """The requests of an experiment, decided by `config.seed`.

    Objects are of the stream's kind; camera and lamps stand where CLEVR puts them
    before it jitters them.

    Args:
        config: With `sample`.
        stream: Draws the objects.
        ground: The places, 10 to 20, `[m, 2]` in world units; if None those of
            `datasets.streams.ground_places`.
    """
    size = stream.size
    if ground is None:
        ground = jnp.asarray(datasets.streams.ground_places(), jnp.float32)

    @jax.jit
    @jax.vmap
    def draw(key: Any) -> tuple[scenes.Scene, Any, Any, Any]:
        key_objects, key_order = jax.random.split(key)
        # Ten scenes of one object, made one scene: ten seldom fit CLEVR's rule.
        ones = jax.vmap(lambda key: stream.draw(key, 1, 1, 0.0))(
            jax.random.split(key_objects, MOST)
        )
        together = jax.tree.map(lambda leaf: leaf[:, 0], ones)
        anywhere = dataclasses.replace(
            together, camera=ones.camera[0], lamps=ones.lamps[0]
        )
        order = jax.random.permutation(key_order, ground)
        see = lambda xy: scenes.pixel_coords(
            dataclasses.replace(anywhere, xy=xy), size
        )[:, :2]
        scene = dataclasses.replace(anywhere, xy=order[:MOST])
        rest = see(order[-MOST:])[2 * MOST - len(ground) :]
        return scene, see(scene.xy), rest, see(anywhere.xy)

    n = config.sample.images
    scene, *seen = draw(jax.random.split(jax.random.key(config.seed), n))
    return Requests(scene, *map(np.asarray, seen), size)


def below_cells(cells: Any, radius: float, grid: tuple[int, int] = (16, 16)) -> Any:
    """Where on the ground objects appear in the middles of cells of a label.

    An object that stands anywhere in a cell of 1/16 of the frame is at most 5.7 of 128
    pixels away from the middle of it: it is a hit.  From other points of the cell it
    may be none, and whoever is told the cell cannot know better.

    Args:
        cells: `[m, 2]`, row and column.
        radius: Of the objects, in world units: as high are their centres.
        grid: Rows and columns of the label.

    Returns:
        `[m, 2]`, in world units.
    """
    fractions = (jnp.asarray(cells)[:, ::-1] + 0.5) / jnp.array(grid[::-1])[None]
    eye, ray = camera_rays(jnp.array(CAMERA), (1, 1), fractions)
    far = (radius - eye.z) / ray.z
    return jnp.stack([eye.x + far * ray.x, eye.y + far * ray.y], axis=-1)[:, 0, 0]


def base_rate(
    stream: datasets.Stream, requests: Requests, radius: float, scenes_drawn: int = 4096
) -> float:
    """How often a place that no label names holds an object, in training scenes.

    The law that a network of windows is to have at places that nobody asks for: its
    windows see no label there, and the objects that labels do not name stand anywhere.
    Pictures are not drawn, and cameras stand still.

    Source: Ours.
    """
    fewest, most = stream.recipe.min_objects, stream.recipe.max_objects

    @jax.jit
    @jax.vmap
    def draw(key: Any) -> datasets.Objects:
        key_scene, key_named = jax.random.split(key)
        scene = stream.draw(key_scene, fewest, most, 0.0)
        return datasets.observe(key_named, scene, stream.size)

    objects = draw(jax.random.split(jax.random.key(1), scenes_drawn))
    named = np.asarray(TOLD[stream.recipe.label].named(objects))
    height, width = stream.size
    at = np.asarray(objects.xy)[:, :, None] * np.array([width, height])
    places = np.concatenate([requests.xy[0], requests.rest[0]])
    near = np.linalg.norm(at - places, axis=-1) <= radius
    holds = lambda which: (near & which[..., None]).any(axis=1)
    return float(holds(np.asarray(objects.present))[~holds(named)].mean())


@functools.partial(jax.jit, static_argnames="size")
def _draw(scene: scenes.Scene, k: Any, size: tuple[int, int]) -> Any:
    one = lambda scene: scenes.render(scenes.first(scene, k), size)
    return jax.lax.map(one, scene)
