import dataclasses
from collections.abc import Callable

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_task as task

from compjax.noise import LogNormal
from compjax.training import (
    AFTER,
    BEFORE,
    PowerFunction,
    draw_noise,
    everywhere,
    init_state,
    loss_at,
    make_mesh,
    make_train_step,
)
from compjax.training.step import repeat
from compjax.types import pytree


def start():
    key = jax.random.key(0)
    return init_state(key, task.module, task.optimizer, jax.eval_shape(task.batch, key))


def test_step_is_traced_once_and_donates_its_state():
    batch = chex.assert_max_traces(task.batch, n=1)
    step = make_train_step(task.module, task.optimizer, task.law)
    state, key = start(), jax.random.key(1)
    chex.clear_trace_counter()
    for _ in range(3):
        old = state
        state, _ = step(state, key, batch)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert int(state.step) == 3


def test_every_step_draws_its_own_batch_from_the_same_key():
    step = make_train_step(task.module, optax.sgd(0.0), task.law)
    key = jax.random.key(1)
    state = init_state(
        jax.random.key(0), task.module, optax.sgd(0.0), (jnp.zeros((8, 4)), None)
    )
    state, first = step(state, key, task.batch)
    state, second = step(state, key, task.batch)
    assert float(first["loss"]) != float(second["loss"])


def test_update_is_the_optimizers_then_weights_return_to_the_sphere():
    step = make_train_step(task.module, task.optimizer, task.law)
    state = start()
    before = jax.device_get(state.params)
    state, _ = step(state, jax.random.key(1), task.batch)
    after = jax.device_get(state.params)
    # Adam's first step has the size of the learning rate.
    for name in ("scale", "level"):
        assert abs(after[name] - before[name]) == pytest.approx(1e-2, rel=1e-2)
    np.testing.assert_allclose(np.square(after["weight"]).mean(0), 1, rtol=1e-3)
    assert not np.array_equal(after["weight"], before["weight"])
    chex.assert_trees_all_equal(jax.device_get(state.average), after)


def test_average_follows_the_power_function():
    step = make_train_step(
        task.module, task.optimizer, task.law, averages=[PowerFunction(0.2)]
    )
    state, key = start(), jax.random.key(1)
    state, _ = step(state, key, task.batch)
    first = jax.device_get(state.params)
    state, _ = step(state, key, task.batch)
    beta = 0.5 ** (1.8262 + 1)  # gamma of a relative width of 0.2
    expected = jax.tree.map(
        lambda a, b: beta * a + (1 - beta) * b, first, jax.device_get(state.params)
    )
    chex.assert_trees_all_close(jax.device_get(state.average), expected, rtol=1e-4)


def test_training_lowers_the_error():
    step = make_train_step(task.module, optax.adam(0.05), task.law)
    state = init_state(
        jax.random.key(0), task.module, optax.adam(0.05), (jnp.zeros((8, 4)), None)
    )
    errors = []
    for _ in range(100):
        state, metrics = step(state, jax.random.key(1), task.batch)
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
    step = make_train_step(module, optimizer, task.law)
    state, metrics = step(state, jax.random.key(1), task.batch)
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
    step = make_train_step(Spy(), task.optimizer, task.law, noise_draws=3)
    step(state, jax.random.key(1), task.batch)
    assert seen[-1] == ((24, 4), (24,))


@pytree
class FromTable:
    table: jax.Array

    def __call__(self, key):
        rows = jax.random.choice(key, self.table.shape[0], (8,))
        return self.table[rows], None


def test_arrays_of_a_batch_function_are_arguments_of_the_program():
    table = jnp.ones((1000, 4))
    step = make_train_step(task.module, task.optimizer, task.law)
    closed = jax.make_jaxpr(step)(start(), jax.random.key(1), FromTable(table))
    inner = [e for e in closed.eqns if e.primitive.name in ("jit", "pjit")]
    assert len(inner) == 1
    assert (1000, 4) in [v.aval.shape for v in inner[0].invars]


def test_arrays_that_carry_the_batch_never_retrace():
    traced = chex.assert_max_traces(FromTable.__call__, n=1)

    @pytree
    class Carried:
        table: jax.Array

        def __call__(self, key):
            return traced(self, key)

    step = make_train_step(task.module, task.optimizer, task.law)
    state, key = start(), jax.random.key(1)
    chex.clear_trace_counter()
    for value in (0.0, 1.0, 2.0):
        state, metrics = step(state, key, Carried(jnp.full((8, 4), value)))
        assert np.isfinite(metrics["loss"])


def test_parts_of_a_batch_give_the_same_update():
    table = jax.random.normal(jax.random.key(2), (8, 4))
    found = []
    for accumulate in (1, 2, 8):
        step = make_train_step(
            task.module, optax.sgd(0.1), task.law, accumulate=accumulate
        )
        example = jax.eval_shape(FromTable(table), jax.random.key(0))
        state = init_state(jax.random.key(0), task.module, optax.sgd(0.1), example)
        state, metrics = step(state, jax.random.key(1), FromTable(table))
        found.append(jax.device_get((state.params, metrics)))
    for other in found[1:]:
        # Eight numbers are added in another order: a few units of float32's last place.
        chex.assert_trees_all_close(other, found[0], rtol=1e-5)


def test_weights_return_to_the_sphere_before_the_gradients_or_after_the_update():
    """Written out for both ways: gradients, update and average of each."""
    table = jax.random.normal(jax.random.key(2), (8, 4))
    example = jax.eval_shape(FromTable(table), jax.random.key(0))
    for normalization in (BEFORE, AFTER):
        step = make_train_step(
            task.module, optax.sgd(0.1), task.law, normalization=normalization
        )
        state = init_state(jax.random.key(0), task.module, optax.sgd(0.1), example)
        state = dataclasses.replace(
            state, params=state.params | {"weight": 3 * state.params["weight"]}
        )
        start = jax.tree.map(jnp.copy, state.params)  # the state is donated
        key = jax.random.key(1)
        key_batch, key_noise, _ = jax.random.split(jax.random.fold_in(key, 0), 3)
        x0, _ = FromTable(table)(key_batch)
        sigma, eps = draw_noise(key_noise, x0, task.law)
        first = normalization.before(start)
        loss = lambda p: loss_at(p, task.module, x0, None, sigma, eps)[0]  # noqa: B023
        moved = jax.tree.map(lambda p, g: p - 0.1 * g, first, jax.grad(loss)(first))
        expected = normalization.after(moved)
        state, _ = step(state, key, FromTable(table))
        chex.assert_trees_all_close(state.params, expected, rtol=1e-5)
        chex.assert_trees_all_close(state.average, expected, rtol=1e-5)


class Dropping(type(task.module)):
    """Calls `show` with the mask of what it drops, and with nothing if that is none."""

    dropout: float = 0.5
    show: Callable = print

    def __call__(self, x, sigma, condition=None):
        masks = []
        if self.has_rng("dropout"):
            key = self.make_rng("dropout")
            masks = [jax.random.bernoulli(key, 1 - self.dropout, x.shape)]
            x = x * masks[0]
        if not self.is_initializing():
            jax.debug.callback(self.show, *masks)
        return super().__call__(x, sigma, condition)


@pytest.mark.parametrize("devices", [1, 2])
def test_what_the_module_drops_is_drawn_anew_in_every_step_part_and_device(devices):
    masks = []
    step = make_train_step(
        Dropping(show=lambda mask: masks.append(np.asarray(mask))),
        task.optimizer,
        task.law,
        accumulate=2,
        mesh=make_mesh(devices),
    )
    state = jax.device_put(start(), everywhere(make_mesh(devices)))
    for _ in range(2):
        state, _ = jax.block_until_ready(step(state, jax.random.key(1), task.batch))
    jax.effects_barrier()
    assert {mask.shape for mask in masks} == {(8 // 2 // devices, 4)}
    assert len({mask.tobytes() for mask in masks}) == len(masks) == 2 * 2 * devices


def test_a_module_that_drops_nothing_is_given_no_key():
    seen = []
    module = Dropping(dropout=0.0, show=lambda *masks: seen.append(masks))
    make_train_step(module, task.optimizer, task.law)(
        start(), jax.random.key(1), task.batch
    )
    jax.effects_barrier()
    assert seen == [()]


def test_impossible_options_are_refused_at_once():
    for name in ("noise_draws", "accumulate"):
        with pytest.raises(ValueError, match=f"{name} .* got 0"):
            make_train_step(task.module, task.optimizer, LogNormal(0, 1), **{name: 0})
    step = make_train_step(task.module, task.optimizer, task.law, accumulate=3)
    with pytest.raises(ValueError, match="8 does not split into accumulate = 3"):
        step(start(), jax.random.key(1), task.batch)


def test_the_count_of_nonfinite_entries_does_not_wrap():
    module, optimizer = Cliff(), optax.sgd(1e-3)
    most = jnp.iinfo(jnp.int32).max
    state = init_state(jax.random.key(0), module, optimizer, (jnp.zeros((8, 4)), None))
    step = make_train_step(module, optimizer, task.law)
    state = dataclasses.replace(state, nonfinite=jnp.int32(most))
    _, metrics = step(state, jax.random.key(1), task.batch)
    assert int(metrics["nonfinite_gradients"]) == most
