"""Names and layouts of EDM2's own code, by what its description says of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from compjax.networks import UNet
from compjax.networks.edm2 import params_from_reference, preset
from compjax.networks.edm2.reference import reference_name

MODULE = UNet(
    channels=8,
    channel_mult=(1, 2, 2),
    num_blocks=2,
    attn_resolutions=(16,),
    channels_per_head=8,
    label_dim=3,
    image=(32, 32, 2),
)


def shapes(module):
    x = jnp.zeros((1, *module.image))
    params = jax.eval_shape(module.init, jax.random.key(0), x, 1.0)["params"]
    return flatten_dict(params)


def to_reference(params, height):
    """The inverse, written on its own: convolutions OIHW, linear maps [out, in]."""
    state = {}
    for path, value in flatten_dict(params).items():
        if value.ndim == 4:
            value = np.einsum("hwio->oihw", value)
        elif value.ndim == 2:
            value = value.T
        state[reference_name(path, height)] = value
    return state


@pytest.fixture(scope="module")
def params():
    generator = np.random.default_rng(0)
    draw = lambda leaf: generator.normal(size=leaf.shape).astype(np.float32)
    return unflatten_dict({path: draw(leaf) for path, leaf in shapes(MODULE).items()})


@pytest.mark.parametrize("image", [MODULE.image, None])
def test_weights_arrive_where_they_belong(params, image):
    state = to_reference(params, 32)
    arrived = params_from_reference(state, MODULE.clone(image=image))
    jax.tree.map(np.testing.assert_array_equal, arrived, params)
    half = {name: value.astype(np.float16) for name, value in state.items()}
    rounded = params_from_reference(half, MODULE)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(rounded))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-3), rounded, params
    )


@pytest.mark.parametrize("resolution", [64, 128])
def test_names_are_those_of_the_reference(resolution):
    paths = shapes(preset("img64-xs", resolution, label_dim=1000))
    names = {reference_name(path, resolution) for path in paths}
    # 199 weights and gains, and the frequencies and phases of two Fourier layers; at
    # 128 the blocks of 32 x 32 and of 8 x 8 have no attention, two weights each.
    attentions = {64: 15, 128: 8}[resolution]
    assert len(names) == len(paths) == 199 + 4 - 2 * (15 - attentions)
    assert sum("attn_qkv" in name for name in names) == attentions
    assert sum(name.endswith("gain") for name in names) == 37
    low, high = resolution // 8, resolution
    assert names >= {
        "unet.emb_fourier.freqs",
        "unet.emb_noise.weight",
        "unet.emb_label.weight",
        f"unet.enc.{high}x{high}_conv.weight",
        f"unet.enc.{high // 2}x{high // 2}_down.conv_res1.weight",
        f"unet.enc.{high // 2}x{high // 2}_block0.conv_skip.weight",
        f"unet.dec.{low}x{low}_in0.attn_qkv.weight",
        f"unet.dec.{low}x{low}_in1.emb_linear.weight",
        f"unet.dec.{high}x{high}_up.emb_gain",
        f"unet.dec.{high}x{high}_block3.conv_res0.weight",
        "unet.out_conv.weight",
        "unet.out_gain",
        "logvar_fourier.phases",
        "logvar_linear.weight",
    }


def test_everything_that_does_not_fit_is_named_at_once(params):
    state = to_reference(params, 32)
    del state["unet.out_gain"]
    state["unet.extra.weight"] = np.zeros(3)
    state["logvar_linear.weight"] = np.zeros((128, 1))
    with pytest.raises(ValueError) as error:
        params_from_reference(state, MODULE)
    assert str(error.value) == (
        "The state does not fit the module: missing unet.out_gain; unexpected "
        "unet.extra.weight; of wrong shape logvar_linear.weight (128, 1), not (1, 128)."
    )


def test_weights_of_another_resolution_are_refused_in_one_line(params):
    state, larger = to_reference(params, 32), MODULE.clone(image=(64, 64, 2))
    with pytest.raises(ValueError, match=r"missing .*; unexpected .* more") as error:
        params_from_reference(state, larger)
    assert len(str(error.value)) < 3000 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"patch": 2}, "patch = 2 .* no counterpart"),
        ({"label_dim": 0, "condition_channels": 1}, "condition_channels = 1 has no"),
        ({"image": None}, "give the module an `image`"),
    ],
)
def test_modules_without_counterpart_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        params_from_reference({}, MODULE.clone(**fields))
