"""The network, its loss and its gradients against numbers computed by EDM2's own code.

The numbers are not part of this project (their licence differs from its own); the tests
skip where they are absent.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax.networks import UNet, magnitude
from compjax.training.averaging import PowerFunction, std_to_exp
from compjax.training.loss import loss_at

FILE = Path(__file__).parents[2].parent / "shared" / "fixtures" / "edm2_tiny.npz"
pytestmark = pytest.mark.skipif(
    not FILE.exists(), reason="the reference numbers of EDM2 (edm2_tiny.npz) are absent"
)

MODULE = UNet(
    channels=16,
    channel_mult=(1, 2),
    num_blocks=1,
    attn_resolutions=(8,),
    channels_per_head=16,
    label_dim=4,
)


@pytest.fixture(scope="module")
def reference():
    with np.load(FILE) as file:
        return dict(file)


def nhwc(x):
    return np.moveaxis(x, 1, -1)


def parameters(reference, prefix):
    """PyTorch's `enc.8x8_block0.conv_res0.weight`, OIHW, in our names and layout."""
    tree = {}
    for full_name, value in reference.items():
        if not full_name.startswith(prefix):
            continue
        name = full_name.removeprefix(prefix).removeprefix("unet.")
        name = re.sub(r"^enc\.", "encoder", re.sub(r"^dec\.", "decoder", name))
        name = name.replace("16x16", "0").replace("8x8", "1")
        name = re.sub(r"\.(conv_res|emb_linear|emb_gain)", r".branch.\1", name)
        name = name.replace(".attn_", ".attention.attn_")
        *parents, leaf = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        order = {2: (1, 0), 4: (2, 3, 1, 0)}.get(value.ndim, range(value.ndim))
        node[leaf] = jnp.asarray(value.transpose(*order))
    return tree


@jax.jit
def denoise(params, x, sigma, label):
    return MODULE.apply({"params": params}, x, sigma, label)


def test_parameters_have_our_names_and_shapes(reference):
    example = nhwc(reference["in/x"]), reference["in/sigma"], reference["in/labels"]
    ours = jax.eval_shape(MODULE.init, jax.random.key(0), *example)["params"]
    theirs = parameters(reference, "state/")
    assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, theirs)


@pytest.mark.parametrize("labels, expected", [("in/labels", "D"), (None, "D_nolabel")])
def test_denoised_images(reference, labels, expected):
    label = None if labels is None else reference[labels]
    params = parameters(reference, "state/")
    D = denoise(params, nhwc(reference["in/x"]), reference["in/sigma"], label)
    np.testing.assert_allclose(D, nhwc(reference["eval/" + expected]), atol=1e-5)


def test_log_variance(reference):
    params = parameters(reference, "state/")
    sigma = jnp.asarray(reference["in/sigma"])
    u = MODULE.apply({"params": params}, sigma, method="log_variance")
    np.testing.assert_allclose(u, reference["eval/logvar"].ravel(), atol=1e-5)


def test_forced_weight_normalization(reference):
    params = magnitude.normalize_weights(parameters(reference, "state/"))
    expected = parameters(reference, "train/state_after_forward/")
    ours = {jax.tree_util.keystr(k): v for k, v in jax.tree.leaves_with_path(params)}
    for path, theirs in jax.tree.leaves_with_path(expected):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(ours[name], theirs, atol=1e-5, err_msg=name)
    D = denoise(
        params,
        nhwc(reference["in/x"]),
        reference["in/sigma"],
        reference["in/labels"],
    )
    np.testing.assert_allclose(D, nhwc(reference["train/D"]), atol=1e-5)


def test_loss_and_gradients(reference):
    params = magnitude.normalize_weights(parameters(reference, "state/"))
    x0, eps = (
        jnp.asarray(nhwc(reference["loss/" + n])) for n in ("images", "noise_unit")
    )
    sigma = jnp.asarray(reference["loss/sigma"].ravel())
    label = jnp.asarray(reference["in/labels"])

    def loss(params, x0):
        return loss_at(params, MODULE, x0, label, sigma, eps)

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (value, metrics), (grads, grad_x0) = run(params, x0)
    expected = reference["loss/total_sum_over_pixels_div_batch"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected / x0[0].size, rtol=1e-5)

    def close(ours, theirs):
        # Sums over 768 pixels: the tolerance is relative to the largest entry.
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())

    close(grad_x0, nhwc(reference["loss/grad_images"]))
    # Frequencies and phases are not trained: the reference has no gradients of them.
    for fourier in ("emb_fourier", "logvar_fourier"):
        assert all(not g.any() for g in grads.pop(fourier).values())
    jax.tree.map(close, grads, parameters(reference, "loss/grad/"))


def test_primitives(reference):
    prim = {
        name.removeprefix("prim/"): jnp.asarray(nhwc(value))
        for name, value in reference.items()
        if name.startswith("prim/")
    }
    a, b, c = prim["a"], prim["b"], prim["c"]
    results = {
        "normalize_all": magnitude.normalize(a, axes=(1, 2, 3)),
        "normalize_dim1": magnitude.normalize(a, axes=-1),
        "mp_silu": magnitude.mp_silu(a),
        "mp_sum_t0.3": magnitude.mp_sum(a, c, 0.3),
        "mp_cat_t0.5": magnitude.mp_cat(a, b),
        "mp_cat_t0.3": magnitude.mp_cat(a, b, 0.3),
        "down": magnitude.downsample(a),
        "up": magnitude.upsample(a),
    }
    for name, result in results.items():
        np.testing.assert_allclose(result, prim[name], atol=1e-6, err_msg=name)


def test_power_function_average(reference):
    for std, gamma, beta in zip(
        *(reference["ema/" + n] for n in ("std", "gamma", "beta_t1e6_b2048")),
        strict=True,
    ):
        assert std_to_exp(float(std)) == pytest.approx(gamma, rel=1e-6)
        # The reference counts images: 1e6 of them in batches of 2048.
        ours = PowerFunction(float(std)).share(1e6 / 2048)
        assert 1 - float(ours) == pytest.approx(beta, rel=1e-5)
