"""How local the networks of the sprites are: curves, maps, and laws to compare with."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis
from experiments.local.models import Model, make_stream
from experiments.local.world import World

MAPS_AT = (0.1, 0.5, 2.0)
"""Noise levels of the maps."""


class Probed(NamedTuple):
    """Images like those of a model's training, and labels of which one is taken away.

    Args:
        x0: `[b, h, w, 1]`.
        condition: What the model is told of them.
        without: The same without one label.
        place: `[b]`, the place of that label.
        windows: Tiles, which are the places, and distances from them.
    """

    x0: Any
    condition: Any
    without: Any
    place: np.ndarray
    windows: cj.windows.Windows


def probed(
    config: ConfigDict, world: World, model: Model, name: str, key: Any
) -> Probed:
    """What a model is probed on."""
    stream = make_stream(config, world, config.models[name])
    x0, named = stream.draw(key, config.probe.images)
    flat = np.asarray(named).reshape(len(x0), -1)
    place, rest = flat.argmax(1), flat.copy()
    rest[np.arange(len(x0)), place] = False
    return Probed(
        x0,
        model.encode(named),
        model.encode(jnp.asarray(rest).reshape(named.shape)),
        place,
        cj.windows.square((world.side, world.side), config.world.pixels),
    )


def probe(config: ConfigDict, world: World, model: Model, name: str) -> dict[str, Any]:
    """How local a model is, on images and labels like those of its training."""
    p = config.probe
    key_data, key_pixels, key_labels = jax.random.split(jax.random.key(config.seed), 3)
    on = probed(config, world, model, name, key_data)
    told = cj.condition(model.network, on.condition)
    pixels = analysis.locality(key_pixels, told, on.x0, p.sigmas, on.windows, p.probes)
    labels = analysis.condition_locality(
        key_labels,
        model.network,
        on.x0,
        p.sigmas,
        on.condition,
        on.without,
        np.asarray(on.windows.reach.distance)[on.place],
    )
    return {
        "sigmas": list(p.sigmas),
        "pixels": summary(pixels),
        "conditions": summary(labels),
    }


def maps(
    config: ConfigDict, world: World, model: Model, name: str
) -> dict[str, np.ndarray]:
    r"""Where a place of the denoised image looks, and what a label changes, from there.

    Returns:
        `pixels` and `conditions`, `[n, 2h - 1, 2w - 1]` for the n levels `MAPS_AT`:
        squared derivatives of D, and squared differences of D, seen from the place
        (`analysis.recentred`), means over images.
    """
    key_data, key_noise, key_signs = jax.random.split(jax.random.key(config.seed), 3)
    on = probed(config, world, model, name, key_data)
    tiles = on.windows.tiles
    noise = jax.random.normal(key_noise, on.x0.shape)
    found: dict[str, list[np.ndarray]] = {"pixels": [], "conditions": []}
    for sigma in MAPS_AT:
        x = on.x0 + sigma * noise
        told = cj.condition(model.network, on.condition)
        squares = analysis.influence_estimate(
            jax.random.clone(key_signs), told, x, sigma, tiles, probes=2
        ).squares
        found["pixels"].append(analysis.recentred(squares.denoiser, tiles))
        change = sigma**2 * (
            model.network(x, sigma, on.condition) - model.network(x, sigma, on.without)
        )
        own = np.asarray(tiles)[on.place]
        found["conditions"].append(analysis.recentred(change**2, own))
    return {name: np.stack(each) for name, each in found.items()}


def nulls(config: ConfigDict, world: World) -> dict[str, Any]:
    """The probes of densities whose locality is known, at the labels of one place.

    `exact_1` and `exact_2` are the laws that experiments 1 and 2 are trained on, given
    one label; `gaussian` has the moments of experiment 2's images.
    """
    p, most = config.probe, 3
    key_probes, *keys = jax.random.split(jax.random.key(config.seed), 4)
    windows = cj.windows.square((world.side, world.side), config.world.pixels)
    others = {"exact_1": [1.0], "exact_2": np.full(most, 1 / most)}
    laws = {name: world.density((0,), law) for name, law in others.items()}
    x0 = {
        name: world.image(law.sample(key, p.images))
        for key, (name, law) in zip(keys, laws.items(), strict=False)
    }
    scores = {name: world.score(law) for name, law in laws.items()}
    many = world.image(laws["exact_2"].sample(keys[-1], 4000))
    scores["gaussian"], x0["gaussian"] = analysis.gaussian_like(many), x0["exact_2"]
    found = {
        name: analysis.locality(
            jax.random.clone(key_probes), score, x0[name], p.sigmas, windows, p.probes
        )
        for name, score in scores.items()
    }
    return {name: {"pixels": summary(one)} for name, one in found.items()}


def summary(found: analysis.Locality) -> dict[str, Any]:
    """Shares beyond the tile, radii and strengths, by view."""
    shares, radii, sizes = found.beyond(0.0), found.radius(), found.strength()
    return {
        view: {
            "beyond": getattr(shares, view).mean.tolist(),
            "error": getattr(shares, view).error.tolist(),
            "radius": getattr(radii, view).tolist(),
            "strength": getattr(sizes, view).tolist(),
        }
        for view in found.mass._fields
    }
