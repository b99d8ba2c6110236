import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.training.optimizer import edm2_adam, edm2_learning_rate

SCHEDULE = edm2_learning_rate(0.012, decay=35_000, batch=2048)


def test_rate_rises_over_images_and_decays_over_updates():
    small = edm2_learning_rate(0.012, decay=35_000, batch=1024)
    # Half the batch takes twice the updates to rise, and as many to decay.
    assert float(small(2000)) == pytest.approx(float(SCHEDULE(1000)), rel=1e-6)
    assert float(small(140_000)) == pytest.approx(0.006, rel=1e-6)
    assert float(SCHEDULE(140_000)) == pytest.approx(0.006, rel=1e-6)
    assert float(SCHEDULE(0)) == 0


@given(st.integers(0, 2**24))
def test_rate_is_the_formula_however_many_images_there_are(step):
    """2**24 batches are more images than an int32 counts."""
    images = step * 2048
    expected = 0.012 / max(images / (35_000 * 2048), 1) ** 0.5 * min(images / 1e7, 1)
    assert float(SCHEDULE(jnp.int32(step))) == pytest.approx(expected, rel=1e-5)


def test_adam_is_adam_with_its_own_constants():
    optimizer = edm2_adam(0.1)
    params = {"w": jnp.array([1.0, -2.0])}
    state, m, v, w = optimizer.init(params), 0, 0, np.array([1.0, -2.0])
    for t, gradient in enumerate(([0.3, -4.0], [1.0, 2.0], [-5.0, 0.1]), start=1):
        gradient = np.array(gradient)
        updates, state = optimizer.update({"w": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        w = w - 0.1 * m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
        np.testing.assert_allclose(params["w"], w, rtol=1e-5)


def test_adam_follows_a_schedule():
    optimizer = edm2_adam(SCHEDULE)
    params = jnp.ones(1)
    updates, state = optimizer.update(params, optimizer.init(params))
    assert float(updates[0]) == 0  # the first rate
    updates, _ = optimizer.update(params, state)
    assert float(updates[0]) == pytest.approx(-float(SCHEDULE(1)), rel=1e-4)


@pytest.mark.parametrize("name", ["peak", "decay", "batch", "rampup_images"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_impossible_numbers_are_refused(name, value):
    numbers = {"peak": 0.01, "decay": 100, "batch": 8, "rampup_images": 1e4}
    with pytest.raises(ValueError, match=f"{name} must be positive, got {value}"):
        edm2_learning_rate(**(numbers | {name: value}))


def test_schedule_is_one_program():
    assert float(jax.jit(SCHEDULE)(jnp.int32(35_000))) == pytest.approx(0.012)
