"""The predicted law of reverse diffusion: sampled, and in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax import analysis
from compjax.analysis import moments
from compjax.densities import Gaussian

N = 40_000


def at(mean, cov):
    return Gaussian(jnp.asarray(mean, float), jnp.asarray(cov, float))


A = at([1.0, 0.0], [[1.0, 0.6], [0.6, 1.0]])
B = at([-0.5, 1.0], [[0.5, -0.2], [-0.2, 1.5]])
GROUND = at([0.0, 0.0], [[2.0, 0.0], [0.0, 2.0]])

ROTATION = np.array([[np.cos(0.6), -np.sin(0.6)], [np.sin(0.6), np.cos(0.6)]])
SHEAR = np.array([[1.0, 0.8], [0.0, 1.0]])


def seen(view):
    """Factorized conditionals over their background, through a linear map."""
    return [
        at(view @ np.array(mean), view @ np.diag(variances) @ view.T)
        for mean, variances in (
            ([0.0, 0.0], [2.0, 2.0]),
            ([1.0, 0.0], [0.5, 2.0]),
            ([0.0, 1.0], [2.0, 1.0]),
        )
    ]


COMPOSITIONS = {
    "product": cj.product(A, B),
    "guidance 2": cj.guide(GROUND, A, 2.0),
    "guidance 3": cj.guide(GROUND, A, 3.0),
    "guidance 5": cj.guide(GROUND, A, 5.0),
    "rotated": cj.compose(*seen(ROTATION)),
    "sheared": cj.compose(*seen(SHEAR)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
@pytest.mark.parametrize(
    ("eta", "sampler"), [(1.0, cj.samplers.Ancestral()), (0.0, cj.samplers.Euler())]
)
def test_samples_follow_the_predicted_law(name, eta, sampler):
    """Mean and covariance within 4.5 standard errors of N samples."""
    score, grid = COMPOSITIONS[name], cj.karras_sigmas(48, 0.01, 20.0)
    law = moments.reverse_law(score, 2, grid, eta)
    x, _ = cj.sample(jax.random.key(0), score, sampler, (N, 2), grid)
    x, cov = np.asarray(x, float), np.asarray(law.cov, float)
    variances = np.diag(cov)
    assert (np.abs(x.mean(0) - law.mean) < 4.5 * np.sqrt(variances / N)).all()
    error = np.sqrt((cov**2 + np.outer(variances, variances)) / N)
    assert (np.abs(np.cov(x.T) - cov) < 4.5 * error).all()


def test_rotations_commute_with_diffusion_and_shears_do_not():
    grid = cj.karras_sigmas(4096, 0.002, 200.0)
    for view, most, least in ((ROTATION, 2e-3, 0.0), (SHEAR, np.inf, 5e-3)):
        parts = seen(view)
        law = moments.reverse_law(cj.compose(*parts), 2, grid)
        kl = analysis.gaussian_kl(
            law, cj.densities.compose_gaussians(parts[0], parts[1:])
        )
        assert least <= kl <= most


def test_odd_scores_are_told():
    """A symmetric mixture's score bends, though not between -x, 0 and x."""
    p = cj.mixture(at([-1.0, 0.0], 0.04 * np.eye(2)), at([1.0, 0.0], 0.04 * np.eye(2)))
    with pytest.raises(ValueError, match="is not affine"):
        moments.reverse_law(p, 2, cj.karras_sigmas(64))


@pytest.mark.parametrize("k", [2, 3, 5])
def test_the_product_of_equal_normals_is_too_narrow(k):
    """dv/dtau = 2k v / (1 + tau) - 1 backwards from wide noise: v(0) = 1 / (2k - 1)."""
    p = at([0.0], [[1.0]])
    law = moments.reverse_law(cj.power(p, float(k)), 1, cj.karras_sigmas(20_000))
    assert float(law.cov[0, 0]) == pytest.approx(1 / (2 * k - 1), rel=5e-3)
    flow = moments.reverse_law(cj.power(p, float(k)), 1, cj.karras_sigmas(20_000), 0.0)
    # the flow: v(0) = (1 + sigma_0^2)^-k sigma_0^2, nearly nothing for k > 1
    assert float(flow.cov[0, 0]) < 1e-3


def test_scores_that_are_not_affine_are_told():
    p = cj.mixture(A, B)
    with pytest.raises(ValueError, match="is not affine"):
        moments.reverse_law(p, 2, cj.karras_sigmas(8))
