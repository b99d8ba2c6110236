"""The sprite world against the sum over all sets of places and all templates."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

import compjax as cj
from compjax.densities.sprites import log_symmetric
from compjax.testing import (
    VARIANTS,
    assert_close,
    assert_commutes_with_noise,
    assert_same_score,
    assert_score_is_gradient,
    strategies,
)

SPRITES = cj.densities.Sprites
LEVELS = strategies.noise_levels(0.05, 20.0)
X = strategies.points(4, 8)
WORLDS = strategies.sprites()


evaluate = jax.jit(lambda p, x, sigma: p(x, sigma))
log_probability = jax.jit(lambda p, x, sigma: p.log_prob(x, sigma))
occupied = jax.jit(lambda p, x, sigma: p.occupied(x, sigma))
draw = jax.jit(lambda p, key: p.sample(key, 4000, 0.5))


def scenes_of(p):
    """Every scene that can occur, and the logarithm of its probability."""
    templates, counts = np.asarray(p.templates, float), np.asarray(p.counts, float)
    free = [j for j in range(p.places) if j not in p.required]
    sets = (itertools.combinations(free, m) for m in range(len(counts)))
    for others in itertools.chain.from_iterable(sets):
        m = len(others)
        occupied = sorted({*others, *p.required})
        for shown in itertools.product(templates, repeat=len(occupied)):
            scene = np.zeros((p.places, templates.shape[1]))
            scene[occupied] = np.reshape(shown, (len(occupied), -1))
            probability = counts[m] / math.comb(len(free), m)
            probability /= len(templates) ** len(occupied)
            if probability:
                yield scene.reshape(-1), np.log(probability)


def brute_force(p, x, sigma):
    """`log p` and the score, in double precision."""
    x = np.asarray(x, float)
    variance = float(p.scale) ** 2 + float(sigma) ** 2
    means, logs = (np.array(list(v)) for v in zip(*scenes_of(p), strict=True))
    gaps = x[:, None] - means[None]
    d = x.shape[1]
    joint = logs[None] - (gaps**2).sum(-1) / (2 * variance)
    joint -= d / 2 * np.log(2 * np.pi * variance)
    total = logsumexp(joint, axis=1)
    share = np.exp(joint - total[:, None])
    return total, -np.einsum("bm,bmd->bd", share, gaps) / variance, share, means


@given(WORLDS, X, LEVELS)
def test_against_brute_force(p, x, sigma):
    log_prob, score, share, means = brute_force(p, x, sigma)
    # Relative to the largest exponent, |x|^2 / v, in float32, of 8 + 9 terms.
    variance = float(p.scale) ** 2 + float(sigma) ** 2
    tolerance = 1e-5 * (10 + 8 * 16 / variance)
    found = log_probability(p, x, sigma)
    np.testing.assert_allclose(found, log_prob, rtol=0, atol=tolerance)
    assert_close(evaluate(p, x, sigma), jnp.asarray(score, jnp.float32))
    there = (means.reshape(len(means), p.places, -1) != 0).any(-1)
    np.testing.assert_allclose(occupied(p, x, sigma), share @ there, atol=1e-3)


@given(WORLDS, X, LEVELS)
def test_score_is_gradient(p, x, sigma):
    assert_score_is_gradient(p, x, sigma)


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_agree(variant):
    p = SPRITES(np.eye(2), np.array([0.0, 1.0, 1.0]), 0.1, 4, (2,))
    x = jax.random.normal(jax.random.key(0), (4, 8))
    run = VARIANTS[variant](lambda p, x, sigma: p(x, sigma))
    for sigma in (jnp.float32(0.5), jnp.arange(1.0, 5.0)):
        assert_close(run(p, x, sigma), evaluate(p, x, sigma))


@given(WORLDS)
def test_samples_follow_the_law(p):
    """The mean, and the score identity E[s(x)] = 0."""
    x = draw(p, jax.random.key(0))
    s = np.asarray(evaluate(p, x, 0.5))
    # Six standard errors, estimated from the same draws.
    assert (np.abs(s.mean(0)) < 6 * s.std(0) / 4000**0.5 + 1e-6).all()
    mean = sum(np.exp(log) * scene for scene, log in scenes_of(p))
    spread = np.asarray(x).std(0)
    assert (np.abs(np.asarray(x).mean(0) - mean) < 6 * spread / 4000**0.5).all()


def test_number_of_objects_in_samples():
    p = SPRITES(2 * np.eye(3), np.array([0.0, 1.0, 0.0, 3.0]), 1e-3, 6, (0,))
    strength = p.strength(p.sample(jax.random.key(0), 2000))
    shown = strength > 0.5
    # 1 or 0, and noise of 1e-3 over a norm of 2.
    np.testing.assert_allclose(strength, shown, atol=6e-3 / 2)
    counts = np.bincount(np.asarray(shown.sum(1)), minlength=7)
    assert bool(shown[:, 0].all())
    # One required, and 1 or 3 others with odds 1 : 3; six standard errors.
    assert counts[[0, 1, 3, 5, 6]].sum() == 0
    assert abs(counts[4] / 2000 - 0.75) < 6 * (0.75 * 0.25 / 2000) ** 0.5
    where = np.asarray(shown[:, 1:].sum(0))
    assert scipy.stats.chisquare(where).pvalue > 1e-3


@given(st.integers(1, 6), strategies.arrays((2, 6), -3.0, 3.0))
def test_symmetric_polynomials(degree, logs):
    # The coefficients of prod_j (1 + r_j t) in double precision.
    r = np.exp(np.asarray(logs, float))
    for row, computed in zip(r, log_symmetric(logs, degree), strict=True):
        expected = np.poly(-row)[: degree + 1]
        np.testing.assert_allclose(computed, np.log(expected), atol=1e-4)


TEMPLATES = jnp.array([[1.0, 0.5], [-0.5, 1.0]])
EMPTY = SPRITES(TEMPLATES, np.ones(1), 0.1, 4)


@given(X, LEVELS)
def test_setting_a_factorizes_and_commutes(x, sigma):
    """Objects on an empty background: theorem 5.3 at every noise level."""
    composed = cj.compose(EMPTY, *(EMPTY.with_object(i) for i in range(3)))
    target = EMPTY.with_object(0).with_object(1).with_object(2)
    assert_commutes_with_noise(composed, target, x, sigma)


def test_setting_b_does_not_commute():
    """The background swapped for the unconditional one: the check must fail."""
    one = SPRITES(TEMPLATES, np.array([0.0, 1.0]), 0.1, 4)
    composed = cj.compose(one, *(EMPTY.with_object(i) for i in range(2)))
    target = EMPTY.with_object(0).with_object(1)
    x = target.sample(jax.random.key(0), 4, 0.5)
    with pytest.raises(AssertionError):
        assert_commutes_with_noise(composed, target, x, 0.5)


@given(X, LEVELS, st.integers(0, 3))
def test_setting_b_at_one_condition_is_setting_a(x, sigma, i):
    one = SPRITES(TEMPLATES, np.array([0.0, 1.0]), 0.1, 4)
    p = EMPTY.with_object(i)
    assert_same_score(cj.compose(one, p), cj.compose(EMPTY, p), x, sigma)


@given(X, LEVELS)
def test_clutter_is_the_mixture_of_its_conditionals(x, sigma):
    """With counts 1 to 3, and 0 to 2 others: setting C's background is p_u."""
    clutter = SPRITES(TEMPLATES, np.array([0.0, 1.0, 1.0, 1.0]), 0.1, 4)
    others = np.array([1.0, 1.0, 1.0])
    conditionals = (clutter.with_object(i, others) for i in range(4))
    assert_same_score(cj.mixture(*conditionals), clutter, x, sigma)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SPRITES(np.ones(3), np.ones(1), 0.1, 3), "templates"),
        (lambda: SPRITES(np.ones((0, 2)), np.ones(1), 0.1, 3), "at least one object"),
        (lambda: SPRITES(np.zeros((1, 2)), np.ones(1), 0.1, 3), "visible"),
        (lambda: SPRITES(np.full((1, 2), np.nan), np.ones(1), 0.1, 3), "finite"),
        (lambda: SPRITES(TEMPLATES, np.ones(1), np.inf, 3), "positive and finite"),
        (lambda: EMPTY.strength(jnp.ones((1, 5))), r"\[b, 8\]"),
        (lambda: SPRITES(TEMPLATES, np.ones(5), 0.1, 3), "5 counts do not fit"),
        (lambda: SPRITES(TEMPLATES, np.array([-1.0, 2]), 0.1, 3), "probabilities"),
        (lambda: SPRITES(TEMPLATES, np.ones(1), 0.0, 3), "positive"),
        (lambda: SPRITES(TEMPLATES, np.ones(1), 0.1, 3, (3,)), r"\(3,\)"),
        (lambda: EMPTY.with_object(0).with_object(0), r"\(0, 0\)"),
        (lambda: EMPTY(jnp.ones((1, 3)), 1.0), r"\[b, 8\]"),
        (lambda: EMPTY(jnp.ones((2, 8)), jnp.ones(3)), "one for each sample"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
