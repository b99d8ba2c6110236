"""The layouts of training that `scaling.py` and `communication.py` look at."""

from typing import Any, NamedTuple

import jax
from jax.tree_util import Partial

from compjax import training
from compjax.networks import UNet
from compjax.noise import LogNormal


class Setting(NamedTuple):
    """A compiled train step, and what it is called with."""

    step: Any
    state: Any
    key: Any
    batch: Any


def widths(devices: int) -> dict[str, int]:
    """Over how many devices each layout splits the state."""
    split = {"mixed": devices // 2, "fully sharded": devices}
    apart = {name: fsdp for name, fsdp in split.items() if fsdp > 1}
    return {"data-parallel": 1} | apart


def compile_step(module: UNet, batch: int, fsdp: int) -> Setting:
    """The train step over all devices, with a state that was made in its place.

    Args:
        module: With `image`, without condition.
        batch: Images, a multiple of the number of devices.
        fsdp: Over how many devices the state is split.
    """
    mesh = training.make_mesh(batch, fsdp)
    optimizer, key = training.edm2_adam(1e-3), jax.random.key(0)
    example = (jax.ShapeDtypeStruct((batch, *module.image), "float32"), None)
    init = lambda key: training.init_state(key, module, optimizer, example)
    places = training.sharded(jax.eval_shape(init, key), mesh)
    state = jax.jit(init, out_shardings=places)(key)
    x0 = jax.random.normal(key, example[0].shape)
    given = Partial(ready, jax.device_put(x0, training.over_batch(mesh)))
    step = training.make_train_step(module, optimizer, LogNormal(-0.8, 1.6), mesh=mesh)
    lowered = jax.jit(step, donate_argnums=0).lower(state, key, given)
    return Setting(lowered.compile(), state, key, given)


def ready(x0: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    """A batch that is there already."""
    return x0, None


def bytes_by_device(tree: Any) -> list[int]:
    """How many bytes of a tree each device holds."""
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(tree):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    return list(held.values())
