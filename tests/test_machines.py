"""Analytic machines against loops over pixels and patches in double precision."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import compjax as cj
from compjax.testing import VARIANTS, assert_close

D = cj.densities
H, W, C = 6, 5, 2
DATA = jax.random.normal(jax.random.key(0), (7, H, W, C))
X = 1.5 * jax.random.normal(jax.random.key(1), (2, H, W, C))
PIXELS = list(itertools.product(range(H), range(W)))
CONDITIONS = jax.random.bernoulli(jax.random.key(2), 0.5, (7, 3, 5, 1)).astype(float)
REQUEST = jnp.stack([CONDITIONS[0], CONDITIONS[0].at[1, 2].add(1.0)])

MACHINES = {
    "local": D.LocalMachine(DATA, 3, 3),
    "equivariant": D.EquivariantMachine(DATA, 3, 3),
    "boundary": D.BoundaryMachine(DATA, 3, 3),
    "patch": D.PatchMachine(DATA, 3, 3),
    "covariance": D.CovarianceMachine(DATA, 0.07, 3),
    "conditional": cj.condition(
        D.ConditionalMachine(DATA, CONDITIONS, 3, 3, chunk=3), REQUEST
    ),
}

denoise = jax.jit(lambda machine, x, sigma: machine.denoise(x, sigma))
evaluate = jax.jit(lambda machine, x, sigma: machine(x, sigma))


def posterior_mean(distances, values, sigma):
    logs = -np.asarray(distances) / (2 * sigma**2)
    return np.exp(logs - logsumexp(logs)) @ np.asarray(values)


def around(i, j, reach):
    """The pixels of a window that lie in the image."""
    rows = range(max(i - reach, 0), min(i + reach + 1, H))
    return list(
        itertools.product(rows, range(max(j - reach, 0), min(j + reach + 1, W)))
    )


def cut(image, pixels):
    return np.array([image[p] for p in pixels])


def local(x, data, sigma, side=3):
    D = np.zeros_like(x)
    for n, (i, j) in itertools.product(range(len(x)), PIXELS):
        pixels = around(i, j, side // 2)
        gaps = [((cut(x[n], pixels) - cut(y, pixels)) ** 2).sum() for y in data]
        D[n, i, j] = posterior_mean(gaps, data[:, i, j], sigma)
    return D


def torus(image, i, j, side):
    reach = side // 2
    offsets = range(-reach, reach + 1)
    return np.array(
        [[image[(i + a) % H, (j + b) % W] for b in offsets] for a in offsets]
    )


def equivariant(x, data, sigma, side=3):
    D = np.zeros_like(x)
    patches = [(torus(y, *p, side), y[p]) for y in data for p in PIXELS]
    for n, (i, j) in itertools.product(range(len(x)), PIXELS):
        here = torus(x[n], i, j, side)
        gaps = [((here - patch) ** 2).sum() for patch, _ in patches]
        D[n, i, j] = posterior_mean(gaps, [centre for _, centre in patches], sigma)
    return D


def offsets(i, j, reach):
    """Where a window lies in the image, as seen from its centre."""
    return [(a - i, b - j) for a, b in around(i, j, reach)]


def boundary(x, data, sigma, side=3):
    D = np.zeros_like(x)
    for n, (i, j) in itertools.product(range(len(x)), PIXELS):
        like = [p for p in PIXELS if offsets(*p, side // 2) == offsets(i, j, side // 2)]
        here = cut(x[n], around(i, j, side // 2))
        pairs = [(y, p) for y in data for p in like]
        gaps = [((here - cut(y, around(*p, side // 2))) ** 2).sum() for y, p in pairs]
        D[n, i, j] = posterior_mean(gaps, [y[p] for y, p in pairs], sigma)
    return D


def patch(x, data, sigma, side=3):
    total, count = np.zeros_like(x), np.zeros_like(x)
    for i, j in itertools.product(range(H - side + 1), range(W - side + 1)):
        crop = np.s_[:, i : i + side, j : j + side]
        for n in range(len(x)):
            gaps = ((x[n : n + 1][crop] - data[crop]) ** 2).sum((1, 2, 3))
            mean = posterior_mean(gaps, data[crop].reshape(len(data), -1), sigma)
            total[n : n + 1][crop] += mean.reshape(side, side, C)
        count[crop] += 1
    return total / count


def covariance(x, data, sigma, threshold=0.07):
    rows, flat = data.reshape(len(data), -1), x.reshape(len(x), -1)
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    M = vectors @ np.diag(values / (values + sigma**2)) @ vectors.T
    shares = np.abs(M) / np.diagonal(M)[:, None]
    limit = threshold * shares.max()
    # No entry is so near to the threshold that rounding decides.
    assert np.abs(shares - limit).min() > 1e-5
    seen = shares >= limit
    D = np.zeros_like(flat)
    for n, i in itertools.product(range(len(x)), range(flat.shape[1])):
        gaps = ((flat[n] - rows) ** 2 * seen[i]).sum(1)
        D[n, i] = posterior_mean(gaps, rows[:, i], sigma)
    return D.reshape(x.shape), seen


def conditional(x, data, sigma, side=3, condition_side=3):
    """The nearest conditions by sorting; cells are of 2 by 1 pixels."""
    D, reach = np.zeros_like(x), condition_side // 2
    c, request = np.asarray(CONDITIONS, float), np.asarray(REQUEST, float)
    for n, (i, j) in itertools.product(range(len(x)), PIXELS):
        cell = np.s_[
            max(i // 2 - reach, 0) : i // 2 + reach + 1,
            max(j - reach, 0) : j + reach + 1,
        ]
        gaps = np.array([((request[n][cell] - known[cell]) ** 2).sum() for known in c])
        chosen = data[gaps == gaps.min()]
        pixels = around(i, j, side // 2)
        gaps = [((cut(x[n], pixels) - cut(y, pixels)) ** 2).sum() for y in chosen]
        D[n, i, j] = posterior_mean(gaps, chosen[:, i, j], sigma)
    return D


BRUTE_FORCE = {
    "local": local,
    "equivariant": equivariant,
    "boundary": boundary,
    "patch": patch,
    "covariance": lambda *a: covariance(*a)[0],
    "conditional": conditional,
}


@pytest.mark.parametrize("name", MACHINES)
def test_against_loops(name):
    x, data = np.asarray(X, float), np.asarray(DATA, float)
    for sigma in (0.4, 1.0, 6.0):
        expected = BRUTE_FORCE[name](x, data, sigma)
        # The distances that matter are at most 100; as exponents, float32 of
        # d / 2 sigma^2, times the largest value, 3, twice for both ends of a ratio.
        error = 1e-7 * (10 + 2 * 3 * 100 / (2 * sigma**2))
        assert error < 2e-4
        found = denoise(MACHINES[name], X, sigma)
        np.testing.assert_allclose(found, expected, rtol=0, atol=error)
        score = evaluate(MACHINES[name], X, sigma)
        np.testing.assert_allclose(
            score, (expected - x) / sigma**2, rtol=1e-6, atol=error / sigma**2
        )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", MACHINES)
def test_variants_agree(name, variant):
    machine = MACHINES[name]
    if variant == "vmap" and name == "conditional":
        machine = cj.condition(machine.score, REQUEST[:1])
    run = VARIANTS[variant](lambda machine, x, sigma: machine(x, sigma))
    for sigma in (jnp.float32(0.7), jnp.array([0.5, 2.0])):
        assert_close(run(machine, X, sigma), evaluate(machine, X, sigma))


@pytest.mark.parametrize("name", MACHINES)
def test_chunks_do_not_matter(name):
    def with_chunk(chunk):
        machine = MACHINES[name]
        bound = machine.score if name == "conditional" else machine
        fields = {k: getattr(bound, k) for k in bound.__dataclass_fields__}
        bound = type(bound)(**(fields | {"chunk": chunk}))
        return cj.condition(bound, REQUEST) if name == "conditional" else bound

    reference = evaluate(with_chunk(7), X, 0.8)
    for chunk in (1, 5, 64):
        # The order of additions differs: float32 of a few exponents of 100.
        np.testing.assert_allclose(
            evaluate(with_chunk(chunk), X, 0.8), reference, rtol=0, atol=5e-5
        )


@pytest.mark.parametrize("name", ["local", "equivariant", "boundary", "patch"])
def test_memory_is_that_of_a_chunk(name):
    """Ten times the data need no more memory beside themselves."""

    def temporary(n):
        machine = type(MACHINES[name])(jnp.zeros((n, 16, 16, 3)), 3, 8)
        x = jnp.zeros((4, 16, 16, 3))
        run = jax.jit(lambda machine, x: machine.denoise(x, 1.0))
        return run.lower(machine, x).compile().memory_analysis().temp_size_in_bytes

    few, many = temporary(32), temporary(320)
    # Beside lists of where chunks begin.
    assert abs(many - few) < 1024
    # The machines' own formula, and as much again for small things.
    assert many < 2 * 12 * 4 * 8 * 16 * 16


SEEN = {
    "local": lambda i, j: set(around(i, j, 1)),
    "equivariant": lambda i, j: {
        ((i + a) % H, (j + b) % W) for a in (-1, 0, 1) for b in (-1, 0, 1)
    },
    "boundary": lambda i, j: set(around(i, j, 1)),
    "patch": lambda i, j: set(around(i, j, 2)),
    "conditional": lambda i, j: set(around(i, j, 1)),
}


@pytest.mark.parametrize("name", SEEN)
def test_nothing_outside_the_window_matters(name):
    """The Jacobian is exactly zero there, and not inside."""
    run = jax.jit(jax.jacrev(lambda machine, x: machine.denoise(x, 2.0), 1))
    machine, choices = MACHINES[name], np.full((H, W), 7)
    if name == "conditional":
        machine = D.ConditionalMachine(DATA, CONDITIONS, 3, 1)
        choices = np.asarray(machine.matches(REQUEST))[0]
        assert (choices > 1).mean() > 0.5
        machine = cj.condition(machine, REQUEST)
    jacobian = np.asarray(run(machine, X))[0, :, :, :, 0]
    strength = np.abs(jacobian).sum((2, 5))
    for i, j in PIXELS:
        if choices[i, j] == 1:  # nothing to choose
            assert (strength[i, j] == 0).all()
            continue
        for p in PIXELS:
            assert (strength[i, j][p] > 0) == (p in SEEN[name](i, j)), (i, j, p)


def test_nothing_outside_the_mask_matters():
    machine = MACHINES["covariance"]
    jacobian = jax.jacrev(lambda x: machine.denoise(x, 2.0))(X)
    jacobian = np.asarray(jacobian)[0, :, :, :, 0].reshape(H * W * C, -1)
    _, seen = covariance(np.asarray(X, float), np.asarray(DATA, float), 2.0)
    np.testing.assert_array_equal(np.asarray(machine.mask(2.0)), seen)
    assert 0.1 < seen.mean() < 0.9
    np.testing.assert_array_equal(jacobian != 0, seen)


@pytest.mark.parametrize("name", ["local", "patch"])
def test_gradients_against_differences(name):
    """In x and in the data: central differences of the loops in double precision."""
    total = lambda x, data: type(MACHINES[name])(data, 3, 3).denoise(x, 1.0).sum()
    gradients = jax.jit(jax.grad(total, (0, 1)))(X, DATA)
    loops = lambda x, data: BRUTE_FORCE[name](x, data, 1.0).sum()
    x, data = np.asarray(X, float), np.asarray(DATA, float)
    direction = np.random.default_rng(3).normal(size=(1, H, W, C))
    dx, ddata = 1e-5 * direction, 1e-5 * direction[:, ::-1]
    by_x = loops(x + dx, data) - loops(x - dx, data)
    by_data = loops(x, data + ddata) - loops(x, data - ddata)
    # Sums of sixty terms of a few, in float32.
    found = (np.asarray(gradients[0], float) * direction).sum()
    assert abs(found - by_x / 2e-5) < 1e-3
    found = (np.asarray(gradients[1], float) * direction[:, ::-1]).sum()
    assert abs(found - by_data / 2e-5) < 1e-3


WHOLE = {
    "local": D.LocalMachine(DATA, 2 * H - 1, 3),
    "boundary": D.BoundaryMachine(DATA, 2 * H - 1, 3),
    "patch": D.PatchMachine(DATA, H, 3),
    "conditional": cj.condition(
        D.ConditionalMachine(DATA, jnp.zeros((7, 1, 1, 1)), 99, 1, chunk=3),
        jnp.zeros((1, 1, 1, 1)),
    ),
    "covariance": D.CovarianceMachine(DATA, 1e-12, 3),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_window_over_the_whole_image_memorises(name):
    for sigma in (0.6, 3.0):
        expected = D.Empirical(DATA, 3).denoise(X, sigma)
        # Distances of 60 values, a few hundred, as exponents in float32.
        np.testing.assert_allclose(denoise(WHOLE[name], X, sigma), expected, atol=2e-4)


SHIFTED = jnp.concatenate(
    [jnp.roll(DATA[:2], p, (1, 2)) for p in PIXELS]
)  # in every shift


def test_equivariant_is_local_on_shifted_data():
    """At inner pixels: `LocalMachine` cuts windows where the image ends."""
    machine, local = D.EquivariantMachine(DATA[:2], 3), D.LocalMachine(SHIFTED, 3)
    for sigma in (0.5, 4.0):
        inner = np.s_[:, 1:-1, 1:-1]
        a, b = denoise(machine, X, sigma), denoise(local, X, sigma)
        # Sixty patches: the tolerance of `test_against_loops`.
        np.testing.assert_allclose(a[inner], b[inner], atol=1e-4)
        assert float(jnp.abs(a - b).max()) > 0.01


def test_a_whole_torus_memorises_all_shifts():
    """5 by 5 pixels and a window of 5: the ideal model of the data in all shifts."""
    data, x = DATA[:2, :5], X[:, :5]
    shifts = [jnp.roll(data, p, (1, 2)) for p in itertools.product(range(5), range(5))]
    expected = D.Empirical(jnp.concatenate(shifts)).denoise(x, 1.0)
    found = D.EquivariantMachine(data, 5).denoise(x, 1.0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("shift", [(1, 0), (2, 3), (-1, 4)])
def test_equivariance(shift):
    machine = MACHINES["equivariant"]
    moved = denoise(machine, jnp.roll(X, shift, (1, 2)), 0.7)
    # Patches are added up in another order.
    np.testing.assert_allclose(
        moved, jnp.roll(denoise(machine, X, 0.7), shift, (1, 2)), atol=1e-4
    )
    local = MACHINES["local"]
    broken = denoise(local, jnp.roll(X, shift, (1, 2)), 0.7)
    difference = broken - jnp.roll(denoise(local, X, 0.7), shift, (1, 2))
    assert float(jnp.abs(difference).max()) > 0.1


@pytest.mark.parametrize("name", MACHINES)
def test_limits(name):
    machine = MACHINES[name]
    assert (evaluate(machine, X, 0.0) == 0).all()
    both = lambda x: (machine(x, jnp.zeros(2)) + machine.denoise(x, 0.0)).sum()
    assert jnp.isfinite(jax.jit(jax.grad(both))(X)).all()
    # From near a training image, low noise goes back to it: its windows are its own,
    # for the conditional machine where its conditions are asked for.
    near = DATA[:1] + 0.01 * X[:1]
    if name == "conditional":
        machine = cj.condition(machine.score, CONDITIONS[:1])
    for sigma in (0.0, 0.05):
        np.testing.assert_allclose(denoise(machine, near, sigma), DATA[:1], atol=1e-5)
    if name in ("local", "patch", "covariance"):
        # Weights are 1 / 7 but for distances of 200 / 2 sigma^2 = 1e-4, 600 for masks.
        mean = jnp.broadcast_to(DATA.mean(0, keepdims=True), X.shape)
        np.testing.assert_allclose(denoise(machine, X, 1e3), mean, atol=1e-3)
    if name == "equivariant":
        mean = jnp.broadcast_to(DATA.mean((0, 1, 2), keepdims=True), X.shape)
        np.testing.assert_allclose(denoise(machine, X, 1e3), mean, atol=1e-3)


# Two constant images, black and white, and windows of 3 by 3: every patch is all black
# or all white, so a pixel's denoised value is tanh(sum of its window / sigma^2), and
# the images that no longer change as sigma -> 0 are those in which every pixel has the
# colour of the majority of its window.  There are many more than two (any stripes two
# pixels wide or wider), and the machine ends in one of them.  It comes there slowly:
# in the time -log sigma a pixel takes about one unit to turn, and others may follow.
TWO = jnp.stack([-jnp.ones((12, 12, 1)), jnp.ones((12, 12, 1))])


def test_two_constant_images_give_many_others():
    machine = D.EquivariantMachine(TWO, 3)
    shape, sigmas = (12, 12, 12, 1), cj.log_snr_sigmas(60, 1e-7, 10.0)
    x = cj.sample(jax.random.key(0), machine, cj.samplers.Euler(), shape, sigmas)[0]
    images = np.asarray(x)[..., 0]
    reach = (-1, 0, 1)
    neighbours = [np.roll(images, (a, b), (1, 2)) for a in reach for b in reach]
    nearest = np.sign(np.sum(neighbours, axis=0))
    # The last step is the denoiser at sigma = 1e-7: tanh of 1e14, which is 1.
    np.testing.assert_allclose(np.abs(images), 1.0, rtol=1e-6)
    images = np.sign(images)
    consistent = images[(images == nearest).all((1, 2))]
    assert len(consistent) >= 10
    assert (images == nearest).mean() > 0.998
    novel = consistent[np.abs(consistent.mean((1, 2))) < 0.99]
    assert len(novel) >= 6
    assert len(np.unique(novel, axis=0)) == len(novel)
    # The ideal model, from the same noise, knows two images.
    ideal = D.Empirical(TWO)
    y = cj.sample(jax.random.key(0), ideal, cj.samplers.Euler(), shape, sigmas)[0]
    np.testing.assert_allclose(np.abs(y.mean((1, 2, 3))), 1.0, atol=1e-5)


def test_the_two_image_denoiser_in_closed_form():
    machine = D.EquivariantMachine(TWO[:, :6, :5], 3)
    x, sigma = X[..., :1], 1.7
    neighbours = [jnp.roll(x, (a, b), (1, 2)) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    np.testing.assert_allclose(
        machine.denoise(x, sigma), jnp.tanh(sum(neighbours) / sigma**2), atol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: D.LocalMachine(np.zeros((3, 2, 2)), 3), r"\[N, h, w, c\]"),
        (lambda: D.LocalMachine(np.zeros((0, 2, 2, 1)), 3), "some"),
        (lambda: D.LocalMachine(DATA, 4), "odd, got 4"),
        (lambda: D.LocalMachine(DATA, 0), "side must be"),
        (lambda: D.LocalMachine(DATA, (3, 5)), r"\(sigma, side\)"),
        (lambda: D.LocalMachine(DATA, ((1.0, 3),)), "begins at sigma = 0"),
        (lambda: D.LocalMachine(DATA, ((0.0, 3), (0.0, 5))), "rises"),
        (lambda: D.LocalMachine(DATA, ((0.0, 3), (1.0, 4))), "odd, got 4"),
        (lambda: D.LocalMachine(DATA, 3, 0), "chunk"),
        (lambda: D.LocalMachine(DATA, 3)(X[:, :5], 1.0), r"\[b, 6, 5, 2\]"),
        (lambda: D.LocalMachine(DATA, 3)(X, jnp.ones(3)), "one for each sample"),
        (lambda: D.EquivariantMachine(DATA, 7), "meets itself"),
        (lambda: D.CovarianceMachine(DATA, 0.0), r"\(0, 1\]"),
        (lambda: D.CovarianceMachine(DATA, variances=np.ones(7)), "or neither"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
