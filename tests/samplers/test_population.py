"""Weighted populations: sizes, weights, and who has how many children."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from compjax.samplers import effective_sample_size, systematic
from compjax.samplers.population import Particles
from compjax.testing import strategies


@settings(max_examples=30, deadline=None)
@given(strategies.arrays((7,), -4.0, 4.0))
def test_systematic_children_are_floor_or_ceiling(log_weights):
    weights = np.asarray(jax.nn.softmax(log_weights), float) * 7
    for seed in range(5):
        parents = np.asarray(systematic(jax.random.key(seed), log_weights))
        children = np.bincount(parents, minlength=7)
        assert (np.abs(children - weights) < 1 + 1e-4).all()
        assert (np.diff(parents) >= 0).all()


def test_systematic_resampling_is_unbiased():
    logs = jnp.log(jnp.array([0.05, 0.4, 0.25, 0.3]))
    keys = jax.random.split(jax.random.key(3), 20_000)
    parents = jax.vmap(lambda key: systematic(key, logs))(keys)
    shares = np.bincount(np.asarray(parents).ravel(), minlength=4) / 80_000
    # Children differ by at most one from their mean: sd of a share below 1/8 per run.
    assert np.abs(shares - jnp.exp(logs)).max() < 4 * 0.125 / np.sqrt(20_000)


LOGS = strategies.arrays((7,), -4.0, 4.0)


@settings(max_examples=30, deadline=None)
@given(LOGS)
def test_effective_sample_sizes_are_those_of_the_weights(logs):
    weights = np.exp(np.asarray(logs, float))
    share = weights.sum() ** 2 / (7 * (weights**2).sum())
    assert float(effective_sample_size(logs)) == pytest.approx(share, rel=1e-5)


def population(logs):
    """Seven particles whose places and pending rates tell who they are."""
    x = jnp.arange(7.0)[:, None]
    state = Particles.equal(x, jnp.array([2.0, 1.0]))
    return state._replace(log_weights=logs, pending=10 * x[:, 0])


@settings(max_examples=30, deadline=None)
@given(LOGS, LOGS)
def test_weights_average_to_one_and_the_normaliser_keeps_what_they_lose(first, second):
    state = population(jnp.zeros(7))
    for increment in (first, second):
        state, dead = state.weigh(increment)
        assert int(dead) == 0
        assert float(jnp.exp(state.log_weights).mean()) == pytest.approx(1, rel=1e-5)
    both = np.exp(np.asarray(first, float) + np.asarray(second, float))
    # Two sums of seven numbers of order 1, in float32.
    expected = pytest.approx(np.log(both.mean()), abs=1e-5)
    assert float(state.log_normalizer) == expected


def test_who_is_lost_weighs_nothing_and_all_lost_is_said():
    state = population(jnp.zeros(7))
    lost = state._replace(x=state.x.at[2].set(jnp.nan))
    after, dead = lost.weigh(jnp.zeros(7).at[4].set(jnp.nan))
    assert int(dead) == 2
    assert jnp.isneginf(after.log_weights).tolist() == [i in (2, 4) for i in range(7)]
    assert float(jnp.exp(after.log_weights).mean()) == pytest.approx(1, rel=1e-6)
    after, dead = state.weigh(jnp.full(7, -jnp.inf))
    assert int(dead) == 7 and jnp.isnan(after.x).all()


@settings(max_examples=30, deadline=None)
@given(LOGS)
def test_particles_take_what_is_theirs_along_or_stay(logs):
    state, key = population(logs), jax.random.key(0)
    size = float(effective_sample_size(logs))
    new, ancestors, found = state.resample(key, min(1.0, size + 1e-3))
    assert float(found) == pytest.approx(size, rel=1e-6)
    if size < 1 - 1e-3:
        np.testing.assert_array_equal(new.x[:, 0], ancestors)
        np.testing.assert_array_equal(new.pending, 10 * ancestors)
        np.testing.assert_array_equal(new.log_weights, 0)
    kept, stay, _ = state.resample(jax.random.clone(key), size - 1e-3)
    np.testing.assert_array_equal(stay, np.arange(7))
    np.testing.assert_array_equal(kept.log_weights, logs)
    np.testing.assert_array_equal(kept.pending, state.pending)
