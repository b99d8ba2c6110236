import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_task as task

from compjax.training import draw_noise, loss_at


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


def test_noise_is_the_laws_and_normal_and_every_example_has_its_own():
    x0 = jnp.zeros((20000, 2))
    sigma, eps = draw_noise(jax.random.key(0), x0, task.law)
    logs, n = np.log(sigma), 20000
    # Standard errors of a mean and of a standard deviation, five of them.
    assert np.mean(logs) == pytest.approx(-0.8, abs=5 * 1.6 / n**0.5)
    assert np.std(logs) == pytest.approx(1.6, abs=5 * 1.6 / (2 * n) ** 0.5)
    assert np.mean(eps) == pytest.approx(0, abs=5 / (2 * n) ** 0.5)
    assert np.std(eps) == pytest.approx(1, abs=5 / (4 * n) ** 0.5)
    assert len(np.unique(sigma)) > 0.99 * n
    correlation = np.corrcoef(eps[:, 0], logs)[0, 1]
    assert abs(correlation) < 5 / n**0.5
