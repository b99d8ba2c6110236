"""Marginals, and the laws given any set of conditions, against independent routes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import compjax as cj
from compjax.densities import (
    BernoulliClutter,
    ConditionalProjective,
    Gaussian,
    GaussianMixture,
    Independent,
    Sprites,
)
from compjax.testing import assert_close, assert_score_is_gradient, strategies

MASKS = ((3, 0), (2,))
SETS = ((), (0,), (1,), (1, 0))
BACKGROUND = strategies.gaussian_mixtures(5, 2)
PAIR, SINGLE = strategies.gaussian_mixtures(2, 2), strategies.gaussian_mixtures(1, 2)
GRID = jnp.linspace(-20, 20, 2001)


@jax.jit
def integrated(p, x):
    """`log p` of coordinates 2 and 0, with the second one integrated out."""
    rows = lambda x: jnp.stack(
        [jnp.full_like(GRID, x[1]), GRID, jnp.full_like(GRID, x[0])], axis=1
    )
    logs = jax.vmap(lambda x: p.log_prob(rows(x), 0.5))(x)
    return jax.nn.logsumexp(logs, axis=1) + jnp.log(GRID[1] - GRID[0])


@given(strategies.any_densities(3), strategies.points(4, 2))
def test_marginal_is_the_integral(p, x):
    # Standard deviations of 0.5 and more on a step of 0.02, so no error but rounding.
    assert_close(p.marginal((2, 0)).log_prob(x, 0.5), integrated(p, x))


def test_marginal_of_samples():
    p = Independent(
        ((2, 0), (1,)),
        (
            GaussianMixture(jnp.zeros(1), jnp.array([[5.0, 7.0]]), jnp.eye(2)[None]),
            Gaussian(jnp.zeros(1), jnp.eye(1)),
        ),
    )
    assert p.marginal((0, 1)).blocks == ((0,), (1,))
    mean = p.marginal((0, 1)).sample(jax.random.key(0), 4000).mean(0)
    np.testing.assert_allclose(mean, [7, 0], atol=5 / 4000**0.5)  # five standard errors


@pytest.mark.parametrize("indices", [(), (0, 0), (3,), (-1,)])
@pytest.mark.parametrize(
    "p",
    [
        Gaussian(np.zeros(3), np.eye(3)),
        GaussianMixture(np.zeros(1), np.zeros((1, 3)), np.eye(3)[None]),
        BernoulliClutter(np.full(3, 0.5), 1.0),
        Independent(((0, 1, 2),), (Gaussian(np.zeros(3), np.eye(3)),)),
    ],
    ids=lambda p: type(p).__name__,
)
def test_marginal_of_no_such_coordinates(p, indices):
    with pytest.raises(ValueError, match="different coordinates of 0 to 2"):
        p.marginal(indices)


def test_blocks_without_marginals_are_kept_or_dropped_whole():
    world = Sprites(np.ones((1, 1)), np.ones(1), 1.0, 2)
    p = Independent(((0, 1), (2,)), (world, Gaussian(np.zeros(1), np.eye(1))))
    assert p.marginal((1, 0)).blocks == ((1, 0),)
    assert p.marginal((2,)).blocks == ((0,),)
    with pytest.raises(ValueError, match=r"Sprites has no marginals.*\(0, 1\)"):
        p.marginal((0, 2))


def as_one_mixture(family, present, sigma):
    """All components of all regions multiplied out: one mixture on all coordinates."""
    kept = [i for i in range(5) if not any(i in family.masks[j] for j in present)]
    b = family.background
    parts = [(kept, b.log_weights, b.means[:, kept], b.covs[:, kept][:, :, kept])]
    for j in present:
        p = family.conditionals[j]
        parts.append((list(family.masks[j]), p.log_weights, p.means, p.covs))
    logs, means, covs = [], [], []
    for which in itertools.product(*(range(len(part[1])) for part in parts)):
        mean, cov, log = np.zeros(5), sigma**2 * np.eye(5), 0.0
        for (block, *values), i in zip(parts, which, strict=True):
            w, m, c = (np.asarray(value[i], float) for value in values)
            mean[block], log = m, log + w
            cov[np.ix_(block, block)] += c
        logs.append(log), means.append(mean), covs.append(cov)
    return GaussianMixture(*map(np.array, (logs, means, covs)))


law = jax.jit(lambda p, x, sigma: (p.log_prob(x, sigma), p(x, sigma)))
laws = jax.jit(lambda family, x, sigma: [law(family.given(J), x, sigma) for J in SETS])


@given(
    BACKGROUND,
    PAIR,
    SINGLE,
    strategies.points(4, 5),
    strategies.noise_levels(0.05, 5.0),
)
def test_noise_keeps_it_a_composition_with_the_same_masks(b, p, q, x, sigma):
    """Noised after it was put together, or before: the law, and its score."""
    family = ConditionalProjective(b, MASKS, (p, q))
    for present, found in zip(SETS, laws(family, x, sigma), strict=True):
        expected = law(as_one_mixture(family, present, float(sigma)), x, 0.0)
        for actual, value in zip(found, expected, strict=True):
            assert_close(actual, value)


@given(BACKGROUND, PAIR, SINGLE, strategies.points(4, 5), strategies.noise_levels())
def test_the_score_is_the_gradient(b, p, q, x, sigma):
    law = ConditionalProjective(b, MASKS, (p, q)).given((0, 1))
    assert_score_is_gradient(law, x, sigma)


def at(*mean):
    return Gaussian(jnp.array(mean), jnp.eye(len(mean)))


TIED = Gaussian(jnp.zeros(3), jnp.eye(3) + 0.5)
FAMILY = ConditionalProjective(TIED, ((0,), (2,)), (at(4.0), at(9.0)))


def test_samples():
    x = FAMILY.given((1,)).sample(jax.random.key(0), 4000, sigma=0.5)
    # Five standard errors, of variances at most 1.75.
    np.testing.assert_allclose(x.mean(0), [0, 0, 9], atol=5 * (1.75 / 4000) ** 0.5)
    expected = [[1.75, 0.5, 0], [0.5, 1.75, 0], [0, 0, 1.25]]
    np.testing.assert_allclose(np.cov(x.T), expected, atol=5 * 2.5 / 4000**0.5)


def test_sets_of_conditions():
    assert FAMILY.rest(()) == (0, 1, 2) and FAMILY.rest((1, 0)) == (1,)
    x = jnp.ones((2, 3))
    assert_close(FAMILY.given(())(x, 0.3), TIED(x, 0.3))
    # Conditions are a set: their order says nothing.
    assert_close(FAMILY.given((0, 1))(x, 0.3), FAMILY.given(iter([1, 0]))(x, 0.3))
    everywhere = ConditionalProjective(at(0.0, 0.0), ((1, 0),), (at(1.0, 2.0),))
    assert everywhere.given((0,)).denoise(jnp.zeros((1, 2)), 1e3).round(2).tolist() == [
        [2.0, 1.0]
    ]


def test_it_is_a_pytree():
    def shift(mean):
        part = Gaussian(mean, jnp.eye(1))
        family = ConditionalProjective(TIED, ((0,),), (part,))
        return family.given((0,)).log_prob(jnp.zeros((1, 3)), 1.0)[0]

    # d log N(0; m, 2) / dm = -m / 2
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.grad(shift)))(jnp.array([[1.0], [3.0]])),
        [[-0.5], [-1.5]],
        rtol=1e-6,
    )
    doubled = jax.tree.map(lambda leaf: 2 * leaf, FAMILY)
    assert doubled.masks == FAMILY.masks
    assert float(doubled.conditionals[1].mean[0]) == 18.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConditionalProjective(TIED, ((0,), (0,)), (at(0.0),) * 2), "disjoint"),
        (lambda: ConditionalProjective(TIED, ((3,),), (at(0.0),)), "disjoint"),
        (lambda: ConditionalProjective(TIED, ((),), (at(0.0),)), "non-empty"),
        (lambda: ConditionalProjective(TIED, ((0,),), ()), "1 masks need as many"),
        (
            lambda: ConditionalProjective(TIED, ((0, 1),), (at(0.0),)),
            r"lives on \[1\], its mask \(0, 1\)",
        ),
        (
            lambda: ConditionalProjective(
                Sprites(np.ones((1, 1)), np.ones(1), 1.0, 2), ((0,),), (at(0.0),)
            ),
            "a Sprites, has no `marginal`",
        ),
        (
            lambda: ConditionalProjective(TIED, ((0,),), (cj.as_score(jnp.sin),)),
            "exact",
        ),
        (lambda: FAMILY.given((2,)), "The 2 conditions are numbered from 0"),
        (lambda: FAMILY.given((0, 0)), "given once"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
