import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_task as task

from compjax.training import denoising_loss
from compjax.training.loss import loss_at


def loss_of(level, x0, sigma, eps):
    params = {"scale": jnp.float32(0.3), "weight": jnp.zeros((3, 2)), "level": level}
    return loss_at(params, task.module, x0, None, sigma, eps)


def arrays(*shape, seed=0):
    generator = np.random.default_rng(seed)
    return jnp.asarray(generator.normal(size=shape), jnp.float32)


def test_loss_is_the_sum_over_pixels_and_the_mean_over_the_batch():
    x0, eps, sigma = arrays(5, 4, 3), arrays(5, 4, 3, seed=1), jnp.arange(1.0, 6.0)
    level = jnp.float32(0.7)
    loss, metrics = loss_of(level, x0, sigma, eps)

    expected = 0.0
    for n in range(5):  # EDM2's definition, one element at a time
        s = float(sigma[n])
        noisy = np.asarray(x0[n] + s * eps[n], np.float64)
        total = s**2 + 0.25
        F = 0.3 * np.tanh(noisy / np.sqrt(total))
        D = 0.25 / total * noisy + s * 0.5 / np.sqrt(total) * F
        weight = total / (s * 0.5) ** 2
        expected += np.sum(weight / np.exp(0.7) * (D - x0[n]) ** 2 + 0.7) / 5
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], expected / 12, rtol=1e-5)
    np.testing.assert_allclose(metrics["log_variance"], 0.7, rtol=1e-6)


def test_best_log_variance_is_the_logarithm_of_the_error():
    x0, eps, sigma = arrays(5, 6), arrays(5, 6, seed=1), jnp.ones(5)
    error = loss_of(jnp.float32(0), x0, sigma, eps)[1]["error"]
    slope = jax.grad(lambda level: loss_of(level, x0, sigma, eps)[0])
    assert float(slope(jnp.log(error))) == pytest.approx(0, abs=1e-4)
    assert float(slope(jnp.log(error) + 0.1)) > 0.1


def test_error_of_an_untrained_denoiser_is_one_at_every_noise_level():
    params = {"scale": jnp.float32(0), "weight": jnp.zeros((3, 2)), "level": 0.0}
    x0, eps = 0.5 * arrays(4000, 4), arrays(4000, 4, seed=1)
    for sigma in (0.01, 0.5, 50.0):
        run = loss_at(params, task.module, x0, None, jnp.full(4000, sigma), eps)
        assert float(run[1]["error"]) == pytest.approx(1, abs=0.05)


def test_key_alone_determines_the_loss():
    x0 = arrays(8, 4)
    params = task.module.init(jax.random.key(9), x0, 1.0)["params"]
    losses = [
        float(denoising_loss(params, task.module, key, x0, None, task.law)[0])
        for key in (jax.random.key(0), jax.random.key(0), jax.random.key(1))
    ]
    assert losses[0] == losses[1] != losses[2]
