"""Each statement about local scores, and what happens where its hypothesis fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from compjax import analysis
from compjax.densities import ConditionalProjective, Gaussian, Sprites
from compjax.testing import assert_close, strategies

MASKS = ((3, 0), (2,))
SETS = ((), (0,), (1,), (0, 1))
BACKGROUND = strategies.gaussian_mixtures(5, 2)
PAIR, SINGLE = strategies.gaussian_mixtures(2, 2), strategies.gaussian_mixtures(1, 2)
X, LEVELS = strategies.points(6, 5), strategies.noise_levels()
fresh = lambda: jax.random.key(0)


@jax.jit
def both_scores(family, x, sigma):
    """From the regions, and from the law as a whole, by autodiff."""
    whole = lambda J: jax.grad(lambda x: family.given(J).log_prob(x, sigma).sum())(x)
    return [(analysis.local_score(family, J, x, sigma), whole(J)) for J in SETS]


@given(BACKGROUND, PAIR, SINGLE, X, LEVELS)
def test_lemma_1(b, p, q, x, sigma):
    family = ConditionalProjective(b, MASKS, (p, q))
    for local, whole in both_scores(family, x, sigma):
        assert_close(local, whole)


@jax.jit
def defect_of_a_composition(family, sigma):
    x = 2 * jax.random.normal(jax.random.key(1), (50, 5))
    return analysis.local_defect(fresh(), family.given, family.masks, x, sigma)


@given(BACKGROUND, PAIR, SINGLE, LEVELS)
def test_a_composition_has_no_defect_at_any_level(b, p, q, sigma):
    found = defect_of_a_composition(ConditionalProjective(b, MASKS, (p, q)), sigma)
    # The same numbers enter, and their rounding differs by the order of sums at most.
    assert found.pixels < 1e-5 and found.conditions < 1e-5


@given(strategies.factorized_conditionals(), LEVELS)
def test_nor_has_what_is_left_of_a_background_that_factorises(parts, sigma):
    background, own = parts.background, parts.composition().parts[:2]
    family = ConditionalProjective(background, background.blocks[:2], own)
    assert max(defect_of_a_composition(family, sigma)) < 1e-5


def test_what_is_left_of_one_that_does_not():
    family = ConditionalProjective(
        Gaussian(jnp.zeros(5), jnp.eye(5) + 0.5),
        MASKS,
        (tied(0.3), Gaussian(jnp.ones(1), jnp.eye(1))),
    )
    found = defect_of_a_composition(family, 0.5)
    assert found.pixels < 1e-5 and found.conditions < 1e-5 and found.rest > 0.1


def tied(rho):
    return Gaussian(jnp.zeros(2), jnp.array([[1.0, rho], [rho, 1.0]]))


ONE_EACH = ((0,), (1,))


@pytest.mark.parametrize("sigma", [0.0, 0.7, 3.0])
def test_the_defect_of_correlated_blocks(sigma):
    p = tied(0.6)
    x = p.sample(jax.random.key(1), 20_000, sigma)
    found = analysis.local_defect(fresh(), lambda J: p, ONE_EACH, x, sigma)
    # Independent swaps change s_1 by P_12 (x_2' - x_2), and E s_1^2 = P_11.
    r = 0.6 / (1 + sigma**2)
    expected = np.sqrt(2) * r / np.sqrt(1 - r**2)
    # Root mean squares of 20 000 draws: 1 % is three standard errors at the least.
    np.testing.assert_allclose(found.pixels, expected, rtol=0.02)
    assert found.conditions == 0
    # Four swaps that are heard, of two regions without conditions and two beside one,
    # and two comparisons of sets J, which change nothing.
    np.testing.assert_allclose(found.rest, expected * np.sqrt(4 / 6), rtol=0.02)


def test_the_defect_of_conditions_that_hear_each_other():
    """The second condition moves all means by 0.5."""

    def family(present):
        return Gaussian(jnp.full(2, 0.5 * (len(present) > 1)), jnp.eye(2))

    x = family((0,)).sample(jax.random.key(1), 20_000, 0.7)
    found = analysis.local_defect(fresh(), family, ONE_EACH, x, 0.7)
    assert found.pixels < 1e-6 and found.rest < 1e-6
    # A change of 0.5 / v against scores of variance 1 / v, v = 1 + 0.49.
    np.testing.assert_allclose(found.conditions, 0.5 / 1.49**0.5, rtol=0.02)
    alone = analysis.local_defect(fresh(), family, ONE_EACH, x, 0.7, [(0,), (1,)])
    assert np.isnan(alone.conditions)  # nothing was compared


ratio = jax.jit(analysis.blockwise_log_ratio, static_argnums=1)


@given(BACKGROUND, PAIR, SINGLE, X, X, strategies.noise_levels(0.3))
def test_theorem_e(b, p, q, x, y, sigma):
    law = ConditionalProjective(b, MASKS, (p, q)).given((0, 1))
    expected = law.log_prob(x, sigma) - law.log_prob(y, sigma)
    # The quadrature is good to 1e-5 from sigma = 0.3, and log-ratios of some 100 lose
    # float32 digits in their sum.
    assert_close(ratio(law, MASKS, x, y, sigma), expected)


@given(strategies.gaussians(5), X, X)
def test_theorem_e_needs_independent_regions(p, x, y):
    """A correlated Gaussian contradicts itself by its cross terms."""
    found = ratio(p, MASKS, x, y, 0.4)
    true = p.log_prob(x, 0.4) - p.log_prob(y, 0.4)
    precision = jnp.linalg.inv(p.noised(0.4).cov)
    d = x - y
    blocks = [jnp.where(jnp.isin(jnp.arange(5), jnp.array(b)), d, 0.0) for b in REGIONS]
    cross = sum(
        jnp.einsum("bi,ij,bj->b", blocks[i], precision, blocks[j])
        for i, j in ((0, 1), (0, 2), (1, 2))
    )
    size = 1 + jnp.abs(true).max() + jnp.abs(cross).max()
    # float32 times the condition number of the covariance, below 100.
    assert jnp.abs(found - true - cross).max() < 1e-4 * size


REGIONS = ((3, 0), (2,), (1, 4))


def test_the_cross_terms_are_not_small():
    x, y = jnp.ones((1, 2)), jnp.zeros((1, 2))
    p = tied(0.6)
    true = p.log_prob(x) - p.log_prob(y)
    found = analysis.blockwise_log_ratio(p, ONE_EACH, x, y, 0.0)
    np.testing.assert_allclose(found - true, -0.6 / (1 - 0.36), rtol=1e-5)


@jax.jit
def extension(family, x, sigma):
    return [analysis.extension_error(family.given, J, x, sigma) for J in SETS[1:]]


@given(strategies.factorized_conditionals(), strategies.points(4, 5), LEVELS)
def test_corollary(parts, x, sigma):
    """Single conditions and a background that factorises: any number of them."""
    background, own = parts.background, parts.composition().parts[:2]
    family = ConditionalProjective(background, background.blocks[:2], own)
    for error in extension(family, x, sigma):
        assert error.max() < 1e-3  # as theorem 5.3 in test_theorems.py


def test_the_corollary_needs_a_background_that_factorises():
    at = lambda m: Gaussian(jnp.full(1, m), jnp.eye(1))
    x = jnp.array([[2.0, 1.0]])
    error = lambda b: analysis.extension_error(
        ConditionalProjective(b, ONE_EACH, (at(1.0), at(2.0))).given, (0, 1), x, 0.5
    )[0]
    assert error(tied(0.0)) < 1e-5
    assert error(tied(0.6)) > 0.1


# Scenes of four places with one random object labelled: its label says nothing about
# how many there are, so beside it there are m - 1 others.
PLACES, RATE = 4, 0.4
TEMPLATES = jnp.array([[2.0, 1.0], [-1.0, 2.0]])
BINOMIAL = np.array([0.1296, 0.3456, 0.3456, 0.1536, 0.0256])  # 4 coins of RATE
COUPLED = np.array([0.0, 1.0, 1.0, 1.0]) / 3


def scenes(counts):
    """Laws of images without a label and with one; m objects, m >= 1, for a label."""
    world = Sprites(TEMPLATES, counts, 0.3, PLACES)
    # P(label at j | m) = 1 / n for every m >= 1, if all such images are labelled...
    others = counts[1:]

    def family(present):
        return world if not present else world.with_object(*present, others)

    return world, family


def test_a_count_that_couples_places_is_not_local():
    masks = tuple((2 * i, 2 * i + 1) for i in range(PLACES))
    singles = [(0,), (1,)]
    world, family = scenes(COUPLED)
    coins = Sprites(TEMPLATES, BINOMIAL, 0.3, PLACES)
    three = np.array([0.216, 0.432, 0.288, 0.064])  # 3 coins of RATE: the other places
    independent = lambda J: coins if not J else coins.with_object(*J, three)
    x = world.sample(jax.random.key(1), 200, 1.0)
    defect = lambda f: jax.jit(
        lambda x: analysis.local_defect(fresh(), f, masks[:2], x, 1.0, singles)
    )(x)
    # A place that is certainly filled hears nothing; the others hear of one another.
    assert defect(family).pixels < 1e-4 < 0.05 < defect(family).rest
    assert defect(independent).rest < 1e-4  # sums of float32 logarithms
    # And single labels, composed, are not what fills windows one by one.
    windows = analysis.windowed_family(world)
    for f, law in ((family, windows.given((0, 1))), (independent, None)):
        law = law or coins.with_object(0, three).with_object(1, [0.36, 0.48, 0.16])
        asked = lambda J, f=f, law=law: f(J) if len(J) < 2 else law
        extended = jax.jit(
            lambda x, asked=asked: analysis.extension_error(asked, (0, 1), x, 1.0)
        )(x)
        assert (extended.mean() > 0.05) if f is family else (extended.max() < 1e-3)


def label(rng, counts, places, labelled, n):
    """Experiment 2: `[n, places]` of objects, and of the one that is labelled."""
    m = rng.choice(len(counts), n, p=counts)
    order = rng.permuted(np.tile(np.arange(places), (n, 1)), axis=1)
    objects = order < m[:, None]
    # Of the m objects each is as likely: the one with the rank drawn among them.
    chosen = rng.integers(0, np.maximum(m, 1))
    keep = (rng.random(n) < labelled) & (m > 0)
    return objects, (order == chosen[:, None]) & keep[:, None]


@pytest.mark.parametrize(
    ("counts", "labelled"), [([0.2, 0.3, 0.1, 0.4], 0.7), ([0.0, 0.2, 0.3, 0.5], 0.9)]
)
def test_base_rates(counts, labelled):
    objects, labels = label(np.random.default_rng(0), counts, 5, labelled, 200_000)
    any_label = labels.any(1, keepdims=True)
    found = analysis.base_rates(counts, 5, labelled)
    cases = {
        "elsewhere": any_label & ~labels,
        "nowhere": np.broadcast_to(~any_label, labels.shape),
        "window": ~labels,
    }
    for name, case in cases.items():
        # Places of one image are dependent, so its five count as one draw.
        error = 0.5 / np.sqrt(case.sum() / 5)
        assert abs(objects[case].mean() - float(getattr(found, name))) < 4 * error


def test_base_rates_of_labels_that_are_always_there():
    found = analysis.base_rates(COUPLED, 9)
    assert np.isnan(found.nowhere)
    np.testing.assert_allclose([found.elsewhere, found.window], 1 / 8, rtol=1e-6)
    never = analysis.base_rates(COUPLED, 9, 0.0)
    assert np.isnan(never.elsewhere)
    np.testing.assert_allclose([never.nowhere, never.window], 2 / 9, rtol=1e-6)


@pytest.mark.parametrize("sigma", [1.5, 4.0])
def test_the_windowed_family_is_the_optimum_of_a_windowed_network(sigma):
    """Its errors are uncorrelated with every function of what the network sees."""
    counts, labelled, n = np.array([0.0, 0.2, 0.3, 0.5]), 0.8, 40_000
    world = Sprites(TEMPLATES, counts, 0.3, PLACES)
    rng = np.random.default_rng(1)
    objects, labels = label(rng, counts, PLACES, labelled, n)
    which = rng.integers(0, 2, (n, PLACES))
    scene = objects[..., None] * np.asarray(TEMPLATES)[which]
    clean = scene + 0.3 * rng.standard_normal(scene.shape)
    noised = clean + sigma * rng.standard_normal(scene.shape)

    def t_values(rate_of, place=0):
        """Of the mean error, and of the error times what is seen, at one place."""
        family = analysis.windowed_family(world, rate_of)
        x = jnp.asarray(noised.reshape(n, -1), jnp.float32)
        seen = labels[:, place]
        values = []
        for case, law in ((seen, family.given((place,))), (~seen, family.given(()))):
            D = np.asarray(law.denoise(x, sigma)).reshape(clean.shape)
            error = (clean - D)[case, place]
            terms = np.concatenate([error, error * noised[case, place]], axis=1)
            values.append(terms.mean(0) / terms.std(0) * np.sqrt(len(terms)))
        return np.abs(np.concatenate(values))

    assert t_values(labelled).max() < 4
    # The optimum of other labels is told apart.
    assert t_values(0.0).max() > 8


def test_a_windowed_network_fills_every_request():
    world = Sprites(TEMPLATES, COUPLED, 0.1, PLACES)
    law = analysis.windowed_family(world).given((0, 2, 3))  # never seen together
    x = law.sample(jax.random.key(1), 4000)
    occupied = (world.strength(x) > 0.5).mean(0)
    rate = (2 - 1) / (PLACES - 1)
    # Five standard errors of 4000 coins; a floor of 0.1 on objects of norm 2.
    np.testing.assert_allclose(occupied, [1, rate, 1, 1], atol=5 * 0.5 / 4000**0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: analysis.base_rates([0.0, 1.0], 0), "0 to 0 objects"),
        (lambda: analysis.base_rates([-1.0, 1.0], 2), "relative probabilities"),
        (lambda: analysis.base_rates([0.0, 1.0], 2, 1.5), "labelled is a probability"),
        (
            lambda: analysis.windowed_family(scenes(COUPLED)[1]((2,))),
            r"requires \(2,\)",
        ),
        (
            lambda: analysis.local_defect(
                fresh(), lambda J: tied(0.0), ONE_EACH, jnp.ones((1, 2)), 1.0
            ),
            "give two, not 1",
        ),
        (
            lambda: analysis.local_defect(
                fresh(), lambda J: tied(0.0), ((0,), (0,)), jnp.ones((2, 2)), 1.0
            ),
            "Masks are disjoint",
        ),
        (
            lambda: analysis.blockwise_log_ratio(
                tied(0.0), ONE_EACH, jnp.ones((1, 2)), jnp.ones((1, 2)), 1.0, 0
            ),
            "segments",
        ),
        (
            lambda: analysis.local_score(
                analysis.windowed_family(scenes(COUPLED)[0]), (), jnp.ones((1, 2)), 1.0
            ),
            r"\[b, 8\]",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
