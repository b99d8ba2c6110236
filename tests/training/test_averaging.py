import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.training.averaging import (
    LastUpdates,
    PowerFunction,
    std_to_exp,
    update_average,
)


def weights_of(average, steps):
    """How much the parameters after each update count in the average after `steps`."""
    weights = np.zeros(steps)
    for step in range(1, steps + 1):
        share = float(average.share(step))
        weights *= 1 - share
        weights[step - 1] += share
    return weights


@given(st.floats(0.01, 0.28))
def test_exponent_has_the_width_it_was_asked_for(std):
    gamma = std_to_exp(std)
    width = np.sqrt((gamma + 1) / (gamma + 2) ** 2 / (gamma + 3))
    assert gamma > 0 and width == pytest.approx(std, rel=1e-6)


def test_power_function_has_the_profile_of_a_power():
    std, steps = 0.1, 200
    gamma = std_to_exp(std)
    weights = weights_of(PowerFunction(std), steps)
    # Integrals of t^gamma over each step: the recursion's weights exactly.
    edges = (np.arange(steps + 1) / steps) ** (gamma + 1)
    np.testing.assert_allclose(weights, np.diff(edges), atol=1e-5)
    time = (np.arange(steps) + 0.5) / steps
    spread = np.sqrt((weights * time**2).sum() - (weights * time).sum() ** 2)
    assert spread == pytest.approx(std, rel=0.01)


@given(st.floats(0.01, 0.28), st.integers(1, 10**6))
def test_share_keeps_its_digits_late_in_training(std, step):
    expected = 1 - (1 - np.longdouble(1) / step) ** (std_to_exp(std) + 1)
    assert float(PowerFunction(std).share(step)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("count, until", [(1, 1), (1, 7), (3, 7), (7, 7)])
def test_last_updates_are_averaged_plainly_and_stay(count, until):
    expected = [0] * (until - count) + [1 / count] * count
    average = LastUpdates(count, until)
    np.testing.assert_allclose(weights_of(average, until), expected, atol=1e-6)
    longer = weights_of(average, until + 3)
    np.testing.assert_allclose(longer, [*expected, 0, 0, 0], atol=1e-6)


def test_last_updates_follow_the_parameters_until_the_mean_begins():
    assert weights_of(LastUpdates(3, until=100), 97).tolist() == [0] * 96 + [1]


@given(st.floats(-1e3, 1e3), st.floats(-1e-3, 1e-3))
def test_shares_of_0_and_1_are_exact(old, new):
    old, new = {"w": np.float32(old)}, {"w": np.float32(new)}
    assert float(update_average(old, new, 0.0)["w"]) == old["w"]
    assert float(update_average(old, new, 1.0)["w"]) == new["w"]


def test_averages_are_known_by_value_and_enter_jit():
    assert PowerFunction(0.1) == PowerFunction(0.1) != PowerFunction(0.2)
    assert hash(LastUpdates(2, 4)) == hash(LastUpdates(2, 4))
    share = jax.jit(lambda average, step: average.share(step))
    assert float(share(PowerFunction(0.1), jnp.int32(1))) == 1
    assert float(share(LastUpdates(2, 4), jnp.int32(4))) == 0.5


@pytest.mark.parametrize("std", [0.0, -0.1, 0.3, float("nan")])
def test_impossible_widths_are_refused(std):
    with pytest.raises(ValueError, match=str(std)):
        PowerFunction(std)


@pytest.mark.parametrize("count, until", [(0, 4), (5, 4), (-1, 4)])
def test_impossible_counts_are_refused(count, until):
    with pytest.raises(ValueError, match=f"last {count} updates until update {until}"):
        LastUpdates(count, until)
