import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.networks import magnitude as mp


def normal(*shape):
    generator = np.random.default_rng(0)
    return jnp.asarray(generator.normal(size=shape), jnp.float32)


def rms(x):
    return float(np.sqrt(np.square(x).mean()))


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_sums_concatenations_and_nonlinearity_keep_unit_variance(t):
    a, b = normal(2, 200, 200)
    assert rms(mp.mp_sum(a, b, t)) == pytest.approx(1, abs=0.02)
    assert rms(mp.mp_cat(a, b[:, :50], t)) == pytest.approx(1, abs=0.02)
    assert rms(mp.mp_silu(a)) == pytest.approx(1, abs=0.02)


def test_concatenation_lets_each_part_contribute_its_share():
    a, b = jnp.ones((1, 10)), jnp.ones((1, 30))
    y = mp.mp_cat(a, b, 0.5)
    assert float((y[:, :10] ** 2).sum()) == pytest.approx(float((y[:, 10:] ** 2).sum()))


def test_fourier_features_have_unit_variance_and_no_gradient():
    module = mp.MPFourier(4000)
    params = module.init(jax.random.key(0), jnp.zeros(1))
    assert rms(module.apply(params, jnp.array([0.7]))) == pytest.approx(1, abs=0.04)
    grads = jax.grad(lambda p: module.apply(p, jnp.array([0.7])).sum())(params)
    assert all(not leaf.any() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("kernel", [(), (1, 1), (3, 3)])
def test_convolution_ignores_the_size_of_its_weights_and_keeps_variance(kernel):
    weight = normal(*kernel, 32, 64)
    x = jnp.sin(1e4 * normal(4, 16, 16, 32)) * 2**0.5  # independent of the weight
    x = x.reshape(-1, 32) if kernel == () else x
    module = mp.MPConv(64, kernel)
    y = module.apply({"params": {"weight": weight}}, x)
    z = module.apply({"params": {"weight": 7 * weight}}, x, 2.0)
    inside = y if kernel == () else y[:, 1:-1, 1:-1]
    assert rms(inside) == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(z, 2 * y, atol=1e-3)


def test_pointwise_convolution_is_the_linear_map():
    x = normal(2, 4, 4, 8)
    weight = normal(8, 3)
    conv = mp.MPConv(3, (1, 1)).apply({"params": {"weight": weight[None, None]}}, x)
    flat = mp.MPConv(3).apply({"params": {"weight": weight}}, x.reshape(-1, 8))
    np.testing.assert_allclose(conv.reshape(-1, 3), flat, rtol=1e-6)


def test_gradients_of_weights_are_tangent_to_the_sphere():
    x, weight = normal(4, 8), normal(8, 3)
    loss = lambda w: jnp.sin(mp.MPConv(3).apply({"params": {"weight": w}}, x)).sum()
    gradient = jax.grad(loss)(weight)
    radial = jnp.abs((gradient * weight).sum(0))
    lengths = jnp.linalg.norm(gradient, axis=0) * jnp.linalg.norm(weight, axis=0)
    assert float((radial / lengths).max()) < 1e-3  # not 0, as epsilon is not


def test_normalize_weights_touches_weights_only():
    weight = 5 * normal(3, 3, 4, 2)
    others = {"emb_gain": jnp.float32(5), "freqs": jnp.full(3, 5.0)}
    result = mp.normalize_weights({"conv": {"weight": weight}, **others})
    np.testing.assert_allclose(
        np.square(result["conv"]["weight"]).mean((0, 1, 2)), 1, rtol=1e-3
    )
    for name, value in others.items():
        np.testing.assert_array_equal(result[name], value)


@given(scale=st.floats(1e-30, 1e10), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_normalize_never_exceeds_one_and_is_finite(scale, dtype):
    x = jnp.asarray(scale * np.array([[3.0, -4.0]]), dtype)
    y = mp.normalize(x, axes=-1)
    assert y.dtype == x.dtype
    assert rms(y.astype(jnp.float32)) <= 1.01


def test_normalize_has_a_finite_gradient_at_zero():
    gradient = jax.grad(lambda x: mp.normalize(x, axes=-1).sum())(jnp.zeros((2, 3)))
    np.testing.assert_allclose(gradient, 1 / mp.EPSILON, rtol=1e-5)


def test_downsample_undoes_upsample():
    x = normal(2, 4, 6, 3)
    np.testing.assert_allclose(mp.downsample(mp.upsample(x)), x, rtol=1e-6)


def test_two_equal_taps_are_the_box_whatever_their_size():
    x = normal(2, 4, 6, 3)
    for resample in (mp.downsample, mp.upsample):
        np.testing.assert_allclose(resample(x, (3.0, 3.0)), resample(x), rtol=1e-5)


@pytest.mark.parametrize("taps", [(1, 1), (1, 3, 3, 1), (3, 1), (1, 2, 3, 4, 5, 6)])
def test_upsampling_is_four_times_the_transpose_of_downsampling(taps):
    fine, coarse = normal(2, 8, 12, 3), normal(2, 4, 6, 3)
    down = (mp.downsample(fine, taps) * coarse).sum()
    up = (fine * mp.upsample(coarse, taps)).sum()
    assert float(up) == pytest.approx(4 * float(down), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("taps", [(1, 3, 3, 1), (1, 2, 2, 2, 2, 1)])
def test_filters_keep_constants_away_from_the_border(taps):
    x = jnp.full((1, 16, 16, 1), 7.0)
    inside = slice(len(taps), -len(taps))
    np.testing.assert_allclose(mp.downsample(x, taps)[:, 3:-3, 3:-3], 7, rtol=1e-6)
    np.testing.assert_allclose(mp.upsample(x, taps)[:, inside, inside], 7, rtol=1e-6)


@pytest.mark.parametrize("taps", [(), (1,), (1, 2, 1), (1, -1)])
def test_impossible_filters_are_refused(taps):
    for resample in (mp.downsample, mp.upsample):
        with pytest.raises(ValueError, match=f"got {re.escape(str(taps))}"):
            resample(normal(1, 4, 4, 1), taps)
