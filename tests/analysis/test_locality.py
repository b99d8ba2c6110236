"""Probes of locality, against Jacobians that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compjax as cj
from compjax.analysis import (
    condition_locality,
    delta_cosines,
    gaussian_like,
    influence,
    influence_by_distance,
    influence_estimate,
    interaction,
    locality,
    response,
    response_estimate,
)
from compjax.densities import Gaussian, Independent, Sprites
from compjax.types import pytree
from compjax.windows import Reach, Windows

D = 6
PROBES = (influence_estimate, response_estimate)


@pytree
class Mixing:
    """A score in which everything depends on everything, not linearly."""

    weights: jax.Array

    def __call__(self, x, sigma):
        return jnp.tanh(x @ self.weights) / (1 + sigma**2) - x


def mixing():
    return Mixing(jax.random.normal(jax.random.key(0), (D, D)))


def points(b=3):
    return jax.random.normal(jax.random.key(1), (b, D))


TILES = jnp.array([[1.0, 1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 1.0]])


@jax.jit
def jacobians(score, x, sigma):
    """Of s, D and eps at every sample, by forward differentiation."""
    J = jax.vmap(jax.jacfwd(lambda x: score(x[None], sigma)[0]))(x)
    return J, jnp.eye(x.shape[1])[None] + sigma**2 * J, -sigma * J


@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_exact_influence_is_the_jacobian_by_rows_and_columns(sigma):
    score, x = mixing(), points()
    rows, columns = (probe(score, x, sigma, TILES) for probe in (influence, response))
    for J, row, column in zip(
        jacobians(score, x, sigma), rows.squares, columns.squares, strict=True
    ):
        squares = (J**2).mean(0)
        # Sums of a few products of order 1 in float32.
        np.testing.assert_allclose(row, TILES @ squares, atol=1e-5)
        np.testing.assert_allclose(column, TILES @ squares.T, atol=1e-5)
    assert not np.any(rows.errors.score)


@pytest.mark.parametrize("probe", PROBES)
def test_estimates_cover_the_exact_value_at_their_stated_confidence(probe):
    """Two standard errors hold 95.4 % of normal errors; of 64 probes, nearly."""
    score, x = mixing(), points()
    exact = {influence_estimate: influence, response_estimate: response}[probe]
    known = exact(score, x, 0.5, TILES).squares
    keys = jax.random.split(jax.random.key(2), 400)
    with jax.debug_key_reuse(False):
        found = jax.vmap(lambda k: probe(k, score, x, 0.5, TILES, 64))(keys)
    for value, squares, errors in zip(known, found.squares, found.errors, strict=True):
        far = np.abs(squares - value[None])
        moves = np.asarray(errors.mean(0) > 1e-6)
        covered = (far <= 2 * errors)[:, moves].mean()
        # 400 keys, entries correlated: a standard error of 1 % at most.
        assert moves.any() and 0.92 < covered < 0.985
        bias = np.abs(squares.mean(0) - value) / np.maximum(squares.std(0), 1e-6)
        assert bias[moves].max() < 4.5 / np.sqrt(400)
        assert far[:, ~moves].max(initial=0) < 1e-5


def windows_of(tiles, distance):
    return Windows(tiles, Reach(distance))


def test_mass_by_distance_is_exact_for_single_outputs():
    """One sign squared is one."""
    score, x = mixing(), points()
    away = jnp.abs(jnp.arange(D)[:, None] - jnp.arange(D)[None]).astype(float)
    at, mass = influence_by_distance(
        jax.random.key(0), score, x, 0.7, windows_of(jnp.eye(D), away), 1
    )
    np.testing.assert_array_equal(at, np.arange(D))
    for J, found in zip(jacobians(score, x, 0.7), mass, strict=True):
        sums = [(J**2)[:, away == d].sum(1) for d in range(D)]
        np.testing.assert_allclose(found, np.stack(sums, 1), atol=1e-5)


def pair(rho, blocks=2):
    """Two blocks of unit variance whose coordinates correlate in pairs."""
    cross = rho * np.eye(blocks)
    return Gaussian(
        jnp.zeros(2 * blocks),
        np.block([[np.eye(blocks), cross], [cross, np.eye(blocks)]]),
    )


@given(st.floats(-0.9, 0.9), st.floats(0.1, 5.0))
def test_correlated_blocks_have_the_closed_form(rho, sigma):
    """Off against diagonal entries: rho / (1 + sigma^2) of the score; of the denoiser
    rho sigma^2 / (1 - rho^2 + sigma^2)."""
    report = influence(pair(rho), jnp.zeros((1, 4)), sigma, jnp.eye(4)[:1]).squares
    couplings = (
        rho / (1 + sigma**2),
        rho * sigma**2 / (1 - rho**2 + sigma**2),
        rho / (1 + sigma**2),
    )
    for squares, expected in zip(report, couplings, strict=True):
        found = np.sqrt(squares[0, 2] / squares[0, 0])
        assert found == pytest.approx(abs(expected), abs=1e-4)


def test_high_noise_makes_scores_more_local_and_denoisers_less():
    """The null that no claim about noise levels may forget (rho = .5)."""
    blocks = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    x0 = pair(0.5).sample(jax.random.key(0), 4)
    report = locality(
        jax.random.key(1),
        pair(0.5),
        x0,
        [0.3, 1.0, 3.0],
        windows_of(blocks, 1 - blocks),
        8,
    )
    far = report.beyond(0.0)
    assert (np.diff(far.score.mean) < 0).all()
    assert (np.diff(far.denoiser.mean) > 0).all()
    np.testing.assert_allclose(far.score.mean, far.epsilon.mean, rtol=1e-5)


def test_a_projective_composition_has_nothing_outside_of_its_blocks():
    block = lambda m: Gaussian(jnp.array([m, 0.0]), jnp.array([[1.0, 0.7], [0.7, 1.0]]))
    p = Independent(((0, 1), (2, 3)), (block(0.0), block(2.0)))
    blocks = jnp.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    x0 = p.sample(jax.random.key(0), 8)
    for levels in ([0.1, 1.0, 10.0],):
        windows = windows_of(blocks, 1 - blocks)
        report = locality(jax.random.key(1), p, x0, levels, windows)
        for share in report.beyond(0.0):
            assert share.mean.max() < 1e-6
        assert all((radius == 0).all() for radius in report.radius())


PLACES, PIXELS = 4, 3


def sprites(required, others):
    """A scene with these places occupied and the law of how many others."""
    templates = 2 * jnp.eye(PIXELS)
    return Sprites(templates, jnp.asarray(others), 0.3, PLACES, tuple(required))


@pytree
class Labelled:
    """The exact conditional score of sprites under a scheme of labels.

    A condition says, one number a place, what is asked; the law of the others is given
    by the scheme.  Only the conditions that the tests use are told apart.
    """

    none: Sprites
    first: Sprites
    second: Sprites
    both: Sprites

    def __call__(self, x, sigma, condition):
        asked = condition[0]
        index = (asked[0] > 0) + 2 * (asked[1] > 0)
        laws = (self.none, self.first, self.second, self.both)
        return jax.lax.switch(index, laws, x, sigma)


def conditions():
    at = lambda *c: jnp.array([[*c, 0.0, 0.0]])
    return at(0.0, 0.0), at(1.0, 0.0), at(0.0, 1.0), at(1.0, 1.0)


def scheme(*others):
    asked = ((), (0,), (1,), (0, 1))
    laws = (sprites(a, o) for a, o in zip(asked, others, strict=True))
    return Labelled(*laws)


COMPLETE = ([1.0],) * 4
INCOMPLETE = ([0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0])


def apart(place):
    """`[1, d]`: 0 in a place, 1 in the others."""
    at = np.repeat(np.arange(PLACES), PIXELS)
    return jnp.asarray((at != place).astype(float))[None]


def test_complete_labels_are_local_and_incomplete_ones_couple_by_the_count():
    """The label-scheme sprites: with all objects named, every place is on its own."""
    tiles = jnp.stack([1 - apart(i)[0] for i in range(PLACES)])
    windows = windows_of(tiles, 1 - tiles)
    none, first, second, both = conditions()
    for others, local in ((COMPLETE, True), (INCOMPLETE, False)):
        score = scheme(*others)
        x0 = jax.jit(Sprites.sample, static_argnums=2)(
            score.both, jax.random.key(0), 16
        )
        bound = cj.condition(score, both)
        pixels = locality(jax.random.key(1), bound, x0, [1.0], windows)
        acts = condition_locality(
            jax.random.key(2), score, x0, [1.0], both, second, apart(0)
        )
        x = x0 + jax.random.normal(jax.random.key(3), x0.shape)
        joint = interaction(jax.jit(score), x, 1.0, none, first, second, both)
        cosine = delta_cosines(jax.jit(score), x, 1.0, none, [first, second])[:, 0, 1]
        far = pixels.beyond(0.0).score.mean[0], acts.beyond(0.0).score.mean[0]
        if local:
            assert max(far) < 1e-6 and joint.mean < 1e-5
            assert np.abs(cosine).max() < 1e-5
            continue
        # The oracle: the Jacobian of the log-density, at the same samples.
        assert min(far) > 1e-4 and joint.mean > 0.05 and joint.error < joint.mean
        key_noise, _ = jax.random.split(jax.random.split(jax.random.key(1), 1)[0])
        at = x0 + jax.random.normal(key_noise, x0.shape)
        J = jacobians(score.both, at, 1.0)[0]
        squares = np.asarray(J**2).reshape(16, PLACES, PIXELS, PLACES, PIXELS)
        squares = squares.sum((0, 2, 4))
        off = 1 - np.trace(squares) / squares.sum()
        assert far[0] == pytest.approx(off, abs=5 * pixels.beyond(0.0).score.error[0])


def test_the_null_has_the_covariance_of_the_data():
    x0 = jax.random.normal(jax.random.key(0), (400, 2, 2, 1)).at[:, 0].mul(3.0)
    null = gaussian_like(x0, ridge=0.0)
    J = jax.jacfwd(lambda x: null(x.reshape(1, 2, 2, 1), 2.0).ravel())(jnp.zeros(4))
    cov = np.cov(np.asarray(x0, float).reshape(400, 4).T)
    np.testing.assert_allclose(J, -np.linalg.inv(cov + 4 * np.eye(4)), atol=1e-4)


def test_radii_and_strengths():
    """A shift by two places: all of the score's mass is at distance 2, or at 0."""
    shift = cj.as_score(lambda x, sigma: jnp.roll(x, 2, axis=1) * 3)
    away = jnp.abs(jnp.arange(D)[:, None] - jnp.arange(D)[None]).astype(float)
    away = jnp.minimum(away, D - away)
    windows, x0 = windows_of(jnp.eye(D), away), points()
    report = locality(jax.random.key(0), shift, x0, [0.1, 10.0], windows)
    np.testing.assert_array_equal(report.radius().score, [2, 2])
    # D = x + sigma^2 s: mass 1 at 0 and (3 sigma^2)^2 at 2.
    np.testing.assert_array_equal(report.radius().denoiser, [0, 2])
    far = report.beyond(1.0).denoiser
    np.testing.assert_allclose(far.mean, [9e-4 / (1 + 9e-4), 1.0], rtol=1e-3)
    np.testing.assert_allclose(
        report.strength().epsilon, np.sqrt(9 * D) * np.array([0.1, 10]), rtol=1e-5
    )
    assert "r90" in str(report)


def test_no_mass_has_no_radius():
    still = cj.as_score(lambda x, sigma: jnp.zeros_like(x))
    windows = windows_of(jnp.eye(D), 1 - jnp.eye(D))
    report = locality(jax.random.key(0), still, points(), [1.0], windows)
    assert np.isnan(report.radius().score[0])
    assert np.isnan(report.beyond(0.0).score.mean[0])
    assert report.radius().denoiser[0] == 0


def test_bad_input():
    score, x, key = mixing(), points(), jax.random.key(0)
    windows = windows_of(jnp.eye(D), 1 - jnp.eye(D))
    with pytest.raises(ValueError, match="does not fit samples"):
        influence(score, x, 1.0, jnp.eye(D + 1))
    with pytest.raises(ValueError, match="zeros and ones"):
        influence(score, x, 1.0, 2 * TILES)
    with pytest.raises(ValueError, match="probes must be at least 2, got 1"):
        influence_estimate(key, score, x, 1.0, TILES, 1)
    with pytest.raises(ValueError, match="noise levels above 0"):
        locality(key, score, x, [1.0, 0.0], windows)
    with pytest.raises(ValueError, match="probes must be a positive"):
        locality(key, score, x, [1.0], windows, 0)
    with pytest.raises(ValueError, match="share must be in"):
        locality(key, score, x, [1.0], windows).radius(1.0)
    with pytest.raises(ValueError, match="does not fit 3 samples"):
        condition_locality(key, lambda x, s, c: x, x, [1.0], x, x, jnp.ones((2, D)))
    with pytest.raises(ValueError, match="at least one condition"):
        delta_cosines(lambda x, s, c: x, x, 1.0, x, [])
    with pytest.raises(ValueError, match="2 samples or more"):
        gaussian_like(x[:1])
