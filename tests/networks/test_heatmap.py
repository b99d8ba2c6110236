"""The network of the detector, and its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.networks.heatmap import HeatMap, Maps, Targets, detection_loss

CELLS = 16


def objects(xy, present=None, ignored=None, index=0):
    xy = np.asarray(xy, np.float32)[None]
    n = xy.shape[1]
    flags = lambda value, default: jnp.asarray(
        np.full((1, n), default) if value is None else np.asarray(value)[None]
    )
    codes = jnp.full((1, n), index)
    return Targets(
        jnp.asarray(xy), flags(present, True), flags(ignored, False), *[codes] * 4
    )


def maps(heat, offset=None):
    """Maps that are sure of class 0 everywhere."""
    heat = jnp.asarray(heat, jnp.float32)
    offset = jnp.zeros((*heat.shape, 2)) if offset is None else offset
    sure = jnp.zeros((*heat.shape, 3)).at[..., 0].set(30.0)
    return Maps(heat, offset, sure, sure, sure, sure)


def heat_with(*cells):
    heat = np.full((1, CELLS, CELLS), -30.0, np.float32)
    for x, y in cells:
        heat[0, y, x] = 30.0
    return heat


def heat_loss(heat, there):
    return float(detection_loss(jax.random.key(0), maps(heat), there)[1]["heat"])


@given(st.integers(0, CELLS - 1), st.integers(0, CELLS - 1))
def test_heat_is_right_where_the_object_is_and_wrong_elsewhere(x, y):
    there = objects([[(x + 0.3) / CELLS, (y + 0.6) / CELLS]])
    assert heat_loss(heat_with((x, y)), there) < 1e-9
    # The object is missed: (1 - p)^2 -log p, which is 30 here.
    assert heat_loss(heat_with(), there) == pytest.approx(30.0, rel=1e-5)
    # One too many far away costs as much; a neighbour in the bump costs less.
    far = ((x + CELLS // 2) % CELLS, y)
    extra = heat_loss(heat_with((x, y), far), there)
    assert extra == pytest.approx(30.0, rel=1e-4)
    near = (x + 1 if x + 1 < CELLS else x - 1, y)
    assert 0 < heat_loss(heat_with((x, y), near), there) < 0.9 * extra


def test_what_may_be_found_or_not_costs_nothing_either_way():
    there = objects([[0.5, 0.5]], present=[False], ignored=[True])
    assert heat_loss(heat_with((8, 8)), there) < 1e-9
    assert heat_loss(heat_with(), there) < 1e-9
    assert heat_loss(heat_with((1, 1)), there) > 10
    # ... but an object that must be found, close by, must be found.
    both = objects([[0.5, 0.5], [0.55, 0.5]], present=[False, True], ignored=[True, 0])
    assert heat_loss(heat_with((8, 8)), both) < 1e-9
    assert heat_loss(heat_with(), both) > 10


def test_terms_of_looks_are_cross_entropies_at_the_object():
    heat = heat_with((4, 9))
    at = [[4.5 / CELLS, 9.5 / CELLS]]
    _, right = detection_loss(jax.random.key(1), maps(heat), objects(at))
    _, wrong = detection_loss(jax.random.key(1), maps(heat), objects(at, index=1))
    for name in ("color", "shape", "size", "material"):
        assert float(right[name]) < 1e-6
        assert float(wrong[name]) == pytest.approx(30.0, rel=1e-5)


def test_offsets_are_from_the_middle_of_the_cell_to_the_object():
    """With offsets that all point at one place, any cell near it has no error."""
    x, y = 6.3, 9.8
    middle = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), -1) + 0.5
    offset = jnp.asarray(np.array([x, y]) - middle, jnp.float32)[None]
    there = objects([[x / CELLS, y / CELLS]])
    for seed in range(5):
        _, terms = detection_loss(
            jax.random.key(seed), maps(heat_with(), offset), there
        )
        assert float(terms["offset"]) < 1e-5


def test_an_empty_image_has_a_loss_and_gradients_are_finite():
    none = objects([[0.5, 0.5]], present=[False])
    for heat in (heat_with(), heat_with((3, 3)), np.full((1, CELLS, CELLS), -4.0)):
        loss = lambda heat: detection_loss(jax.random.key(0), maps(heat), none)[0]
        value, gradient = jax.value_and_grad(loss)(jnp.asarray(heat))
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_the_network_can_learn_a_picture():
    """The loss falls by far on one picture: gradients reach every part."""
    image = jnp.full((1, 32, 32, 3), 0.5).at[:, 8:16, 16:24].set(0.9)
    there = objects([[20 / 32, 12 / 32]], index=1)
    module, optimizer = HeatMap(channels=(8, 8, 8)), optax.adam(0.01)
    params = module.init(jax.random.key(0), image)["params"]

    def loss(params, key):
        return detection_loss(key, module.apply({"params": params}, image), there)[0]

    @jax.jit
    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    keys = jax.random.split(jax.random.key(1), 120)
    gradient = jax.grad(loss)(params, jax.random.key(2))
    silent = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.abs(leaf).max() > 0
    ]
    assert not silent
    carry = (params, optimizer.init(params))
    _, values = jax.lax.scan(step, carry, keys)
    assert values[-1] < 0.1 * values[0]


def test_sizes_that_do_not_fold_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        HeatMap(channels=(4, 4, 4)).init(jax.random.key(0), jnp.zeros((1, 40, 32, 3)))
