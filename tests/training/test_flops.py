from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from compjax.networks import UNet
from compjax.networks.edm2 import preset
from compjax.training.flops import count_macs

X, W = jnp.ones((5, 7)), jnp.ones((7, 7))
PRODUCT = 5 * 7 * 7


def forward_macs(module, label=None):
    x = jax.ShapeDtypeStruct((1, *module.image), "float32")
    variables = jax.eval_shape(module.init, jax.random.key(0), x, 1.0)
    return count_macs(lambda v, x: module.apply(v, x, 1.0, label), variables, x)


@pytest.mark.parametrize(
    "name, resolution, channels, giga",
    [
        ("img512-xs", 64, 4, 44.95),
        ("img512-s", 64, 4, 100.82),
        ("img512-m", 64, 4, 178.95),
        ("img512-l", 64, 4, 279.34),
        ("img512-xl", 64, 4, 402.00),
        ("img512-xxl", 64, 4, 546.91),
        ("img64-xs", 64, 3, 44.94),
        ("img64-s", 64, 3, 100.81),
        ("img64-m", 64, 3, 178.93),
        ("img64-l", 64, 3, 279.32),
        ("img64-xl", 64, 3, 401.97),
        ("img64-xs", 128, 3, 174.52),
    ],
)
def test_networks_of_edm2_cost_what_was_measured_of_them(
    name, resolution, channels, giga
):
    module = preset(name, resolution, channels, label_dim=1000)
    # There levels are resampled by convolutions, as here with any taps but (1, 1).
    macs = forward_macs(module.clone(resample_filter=(2, 2)))
    assert macs / 1e9 == pytest.approx(giga, abs=0.0051)  # two decimals were kept


def test_products_inside_other_programs_are_counted():
    step = lambda x, _: (x @ W, None)
    product = jax.custom_jvp(lambda x: x @ W)
    product.defjvps(lambda tangent, _, x: tangent @ W)
    programs = {
        "jit": jax.jit(lambda x: x @ W),
        "remat": jax.checkpoint(lambda x: x @ W),
        "custom": product,
        "cond": lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ W, lambda x: x, x),
        "vmap": jax.vmap(lambda row: row @ W),
    }
    for name, program in programs.items():
        assert count_macs(program, X) == PRODUCT, name
    scan = lambda x: jax.lax.scan(step, x, None, length=11)[0]
    assert count_macs(scan, X) == 11 * PRODUCT
    assert count_macs(jax.jit(lambda x: scan(scan(x))), X) == 22 * PRODUCT
    assert count_macs(lambda x: x + 1, X) == 0


def test_batches_of_products_and_several_contracted_axes():
    a, b = jnp.ones((2, 3, 4, 5)), jnp.ones((2, 4, 5, 6))
    assert count_macs(partial(jnp.einsum, "bijk,bjkl->bil"), a, b) == 2 * 3 * 6 * 4 * 5


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_count_their_window_and_its_channels(groups):
    x, kernel = jnp.ones((2, 8, 6, 4)), jnp.ones((3, 3, 4 // groups, 10))
    convolve = lambda x, kernel: jax.lax.conv_general_dilated(
        x,
        kernel,
        (2, 2),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    macs = 2 * 4 * 3 * 10 * (9 * 4 // groups)
    assert count_macs(convolve, x, kernel) == macs
    # The gradient of the input spreads each output over the window it came from: a
    # convolution of the dilated output, where only one pixel in four is not zero.
    loss = lambda x: convolve(x, kernel).sum()
    assert count_macs(jax.grad(loss), x) == pytest.approx(2 * macs, rel=0.15)


def test_training_costs_three_forward_passes_and_rematerialisation_a_fourth():
    module = UNet(channels=16, channel_mult=(1,), num_blocks=0, image=(8, 8, 3))
    forward = forward_macs(module)

    def training_macs(module):
        x = jax.ShapeDtypeStruct((1, 8, 8, 3), "float32")
        variables = jax.eval_shape(module.init, jax.random.key(0), x, 1.0)
        loss = lambda v, x: module.apply(v, x, 1.0).sum()
        return count_macs(jax.grad(loss), variables, x)

    # The first layer needs no gradient of its input.
    assert training_macs(module) == pytest.approx(3 * forward, rel=0.03)
    again = training_macs(module.clone(wrap=nn.remat))
    assert again == pytest.approx(4 * forward, rel=0.1)


def test_loops_of_unknown_length_are_refused():
    multiply = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ W, x)
    with pytest.raises(ValueError, match="while loop"):
        count_macs(multiply, X)
    count = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x + 1, x)
    assert count_macs(count, X) == 0
