"""What composing k = 8 conditions costs, against one forward of 9 times the batch.

The network is the quickstart's.

python -m experiments.bench.compose
"""

import jax
import jax.numpy as jnp

import compjax as cj
from compjax import networks, scenes
from experiments.bench.timing import interleaved

K, BATCH, SIZE = 8, 16, (48, 48)


def main() -> None:
    """Prints the medians of interleaved runs, and how often the network was traced."""
    module = networks.UNet(
        channels=32,
        channel_mult=(1, 1, 1),
        num_blocks=0,
        patch=2,
        attn_resolutions=(),
        condition_channels=2,
    )
    key_init, key_x, key_xy = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, (BATCH, *SIZE, 3))
    xy = jax.random.uniform(key_xy, (K, 1, 2))
    conditions = scenes.bumps(xy, size=SIZE)[:, None]  # [K, 1, h, w, 2]
    empty = scenes.empty(conditions[0])
    sigma = jnp.float32(1.0)
    params = jax.jit(module.init)(key_init, x, sigma, empty)["params"]
    network = cj.Network(module, params)
    traces = {"compose_conditions": 0, "sequential": 0}

    @jax.jit
    def forward(network, x, condition, sigma):
        return network(x, sigma, condition)

    @jax.jit
    def composed(score, x, sigma):
        traces["compose_conditions"] += 1
        return score(x, sigma)

    @jax.jit
    def sequential(score, x, sigma):
        traces["sequential"] += 1
        return score(x, sigma)

    many = jnp.repeat(x, K + 1, axis=0)
    all_conditions = jnp.tile(
        jnp.concatenate([empty[None], conditions])[:, 0], (BATCH, 1, 1, 1)
    )
    together = cj.compose_conditions(network, empty, conditions)
    bound = [cj.condition(network, c) for c in conditions]
    apart = cj.compose(cj.condition(network, empty), *bound)
    times = interleaved(
        {
            f"one forward of {K + 1} x {BATCH}": lambda: forward(
                network, many, all_conditions, sigma
            ),
            f"compose_conditions, k = {K}": lambda: composed(together, x, sigma),
            f"compose, {K + 1} calls in turn": lambda: sequential(apart, x, sigma),
        }
    )
    # Other weights, other conditions, another level: the same program.
    composed(
        cj.compose_conditions(network, empty, conditions[::-1], 2 * jnp.ones(K)),
        x,
        jnp.float32(0.5),
    )
    device = jax.devices()[0]
    print(f"{device.platform} ({device.device_kind}), jax {jax.__version__}")
    print(f"{'':32}{'compile s':>10}{'run ms':>9}{'ratio':>7}")
    for name, t in times.items():
        print(f"{name:32}{t['compile']:10.2f}{1e3 * t['run']:9.1f}{t['ratio']:7.3f}")
    print(f"traces of compose_conditions: {traces['compose_conditions']}")


if __name__ == "__main__":
    main()
