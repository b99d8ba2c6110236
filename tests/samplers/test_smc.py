"""Weighted particles: against exact products, and with the known mistakes put in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax.densities import Gaussian
from compjax.divergence import ExactTrace, HutchinsonTrace
from compjax.samplers import (
    Ancestral,
    FeynmanKac,
    UnbiasedFeynmanKac,
    smc,
    weight_rate,
)

N = 4096


def at(mean, cov):
    return Gaussian(jnp.asarray(mean, float), jnp.asarray(cov, float))


A = at([1.0, 0.0], [[1.0, 0.6], [0.6, 1.0]])
B = at([-0.5, 1.0], [[0.5, -0.2], [-0.2, 1.5]])
GROUND = at([0.0, 0.0], [[2.0, 0.0], [0.0, 2.0]])


def gaussian_product(parts, coefficients):
    """Mean, covariance and log-integral of prod p_i^c_i, in float64."""
    precisions = [np.linalg.inv(np.asarray(p.cov, float)) for p in parts]
    means = [np.asarray(p.mean, float) for p in parts]
    c = np.asarray(coefficients, float)
    precision = sum(w * P for w, P in zip(c, precisions, strict=True))
    shift = sum(w * P @ m for w, P, m in zip(c, precisions, means, strict=True))
    cov = np.linalg.inv(precision)
    mean = cov @ shift
    d = len(mean)
    constant = sum(
        w * (np.linalg.slogdet(P)[1] / 2 - d / 2 * np.log(2 * np.pi) - m @ P @ m / 2)
        for w, P, m in zip(c, precisions, means, strict=True)
    )
    log_integral = (
        constant
        + mean @ precision @ mean / 2
        + d / 2 * np.log(2 * np.pi)
        - np.linalg.slogdet(precision)[1] / 2
    )
    return mean, cov, log_integral


CASES = {
    "product": (cj.product(A, B), (A, B), (1.0, 1.0)),
    "power": (cj.power(A, 3.0), (A,), (3.0,)),
    "guidance 2": (cj.guide(GROUND, A, 2.0), (GROUND, A), (-1.0, 2.0)),
    "guidance 3": (cj.guide(GROUND, A, 3.0), (GROUND, A), (-2.0, 3.0)),
    "guidance 5": (cj.guide(GROUND, A, 5.0), (GROUND, A), (-4.0, 5.0)),
    "composition": (cj.compose(GROUND, A, B), (GROUND, A, B), (-1.0, 1.0, 1.0)),
}


def worst(x, mean, cov):
    """Deviation of mean and covariance, in standard errors of N independent samples."""
    x = np.asarray(x, float)
    scale = np.sqrt(np.diag(cov))
    means = np.abs(x.mean(0) - mean) / scale * np.sqrt(len(x))
    found = np.cov(x.T)
    error = np.sqrt((cov**2 + np.outer(np.diag(cov), np.diag(cov))) / len(x))
    return max(means.max(), (np.abs(found - cov) / error).max())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("sampler", ["scores", "densities"])
def test_particles_reach_the_product(name, sampler):
    """Resampled particles are worth fewer than N, a third of them for w = 5."""
    score, parts, c = CASES[name]
    mean, cov, log_integral = gaussian_product(parts, c)
    exact = ExactTrace() if abs(sum(c) - 1) > 1e-6 else None
    chosen = {
        "scores": FeynmanKac(divergence=exact),
        "densities": UnbiasedFeynmanKac(),
    }[sampler]
    grid = cj.karras_sigmas(256, 0.01, 40.0)
    x, info = cj.sample(jax.random.key(0), score, chosen, (N, 2), grid)
    assert worst(x, mean, cov) < (8 if name == "guidance 5" else 6)
    assert abs(info.log_normalizer[-1] - log_integral) < (
        0.2 if name == "guidance 5" else 0.08
    )
    assert jnp.abs(info.virial + 1).max() < 0.35  # a few dozen particles in the worst
    plain, _ = cj.sample(jax.random.key(0), score, Ancestral(), (N, 2), grid)
    assert worst(plain, mean, cov) > 2 * worst(x, mean, cov) - 0.5  # it was needed


def normalizer(sampler, steps):
    """Mean and standard error of 400 estimates with 64 particles, over the truth."""
    score, parts, c = CASES["guidance 2"]
    log_integral = gaussian_product(parts, c)[2]
    grid = cj.karras_sigmas(steps, 0.3, 8.0)
    one = lambda key: cj.sample(key, score, sampler, (64, 2), grid)[1]
    with jax.debug_key_reuse(False):  # it takes keys in a vmapped scan for one key
        info = jax.vmap(one)(jax.random.split(jax.random.key(1), 400))
    z = np.exp(np.asarray(info.log_normalizer[:, -1], float) - log_integral)
    return z.mean(), z.std() / 20


def test_normalisers_from_densities_are_unbiased_on_any_grid():
    mean, error = normalizer(UnbiasedFeynmanKac(), 6)
    assert abs(mean - 1) < 4 * error and error < 0.1


def test_normalisers_from_scores_have_a_bias_that_falls_with_the_steps():
    mean, error = normalizer(FeynmanKac(), 12)
    assert abs(mean - 1) > 6 * error
    fine, error = normalizer(FeynmanKac(), 48)
    assert abs(fine - 1) < abs(mean - 1) / 4 + 4 * error


def test_log_weights_are_the_trapezoids_of_the_rate():
    """Along the very path that was sampled; the last step knows its beginning alone."""
    score, _, _ = CASES["composition"]
    grid = cj.karras_sigmas(13, 0.2, 10.0)[:-1]
    keep = FeynmanKac(threshold=0.0, final=0.0)
    path, info = cj.trajectory(jax.random.key(13), score, keep, (64, 2), grid)
    rates = np.stack(
        [
            weight_rate(score.coefficients(s), score.parts(x, s))
            for x, s in zip(path[:-1], grid[:-1], strict=True)
        ]
    )
    widths = -np.diff(np.asarray(grid) ** 2)
    expected = widths[-1] * rates[-1]
    expected += (widths[:-1, None] * (rates[:-1] + rates[1:]) / 2).sum(0)
    centred = lambda logs: np.asarray(logs) - np.mean(logs)
    error = np.abs(centred(info.log_weights[-1]) - centred(expected)).max()
    left = np.abs(centred(widths @ rates) - centred(expected)).max()
    assert error < 1e-4 < 0.1 < left


@cj.types.pytree
class NoWeights(FeynmanKac):
    """Weights are computed and dropped."""

    def _rate(self, key, score, x, sigma, parts):
        return 0 * super()._rate(key, score, x, sigma, parts)


def test_the_same_check_rejects_dropped_weights():
    score, parts, c = CASES["composition"]
    mean, cov, _ = gaussian_product(parts, c)
    wrong = NoWeights()
    grid = cj.karras_sigmas(256, 0.01, 40.0)
    x, _ = cj.sample(jax.random.key(0), score, wrong, (N, 2), grid)
    assert worst(x, mean, cov) > 12


@cj.types.pytree
class WidePrior(FeynmanKac):
    """Starts from N(0, sigma^2) whatever the coefficients sum to."""

    def start(self, key, score, shape, sigmas):
        right = FeynmanKac.start(self, key, score, shape, sigmas)
        return right._replace(x=right.x * score.coefficients(1.0).sum() ** 0.5)


@cj.types.pytree
class WideUnbiased(UnbiasedFeynmanKac):
    """The same, and does not weigh what it drew."""

    def start(self, key, score, shape, sigmas):
        right = UnbiasedFeynmanKac.start(self, key, score, shape, sigmas)
        wide = right.x * score.coefficients(1.0).sum() ** 0.5
        return right._replace(x=wide, log_weights=0 * right.log_weights)


@pytest.mark.parametrize("name", ["product", "power"])
@pytest.mark.parametrize(
    ("right", "wrong"), [(FeynmanKac, WidePrior), (UnbiasedFeynmanKac, WideUnbiased)]
)
def test_they_start_where_wide_noise_to_that_power_is(name, right, wrong):
    """One short step from sigma_0 = 40: a long way down would forgive a wrong start."""
    score, parts, c = CASES[name]
    grid = jnp.array([40.0, 39.0])
    noised = [at(p.mean, p.cov + 39.0**2 * jnp.eye(2)) for p in parts]
    mean, cov, log_integral = gaussian_product(noised, c)
    more = {"divergence": ExactTrace()} if right is FeynmanKac else {}

    def run(kind):
        sampler = kind(threshold=0.0, **more)
        x, info = cj.sample(jax.random.key(11), score, sampler, (N, 2), grid)
        return worst(x, mean, cov), abs(float(info.log_normalizer[-1]) - log_integral)

    deviation, off = run(right)
    assert deviation < 5 and off < 0.02
    assert run(wrong)[0] > 12


def test_particles_of_scores_may_move_too():
    score, parts, c = CASES["composition"]
    mean, cov, log_integral = gaussian_product(parts, c)
    grid = cj.karras_sigmas(256, 0.01, 40.0)
    moving = FeynmanKac(kernel=cj.samplers.MALA(0.3), moves=2)
    x, info = cj.sample(jax.random.key(12), score, moving, (N, 2), grid)
    assert worst(x, mean, cov) < 6
    assert abs(info.log_normalizer[-1] - log_integral) < 0.08


def test_hutchinson_traces_serve_too():
    score, parts, c = CASES["product"]
    mean, cov, _ = gaussian_product(parts, c)
    grid = cj.karras_sigmas(256, 0.01, 40.0)
    sampler = FeynmanKac(divergence=HutchinsonTrace(4))
    x, _ = cj.sample(jax.random.key(4), score, sampler, (N, 2), grid)
    assert worst(x, mean, cov) < 12


def test_moves_keep_the_target():
    score, parts, c = CASES["composition"]
    mean, cov, _ = gaussian_product(parts, c)
    grid = cj.karras_sigmas(48, 0.05, 20.0)
    moving = UnbiasedFeynmanKac(kernel=cj.samplers.MALA(0.3), moves=3)
    x, info = cj.sample(jax.random.key(5), score, moving, (N, 2), grid)
    assert worst(x, mean, cov) < 9
    assert 0.3 < float(info.acceptance.mean()) < 1.0


def test_weights_may_be_kept():
    score, _, _ = CASES["composition"]
    grid = cj.karras_sigmas(16, 0.1, 10.0)
    keep = FeynmanKac(threshold=0.0, final=0.0)
    x, info = cj.sample(jax.random.key(6), score, keep, (256, 2), grid)
    assert (np.asarray(info.ancestors) == np.arange(256)).all()
    assert float(jnp.exp(info.log_weights[-1]).mean()) == pytest.approx(1, abs=1e-5)
    assert info.log_weights[-1].std() > 0.05
    assert len(np.unique(np.asarray(x), axis=0)) == 256


def test_dead_particles_are_counted_and_have_no_children():
    wall = Walled(A)
    grid = cj.karras_sigmas(16, 0.1, 10.0)
    x, info = cj.sample(jax.random.key(7), wall, UnbiasedFeynmanKac(), (512, 2), grid)
    assert int(info.dead.max()) > 0
    assert (x[:, 0] <= 1).all()


@cj.types.pytree
class Walled:
    inside: Gaussian

    def log_density(self, x, sigma):
        inside = self.inside.log_density(x, sigma)
        return jnp.where((x[:, 0] > 1) & (sigma < 1), jnp.nan, inside)

    def __call__(self, x, sigma):
        return self.inside(x, sigma)


def test_when_all_are_dead_it_is_said():
    nowhere = cj.product(A, Never())
    with pytest.raises(ValueError, match="512 of 512 samples are not finite"):
        cj.sample(
            jax.random.key(8),
            nowhere,
            FeynmanKac(),
            (512, 2),
            cj.karras_sigmas(8, 0.1, 10.0),
        )


@cj.types.pytree
class Never:
    def __call__(self, x, sigma):
        return jnp.full_like(x, jnp.nan)


def test_mistakes_are_told():
    grid = cj.karras_sigmas(4)
    go = lambda score, sampler: cj.sample(
        jax.random.key(0), score, sampler, (8, 2), grid
    )
    with pytest.raises(ValueError, match="FeynmanKac weighs the parts"):
        go(A, FeynmanKac())
    with pytest.raises(ValueError, match="must sum to a positive number"):
        go(cj.product(A, B, weights=[1.0, -1.0]), FeynmanKac())
    fading = cj.compose(GROUND, A, weights=[lambda sigma: 1 / (1 + sigma)])
    with pytest.raises(ValueError, match="UnbiasedFeynmanKac"):
        go(fading, FeynmanKac())
    for part in (cj.power(A, 2.0), cj.contrast(A, B)):
        with pytest.raises(ValueError, match="is itself a composition"):
            go(cj.compose(GROUND, part), FeynmanKac())
    between = lambda s: jnp.where((s > 0.3) & (s < 5), 5.0, 1.0)
    with pytest.raises(ValueError, match="along the grid"):
        go(cj.compose(GROUND, A, weights=[between]), FeynmanKac())
    for kernel in (0.3, cj.samplers.MALA):
        with pytest.raises(ValueError, match="kernel must be one, such as MALA"):
            FeynmanKac(kernel=kernel)
    with pytest.raises(ValueError, match="divergence must be one"):
        FeynmanKac(divergence=ExactTrace)
    with pytest.raises(ValueError, match="scale must be positive"):
        UnbiasedFeynmanKac(scale=0.0)
    bare = cj.as_score(lambda x, sigma: -x)
    with pytest.raises(ValueError, match="has no log_density to weigh"):
        go(bare, UnbiasedFeynmanKac())
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 1\]"):
        FeynmanKac(threshold=2.0)
    with pytest.raises(ValueError, match="moves must be a positive whole number"):
        UnbiasedFeynmanKac(moves=0)


def test_coefficients_may_depend_on_sigma_where_densities_are_known():
    """The weight of A rises from 0 to 1 as sigma falls: at the end all is as it was."""
    fading = cj.compose(GROUND, A, B, weights=[lambda s: 1 / (1 + s), 1.0])
    mean, cov, _ = gaussian_product((GROUND, A, B), (-1.0, 1.0, 1.0))
    grid = cj.karras_sigmas(128, 0.01, 40.0)
    x, _ = cj.sample(jax.random.key(9), fading, UnbiasedFeynmanKac(), (N, 2), grid)
    assert worst(x, mean, cov) < 9
    assert smc._total(fading, jnp.float32(3.0)) == pytest.approx(1.0)


def test_particles_on_many_devices_are_the_same():
    """Sharded over the devices: the same particles, but for the order of sums."""
    score, _, _ = CASES["composition"]
    grid = cj.karras_sigmas(24, 0.1, 10.0)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    for sampler in (FeynmanKac(), UnbiasedFeynmanKac()):
        run = lambda sharding, sampler=sampler: cj.sample(
            jax.random.key(10), score, sampler, (512, 2), grid, sharding=sharding
        )
        (one, info), (many, spread) = run(None), run(sharding)
        assert many.sharding.is_equivalent_to(sharding, 2)
        # A resampling point that falls between two particles may fall to either.
        same = jnp.abs(one - many).max(1) < 1e-3
        assert same.mean() > 0.98
        assert abs(info.log_normalizer[-1] - spread.log_normalizer[-1]) < 1e-3


def test_one_program_serves_all_numbers():
    from compjax.testing import assert_single_trace

    grids = [cj.karras_sigmas(8, 0.1, top) for top in (5.0, 10.0)]
    samplers = [FeynmanKac(threshold=t, final=t) for t in (0.3, 0.9)]
    scores = [cj.guide(GROUND, A, w) for w in (2.0, 3.0)]

    def run(score, sampler, grid):
        return cj.sample(jax.random.key(0), score, sampler, (16, 2), grid)

    assert_single_trace(run, *zip(scores, samplers, grids, strict=True))
