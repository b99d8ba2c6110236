"""Sampling and composition on four devices: the same answer, and a quarter of the work.

The work is read from the compiled program: the batch of the network's first convolution
on one device.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.networks import UNet
from compjax.training import everywhere, make_mesh, over_batch

MODULE = UNet(
    channels=8,
    channel_mult=(1,),
    num_blocks=0,
    attn_resolutions=(),
    channels_per_head=8,
    label_dim=4,
)
SIGMA = 1.0


@pytest.fixture(scope="module")
def network():
    """A network whose output is not zero, as it is at initialisation."""
    x, labels = jnp.ones((1, 4, 4, 3)), jnp.ones((1, 4))
    params = jax.jit(MODULE.init)(jax.random.key(0), x, 1.0, labels)["params"]
    return cj.Network(MODULE, jax.tree.map(lambda p: p + 0.5 * (p.ndim == 0), params))


def noise(*shape):
    return jax.random.normal(jax.random.key(1), shape)


@jax.jit
def evaluate(score, x):
    return score(x, jnp.float32(SIGMA))


def batches_of_first_convolution(compiled):
    """The batch sizes in which one device evaluates the first layer, 4 x 4 -> 4 x 4."""
    results = re.findall(
        r" = f32\[(\d+),4,4,8\].*(?:convolution|fusion)\(.*encoder0_conv",
        compiled.as_text(),
    )
    return {int(n) for n in results}


def assert_same(actual, expected):
    # The same sums of up to 8 * 9 products in float32, perhaps in another order.
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(actual, expected, rtol=0, atol=72 * 1.2e-7 * scale)


def test_a_sharded_batch_is_sampled_in_parts(network):
    mesh = make_mesh(fsdp=2)
    sharding = over_batch(mesh)
    labels = jax.nn.one_hot(jnp.arange(8) % 4, 4)
    shape, sigmas = (8, 4, 4, 3), cj.karras_sigmas(4)

    def draw(network, labels, sharding):
        key, heun = jax.random.key(0), cj.samplers.Heun()
        score = cj.condition(network, labels)
        return cj.sample(key, score, heun, shape, sigmas, sharding=sharding)[0]

    expected = draw(network, labels, None)
    placed = jax.device_put((network, labels), everywhere(mesh))
    actual = draw(*placed, sharding)
    assert actual.sharding.is_equivalent_to(sharding, actual.ndim)
    # Seven evaluations: Heun's corrections amplify what rounding each leaves.
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    drawn = jax.jit(draw, static_argnums=2).lower(*placed, sharding).compile()
    assert batches_of_first_convolution(drawn) == {2}


@pytest.mark.parametrize("conditions_lead_with", [1, 8])
def test_a_sharded_batch_is_composed_in_parts(network, conditions_lead_with):
    mesh = make_mesh()
    x, conditions = noise(8, 4, 4, 3), noise(3, conditions_lead_with, 4)
    composed = cj.compose_conditions(network, jnp.zeros((1, 4)), conditions)
    placed = jax.device_put(composed, everywhere(mesh))
    x_placed = jax.device_put(x, over_batch(mesh))
    compiled = evaluate.lower(placed, x_placed).compile()
    assert batches_of_first_convolution(compiled) == {2 * 4}
    actual = compiled(placed, x_placed)
    assert actual.sharding.is_equivalent_to(over_batch(mesh), actual.ndim)
    assert_same(actual, evaluate(composed, x))


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("batch", [1, 2])
def test_many_conditions_are_split_over_the_devices(network, batch, chunk):
    mesh = make_mesh(fsdp=2)
    x, conditions = noise(batch, 4, 4, 3), noise(8, 1, 4)
    background, weights = jnp.zeros((1, 4)), jnp.linspace(0.1, 0.9, 8)
    whole = cj.compose_conditions(network, background, conditions, weights)
    split = cj.compose_conditions(
        jax.device_put(network, everywhere(mesh)),
        background,
        jax.device_put(conditions, over_batch(mesh)),
        weights,
        chunk=chunk,
        sharding=over_batch(mesh),
    )
    x_placed = jax.device_put(x, everywhere(mesh))
    compiled = evaluate.lower(split, x_placed).compile()
    # A quarter of the conditions for all samples; and the background, on every device.
    assert batches_of_first_convolution(compiled) == {(chunk or 8) // 4 * batch, batch}
    assert_same(compiled(split, x_placed), evaluate(whole, x))
    parts = jax.jit(lambda score, x: score.parts(x, SIGMA))
    assert_same(parts(split, x_placed), parts(whole, x))


def test_conditions_that_are_split_stay_where_they_are():
    """A score that mixes nothing is evaluated without any message between devices."""
    mesh = make_mesh()
    pull = cj.as_score(lambda x, sigma, c: c - x)
    composed = cj.compose_conditions(
        pull,
        jnp.zeros((1, 3)),
        jax.device_put(noise(8, 1, 3), over_batch(mesh)),
        sharding=over_batch(mesh),
    )
    x = jax.device_put(noise(2, 3), everywhere(mesh))
    split = lambda score, x: score._evaluate(score.score, x, SIGMA)
    text = jax.jit(split).lower(composed, x).compile().as_text()
    assert not any(op in text for op in ("all-gather", "all-to-all", "all-reduce"))
    assert "f32[2,2,3]" in text  # two conditions of each device, for both samples


def test_composed_inside_jit_of_a_batch_that_is_split_another_way(network):
    """Samples along one axis of the mesh and conditions along the other, as tracers."""
    mesh = make_mesh(fsdp=2)
    x, conditions = noise(2, 4, 4, 3), noise(4, 2, 4)
    sigma, weights = jnp.array([0.5, 2.0]), jnp.linspace(0.0, 1.0, 8).reshape(4, 2)

    @partial(jax.jit, static_argnames="sharding")
    def score(network, conditions, x, sharding=None):
        composed = cj.compose_conditions(
            network, jnp.zeros((1, 4)), conditions, weights, sharding=sharding
        )
        return composed(x, sigma)

    place = lambda a, *axes: jax.device_put(a, jax.NamedSharding(mesh, jax.P(*axes)))
    placed = (place(network), place(conditions, "fsdp", "data"), place(x, "data"))
    compiled = score.lower(*placed, sharding=over_batch(mesh)).compile()
    # Eight pairs on four devices; the background follows the samples, one in each half.
    assert batches_of_first_convolution(compiled) == {2, 1}
    assert_same(compiled(*placed), score(network, conditions, x))


def test_pairs_that_the_devices_cannot_share(network):
    composed = cj.compose_conditions(
        network,
        jnp.zeros((1, 4)),
        noise(8, 1, 4),
        chunk=3,
        sharding=over_batch(make_mesh()),
    )
    with pytest.raises(ValueError, match="3 conditions of 2 samples do not split"):
        composed(noise(2, 4, 4, 3), SIGMA)


def test_background_that_does_not_fit_split_conditions(network):
    with pytest.raises(ValueError, match="background condition"):
        cj.compose_conditions(
            network,
            jnp.zeros((1, 5)),
            noise(8, 1, 4),
            sharding=over_batch(make_mesh()),
        )


def test_probes_of_locality_are_the_same_on_a_split_batch(network):
    """Every device differentiates at its own samples; sums over them are exchanged."""
    pixels = cj.windows.square((4, 4), 2)
    corner = np.asarray(pixels.tiles[:1])
    score = cj.condition(network, jnp.eye(4)[:1])

    @jax.jit
    def probe(key, score, x):
        found = cj.analysis.influence_by_distance(key, score, x, SIGMA, pixels, 1)
        return found[1], cj.analysis.influence(score, x, SIGMA, corner)

    x, mesh = noise(8, 4, 4, 3), make_mesh(8)
    split = jax.device_put(x, over_batch(mesh))
    placed = jax.device_put(score, everywhere(mesh))
    program = probe.lower(jax.random.key(0), placed, split).compile()
    assert batches_of_first_convolution(program) == {2}
    key = jax.random.key(0)
    actual = probe(key, placed, split)
    expected = probe(jax.random.clone(key), score, x)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert_same(a, e)
