"""Optimisation and averages against numbers computed by EDM2's own code."""

import edm2_fixture as edm2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax.noise import LogNormal
from compjax.training import step as step_module
from compjax.training.averaging import PowerFunction, std_to_exp
from compjax.training.optimizer import edm2_adam, edm2_learning_rate
from compjax.training.posthoc import reconstruction_weights
from compjax.training.state import TrainState
from compjax.training.step import BEFORE, make_train_step

pytestmark = edm2.needs_file


@pytest.fixture(scope="module")
def reference():
    return edm2.load()


@pytest.fixture(scope="module")
def trained(reference):
    """The states after each of two steps, with the noise that the reference drew."""
    x0, eps = (
        jnp.asarray(edm2.nhwc(reference["loss/" + name]))
        for name in ("images", "noise_unit")
    )
    label = jnp.asarray(reference["in/labels"])
    sigma = jnp.asarray(reference["loss/sigma"].ravel())
    optimizer, params = edm2_adam(0.01), edm2.parameters(reference)
    copy = lambda: jax.tree.map(jnp.copy, params)  # the step donates its state
    state = TrainState(
        step=jnp.int32(0),
        params=copy(),
        averages=(copy(), copy()),
        opt_state=optimizer.init(params),
        nonfinite=jnp.int32(0),
    )
    step = make_train_step(
        edm2.MODULE,
        optimizer,
        LogNormal(-0.8, 1.6),
        averages=(PowerFunction(0.05), PowerFunction(0.1)),
        normalization=BEFORE,
    )
    history = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(step_module, "draw_noise", lambda *_: (sigma, eps))
        for _ in range(2):
            state, metrics = step(
                state, jax.random.key(0), jax.tree_util.Partial(give, (x0, label))
            )
            history.append(jax.device_get((state, metrics)))
    return history


def give(batch, key):
    return batch


@pytest.mark.parametrize("step", [0, 1])
def test_losses(reference, trained, step):
    loss = trained[step][1]["loss"] * 16 * 16 * 3  # ours is per pixel and channel
    np.testing.assert_allclose(loss, reference[f"opt/loss_step{step}"], rtol=1e-5)


def check(ours, reference, prefix):
    """The same parameters to 1e-5, but for a few whose gradients are nearly zero.

    Adam divides by the size of the gradient.  An error of 1e-5 of the largest entry,
    which is what gradients agree to, moves a parameter in each step by the learning
    rate times the ratio of the two.
    """
    few = 0

    def compare(ours, theirs, gradient):
        nonlocal few
        error = 1e-5 * np.abs(gradient).max()
        ratio = error / np.maximum(np.abs(gradient), error)
        off = np.abs(ours - theirs)
        assert (off <= 1e-5 + 2 * 0.01 * ratio).all()
        few += (off > 1e-5).sum()

    gradients = edm2.parameters(reference, "loss/grad/")
    jax.tree.map(compare, ours, edm2.parameters(reference, prefix), gradients)
    assert few < 10  # of 181,499


def test_parameters_after_every_step(reference, trained):
    for number, (state, _) in enumerate(trained, start=1):
        check(state.params, reference, f"opt/state_after_step{number}/")


def test_both_averages(reference, trained):
    for average, std in zip(trained[1][0].averages, ("0.050", "0.100"), strict=True):
        check(average, reference, f"opt/ema_after_step2-{std}/")


@pytest.mark.parametrize("name, decay", [("img64_xs", 35_000), ("img512_xs", 70_000)])
def test_learning_rates(reference, name, decay):
    """The reference counts images, in batches of 2048; the ramp is float32 here."""
    schedule = edm2_learning_rate(0.012, decay, batch=2048)
    steps = jnp.asarray(reference["sched/nimg"] / 2048, jnp.float32)
    rates = reference[f"sched/lr_{name}"]
    np.testing.assert_allclose(jax.vmap(schedule)(steps), rates, rtol=1e-6)


def test_profiles_of_averages(reference):
    stds, gammas, roundtrip, betas = (
        reference["ema/" + name]
        for name in ("std", "gamma", "std_roundtrip", "beta_t1e6_b2048")
    )
    ours = np.array([std_to_exp(float(std)) for std in stds])
    np.testing.assert_allclose(ours, gammas, rtol=1e-9)
    widths = np.sqrt((ours + 1) / (ours + 2) ** 2 / (ours + 3))
    np.testing.assert_allclose(widths, roundtrip, rtol=1e-9)
    # The reference counts images: 1e6 of them in batches of 2048.
    shares = [float(PowerFunction(float(std)).share(1e6 / 2048)) for std in stds]
    np.testing.assert_allclose(1 - np.array(shares), betas, rtol=1e-6)


def test_reconstruction_coefficients(reference):
    ends, stds = reference["ema/in_ofs"], reference["ema/in_std"]
    columns = zip(reference["ema/out_std"], reference["ema/coefs"].T, strict=True)
    for std, expected in columns:
        weights = reconstruction_weights(ends, stds, ends[-1], std)
        np.testing.assert_allclose(weights, expected, atol=1e-10)
