"""The networks of the experiments on sprites, trained where they are not yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import networks, noise, training
from experiments.local.world import ENCODINGS, Sprites, World
from experiments.models import mean_loss


class Model(NamedTuple):
    """A trained network, and how it is told of places.

    Args:
        network: The conditional score.
        encode: From booleans `[b, places, places]` to conditions.
        loss: The mean training loss of the last tenth of the steps.
    """

    network: cj.Network
    encode: Any
    loss: float


def trained(
    config: ConfigDict, world: World, workdir: Path, name: str, seed: int
) -> Model:
    """The model of this name; it is trained first, from where it was left.

    Raises:
        ValueError: If training was interrupted, so that there is no model yet.
    """
    m, t = config.models[name], config.train
    module = make_module(config, world, m)
    stream = make_stream(config, world, m)
    images = t.batch
    rate = training.edm2_learning_rate(
        m.learning_rate, m.decay, images, t.rampup_images
    )
    folder = workdir / "models" / f"{name}-{seed}"
    state = training.train(
        jax.random.key(seed),
        module,
        training.edm2_adam(rate),
        stream,
        noise.LogNormal(t.noise_mean, t.noise_std),
        steps=m.steps,
        workdir=folder,
        averages=(training.PowerFunction(t.average_std),),
        save_every=t.save_every,
        keep=1,
        log_every=50,
        evaluate_every=10**9,
    )
    if int(state.step) < m.steps:
        raise ValueError(
            f"training stopped at step {int(state.step)} of {m.steps}; the same "
            "command goes on from there."
        )
    network = cj.Network(module, state.averages[0])
    return Model(network, stream.encode, mean_loss(folder, m.steps))


def make_stream(config: ConfigDict, world: World, m: ConfigDict) -> Sprites:
    """The training set of a model: what is in the images, and what it is told."""
    return Sprites(
        world.templates,
        np.full(m.most, 1 / m.most),
        m.completeness,
        config.train.null,
        world.scale,
        world.places,
        config.train.batch,
        ENCODINGS[m.encoding],
    )


def make_module(config: ConfigDict, world: World, m: ConfigDict) -> Any:
    """The denoiser of a model: global, or local in pixels, conditions or both."""
    places = world.places**2
    common = {
        "channel_mult": (1,),
        "num_blocks": 1,
        "attn_resolutions": (),  # the middle blocks attend, over all of what they see
        "channels_per_head": config.network.channels_per_head,
        "patch": config.network.patch,
        "sigma_data": config.network.sigma_data,
    }
    if m.window is None:
        kind = "condition_channels" if m.encoding == "channel" else "label_dim"
        size = {kind: 1 if m.encoding == "channel" else places}
        return networks.UNet(channels=config.network.channels, **common, **size)
    w = m.window
    told = places if w.conditions is None else 1
    net = networks.UNet(
        channels=config.network.local_channels, condition_channels=told + 3, **common
    )
    tile = config.world.pixels
    order = placebo(places, config.seed) if w.placebo else None
    radius = Grow(w.pixels, w.grow) if w.grow else None
    return networks.Local(net, tile, w.pixels, w.conditions, radius, order)


class Grow(NamedTuple):
    """The radius of windows: all of the reach above a noise level, nothing below.

    Args:
        reach: In pixels.
        level: A noise level.
    """

    reach: int
    level: float

    def __call__(self, sigma: Any) -> Any:
        return jnp.where(sigma > self.level, float(self.reach), 0.0)


def placebo(tiles: int, seed: int) -> tuple[int, ...]:
    """A permutation of tiles that leaves none where it is."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(tiles)
        if (order != np.arange(tiles)).all():
            return tuple(order.tolist())
