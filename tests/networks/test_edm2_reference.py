"""The network, its loss and its samples against numbers computed by EDM2's own code."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edm2_fixture import MODULE, close, load, needs_file, nhwc, parameters, under

import compjax as cj
from compjax.networks import magnitude
from compjax.networks.edm2 import params_from_reference
from compjax.networks.edm2.reference import reference_name
from compjax.noise import LogNormal
from compjax.samplers import sde
from compjax.scores import edm_preconditioning
from compjax.training.loss import loss_at

pytestmark = needs_file


@pytest.fixture(scope="module")
def reference():
    return load()


@jax.jit
def forward(params, x, sigma, label):
    """The denoised images, and the output of every block by its name."""
    seen = lambda module, _: (module.name or "").startswith(
        ("encoder", "decoder", "out_conv", "emb_noise")
    )
    D, state = MODULE.apply(
        {"params": params}, x, sigma, label, capture_intermediates=seen
    )
    outputs = state["intermediates"]
    return D, {name: outputs[name]["__call__"][0] for name in outputs}


@pytest.fixture(scope="module")
def evaluated(reference):
    params = parameters(reference, "state/")
    return forward(params, *inputs(reference), reference["in/labels"])


def inputs(reference):
    return nhwc(reference["in/x"]), reference["in/sigma"]


def test_denoised_images(reference, evaluated):
    D, outputs = evaluated
    np.testing.assert_allclose(D, nhwc(reference["eval/D"]), atol=1e-5)
    F = outputs["out_conv"]
    np.testing.assert_allclose(F, nhwc(reference["eval/F"]), atol=1e-5)


def test_denoised_images_without_label(reference):
    params = parameters(reference, "state/")
    D = jax.jit(MODULE.apply)({"params": params}, *inputs(reference))
    np.testing.assert_allclose(D, nhwc(reference["eval/D_nolabel"]), atol=1e-5)


def test_activations_of_every_block(reference, evaluated):
    theirs = under(reference, "eval/act/")
    ours = {
        reference_name((name,), 16).removeprefix("unet."): value
        for name, value in evaluated[1].items()
        if name.startswith(("encoder", "decoder"))
    }
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, nhwc(theirs[name]), atol=1e-5, err_msg=name)


def test_embedding_and_uncertainty_of_the_noise_level(reference, evaluated):
    sigma = jnp.asarray(reference["in/sigma"])
    c_noise = edm_preconditioning(sigma)[3]
    np.testing.assert_allclose(c_noise, reference["eval/c_noise"], atol=1e-6)
    emb = evaluated[1]["emb_noise"]
    np.testing.assert_allclose(emb, reference["eval/emb_noise"], atol=1e-5)
    for when in ("eval", "train"):
        params = parameters(reference, "state/")
        params = params if when == "eval" else magnitude.normalize_weights(params)
        u = MODULE.apply({"params": params}, sigma, method="log_variance")
        np.testing.assert_allclose(u, reference[f"{when}/logvar"].ravel(), atol=1e-5)


def test_forced_weight_normalization(reference):
    params = magnitude.normalize_weights(parameters(reference, "state/"))
    expected = parameters(reference, "train/state_after_forward/")
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5), params, expected)
    D, _ = forward(params, *inputs(reference), reference["in/labels"])
    np.testing.assert_allclose(D, nhwc(reference["train/D"]), atol=1e-5)


def loss_inputs(reference):
    x0, eps = (nhwc(reference["loss/" + name]) for name in ("images", "noise_unit"))
    sigma = reference["loss/sigma"].ravel()
    return [jnp.asarray(a) for a in (x0, reference["in/labels"], sigma, eps)]


def test_noise_levels_of_training(reference, monkeypatch):
    """`LogNormal` at the normal numbers that the reference drew."""
    drawn = jnp.asarray(reference["loss/rnd_normal"].ravel())
    monkeypatch.setattr(jax.random, "normal", lambda *_: drawn)
    sigma = LogNormal(*reference["loss/P_mean_P_std"]).sample(jax.random.key(0), 3)
    np.testing.assert_allclose(sigma, reference["loss/sigma"].ravel(), rtol=1e-5)


class Given:
    """A denoiser whose parameters are its outputs, to see what the loss makes of it."""

    sigma_data = 0.5

    def apply(self, variables, *inputs, method="denoised"):
        return variables["params"][method]


def test_loss_of_every_pixel(reference):
    x0, _, sigma, _ = loss_inputs(reference)
    D = nhwc(reference["loss/denoised"])
    u = reference["loss/logvar"].ravel()

    @jax.jit
    @partial(jnp.vectorize, signature="(),(),(),()->(),()")
    def one(x0, sigma, D, u):
        params = {"denoised": D[None, None], "log_variance": u[None]}
        image = x0[None, None]
        loss, metrics = loss_at(params, Given(), image, None, sigma[None], image)
        return loss, metrics["error"]

    every = lambda value: jnp.broadcast_to(value[:, None, None, None], x0.shape)
    loss, _ = one(x0, every(sigma), D, every(u))
    # Weights up to 100 multiply squares of errors that agree to 1e-6.
    close(loss, nhwc(reference["loss/per_element"]))
    # An error of one everywhere shows the weight.
    _, weight = one(x0, every(sigma), x0 + 1, every(0 * u))
    np.testing.assert_allclose(
        weight[:, 0, 0, 0], reference["loss/weight"].ravel(), 1e-5
    )


def test_loss_and_gradients(reference):
    params = magnitude.normalize_weights(parameters(reference, "state/"))
    x0, label, sigma, eps = loss_inputs(reference)

    def loss(params, x0, eps):
        return loss_at(params, MODULE, x0, label, sigma, eps)

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (value, metrics), (grads, grad_x0, grad_eps) = run(params, x0, eps)
    expected = reference["loss/total_sum_over_pixels_div_batch"]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected / x0[0].size, rtol=1e-5)
    close(grad_x0, nhwc(reference["loss/grad_images"]))
    # The noise enters by x0 + sigma * eps alone.
    grad_x = grad_eps / sigma[:, None, None, None]
    close(grad_x, nhwc(reference["loss/grad_noisy_input"]))

    # Frequencies and phases are not trained: the reference has no gradients of them.
    theirs = parameters(reference, "loss/grad/")
    for fourier in ("emb_fourier", "logvar_fourier"):
        assert all(not g.any() for g in grads.pop(fourier).values())
        theirs.pop(fourier)
    jax.tree.map(close, grads, theirs)

    noisy = x0 + sigma[:, None, None, None] * eps
    D, _ = forward(params, np.asarray(noisy), np.asarray(sigma), np.asarray(label))
    np.testing.assert_allclose(D, nhwc(reference["loss/denoised"]), atol=1e-5)
    u = MODULE.apply({"params": params}, sigma, method="log_variance")
    np.testing.assert_allclose(u, reference["loss/logvar"].ravel(), atol=1e-5)


def network(reference, prefix="state/"):
    state = under(reference, prefix)
    score = cj.Network(MODULE, params_from_reference(state, MODULE))
    return cj.condition(score, jnp.asarray(reference["in/labels"][:2]))


def check_samples(reference, score, steps, name):
    """Heun's samples are the reference's, as closely as rounding allows.

    A start of 240 has an error of 1e-5 before the first step.  Many steps contract it;
    4 steps of this untrained network enlarge it, as the same samples show when their
    start is moved by one unit in the last place.
    """
    sigmas = cj.karras_sigmas(steps)
    start = sigmas[0] * nhwc(reference["sampler/noise"])

    def run(start):
        heun, key = cj.samplers.Heun(), jax.random.key(0)
        return cj.sample(key, score, heun, start.shape, sigmas, start=start)

    x, info = run(start)
    moved = np.abs(run(jnp.nextafter(start, jnp.inf))[0] - x).max()
    np.testing.assert_allclose(x, nhwc(reference[name]), atol=max(1e-5, 4 * moved))
    assert moved < 1e-4 and int(info.evaluations.sum()) == 2 * steps - 1


@pytest.mark.parametrize("steps", [4, 32])
def test_samples(reference, steps):
    check_samples(reference, network(reference), steps, f"sampler/out_steps{steps}")


def test_noise_levels_of_sampling(reference):
    theirs = reference["sampler/t_steps32"]
    np.testing.assert_allclose(cj.karras_sigmas(32), theirs, rtol=1e-5)


def test_guided_samples(reference):
    guided = cj.guide(network(reference, "gstate/"), network(reference), 1.7)
    check_samples(reference, guided, 8, "sampler/out_steps8_guid1.7")


def test_churned_samples(reference, monkeypatch):
    """The steps of `Churn` where its `jax.random.normal` is the reference's noise.

    What is proved is everything that a step does but how it draws its noise; that
    `sample` hands a key of its own to every step is proved in test_samplers.py.
    """
    name = "sampler/out_steps8_churn40_smin0.05_smax50_snoise1.003"
    sampler = cj.samplers.Churn(40.0, 0.05, 50.0, 1.003)
    sigmas, score, key = cj.karras_sigmas(8), network(reference), jax.random.key(0)

    def step(state, inputs):
        sigma, sigma_next, eps = inputs
        given = SimpleNamespace(normal=lambda *_: eps)
        with monkeypatch.context() as patch:
            patch.setattr(sde, "jax", SimpleNamespace(random=given))
            return sampler.step(key, state, score, sigma, sigma_next)[0], None

    start = sigmas[0] * nhwc(reference["sampler/noise"])
    state = sampler.init(key, start, sigmas)
    # The reference draws noise where it churns only, and uses it in that order.
    churned = (sigmas[:-1] >= 0.05) & (sigmas[:-1] <= 50)
    order = jnp.maximum(jnp.cumsum(churned) - 1, 0)
    noise = np.moveaxis(reference["sampler/churn_eps"], 2, -1)[order]
    scan = jax.jit(lambda state, *inputs: jax.lax.scan(step, state, inputs)[0])
    x = scan(state, sigmas[:-1], sigmas[1:], noise).x
    np.testing.assert_allclose(x, nhwc(reference[name]), atol=1e-5)


def test_primitives(reference):
    prim = {
        name: jnp.asarray(nhwc(value))
        for name, value in under(reference, "prim/").items()
    }
    a, b, c, a4, taps = prim["a"], prim["b"], prim["c"], prim["a4"], (1, 3, 3, 1)
    results = {
        "normalize_all": magnitude.normalize(a, axes=(1, 2, 3)),
        "normalize_dim1": magnitude.normalize(a, axes=-1),
        "mp_silu": magnitude.mp_silu(a),
        "mp_sum_t0.3": magnitude.mp_sum(a, c, 0.3),
        "mp_cat_t0.5": magnitude.mp_cat(a, b),
        "mp_cat_t0.3": magnitude.mp_cat(a, b, 0.3),
        "down": magnitude.downsample(a),
        "up": magnitude.upsample(a),
        "down_1331": magnitude.downsample(a4, taps),
        "up_1331": magnitude.upsample(a4, taps),
    }
    assert prim.keys() == results.keys() | {"a", "b", "c", "a4"}
    for name, result in results.items():
        np.testing.assert_allclose(result, prim[name], atol=1e-6, err_msg=name)
