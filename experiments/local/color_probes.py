r"""What is asked of networks that are told colours; everything is returned as arrays.

Ours, as the paper's definitions are not known.  *In pixels*: the change of the score
when one object's label is taken away, by the distance from this object.  *In features*:
$d_i = E[A \mid i] - E[A \mid \text{nothing}]$, activations A for one object of colour i
less those for nothing, at places, shapes and noise that are the same for all colours.
"Nothing" is the empty scene, told as that, or any scene, told as unknown.  All shifts
from the former share that an object is there, and all from the latter that objects are
fewer; shifts from the mean of all colours share neither.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.ndimage import distance_transform_edt

import compjax as cj
from compjax import analysis, datasets, scenes
from experiments.models import Model, sample_images

Arrays = dict[str, np.ndarray]

COLORS = range(len(scenes.COLORS))
EMPTY, ANY = len(COLORS), len(COLORS) + 1
"""Of the kinds of scenes: one object of each colour, then the two kinds of nothing."""

BACKGROUNDS = {"empty": EMPTY, "any": ANY}
"""What shifts are from, as kinds."""

TOLD = ("own", "nothing")
"""What a network is told of a scene whose features it makes: its label, or null."""

MAPS = 16
"""Draws of noise that a map of changes is averaged over."""


def draw(config: ConfigDict, streams: dict[str, datasets.Stream]) -> Arrays:
    """The clean scenes of all probes, and what networks are told of them.

    Returns:
        `pair_x0` `[n, h, w, 3]`, two or three objects whose colours differ; for every
        model `pair_both_NAME`, their label, and `pair_one_NAME`, the label without the
        first object; `pair_distance` `[n, h, w, 1]`, of pixels from it; `single_x0`
        `[m, 8, h, w, 3]`, one object in all colours; `any_x0`, scenes of training;
        `empty_x0` `[1, h, w, 3]`.
    """
    stream = streams["colors"]
    keys = jax.random.split(jax.random.key(config.seed), 3)
    pairs, masks = _pairs(keys[0], config.locality.scenes, stream)
    distance = np.stack([distance_transform_edt(~mask) for mask in np.asarray(masks)])
    see = jax.vmap(lambda one: datasets.observe(jax.random.key(0), one, stream.size))
    objects = see(pairs)
    others = dataclasses.replace(objects, present=objects.present.at[:, 0].set(False))
    m = config.features.scenes
    fewest, most = stream.recipe.min_objects, stream.recipe.max_objects
    anything = jax.vmap(lambda key: stream.draw(key, fewest, most, 0.0))
    single = jax.vmap(lambda key: stream.draw(key, 1, 1, 0.0))(
        jax.random.split(keys[1], m)
    )
    nobody = jax.vmap(lambda one: scenes.first(one, 0))(
        jax.tree.map(lambda leaf: leaf[:1], single)
    )
    in_all_colors = [
        _render(_colored(single, jnp.full((m, 1), color)), stream) for color in COLORS
    ]
    drawn = {
        "pair_x0": _render(pairs, stream),
        "pair_distance": distance[..., None],
        "single_x0": np.stack(in_all_colors, axis=1),
        "any_x0": _render(anything(jax.random.split(keys[2], m)), stream),
        "empty_x0": _render(nobody, stream),
    }
    for name, told in streams.items():
        drawn[f"pair_both_{name}"] = np.asarray(told.recipe.label(objects))
        drawn[f"pair_one_{name}"] = np.asarray(told.recipe.label(others))
    return drawn


def _pairs(key: Any, n: int, stream: datasets.Stream) -> tuple[scenes.Scene, Any]:
    """Scenes of differing colours, and where their first object shows."""

    @jax.jit
    @jax.vmap
    def scene(key: Any) -> tuple[scenes.Scene, Any]:
        key_scene, key_color = jax.random.split(key)
        scene = stream.draw(key_scene, 2, 3, 0.0)
        color = jax.random.permutation(key_color, len(COLORS))[: len(scene.color)]
        scene = dataclasses.replace(scene, color=color)
        return scene, scenes.object_map(scene, stream.size) == 0

    drawn, masks = scene(jax.random.split(key, 2 * n + 8))
    # The first object may be hidden: others are taken instead.
    shown = np.flatnonzero(np.asarray(masks.any((1, 2))))[:n]
    return jax.tree.map(lambda leaf: leaf[shown], drawn), masks[shown]


@jax.vmap
def _colored(scene: scenes.Scene, color: Any) -> scenes.Scene:
    """The same scenes in colours `[n, objects]`."""
    return dataclasses.replace(scene, color=color)


def _render(scene: scenes.Scene, stream: datasets.Stream) -> np.ndarray:
    """Clean data `[n, h, w, 3]` of n scenes."""
    images = _images(scene, stream.size)
    offset = stream.offset[None] if stream.offset.ndim else stream.offset
    return np.asarray(stream.scale * (images - offset), np.float32)


@functools.partial(jax.jit, static_argnames="size")
def _images(scene: scenes.Scene, size: tuple[int, int]) -> Any:
    return jax.lax.map(lambda one: scenes.render(one, size), scene)


def locality(config: ConfigDict, model: Model, drawn: Arrays, name: str) -> Arrays:
    """What taking one object's label away changes, by distance and as maps.

    Returns:
        `distances` and `mass`, of the score, as `analysis.Locality` has them; `maps`
        `[n, h, w]`: for every noise level the mean squared changes of the first scene.
    """
    sigmas = config.locality.sigmas
    told = [jnp.asarray(drawn[f"pair_{label}_{name}"]) for label in ("both", "one")]
    x0 = jnp.asarray(drawn["pair_x0"])
    key, key_maps = jax.random.split(jax.random.key(config.seed + 3))
    report = analysis.condition_locality(
        key, model.network, x0, sigmas, *told, drawn["pair_distance"]
    )
    eps = jax.random.normal(key_maps, (MAPS, *x0.shape[1:]))

    @jax.jit
    def squares(network: Any, sigma: Any) -> Any:
        x = x0[:1] + sigma * eps
        both, one = (network(x, sigma, label[:1]) for label in told)
        return ((both - one) ** 2).mean(0).sum(-1)

    maps = [squares(model.network, jnp.float32(sigma)) for sigma in sigmas]
    return {
        "distances": report.distances,
        "mass": report.mass.score,
        "maps": np.stack(maps),
    }


def spread(drawn: Arrays, squares: Any) -> analysis.Locality:
    """`locality` of a change that is the same wherever the object stands.

    Args:
        drawn: As `draw` returns it.
        squares: `[n or 1, h, w, 1]`, the squared change in every pixel.
    """
    x0 = jnp.asarray(drawn["pair_x0"])
    change = jnp.broadcast_to(jnp.sqrt(jnp.asarray(squares, jnp.float32)), x0.shape)
    told = cj.as_score(_told)
    key, none = jax.random.key(0), jnp.zeros_like(change)
    return analysis.condition_locality(
        key, told, x0, [1.0], change, none, drawn["pair_distance"]
    )


def _told(x: Any, sigma: Any, condition: Any) -> Any:
    """A score that is its condition."""
    return condition + 0 * x / sigma


def mean_images(drawn: Arrays) -> np.ndarray:
    """`[2, 10, h * w * 3]`: the mean image of every kind of scene, in two halves."""
    halves = []
    for half in (slice(0, None, 2), slice(1, None, 2)):
        anything = drawn["any_x0"][half].mean(0)
        colors = drawn["single_x0"][half].mean(0)
        halves.append(np.stack([*colors, drawn["empty_x0"][0], anything]))
    return np.stack(halves).reshape(2, len(COLORS) + 2, -1)


def shifts(means: np.ndarray, background: str) -> np.ndarray:
    """`[2, 8, f]`: what each colour changes, of the means `[2, 10, f]` of all kinds.

    Args:
        means: Of images or of activations.
        background: `"empty"`, `"any"`, or `"one"`, the mean of all colours: eight
            orthogonal shifts of one length have cosines of -1/7 from there.
    """
    colors = means[:, : len(COLORS)]
    if background == "one":
        return colors - colors.mean(1, keepdims=True)
    return colors - means[:, BACKGROUNDS[background], None]


def conditions(told: str) -> list[Any]:
    """What networks are told of the ten kinds of scenes.

    Args:
        told: Of `TOLD`.
    """
    colors = [scenes.colors(jnp.array([[color]])) for color in COLORS]
    empty, null = scenes.empty(colors[0]), scenes.null(colors[0])
    return [*colors, empty, null] if told == "own" else [null] * (len(colors) + 2)


def features(config: ConfigDict, model: Model, drawn: Arrays) -> Arrays:
    """Mean activations for the ten kinds of scenes, and cosines of scores.

    Returns:
        For every layer `[2, s, 2, 10, f]`: what is told, noise levels, halves of the
        scenes, kinds.  `score` `[2, s, 8, 8]`: cosines of the changes of the score from
        either background to each colour, at the same noised scenes of training.
    """
    f = config.features
    singles, anything = jnp.asarray(drawn["single_x0"]), jnp.asarray(drawn["any_x0"])
    empty = jnp.zeros_like(anything) + jnp.asarray(drawn["empty_x0"])
    kinds = [*jnp.moveaxis(singles, 1, 0), empty, anything]
    eps = jax.random.normal(jax.random.key(config.seed + 4), anything.shape)

    @jax.jit
    def halves(network: Any, x: Any, sigma: Any, told: Any) -> list[Any]:
        seen = activations(network, f.layers, x, sigma, told)
        return [jnp.stack([a[half::2].mean(0) for half in (0, 1)]) for a in seen]

    cosines = jax.jit(analysis.delta_cosines)
    told = {name: conditions(name) for name in TOLD}
    colors, labels = told["own"][: len(COLORS)], told["own"]
    found: dict[str, list[Any]] = {layer: [] for layer in f.layers}
    scores = []
    for sigma in map(jnp.float32, f.sigmas):
        x = anything + sigma * eps
        scores.append(
            [
                cosines(model.network, x, sigma, labels[background], colors).mean(0)
                for background in BACKGROUNDS.values()
            ]
        )
        for name in TOLD:
            each = [
                halves(model.network, x0 + sigma * eps, sigma, label)
                for x0, label in zip(kinds, told[name], strict=True)
            ]
            for layer, kind in zip(f.layers, zip(*each, strict=True), strict=True):
                found[layer].append(np.stack(kind, axis=1))
    order = (len(f.sigmas), len(TOLD))
    return {
        layer: np.moveaxis(np.stack(list_).reshape(*order, *list_[0].shape), 0, 1)
        for layer, list_ in found.items()
    } | {"score": np.moveaxis(np.array(scores), 0, 1)}


def activations(
    network: cj.Network, layers: Any, x: Any, sigma: Any, condition: Any
) -> list[Any]:
    """`[b, f]` of every layer; the calls become one where they are compiled."""
    return [
        analysis.NetworkFeatures(network, layer)(x, sigma, condition)
        for layer in layers
    ]


def channels(config: ConfigDict, layer: str, size: int) -> int:
    """How many of the f activations of a layer belong to one place of its grid.

    Args:
        config: With `common`, of which the sizes of the network are read.
        layer: A module of `networks.UNet`, whose name tells its level.
        size: f.

    Raises:
        ValueError: If the name does not tell a level.
    """
    level = re.match(r"(?:en|de)coder(\d+)_", layer)
    if level is None:
        raise ValueError(f"{layer!r} is no block of an encoder or a decoder.")
    patch = config.common.network.patch or 1
    side = config.common.data.size // patch // 2 ** int(level[1])
    return size // side**2


def untrained(config: ConfigDict, module: Any, key: Any) -> list[Any]:
    """The features of a network before training: for their shapes, and mistakes."""
    side, label = config.common.data.size, scenes.colors(jnp.array([[0]]))
    x = jnp.zeros((1, side, side, 3))
    params = module.init(key, x, 1.0, label)["params"]
    layers = config.features.layers
    found = activations(cj.Network(module, params), layers, x, 1.0, label)
    for layer, a in zip(layers, found, strict=True):
        channels(config, layer, a.shape[1])
    return found


def orders(config: ConfigDict) -> np.ndarray:
    """`[n, 8]`: all colours in a random order for every image, decided by the seed.

    The first k of them are a request of k, and the last k another, of which chance is
    counted: up to k = 4 the two share no colour.
    """
    rng = np.random.default_rng(config.seed)
    return np.stack([rng.permutation(len(COLORS)) for _ in range(config.sample.images)])


def samples(config: ConfigDict, model: Model, seed: int) -> Arrays:
    """Images, as bytes, for every number of colours, and the objects in them."""
    asked, found = orders(config), {}
    for k in config.sample.requests:
        labels = scenes.colors(asked, np.arange(len(COLORS))[None] < k + 0 * asked)
        ask = lambda some, labels=labels: cj.condition(model.network, labels[some])
        images = sample_images(
            config, model.stream, ask, seed, cj.samplers.DPMSolverPP()
        )
        found |= detected(images, k)
    return found


def truth(config: ConfigDict, streams: dict[str, datasets.Stream]) -> Arrays:
    """As `samples`, for true pictures of one object of every colour asked for."""
    stream, n = streams["colors"], config.sample.images
    most = max(config.sample.requests)
    keys = jax.random.split(jax.random.key(config.seed + 5), n)
    drawn = jax.vmap(lambda key: stream.draw(key, most, most, 0.0))(keys)
    drawn = _colored(drawn, jnp.asarray(orders(config)[:, :most]))
    found = {}
    for k in config.sample.requests:
        first = jax.vmap(lambda one, k=k: scenes.first(one, k))(drawn)
        images = np.asarray(_images(first, stream.size))
        found |= detected(np.round(255 * images).astype(np.uint8), k)
    return found


def detected(images: np.ndarray, k: int) -> Arrays:
    """Images as bytes with the objects in them, named after k."""
    found = scenes.detect(np.float32(images) / 255)
    return {
        f"images_{k}": images,
        f"xy_{k}": np.asarray(found.xy),
        # -1: no object.
        f"color_{k}": np.where(found.valid, found.color, -1),
    }
