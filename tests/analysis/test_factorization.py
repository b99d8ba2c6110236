import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import compjax as cj
from compjax.analysis import factorization, find_blocks, score_blocks
from compjax.analysis.factorization import holm
from compjax.testing import strategies

fresh = lambda: jax.random.key(0)


def draw(parts, n=400):
    background, conditionals = parts
    return [
        np.array(p.sample(key, n))
        for p, key in zip(
            (background, *conditionals),
            jax.random.split(jax.random.key(1), 3),
            strict=True,
        )
    ]


def example():
    """Blocks (0, 1), correlated, and (2,); and a block (3,) of the background's."""
    at = lambda *m: cj.densities.Gaussian(jnp.array(m), 0.25 * jnp.eye(len(m)))
    tied = cj.densities.Gaussian(jnp.zeros(2), jnp.array([[0.25, 0.2], [0.2, 0.25]]))
    moved = cj.densities.Gaussian(jnp.ones(2), jnp.array([[0.3, -0.1], [-0.1, 0.3]]))
    return cj.densities.FactorizedConditionals.from_blocks(
        ((0, 1), (2,), (3,)), (tied, at(0.0), at(0.0)), (moved, at(-1.0))
    )


def test_samples_of_factorized_conditionals_pass():
    base, *sets = draw(example())
    report = factorization(fresh(), base, sets, most=200)
    assert report.factorized
    assert report.labels.tolist() == [1, 1, 2, 0]
    np.testing.assert_array_equal(report.overlap, [[2, 0], [0, 1]])


def test_false_alarms_are_as_rare_as_they_say():
    alarms = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        at = lambda *mean, rng=rng: mean + rng.standard_normal((150, 3))
        sets = [at(2, 0, 0), at(0, 2, 0)]
        key = jax.random.key(seed)
        alarms += not factorization(key, at(0, 0, 0), sets, level=0.1).factorized
    # Binomial(12, 0.1) exceeds 5 with probability 0.0005.
    assert alarms <= 5


FAULTS = ["shear", "overlap", "dependence", "outside", "background"]


def ranked_like(values, others):
    """The same values, in the order of others: dependence with margins as they were."""
    return np.sort(values)[np.argsort(np.argsort(others))]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_broken_clause_is_found(fault):
    base, first, second = draw(example())
    if fault == "shear":  # block 2 leaks into coordinate 0: both conditionals change it
        base, first, second = (
            x + np.outer(x[:, 2], [1, 0, 0, 0]) for x in (base, first, second)
        )
    if fault == "overlap":
        second = second + np.array([1.0, 0.0, 0.0, 0.0])
    if fault == "dependence":  # of M_1 and the rest under p_1
        first[:, 3] = ranked_like(first[:, 3], first[:, 0])
    if fault == "outside":  # margins of p_b off the block, but not its joint law there
        second[:, 3] = ranked_like(second[:, 3], second[:, 0])
    if fault == "background":  # M_1 and M_2 depend on each other under p_b
        base[:, 2] = ranked_like(base[:, 2], base[:, 0])
    sets = [first, second]
    report = factorization(fresh(), base, sets, level=0.05, most=200)
    assert not report.factorized
    each = report.level / 3
    assert (report.overlap[0, 1] > 0) == (fault in ("shear", "overlap"))
    if fault == "dependence":
        assert holm(report.dependence)[1] < each
    if fault == "outside":
        assert holm(report.outside)[1] < each
    if fault == "background":
        # No shuffle comes as far; twice that, for block 0 is compared with 1 and 2, and
        # 1 with 2.  As many shuffles as three sets need after Holm, and as many again.
        smallest = 1 / (1 + np.ceil(2 * 3 / each))
        assert report.dependence[0] == pytest.approx(2 * smallest)
        assert holm(report.dependence)[0] < each


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_procedure_rejects(values):
    """Step down: reject while the i-th smallest of n is below level / (n - i)."""
    level, ordered = 0.05, sorted(values)
    rejected = 0
    while rejected < len(values) and ordered[rejected] < level / (
        len(values) - rejected
    ):
        rejected += 1
    corrected = holm(np.array(values))
    assert (corrected < level).sum() == rejected
    assert (corrected >= values).all()


@given(strategies.factorized_conditionals(), strategies.points(8, 5))
def test_scores_of_factorized_conditionals_do_not_overlap(parts, x):
    report = score_blocks(fresh(), *parts, x, 0.7)
    # Supports are disjoint to the bit, or to rounding of scores up to some tens.
    assert report.overlap[0, 1] < 1e-6
    for i in (0, 1):
        strongest = report.strength[i].max()
        assert (
            np.delete(report.strength[i], [2 * i, 2 * i + 1]) < 1e-4 + 1e-4 * strongest
        ).all()


def scores(shear):
    """Two conditionals that change variances, seen through a shear."""
    shear = np.eye(3) + shear * np.eye(3, k=1)
    at = lambda *v: cj.densities.Gaussian(np.zeros(3), shear @ np.diag(v) @ shear.T)
    return at(1.0, 1.0, 1.0), [at(0.3, 1.0, 1.0), at(1.0, 0.3, 1.0)]


def test_a_shear_leaks():
    x = jax.random.normal(fresh(), (64, 3))
    straight, sheared = (score_blocks(fresh(), *scores(s), x, 0.5) for s in (0.0, 0.9))
    assert straight.labels.tolist() == [1, 2, 0]
    np.testing.assert_allclose(straight.leak, 0, atol=1e-6)
    assert straight.overlap[0, 1] < 1e-6
    assert sheared.overlap[0, 1] > 0.05
    assert sheared.leak.max() > 0.05


def test_leaks_are_shares_of_jacobians():
    """Of linear scores they are known: the probes only estimate them."""
    background, conditionals = scores(0.9)
    x = jax.random.normal(fresh(), (64, 3))
    report = score_blocks(fresh(), background, conditionals, x, 0.5, probes=64)
    noise = 0.25 * np.eye(3)
    parts = (background, *conditionals)
    matrices = [-np.linalg.inv(np.asarray(p.cov, float) + noise) for p in parts]
    matrices[1:] = [m - matrices[0] for m in matrices[1:]]
    inside = report.labels[:, None] == report.labels[None]
    own = [np.outer(report.labels == i, report.labels == i) for i in (1, 2)]
    expected = [
        1 - (m**2)[mask].sum() / (m**2).sum()
        for m, mask in zip(matrices, [inside, *own], strict=True)
    ]
    # 64 x 64 probes of three directions: squares of normal variables, whose sums have
    # relative standard errors below (2 / 4096) ** 0.5 = 0.022; five of them.
    np.testing.assert_allclose(report.leak, expected, atol=5 * 0.022)


def test_shifts_look_nowhere():
    at = lambda *m: cj.densities.Gaussian(jnp.array(m), jnp.eye(2))
    report = score_blocks(
        fresh(), at(0.0, 0.0), [at(1.0, 0.0), at(1.0, 1.0)], jnp.ones((4, 2)), 1.0
    )
    np.testing.assert_allclose(report.leak, 0, atol=1e-6)
    # Shares of squares: (1, 0) and (1/2, 1/2).
    np.testing.assert_allclose(report.overlap, [[1, 0.5], [0.5, 1]], atol=1e-5)


def test_images_are_one_axis_of_coordinates():
    gray = cj.as_score(lambda x, sigma: -x / (1 + sigma**2))
    lit = cj.as_score(lambda x, sigma: -x.at[:, 0].add(-1.0) / (1 + sigma**2))
    report = score_blocks(fresh(), gray, [lit], jnp.ones((2, 2, 3)), 1.0)
    assert report.labels.tolist() == [1, 1, 1, 0, 0, 0]


def test_ks_is_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 2)), rng.standard_normal((60, 2)) + [0, 0.6]
    from compjax.analysis.factorization import changed_coordinates

    expected = [
        scipy.stats.ks_2samp(y[:, i], x[:, i], method="asymp").pvalue for i in (0, 1)
    ]
    for level in (1e-4, 0.05, 0.5):
        np.testing.assert_array_equal(
            changed_coordinates(x, [y], level)[0], holm(np.array(expected)) < level
        )


def test_bad_input():
    x = np.ones((5, 2))
    with pytest.raises(ValueError, match="level"):
        factorization(fresh(), x, [x], level=1.5)
    with pytest.raises(ValueError, match="at least one conditional"):
        factorization(fresh(), x, [])
    with pytest.raises(ValueError, match="most must be at least 2"):
        factorization(fresh(), x, [x], most=1)
    with pytest.raises(ValueError, match="not negative"):
        find_blocks(np.array([[-1.0]]))
    identity = cj.as_score(lambda x, sigma: x)
    with pytest.raises(ValueError, match="at least one"):
        score_blocks(fresh(), identity, [], x, 1.0)
    with pytest.raises(ValueError, match="probes must be at least 1"):
        score_blocks(fresh(), identity, [identity], x, 1.0, probes=0)
    with pytest.raises(ValueError, match="Score 1 returned"):
        score_blocks(fresh(), identity, [cj.as_score(lambda x, s: x[:1])], x, 1.0)
