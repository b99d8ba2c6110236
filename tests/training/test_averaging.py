import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.training import power_function_beta, std_to_exp, update_average


@given(st.floats(0.01, 0.28))
def test_exponent_has_the_width_it_was_asked_for(std):
    gamma = std_to_exp(std)
    width = np.sqrt((gamma + 1) / (gamma + 2) ** 2 / (gamma + 3))
    assert gamma > 0 and width == pytest.approx(std, rel=1e-6)


def test_average_has_the_profile_of_a_power():
    std, steps = 0.1, 200
    gamma = std_to_exp(std)
    weights = np.zeros(steps)
    for step in range(1, steps + 1):
        weights *= float(power_function_beta(std, step))
        weights[step - 1] += 1 - weights.sum()
    # Integrals of t^gamma over each step: the recursion's weights exactly.
    edges = (np.arange(steps + 1) / steps) ** (gamma + 1)
    np.testing.assert_allclose(weights, np.diff(edges), atol=1e-5)
    time = (np.arange(steps) + 0.5) / steps
    spread = np.sqrt((weights * time**2).sum() - (weights * time).sum() ** 2)
    assert spread == pytest.approx(std, rel=0.01)


def test_first_average_is_the_first_parameters():
    params = {"w": np.float32(3.0)}
    beta = power_function_beta(0.1, 1)
    assert float(update_average({"w": np.float32(7.0)}, params, beta)["w"]) == 3.0


@pytest.mark.parametrize("std", [0.0, -0.1, 0.3])
def test_impossible_widths_are_refused(std):
    with pytest.raises(ValueError, match=str(std)):
        std_to_exp(std)
