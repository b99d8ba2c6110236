"""`localize`: each output sees its window of pixels and conditions, and no more."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compjax as cj
from compjax import localize
from compjax.types import pytree
from compjax.windows import Backdrop, Reach, Windows, square, square_reach

SIDE, TILE, CELLS = 6, 2, 3


@pytree
class Dense:
    """A conditional score in which everything depends on everything."""

    pixels: jax.Array
    cells: jax.Array

    def __call__(self, x, sigma, condition):
        return self.denoise(x, sigma, condition) - x

    def denoise(self, x, sigma, condition):
        flat = jnp.broadcast_to(condition, (len(x), *condition.shape[1:]))
        sees = x.reshape(len(x), -1) @ self.pixels
        sees += flat.reshape(len(x), -1) @ self.cells
        level = jnp.broadcast_to(jnp.asarray(sigma, float), x.shape[:1])
        return jnp.tanh(sees + level[:, None]).reshape(x.shape)


def dense(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    n = SIDE * SIDE
    pixels = jax.random.normal(keys[0], (n, n)) / SIDE
    return Dense(pixels, jax.random.normal(keys[1], (CELLS**2, n)) / CELLS)


def draw(b=2, seed=1):
    keys = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(keys[0], (b, SIDE, SIDE, 1))
    return x, jax.random.normal(keys[1], (b, CELLS, CELLS, 1))


def windows(radius, condition_radius):
    shape = (SIDE, SIDE)
    return (
        square(shape, TILE, radius),
        square_reach(shape, TILE, (CELLS, CELLS), condition_radius),
    )


@jax.jit
def jacobians(score, x, condition):
    return jax.jacobian(lambda x, c: score(x, 1.0, c).ravel(), (0, 1))(x, condition)


@given(st.integers(0, SIDE), st.integers(0, SIDE))
def test_jacobian_is_exactly_zero_outside_and_only_there(radius, condition_radius):
    pixels, conditions = windows(float(radius), float(condition_radius))
    local = localize(dense(), pixels, conditions)
    x, condition = draw(1)
    by_pixels, by_cells = jacobians(local, x, condition)
    by_pixels = np.asarray(by_pixels).reshape(SIDE, SIDE, SIDE, SIDE)
    by_cells = np.asarray(by_cells).reshape(SIDE, SIDE, CELLS, CELLS)
    begin = lambda i: i - i % TILE
    every = [range(SIDE)] * 4
    for i, j, a, b in itertools.product(*every):
        off = lambda p, q: max(begin(p) - q, q - begin(p) - TILE + 1, 0)
        assert (by_pixels[i, j, a, b] != 0) == (max(off(i, a), off(j, b)) <= radius)
    side = SIDE // CELLS
    for i, j, a, b in itertools.product(*every[:2], range(CELLS), range(CELLS)):
        off = lambda p, q: min(
            max(begin(p) - r, r - begin(p) - TILE + 1, 0)
            for r in range(q * side, (q + 1) * side)
        )
        seen = max(off(i, a), off(j, b)) <= condition_radius
        assert (by_cells[i, j, a, b] != 0) == seen


def test_whole_windows_change_nothing():
    x, condition = draw()
    local = localize(dense(), *windows(jnp.inf, jnp.inf))
    for sigma in (0.5, jnp.array([0.5, 2.0])):
        np.testing.assert_array_equal(
            local(x, sigma, condition), dense()(x, sigma, condition)
        )
        np.testing.assert_array_equal(
            local.denoise(x, sigma, condition), dense().denoise(x, sigma, condition)
        )


def test_a_local_score_is_not_changed_by_its_own_windows():
    block = cj.densities.Gaussian(
        jnp.array([1.0, -1.0]), jnp.array([[1, 0.8], [0.8, 1]])
    )
    p = cj.densities.Independent(((0, 2), (1, 3)), (block, block))
    tiles = jnp.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    local = localize(p, Windows(tiles, Reach(1 - tiles)), fill=(7.0, 0.0))
    x = jax.random.normal(jax.random.key(0), (5, 4))
    np.testing.assert_array_equal(local(x, 0.3), p(x, 0.3))
    smaller = localize(p, Windows(jnp.eye(4), Reach(1 - jnp.eye(4))))
    assert not np.allclose(smaller(x, 0.3), p(x, 0.3), atol=0.1)


@pytest.mark.parametrize("chunk", [2, 4, 9])
def test_tiles_together_are_tiles_one_by_one(chunk):
    x, condition = draw()
    pixels, conditions = windows(1.0, 1.0)
    one = localize(dense(), pixels, conditions)(x, 1.0, condition)
    some = localize(dense(), pixels, conditions, chunk=chunk)(x, 1.0, condition)
    # The same products, batched otherwise: sums of 36 + 9 terms of order 1.
    np.testing.assert_allclose(one, some, atol=1e-5)


def test_windows_follow_sigma_one_level_or_one_each():
    x, condition = draw()
    growing = lambda sigma: jnp.where(sigma > 1, jnp.inf, 0.0)
    local = localize(dense(), *windows(growing, growing))
    apart = localize(dense(), *windows(0.0, 0.0))
    both = local(x, jnp.array([0.5, 2.0]), condition)
    np.testing.assert_allclose(both[0], apart(x, 0.5, condition)[0], atol=1e-6)
    np.testing.assert_allclose(both[1], dense()(x, 2.0, condition)[1], atol=1e-6)


def test_what_is_not_seen_is_filled():
    x, condition = draw()
    n = jax.random.normal(jax.random.key(3), x.shape[1:])
    null = jnp.full((1, CELLS, CELLS, 1), -3.0)
    fill = (Backdrop(0.5, n), null)
    local = localize(dense(), *windows(0.0, 0.0), fill)
    sigma = jnp.array([0.5, 2.0])
    seen = jnp.zeros((SIDE, SIDE, 1)).at[:TILE, :TILE].set(1)
    known = jnp.zeros((CELLS, CELLS, 1)).at[0, 0].set(1)
    image = 0.5 + sigma.reshape(2, 1, 1, 1) * n[None]
    x_in = jnp.where(seen[None] > 0, x, image)
    told = jnp.where(known[None] > 0, condition, null)
    expected = dense()(x_in, sigma, told)[:, :TILE, :TILE]
    found = local(x, sigma, condition)[:, :TILE, :TILE]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_conditions_may_be_trees_and_one_for_all_samples():
    x, condition = draw()
    halves = cj.as_score(lambda x, s, c: dense()(x, s, c["a"]) + c["b"].mean() - x)
    pixels, conditions = windows(0.0, 0.0)
    tree = {"a": condition[:1], "b": condition[:1]}
    every = localize(halves, pixels, conditions)
    each = localize(halves, pixels, {"a": conditions, "b": conditions})
    np.testing.assert_array_equal(every(x, 1.0, tree), each(x, 1.0, tree))


def test_numbers_never_retrace():
    traces = []
    score = cj.as_score(lambda x, sigma: traces.append(0) or -x)

    @jax.jit
    def run(local, x, sigma):
        return local(x, sigma)

    x, _ = draw()
    for radius, fill in ((0.0, 0.0), (1.0, 2.0), (jnp.inf, 0.0)):
        run(localize(score, windows(radius, 0.0)[0], fill=(fill, 0.0)), x, radius)
    assert len(traces) == 1


def test_bad_input():
    pixels, conditions = windows(1.0, 1.0)
    plain = lambda x, sigma: -x
    with pytest.raises(ValueError, match="lift it with"):
        localize(plain, pixels)
    with pytest.raises(ValueError, match="do not divide"):
        square((6, 6), 4)
    with pytest.raises(ValueError, match="does not divide"):
        square_reach((6, 6), 2, (4, 4))
    with pytest.raises(ValueError, match="every output into one tile"):
        Windows(jnp.ones((2, 3)), Reach(jnp.zeros((2, 3))))
    with pytest.raises(ValueError, match="must see itself"):
        Windows(jnp.eye(3), Reach(jnp.eye(3)))
    with pytest.raises(ValueError, match="axes of tiles"):
        Windows(jnp.eye(3), Reach(jnp.zeros((2, 3))))
    with pytest.raises(ValueError, match="nowhere negative"):
        Reach(-jnp.eye(2))
    with pytest.raises(ValueError, match="radius must be a number from 0, got -1"):
        Reach(jnp.eye(2), -1.0)
    with pytest.raises(ValueError, match="a Reach of the 9 tiles"):
        localize(dense(), pixels, Reach(jnp.zeros((2, 3, 3, 1))))
    with pytest.raises(ValueError, match="chunk must be"):
        localize(dense(), pixels, conditions, chunk=0)
    with pytest.raises(ValueError, match="does not fit windows"):
        localize(dense(), pixels)(jnp.zeros((1, 4, 4, 1)), 1.0)
