"""The conditional-local machine: matches, fallback, more objects than it was shown."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.testing import VARIANTS, assert_close

MACHINE = cj.densities.ConditionalMachine
DATA = jax.random.normal(jax.random.key(0), (7, 6, 4, 2))
CONDITIONS = jax.random.bernoulli(jax.random.key(1), 0.5, (7, 3, 2, 2)).astype(float)
X = 1.5 * jax.random.normal(jax.random.key(2), (3, 6, 4, 2))


@pytest.mark.parametrize("side", [1, 3])
def test_matches_counts_by_pixel(side):
    machine = MACHINE(DATA, CONDITIONS, 3, side, chunk=3)
    request = jnp.stack([CONDITIONS[4], jnp.full((3, 2, 2), 2.0)])
    found = machine.matches(request)
    assert found.shape == (2, 6, 4)
    c, reach = np.asarray(CONDITIONS), side // 2
    for i, j in itertools.product(range(6), range(4)):
        rows = slice(max(i // 2 - reach, 0), i // 2 + reach + 1)
        columns = slice(max(j // 2 - reach, 0), j // 2 + reach + 1)
        equal = (c[:, rows, columns] == c[4, rows, columns][None]).all((1, 2, 3))
        assert found[0, i, j] == equal.sum() >= 1
    assert (found[1] == 0).all()


def test_conditions_of_one_image_give_that_image():
    """Whole windows of conditions that only one image has: it is all there is."""
    machine = MACHINE(DATA, CONDITIONS, 3, 5, chunk=3)
    assert (machine.matches(CONDITIONS) == 1).all()
    for i in range(7):
        D = machine.denoise(X, 3.0, CONDITIONS[i : i + 1])
        # A weight times a value over the weight: two roundings.
        expected = jnp.broadcast_to(DATA[i : i + 1], X.shape)
        np.testing.assert_allclose(D, expected, rtol=3e-7)


def test_without_conditions_it_is_the_local_machine():
    local = cj.densities.LocalMachine(DATA, 3, 3)
    machine = MACHINE(DATA, jnp.ones((7, 3, 2, 1)), 3, 3, chunk=3)
    # Whatever is asked for, all images are as near.
    for request in (jnp.ones((1, 3, 2, 1)), jnp.zeros((3, 3, 2, 1))):
        score = cj.condition(machine, request)
        assert_close(score(X, 0.8), local(X, 0.8), 1e-5)


def test_where_nothing_matches_the_nearest_conditions_are_used():
    values = jnp.array([0.0, 1.0, 5.0]).reshape(3, 1, 1, 1)
    machine = MACHINE(values, values, 1, 1)
    x = jnp.zeros((1, 1, 1, 1))
    ask = lambda c: machine.denoise(x, 0.05, jnp.full((1, 1, 1, 1), c)).item()
    # At sigma = 0.05 pixels of 0 speak for the first by e^200 to e^5000, in vain.
    assert [ask(c) for c in (-3.0, 0.9, 2.9, 3.1, 99.0)] == [0.0, 1.0, 1.0, 5.0, 5.0]
    # Less strict, they overrule the conditions: 1^2 / 2 sigma^2 = 200 against 10.
    lenient = MACHINE(values, values, 1, 1, strictness=10.0)
    assert lenient.denoise(x, 0.05, jnp.ones((1, 1, 1, 1))).item() == 0.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_agree(variant):
    machine = cj.condition(MACHINE(DATA, CONDITIONS, 3, 3, chunk=3), CONDITIONS[:1])
    run = VARIANTS[variant](lambda machine, x, sigma: machine(x, sigma))
    for sigma in (jnp.float32(0.7), jnp.array([0.5, 2.0, 1.0])):
        assert_close(run(machine, X, sigma), machine(X, sigma))


# Images of nine cells of 4 by 4 pixels; an object is one of three templates, and an
# image has one to three of them.  The condition is where they are.
SIDE, CELLS = 4, 3
TEMPLATES = np.stack(
    [
        np.ones((SIDE, SIDE)),
        np.where(np.arange(SIDE)[:, None] < 2, 1.0, -1.0) * np.ones((1, SIDE)),
        np.where(np.indices((SIDE, SIDE)).sum(0) % 2, 1.0, -1.0),
    ]
)
WORLD = cj.densities.Sprites(TEMPLATES.reshape(3, -1), np.ones(4), 0.1, CELLS**2)


def scenes(rng, n):
    """`[n, 12, 12, 1]` images and `[n, 3, 3, 1]` conditions."""
    there = np.zeros((n, CELLS**2))
    for row in there:
        row[rng.choice(CELLS**2, rng.integers(1, 4), replace=False)] = 1
    cells = there[..., None, None] * TEMPLATES[rng.integers(3, size=there.shape)]
    grid = cells.reshape(n, CELLS, CELLS, SIDE, SIDE).swapaxes(2, 3)
    images = grid.reshape(n, CELLS * SIDE, CELLS * SIDE, 1)
    return jnp.asarray(images), jnp.asarray(there.reshape(n, CELLS, CELLS, 1))


def shown(x):
    """Which cells show an object: at least half of a template, `[n, 9]`."""
    grid = x.reshape(len(x), CELLS, SIDE, CELLS, SIDE).swapaxes(2, 3)
    return np.asarray(WORLD.strength(grid.reshape(len(x), -1)) > 0.5)


def requests(rng):
    """Three of each number of objects, one to nine, `[27, 9]`."""
    rows = np.zeros((27, CELLS**2), bool)
    for row, k in zip(rows, np.repeat(np.arange(1, 10), 3), strict=True):
        row[rng.choice(9, k, replace=False)] = True
    return rows


IMAGES, PLACES = scenes(np.random.default_rng(0), 300)
ASKED = requests(np.random.default_rng(1))


def draw(machine, sampler):
    request = jnp.asarray(ASKED.reshape(27, CELLS, CELLS, 1), jnp.float32)
    score = cj.condition(machine, request)
    sigmas = cj.karras_sigmas(20, 0.02, 20.0)
    return cj.sample(jax.random.key(0), score, sampler, (27, 12, 12, 1), sigmas)[0]


def hits(x):
    """By number of requested objects, the share of them that are there, `[9]`."""
    found, k = shown(x), ASKED.sum(1)
    return np.array([found[k == n][ASKED[k == n]].mean() for n in range(1, 10)])


@pytest.mark.parametrize("sampler", [cj.samplers.Heun(), cj.samplers.Ancestral()])
def test_it_draws_more_objects_than_it_was_shown(sampler):
    """Conditions of a pixel's own cell: every one of them was seen in many images."""
    machine = MACHINE(IMAGES, PLACES, 5, 1)
    assert int(PLACES.sum((1, 2, 3)).max()) == 3
    x = draw(machine, sampler)
    assert (hits(x) >= 0.95).all(), hits(x)
    # And nothing where nothing is asked for.
    assert shown(x)[~ASKED].mean() <= 0.05
    everything = jnp.ones((1, CELLS, CELLS, 1))
    assert (machine.matches(everything) > 0).all()


def test_the_ideal_conditional_model_does_not():
    """Whole-image windows: of k objects, at most three, as in the nearest scenes."""
    machine = MACHINE(IMAGES, PLACES, 23, 5)
    x = draw(machine, cj.samplers.Heun())
    k = np.arange(1, 10)
    assert (hits(x)[k > 3] <= 3 / k[k > 3] + 1e-6).all(), hits(x)
    assert (machine.matches(jnp.ones((1, CELLS, CELLS, 1))) == 0).all()
    # Each sample is a training image.
    distances = jnp.abs(x[:, None] - IMAGES[None]).max((2, 3, 4)).min(1)
    assert float(distances.max()) < 1e-4


def test_local_conditions_are_what_it_takes():
    """Windows of pixels decide something else: whether an object is in one piece."""
    wide = draw(MACHINE(IMAGES, PLACES, 23, 1), cj.samplers.Heun())
    assert (hits(wide) >= 0.95).all(), hits(wide)
    # Each pixel chooses a template of its own: half of them are right by chance.
    narrow = draw(MACHINE(IMAGES, PLACES, 1, 1), cj.samplers.Heun())
    assert hits(narrow).mean() < 0.7, hits(narrow)
    # Never zero, as an empty cell is: there is something wherever it was asked for.
    grid = jnp.abs(narrow).reshape(27, CELLS, SIDE, CELLS, SIDE).min((2, 4))
    np.testing.assert_array_equal(grid.reshape(27, -1) > 0.5, ASKED)


def test_wide_windows_of_conditions_do_not_draw_more():
    """Though pixels are local: each follows one of many scenes that come as near.

    With three objects of the k in each of those, a cell is filled by few of them;
    pixels agree within their windows only, so that more than 3 / k may appear.
    """
    x = draw(MACHINE(IMAGES, PLACES, 5, 5), cj.samplers.Heun())
    assert hits(x)[3:].mean() < 0.7, hits(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MACHINE(DATA, CONDITIONS[:3], 3, 1), "each of the 7 images"),
        (lambda: MACHINE(DATA, jnp.ones((7, 4, 2, 1)), 3, 1), "divide"),
        (lambda: MACHINE(DATA, jnp.ones((7, 3)), 3, 1), r"got \(7, 3\)"),
        (lambda: MACHINE(DATA, CONDITIONS, 4, 1), "odd, got 4"),
        (lambda: MACHINE(DATA, CONDITIONS, 3, 2), "odd, got 2"),
        (lambda: MACHINE(DATA, CONDITIONS, 3, ((0.0, 1),)), "one odd side"),
        (lambda: MACHINE(DATA, CONDITIONS, 3, 1, 0.0), "strictness"),
        (lambda: MACHINE(DATA, CONDITIONS, 3, 1, np.inf), "strictness"),
        (
            lambda: MACHINE(DATA, CONDITIONS, 3, 1)(X, 1.0, CONDITIONS[:2]),
            r"\[b or 1, 3, 2, 2\] with b = 3",
        ),
        (
            lambda: MACHINE(DATA, CONDITIONS, 3, 1).matches(jnp.ones((1, 2, 2, 2))),
            r"\[b or 1, 3, 2, 2\], got",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
