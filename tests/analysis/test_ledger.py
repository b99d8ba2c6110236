import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.analysis import ledger

GRID = cj.karras_sigmas(32, 0.01, 20.0)
SHEAR = np.array([[1.0, 1.5], [0.0, 1.0]])


def composition(shear, bias=0.0):
    """Sheared Gaussians, conditionals off by a bias, and what they should make."""
    view = SHEAR if shear else np.eye(2)
    at = lambda mean, v: cj.densities.Gaussian(
        view @ np.array(mean), view @ np.diag(v) @ view.T
    )
    parts = (
        at([0.0, 0.0], [1.0, 1.0]),
        at([2.0 + bias, 0.0], [0.1, 1.0]),
        at([0.0, 2.0 + bias], [1.0, 0.1]),
    )
    return cj.compose(*parts), at([2.0, 2.0], [0.1, 0.1])


def book(exact, learned, target):
    x = target.sample(jax.random.key(0), 400)
    return ledger(
        jax.random.key(1), learned, exact, x, cj.samplers.Heun(), GRID, permutations=99
    )


def test_exact_scores_on_factorized_conditionals_have_neither_error():
    exact, target = composition(False)
    report = book(exact, exact, target)
    assert max(report.sampler, report.score, report.total) < 3 * report.noise
    assert report.score_kl == 0


def test_a_shear_is_charged_to_the_sampler():
    exact, target = composition(True)
    report = book(exact, exact, target)
    assert report.sampler > 5 * report.noise > report.score


def test_a_bias_is_charged_to_the_scores():
    exact, target = composition(False)
    learned, _ = composition(False, bias=0.5)
    report = book(exact, learned, target)
    assert report.score > 5 * report.noise > report.sampler
    assert report.total > 5 * report.noise
    # Two coordinates, each off by 0.5 at a variance of 0.1: KL between the two laws.
    assert report.score_kl == pytest.approx(2 * 0.5**2 / 0.1 / 2, rel=0.1)


def test_errors_obey_the_triangle():
    exact, target = composition(True)
    learned, _ = composition(True, bias=0.5)
    report = book(exact, learned, target)
    assert report.total**0.5 <= report.sampler**0.5 + report.score**0.5 + 1e-6


def test_bad_input():
    exact, _ = composition(False)
    with pytest.raises(ValueError, match="must be"):
        ledger(
            jax.random.key(0),
            exact,
            exact,
            jnp.ones((8, 3)),
            cj.samplers.Heun(),
            GRID,
        )
