import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from compjax import scenes
from compjax.analysis import extra_objects, tally


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


def brute_force(found, requested, radius):
    """The most requests that can have an object of their own, by trying everything."""
    best = 0
    slots = [*range(len(found)), *[None] * len(requested)]
    for chosen in set(itertools.permutations(slots, len(requested))):
        near = [
            i is not None and np.linalg.norm(found[i] - to) <= radius
            for i, to in zip(chosen, requested, strict=True)
        ]
        best = max(best, sum(near))
    return best


@given(st.integers(0, 3), st.integers(1, 3), st.integers(0, 10_000))
def test_hits_are_as_many_as_any_pairing_gives(m, k, seed):
    rng = np.random.default_rng(seed)
    found, requested = rng.uniform(0, 10, (m, 2)), rng.uniform(0, 10, (k, 2))
    hits = scenes.match(found, requested, 4.0).sum()
    assert hits == brute_force(found, requested, 4.0)
    assert extra_objects([found], requested[None], 4.0) == m - hits


@pytest.mark.parametrize("clutter", [0.0, 0.4])
def test_corrected_hits_of_a_model_and_a_detector_with_known_errors(clutter):
    """A model answers 7 requests of 10, its detector overlooks 1 object in 5.

    Clutter hits every request, whether it was answered or not and whoever asked, with
    one probability: the corrected rate is the model's own, 0.7, all the same.
    """
    n, k, answered, seen = 2000, 4, 0.7, 0.8
    rng = np.random.default_rng(1)
    requested = locations(n, k, 5)

    def look(there, wanted):
        kept = there[rng.uniform(size=len(there)) < seen]
        near = wanted[rng.uniform(size=len(wanted)) < clutter]
        return np.concatenate([kept, near])

    another = np.roll(requested, 1, axis=0)
    found, true = [], []
    for xy, other in zip(requested, another, strict=True):
        everywhere = np.concatenate([xy, other])
        found.append(look(xy[rng.uniform(size=k) < answered], everywhere))
        true.append(look(xy, everywhere))
    row = tally(found, true, requested, 3.0)
    # Rates are means of 8000 requests: standard errors below 0.006 each, and a span of
    # 0.5 or more between ceiling and chance; five of them.
    assert row.corrected == pytest.approx(answered, abs=5 * 0.006 * 1.5 / 0.48)
    assert row.corrected_low < answered < row.corrected_high
    assert row.hit < answered or clutter


def test_the_interval_of_one_request_is_binomial():
    """Means of resampled zeros and ones: their law is known."""
    n, p = 200, 0.25
    requested = locations(n, 1, 3)
    found = [xy if i % 4 == 0 else xy[:0] for i, xy in enumerate(requested)]
    row = tally(found, list(requested), requested, 3.0)
    low, high = scipy.stats.binom.ppf([0.025, 0.975], n, p) / n
    # The 2.5 % quantile of 2000 draws is off by 0.35 % in probability, which, where the
    # normal law has a density of 0.058, is 0.06 standard deviations: below 1 / n.
    assert row.hit_low == pytest.approx(low, abs=1.5 / n)
    assert row.hit_high == pytest.approx(high, abs=1.5 / n)


def test_intervals_are_within_training_seeds():
    """A model that always hits and one that never does: nothing varies within them."""
    requested = locations(40, 2, 0)
    seeds = np.arange(40) % 2
    found = [xy if s else xy[:0] for xy, s in zip(requested, seeds, strict=True)]
    row = tally(found, list(requested), requested, 3.0, training_seeds=seeds)
    assert (row.hit, row.hit_low, row.hit_high, row.training_seeds) == (0.5,) * 3 + (2,)
    pooled = tally(found, list(requested), requested, 3.0)
    # 1.96 standard errors of a mean of 40 zeros and ones are 0.155.
    assert pooled.hit_high - pooled.hit_low == pytest.approx(0.31, abs=0.06)


def test_chance_stays_within_a_training_seed():
    """Two models asked for the same scene one after the other are no chance."""
    requested = locations(8, 1, 2).repeat(2, axis=0)
    seeds = np.arange(16) % 2
    row = tally(list(requested), list(requested), requested, 3.0, training_seeds=seeds)
    alone = tally(list(requested[::2]), list(requested[::2]), requested[::2], 3.0)
    assert row.chance == alone.chance < 1


def test_extras_stand_beside_the_models_own():
    requested = locations(6, 2, 0)
    extra = np.array([[500.0, 500.0]])
    found = [
        np.concatenate([xy, extra]) if i < 3 else xy[:1]
        for i, xy in enumerate(requested)
    ]
    own = extra_objects(found, requested[:, :0], 3.0).mean()
    row = tally(found, list(requested), requested, 3.0, own_extra=(own, 0.25))
    assert own == np.mean([3, 1])
    assert (row.extra, row.extra_at_0, row.extra_at_1) == (0.5, 2.0, 0.25)
    assert row.extra_low <= row.extra <= row.extra_high
    assert row.histogram == [0, 3, 0, 3]


def test_training_seeds_are_checked():
    requested = locations(4, 1, 0)
    images = list(requested)
    with pytest.raises(ValueError, match="each of the 4 images"):
        tally(images, images, requested, 3.0, training_seeds=[0, 1])
    with pytest.raises(ValueError, match="two images of every seed"):
        tally(images, images, requested, 3.0, training_seeds=[0, 0, 0, 1])
    with pytest.raises(ValueError, match="as many requests"):
        extra_objects(images, requested[:2], 3.0)


def test_chance_is_scored_elsewhere_if_places_are_given():
    """All images ask for one place and show it: only other places tell chance."""
    requested = np.full((4, 1, 2), 10.0)
    elsewhere = requested + np.array([0, 0, 50, 50.0])[:, None, None]
    score = lambda **given: tally(
        list(requested), list(requested), requested, 3.0, **given
    )
    assert score().chance == 1 and score().corrected is None
    row = score(elsewhere=elsewhere)
    assert row.chance == 0.5 and row.corrected == 1
    with pytest.raises(ValueError, match=r"elsewhere has shape \(3, 1, 2\): give \[4"):
        score(elsewhere=elsewhere[:3])
