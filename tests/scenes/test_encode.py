"""Conditions: each says what was told, no more, and whether anything was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compjax.scenes import bumps, colors, empty, location, locations, null

places = st.lists(
    st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
    min_size=3,
    max_size=3,
)
told = st.lists(st.booleans(), min_size=3, max_size=3)


@settings(deadline=None, max_examples=30)
@given(xy=places, told=told, order=st.permutations(range(3)))
@pytest.mark.parametrize("encode", [location, locations, bumps])
def test_a_set_of_places_has_no_order_and_untold_ones_no_say(encode, xy, told, order):
    xy, told = np.array([xy], np.float32), np.array([told])
    condition = np.asarray(encode(xy, told))
    permuted = np.asarray(encode(xy[:, order], told[:, order]))
    # Sums of three terms of norm one in float32.
    np.testing.assert_allclose(permuted, condition, atol=1e-6)
    elsewhere = np.where(told[..., None], xy, 1 - xy)
    np.testing.assert_array_equal(np.asarray(encode(elsewhere, told)), condition)
    assert not condition[..., -1].any()
    if not told.any():
        np.testing.assert_array_equal(condition, np.asarray(empty(condition)))


@settings(deadline=None, max_examples=50)
@given(u=st.floats(0, 1, width=32), v=st.floats(0, 1, width=32))
def test_fourier_features_are_the_series_and_have_norm_one(u, v):
    got = np.asarray(location(np.array([[[u, v]]])))[0]
    m = np.arange(1, 33) * np.pi / 2
    waves = [f(m * (2 * a - 1)) for a in (u, v) for f in (np.sin, np.cos)]
    # The angle reaches 16 pi, of which float32 keeps 4e-6; the norm divides by 8.
    np.testing.assert_allclose(got[:-1], np.concatenate(waves) / 8, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got), 1.0, rtol=1e-5)


@settings(deadline=None, max_examples=50)
@given(
    cells=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=10),
    inside=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
)
def test_the_grid_is_one_where_a_place_is(cells, inside):
    """Brute force over cells of a 5 x 7 grid, with up to ten places."""
    expected = np.zeros((5, 7))
    xy, told = np.full((1, 10, 2), 0.5), np.zeros((1, 10), bool)
    for k, (row, column) in enumerate(cells):
        expected[row, column] = 1
        xy[0, k] = (column + inside[0]) / 7, (row + inside[1]) / 5
        told[0, k] = True
    got = np.asarray(locations(xy, told, grid=(5, 7)))
    np.testing.assert_array_equal(got[0, :, :, 0], expected)
    np.testing.assert_array_equal(got[0, :, :, 1], 0)


def test_the_frame_ends_in_the_last_cell():
    assert locations(np.array([[[1.0, 1.0]]]), grid=(2, 3))[0, 1, 2, 0] == 1


@settings(deadline=None, max_examples=30)
@given(color=st.lists(st.integers(0, 7), min_size=1, max_size=10))
def test_colors_are_the_set(color):
    got = np.asarray(colors(np.array([color])))[0]
    assert set(np.flatnonzero(got).tolist()) == set(color)


@settings(deadline=None, max_examples=20)
@given(x=st.floats(8.0, 40.0), y=st.floats(6.0, 26.0))
def test_the_bump_is_centred_where_it_is_asked_for(x, y):
    bump = np.asarray(bumps(np.array([[[x / 48, y / 32]]]), size=(32, 48)))[0]
    assert 0.83 < bump[..., 0].max() <= 1.0  # exp(-1/8 - 1/18), half a pixel off
    weights = bump[..., 0] / bump[..., 0].sum()
    rows, columns = np.mgrid[:32, :48] + 0.5
    np.testing.assert_allclose((weights * columns).sum(), x, atol=1e-3)
    np.testing.assert_allclose((weights * rows).sum(), y, atol=1e-3)
    spread = np.sqrt((weights * (columns - x) ** 2).sum())
    np.testing.assert_allclose(spread, 48 / 32, rtol=2e-2)


@pytest.mark.parametrize("encode", [location, locations, bumps])
def test_empty_and_null_differ_in_the_last_channel_only(encode):
    like = encode(jnp.full((2, 1, 2), 0.5))
    nothing, unknown = np.asarray(empty(like)), np.asarray(null(like))
    assert nothing.shape == unknown.shape == like.shape
    assert not nothing.any()
    np.testing.assert_array_equal(unknown[..., :-1], 0.0)
    np.testing.assert_array_equal(unknown[..., -1], 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: location(np.zeros((2, 2))), r"xy has shape \(2, 2\); give \[b, k, 2"),
        (lambda: locations(np.full((1, 1, 2), 1.5)), "outside the frame"),
        (lambda: bumps(np.full((1, 1, 2), np.nan)), "outside the frame"),
        (lambda: location(np.zeros((1, 1, 2)), frequencies=0), "frequencies = 0"),
        (lambda: locations(np.zeros((1, 1, 2)), grid=(0, 4)), "size = "),
        (lambda: bumps(np.zeros((1, 1, 2)), width=0.0), r"width = 0\.0"),
        (lambda: bumps(np.zeros((1, 2, 2)), np.ones((1, 3), bool)), "told has shape"),
        (lambda: colors(np.array([[8]])), "color = 8 is no index"),
        (lambda: colors(np.array([1])), r"color has shape \(1,\)"),
        (lambda: colors([["red"]]), "color holds names; give indices"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_untold_values_may_be_anything():
    assert not colors(np.array([[-1]]), np.array([[False]])).any()
    assert not locations(np.array([[[7.0, 7.0]]]), np.array([[False]])).any()


def test_colors_may_be_traced():
    color = jnp.array([[0, 3]])
    np.testing.assert_array_equal(jax.jit(colors)(color), colors(color))
    with pytest.raises(ValueError, match="holds names"):
        colors([["red"]])
