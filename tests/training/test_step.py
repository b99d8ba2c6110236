import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_task as task

from compjax.noise import LogNormal
from compjax.training import init_state, make_train_step
from compjax.training.step import repeat
from compjax.types import pytree


def start():
    key = jax.random.key(0)
    return init_state(key, task.module, task.optimizer, jax.eval_shape(task.batch, key))


def test_step_is_traced_once_and_donates_its_state():
    batch = chex.assert_max_traces(task.batch, n=1)
    step = make_train_step(task.module, task.optimizer, batch, task.law)
    state, key = start(), jax.random.key(1)
    chex.clear_trace_counter()
    for _ in range(3):
        old = state
        state, _ = step(state, key)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert int(state.step) == 3


def test_every_step_draws_its_own_batch_from_the_same_key():
    step = make_train_step(task.module, optax.sgd(0.0), task.batch, task.law)
    key = jax.random.key(1)
    state = init_state(
        jax.random.key(0), task.module, optax.sgd(0.0), (jnp.zeros((8, 4)), None)
    )
    state, first = step(state, key)
    state, second = step(state, key)
    assert float(first["loss"]) != float(second["loss"])


def test_update_is_the_optimizers_then_weights_return_to_the_sphere():
    step = make_train_step(task.module, task.optimizer, task.batch, task.law)
    state = start()
    before = jax.device_get(state.params)
    state, _ = step(state, jax.random.key(1))
    after = jax.device_get(state.params)
    # Adam's first step has the size of the learning rate.
    for name in ("scale", "level"):
        assert abs(after[name] - before[name]) == pytest.approx(1e-2, rel=1e-2)
    np.testing.assert_allclose(np.square(after["weight"]).mean(0), 1, rtol=1e-3)
    assert not np.array_equal(after["weight"], before["weight"])
    chex.assert_trees_all_equal(jax.device_get(state.average), after)


def test_average_follows_the_power_function():
    step = make_train_step(
        task.module, task.optimizer, task.batch, task.law, average_std=0.2
    )
    state, key = start(), jax.random.key(1)
    state, _ = step(state, key)
    first = jax.device_get(state.params)
    state, _ = step(state, key)
    beta = 0.5 ** (1.8262 + 1)  # gamma of a relative width of 0.2
    expected = jax.tree.map(
        lambda a, b: beta * a + (1 - beta) * b, first, jax.device_get(state.params)
    )
    chex.assert_trees_all_close(jax.device_get(state.average), expected, rtol=1e-4)


def test_training_lowers_the_error():
    step = make_train_step(task.module, optax.adam(0.05), task.batch, task.law)
    state = init_state(
        jax.random.key(0), task.module, optax.adam(0.05), (jnp.zeros((8, 4)), None)
    )
    errors = []
    for _ in range(100):
        state, metrics = step(state, jax.random.key(1))
        errors.append(float(metrics["error"]))
    # scale = 1 is wrong by a margin: for Gaussian data the best F is zero.
    assert np.mean(errors[-20:]) < 0.9 * np.mean(errors[:5])


class Cliff(nn.Module):
    """A denoiser of which one gradient is not finite, and the loss is."""

    sigma_data: float = 0.5

    @nn.compact
    def __call__(self, x, sigma, condition=None):
        bad = self.param("bad", nn.initializers.zeros, ())
        good = self.param("good", nn.initializers.ones, ())
        return good * x + jnp.sqrt(bad)

    def log_variance(self, sigma):
        return 0 * sigma


def test_nonfinite_gradients_are_zeroed_and_counted():
    module, optimizer = Cliff(), optax.sgd(1e-3)
    example = (jnp.zeros((8, 4)), None)
    state = init_state(jax.random.key(0), module, optimizer, example)
    step = make_train_step(module, optimizer, task.batch, task.law)
    state, metrics = step(state, jax.random.key(1))
    assert int(metrics["nonfinite_gradients"]) == 1
    assert float(state.params["bad"]) == 0.0
    assert float(state.params["good"]) != 1.0
    assert np.isfinite(float(metrics["gradient_norm"]))


def test_noise_draws_share_examples_but_not_noise():
    tree = {"x": jnp.arange(2), "c": jnp.zeros((1, 3))}
    repeated = repeat(tree, 3)
    np.testing.assert_array_equal(repeated["x"], [0, 0, 0, 1, 1, 1])
    chex.assert_shape(repeated["c"], (1, 3))


def test_noise_draws_multiply_the_batch():
    seen = []

    class Spy(type(task.module)):
        def __call__(self, x, sigma, condition=None):
            seen.append((x.shape, sigma.shape))
            return super().__call__(x, sigma, condition)

    state = start()
    step = make_train_step(Spy(), task.optimizer, task.batch, task.law, noise_draws=3)
    step(state, jax.random.key(1))
    assert seen[-1] == ((24, 4), (24,))


@pytree
class FromTable:
    table: jax.Array

    def __call__(self, key):
        rows = jax.random.choice(key, self.table.shape[0], (8,))
        return self.table[rows], None


def test_arrays_of_a_batch_function_are_arguments_of_the_program():
    table = jnp.ones((1000, 4))
    step = make_train_step(task.module, task.optimizer, FromTable(table), task.law)
    closed = jax.make_jaxpr(step)(start(), jax.random.key(1))
    inner = [e for e in closed.eqns if e.primitive.name in ("jit", "pjit")]
    assert len(inner) == 1
    assert (1000, 4) in [v.aval.shape for v in inner[0].invars]


def test_impossible_options_are_refused_at_once():
    with pytest.raises(ValueError, match=r"noise_draws .* got 0"):
        make_train_step(
            task.module, task.optimizer, task.batch, LogNormal(0, 1), noise_draws=0
        )
    with pytest.raises(ValueError, match=r"got 0\.5"):
        make_train_step(
            task.module, task.optimizer, task.batch, LogNormal(0, 1), average_std=0.5
        )
