"""Sums over windows against loops, and sides that depend on the noise level."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

import compjax as cj
from compjax.densities.window_sums import (
    box_sum,
    centred_sum,
    circular_sum,
    covering_sum,
)
from compjax.testing import strategies

D = cj.densities
H, W = 6, 5
DATA = jax.random.normal(jax.random.key(0), (7, H, W, 2))
X = 1.5 * jax.random.normal(jax.random.key(1), (2, H, W, 2))
PIXELS = list(itertools.product(range(H), range(W)))


@pytest.mark.parametrize("machine", [D.LocalMachine, D.PatchMachine])
def test_schedules(machine):
    """Each side from its level up, for a batch at one level and at one each."""
    traces = []

    @jax.jit
    def denoise(machine, x, sigma):
        traces.append(machine)
        return machine.denoise(x, sigma)

    schedule = machine(DATA, ((0.0, 1), (2.0, 5)), 3)
    for sigma, side in {0.4: 1, 1.9: 1, 2.0: 5, 30.0: 5}.items():
        expected = denoise(machine(DATA, side, 3), X, sigma)
        np.testing.assert_allclose(denoise(schedule, X, sigma), expected, atol=1e-6)
    assert len(traces) == 3  # one for each side, one for the schedule
    levels = jnp.array([0.4, 2.0])
    each = [denoise(schedule, X[i : i + 1], levels[i]) for i in range(2)]
    np.testing.assert_allclose(
        denoise(schedule, X, levels), jnp.concatenate(each), atol=1e-5
    )


def test_schedule_of_the_conditional_machine():
    conditions = jax.random.bernoulli(jax.random.key(2), 0.5, (7, 3, 5, 1))
    schedule = D.ConditionalMachine(DATA, conditions, ((0.0, 1), (1.0, 5)), 3, chunk=3)
    plain = [D.ConditionalMachine(DATA, conditions, s, 3, chunk=3) for s in (1, 5)]
    levels = jnp.array([0.5, 2.0])
    found = schedule.denoise(X, levels, conditions[:1])
    for i in range(2):
        expected = plain[i].denoise(X[i : i + 1], levels[i], conditions[:1])
        np.testing.assert_allclose(found[i : i + 1], expected, atol=1e-5)


@settings(max_examples=5)
@given(strategies.arrays((2, 6, 5), 0.0, 4.0))
def test_window_sums(values):
    v = np.asarray(values, float)
    expected = [
        [v[:, i : i + 2, j : j + 3].sum((1, 2)) for j in range(3)] for i in range(5)
    ]
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    close(box_sum(values, (2, 3)), np.moveaxis(np.array(expected), -1, 0))
    assert box_sum(values, (2, 3)).shape == (2, 5, 3)
    for i, j in PIXELS:
        rows = range(max(i - 1, 0), min(i + 2, H))
        columns = range(max(j - 1, 0), min(j + 2, W))
        cells = np.array(list(itertools.product(rows, columns))).T
        close(centred_sum(values, 3)[:, i, j], v[:, cells[0], cells[1]].sum(1))
        rows, columns = np.ix_(
            [(i + a) % H for a in (-1, 0, 1)], [(j + b) % W for b in (-1, 0, 1)]
        )
        close(circular_sum(values, 3)[:, i, j], v[:, rows, columns].sum((1, 2)))
    # Transposes of each other: <box(v), u> = <v, cover(u)>.
    u = v[:, :5, :3]
    left = (np.asarray(box_sum(values, (2, 3)), float) * u).sum()
    right = (
        v * np.asarray(covering_sum(jnp.asarray(u, jnp.float32), (2, 3)), float)
    ).sum()
    close(left, right)


def test_sums_keep_small_windows_beside_large_ones():
    """A running sum of 1e6 would know the ones at its end to no better than 0.06."""
    values = jnp.ones((1, 40)).at[0, :20].set(1e6)
    np.testing.assert_array_equal(centred_sum(values, 3)[0, 22:], [3.0] * 17 + [2.0])
