import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.analysis import orthogonality


def normal(seed, mean, n=2000, scale=1.0):
    rng = np.random.default_rng(seed)
    return np.asarray(mean) + scale * rng.standard_normal((n, len(mean)))


@given(st.floats(-0.9, 0.9), st.integers(0, 100))
def test_known_angles_lie_in_the_interval(cosine, seed):
    first, second = [2.0, 0.0, 0.0], [3 * cosine, 3 * (1 - cosine**2) ** 0.5, 0.0]
    base = normal(seed, [0.0] * 3)
    sets = [normal(seed + 1000, first), normal(seed + 2000, second)]
    report = orthogonality(base, sets, resamples=200)
    low, high = report.low[0, 1], report.high[0, 1]
    # Twice the half-width of a 95 % interval: four standard errors.
    assert abs(report.cosines[0, 1] - cosine) < high - low
    assert high - low < 0.15
    # Lengths 2 and 3, with standard errors below (2 / 2000) ** 0.5.
    np.testing.assert_allclose(report.lengths, [2, 3], atol=6 * 0.032)
    assert report.cosines[0, 0] == pytest.approx(1)


def test_intervals_cover_as_often_as_they_say():
    inside = 0
    for seed in range(100):
        base = normal(seed, [0.0, 0.0], 200)
        sets = [
            normal(seed + 500, [1.0, 0.0], 200),
            normal(seed + 900, [1.0, 1.0], 200),
        ]
        report = orthogonality(base, sets, resamples=200, seed=seed)
        inside += bool(report.low[0, 1] < 0.5**0.5 < report.high[0, 1])
    # Binomial(100, 0.95) is above 87 with probability 0.999.
    assert inside > 87


def test_shared_noise_of_the_background_is_no_cosine():
    """64 coordinates, few samples: the naive cosine of orthogonal shifts is large."""
    shift = np.zeros((2, 64))
    shift[0, 0] = shift[1, 1] = 3.0
    cosines, naive, middles, lengths = [], [], [], []
    for seed in range(30):
        base = normal(seed, np.zeros(64), 40)
        sets = [normal(seed + 99 * (i + 1), s, 40) for i, s in enumerate(shift)]
        report = orthogonality(base, sets, resamples=50)
        cosines.append(report.cosines[0, 1])
        middles.append((report.low + report.high)[0, 1] / 2)
        lengths.append(report.lengths)
        a, b = (x.mean(0) - base.mean(0) for x in sets)
        naive.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    error = np.std(cosines) / 30**0.5
    assert abs(np.mean(cosines)) < 4 * error
    assert np.mean(naive) > 4 * error
    # Intervals lie around it, although resamples are twice as noisy; and the noise of
    # 64 coordinates does not lengthen shifts of 3 to (9 + 2 * 64 / 40) ** 0.5 = 3.5.
    assert abs(np.mean(middles)) < 4 * error
    assert abs(np.mean(lengths) - 3) < 4 * np.std(lengths) / 30**0.5


def test_a_mean_that_does_not_move_has_no_direction():
    report = orthogonality(
        normal(0, [0.0, 0.0]), [normal(1, [0.0, 0.0]), normal(2, [2.0, 0.0])]
    )
    assert report.lengths[0] == 0 and report.lengths[1] > 1
    assert np.isnan(report.cosines[0]).all() and report.cosines[1, 1] == 1


def test_features_are_what_is_compared():
    """Orthogonal in z, sheared in x: the map back to z makes shifts orthogonal."""
    shear = np.array([[1.0, 1.0], [0.0, 1.0]])
    sets = [
        normal(i, mean) for i, mean in enumerate([(0.0, 0.0), (2.0, 0.0), (0.0, 2.0)])
    ]
    base, *seen = (z @ shear.T for z in sets)
    assert orthogonality(base, seen).low[0, 1] > 0.5
    back = orthogonality(base, seen, lambda x: x @ np.linalg.inv(shear).T)
    assert back.low[0, 1] < 0 < back.high[0, 1]
    images = orthogonality(base[:, None], [x[:, None] for x in seen])
    np.testing.assert_allclose(images.cosines, orthogonality(base, seen).cosines)


@pytest.mark.parametrize(
    ("conditionals", "message"),
    [
        ([], "at least one conditional"),
        ([np.ones((5, 3))], "one space"),
        ([np.ones((1, 2))], "n >= 2"),
        ([np.full((5, 2), np.nan)], "not finite"),
    ],
)
def test_bad_input(conditionals, message):
    with pytest.raises(ValueError, match=message):
        orthogonality(np.ones((5, 2)), conditionals)


def test_intervals_need_resamples():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        orthogonality(np.ones((5, 2)), [np.ones((5, 2))], resamples=0)
