"""How local the networks of rendered scenes are, at labels like those of training."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, datasets, scenes
from experiments.local.clevr_requests import TOLD
from experiments.local.probes import summary
from experiments.models import Model


class Probed(NamedTuple):
    """Images of a model's training set, and labels of which one object is taken away.

    Args:
        x0: `[n, h, w, 3]`.
        condition: Labels of the named objects.
        without: The same less one of them; `scenes.null` where it was the only one.
        distance: `[n, h, w, 1]`, of every pixel from the disc of that object, in whole
            pixels.
    """

    x0: Any
    condition: Any
    without: Any
    distance: np.ndarray


def probed(stream: datasets.Stream, n: int, key: Any, disc: float) -> Probed:
    """Draws what a model is probed on.

    Args:
        stream: Its training set.
        n: Images.
        key: Of the images.
        disc: Radius of objects, as a share of the image's width.
    """
    stream = dataclasses.replace(stream, batch=n, mesh=None)
    images, objects = jax.jit(datasets.Stream.pictures)(stream, key)
    told = TOLD[stream.recipe.label]
    named = np.asarray(told.named(objects))
    which = named.argmax(axis=1)
    rest = named.copy()
    rest[np.arange(n), which] = False
    label = lambda present: told.whole(
        dataclasses.replace(objects, present=jnp.asarray(present))
    )
    condition, without = label(named), label(rest)
    alone = ~rest.any(axis=1).reshape(-1, *(1,) * (without.ndim - 1))
    without = jnp.where(alone, scenes.null(condition), without)

    height, width = stream.size
    xy = np.asarray(objects.xy)[np.arange(n), which] * np.array([width, height])
    rows, columns = np.indices(stream.size) + 0.5
    away = np.hypot(columns - xy[:, 0, None, None], rows - xy[:, 1, None, None])
    distance = np.ceil(np.maximum(away - disc * width, 0))[..., None]
    offset = stream.offset[None] if stream.offset.ndim else stream.offset
    return Probed(stream.scale * (images - offset), condition, without, distance)


def probe(config: ConfigDict, model: Model) -> dict[str, Any]:
    """The curves of a model, as `probes.probe` gives those of sprites.

    Pixels are looked at from tiles of `config.probe.tile`; conditions from the disc of
    the object whose label is taken away.
    """
    p = config.probe
    key_data, key_pixels, key_labels = jax.random.split(jax.random.key(config.seed), 3)
    on = probed(model.stream, p.images, key_data, p.disc)
    windows = cj.windows.square(model.stream.size, p.tile)
    told = cj.condition(model.network, on.condition)
    pixels = analysis.locality(key_pixels, told, on.x0, p.sigmas, windows, p.probes)
    labels = analysis.condition_locality(
        key_labels,
        model.network,
        on.x0,
        p.sigmas,
        on.condition,
        on.without,
        on.distance,
    )
    return {
        "sigmas": list(p.sigmas),
        "pixels": summary(pixels),
        "conditions": summary(labels),
    }
