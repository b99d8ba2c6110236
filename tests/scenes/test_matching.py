"""Matching of found and requested locations."""

import numpy as np
import pytest

from compjax.scenes import hit_radius, match


def test_matching_is_one_to_one_and_as_full_as_can_be():
    requested = np.array([[0.0, 0.0], [2.0, 0.0]])
    # The nearest pairing would give one hit: the middle object is near both.
    found = np.array([[0.9, 0.0], [-1.0, 0.0]])
    np.testing.assert_array_equal(match(found, requested, 1.5), [True, True])
    np.testing.assert_array_equal(match(found[:1], requested, 1.5), [True, False])
    assert not match(np.zeros((0, 2)), requested, 1.5).any()
    assert match(found, np.zeros((0, 2)), 1.5).shape == (0,)


def test_the_hit_radius_is_six_pixels_at_128():
    assert hit_radius((128, 128)) == 6.0
    assert hit_radius((48, 64)) == 3.0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="radius = 0"):
        match(np.zeros((1, 2)), np.zeros((1, 2)), 0.0)
