import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.analysis import tally


def locations(n, k, seed):
    """Requests on a grid of spacing 10, all different within an image."""
    rng = np.random.default_rng(seed)
    cells = np.stack([rng.choice(100, size=k, replace=False) for _ in range(n)])
    return 10.0 * np.stack([cells % 10, cells // 10], axis=-1)


@given(st.integers(2, 8), st.integers(1, 5), st.integers(0, 100))
def test_perfect_images(n, k, seed):
    requested = locations(n, k, seed)
    row = tally(list(requested), list(requested), requested, 3.0)
    assert (row.hit, row.hit_low, row.hit_high, row.ceiling) == (1, 1, 1, 1)
    assert row.exact == 1 and row.objects == k
    assert row.corrected in (1, None)  # None: chance is one too
    assert row.histogram == [0] * k + [n]


@given(st.integers(4, 8), st.integers(2, 5), st.integers(0, 100))
def test_known_rates(n, k, seed):
    """Half of the images lack their last object, the others have one too many."""
    requested = locations(n, k, seed)
    extra = np.array([[500.0, 500.0]])
    found = [
        xy[:-1] if i % 2 else np.concatenate([xy, extra])
        for i, xy in enumerate(requested)
    ]
    row = tally(found, list(requested), requested, 3.0)
    lacking = n // 2
    assert row.hit == pytest.approx(1 - lacking / n / k)
    assert row.exact == 0
    assert row.objects == pytest.approx(
        (lacking * (k - 1) + (n - lacking) * (k + 1)) / n
    )
    assert row.hit_low <= row.hit <= row.hit_high
    if row.ceiling > row.chance:
        expected = (row.hit - row.chance) / (1 - row.chance)
        assert row.corrected == pytest.approx(expected)


def test_crowds_are_not_rewarded_by_the_corrected_rate():
    """Objects everywhere hit every request, and everybody else's as well."""
    requested = locations(6, 3, 0)
    everywhere = np.stack(np.meshgrid(range(0, 100, 2), range(0, 100, 2)), -1)
    found = [everywhere.reshape(-1, 2).astype(float)] * 6
    row = tally(found, list(requested), requested, 3.0)
    assert row.hit == row.chance == 1
    assert row.corrected is None


def test_one_object_answers_one_request():
    requested = np.array([[[10.0, 10.0], [12.0, 10.0]]] * 2)
    found = [np.array([[11.0, 10.0]])] * 2
    assert tally(found, list(requested), requested, 3.0).hit == 0.5


@pytest.mark.parametrize("n", [0, 1])
def test_bad_input(n):
    requested = np.zeros((n, 1, 2))
    with pytest.raises(ValueError, match="n >= 2"):
        tally(list(requested), list(requested), requested, 3.0)
