import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax import noise
from compjax.testing import strategies


def test_karras_grid_is_edm2s():
    # Karras et al. 2022, eq. 5 at EDM2's defaults, computed in float64.
    n, low, high, rho = 32, 0.002, 80.0, 7
    i = np.arange(n)
    steps = (
        high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))
    ) ** rho
    # float32 roots and powers: rho * 2**-23 relative, and a factor for the sum.
    np.testing.assert_allclose(noise.karras_sigmas(n), [*steps, 0], rtol=5e-6)


@given(
    st.integers(2, 40),
    strategies.noise_levels(0.001, 0.5),
    strategies.noise_levels(1.0, 100.0),
    strategies.floats(0.5, 10.0),
)
def test_grids_decrease_between_exact_ends(n, low, high, rho):
    for sigmas in (
        noise.karras_sigmas(n, low, high, rho),
        noise.log_snr_sigmas(n, low, high),
    ):
        assert sigmas.shape == (n + 1,)
        assert (sigmas[0], sigmas[-2], sigmas[-1]) == (high, low, 0)
        assert (np.diff(sigmas) < 0).all()


def test_log_snr_grid_has_constant_ratio():
    sigmas = np.asarray(noise.log_snr_sigmas(9, 0.01, 50.0))[:-1]
    np.testing.assert_allclose(sigmas[1:] / sigmas[:-1], 5000 ** (-1 / 8), rtol=1e-5)


@given(strategies.points(), strategies.noise_levels())
def test_coordinates_round_trip(x, sigma):
    for there, back in (
        (noise.vp_from_ve, noise.ve_from_vp),
        (noise.flow_from_ve, noise.ve_from_flow),
    ):
        x_back, sigma_back = back(*there(x, sigma))
        np.testing.assert_allclose(x_back, x, rtol=1e-5, atol=1e-30)
        # 1 - alpha^2 loses sigma^2 * 2^-23 at small sigma, 2^-23 / alpha^2 at large.
        np.testing.assert_allclose(sigma_back, sigma, rtol=1e-4)


@given(strategies.points(1), strategies.points(1), strategies.noise_levels())
def test_coordinates_are_signal_plus_noise(x0, eps, sigma):
    x = x0 + sigma * eps
    x_vp, alpha = noise.vp_from_ve(x, sigma)
    np.testing.assert_allclose(
        x_vp, alpha * x0 + jnp.sqrt(1 - alpha**2) * eps, atol=1e-4
    )
    x_t, t = noise.flow_from_ve(x, sigma)
    np.testing.assert_allclose(x_t, (1 - t) * x0 + t * eps, atol=1e-4)


def test_log_normal_law():
    import jax

    law = noise.LogNormal(-0.8, 1.6)
    logs = np.log(law.sample(jax.random.key(0), 100_000))
    # Standard errors: std / sqrt(n) = 0.005 and std / sqrt(2 n) = 0.0036; five of them.
    assert abs(logs.mean() + 0.8) < 0.025
    assert abs(logs.std() - 1.6) < 0.018


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: noise.karras_sigmas(1), "n = 1"),
        (lambda: noise.karras_sigmas(4, 0.0), "sigma_min must be positive"),
        (lambda: noise.karras_sigmas(4, 2.0, 1.0), "sigma_min < sigma_max"),
        (lambda: noise.karras_sigmas(4, rho=0.0), "rho must be positive"),
        (lambda: noise.log_snr_sigmas(4, -1.0), "sigma_min must be positive"),
        (lambda: noise.LogNormal(0.0, 0.0), "std must be positive"),
        (
            lambda: noise.vp_from_ve(jnp.ones((2, 3)), jnp.ones(3)),
            "one for each sample",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
