"""Nine places on the ground, in another order for every image: what is asked for."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from compjax import datasets, scenes

PLACES = 9


class Requests(NamedTuple):
    """n lists of the nine places, whose first k are a request of k.

    Args:
        scene: n scenes with true objects at these places, in this order.
        xy: `[n, 9, 2]`, where their centres appear, in pixels.
        elsewhere: `[n, 9, 2]`, random places, which nobody asked for: chance is scored
            against them, as all requests of nine are the same.
        empty: `[h, w, 3]`, the scene without objects.
        stream: Says how places are told to a network.
    """

    scene: scenes.Scene
    xy: np.ndarray
    elsewhere: np.ndarray
    empty: np.ndarray
    stream: datasets.Stream

    def conditions(self, some: slice) -> Any:
        """What the network is told of each place alone, `[9, b, ...]`."""
        scene = jax.tree.map(lambda leaf: leaf[some], self.scene)
        observe = lambda scene: datasets.observe(
            jax.random.key(0), scene, self.stream.size
        )
        objects = jax.vmap(observe)(scene)
        b = len(scene.present)
        one = lambda i: dataclasses.replace(objects, chosen=jnp.full(b, i))
        label = self.stream.recipe.label
        return jnp.stack([label(one(i)) for i in range(PLACES)])

    def renders(self, k: int) -> np.ndarray:
        """True pictures of the first k requests, as bytes."""
        draw = jax.jit(
            lambda scene, k: jax.lax.map(
                lambda one: scenes.render(scenes.first(one, k), self.stream.size), scene
            )
        )
        return np.round(255 * np.asarray(draw(self.scene, k))).astype(np.uint8)


def draw_requests(config: ConfigDict, stream: datasets.Stream) -> Requests:
    """The requests of an experiment, decided by `config.seed`.

    Objects are of the stream's kind; camera and lamps stand where CLEVR puts them
    before it jitters them.
    """
    n, size = config.sample.images, stream.size
    steps = config.sample.spacing * jnp.arange(-1.0, 2.0)
    ground = jnp.stack(jnp.meshgrid(steps, steps), axis=-1).reshape(PLACES, 2)

    @jax.jit
    @jax.vmap
    def draw(key: Any) -> tuple[scenes.Scene, Any, Any]:
        key_objects, key_order = jax.random.split(key)
        # Nine scenes of one object, made one scene: nine seldom fit CLEVR's rule.
        ones = jax.vmap(lambda key: stream.draw(key, 1, 1, 0.0))(
            jax.random.split(key_objects, PLACES)
        )
        together = jax.tree.map(lambda leaf: leaf[:, 0], ones)
        anywhere = dataclasses.replace(
            together, camera=ones.camera[0], lamps=ones.lamps[0]
        )
        asked = jax.random.permutation(key_order, ground)
        scene = dataclasses.replace(anywhere, xy=asked)
        see = lambda scene: scenes.pixel_coords(scene, size)[:, :2]
        return scene, see(scene), see(anywhere)

    scene, xy, elsewhere = draw(jax.random.split(jax.random.key(config.seed), n))
    empty = datasets.empty_scene(size)
    return Requests(scene, *map(np.asarray, (xy, elsewhere, empty)), stream)


def strength(
    images: np.ndarray, empty: np.ndarray, places: np.ndarray, radius: float
) -> float:
    """How far images are from the empty scene around places, on average.

    The mean absolute difference of colours from 0 to 1 in discs of this radius.
    """
    height, width = images.shape[1:3]
    rows, columns = np.mgrid[:height, :width] + 0.5
    seen = np.stack([columns, rows], axis=-1)
    distance = np.linalg.norm(seen - places[:, :, None, None], axis=-1)
    inside = (distance <= radius).any(axis=1)
    away = np.abs(np.float32(images) / 255 - empty).mean(axis=-1)
    return float(away[inside].mean())
