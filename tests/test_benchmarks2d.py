"""The benchmarks' definitions, metrics and command."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import tables
from experiments.benchmarks2d import metrics, readme
from experiments.benchmarks2d.methods import Settings, methods
from experiments.benchmarks2d.tasks import densities, tasks

N = 4000


@pytest.fixture(scope="module")
def known():
    return tasks()


def test_exact_samples_are_right(known):
    """What the papers count as right holds for exact samples of the target."""
    for name, task in known.items():
        if task.target is None or task.accepts is None:
            continue
        x = task.target(jax.random.key(0), N)
        assert x.shape == (N, 2)
        # Modes end in Gaussian tails: 3 sigma in the plane leave 1.1 % outside.
        assert task.accepts(x).mean() > 0.985, name


def test_what_is_wrong_is_not_counted_as_right(known):
    wide = np.random.default_rng(0).uniform(-2, 2, (N, 2))
    for name, task in known.items():
        if task.accepts is not None:
            assert task.accepts(wide).mean() < 0.5, name


def test_the_grid_samples_the_product_of_the_corners(known):
    """Each pair gives a Gaussian of half the variance, half-way; near ones weigh."""
    x = known["corners_and"].target(jax.random.key(1), 20_000)
    side = np.sign(x[:, 0])
    away = x - np.stack([1.5 * side, 0 * side], axis=1)
    assert abs(side.mean()) < 4 / np.sqrt(20_000)
    expected = 0.4**2 / 2
    error = 4 * expected * np.sqrt(2 / 20_000)
    assert (np.abs(away.var(0) - expected) < error + 1e-4).all()


def test_annealed_modes_have_the_weights_of_the_closed_form(known):
    """w^3 v^-3 v = w^3 / v^2 in the plane, for modes that hardly meet."""
    x = known["annealing"].target(jax.random.key(2), 20_000)
    wide, narrow = 1 / 0.35**4, 1 / 0.12**4
    share = wide / (wide + narrow)
    assert (x[:, 0] < 0).mean() == pytest.approx(share, abs=4 / np.sqrt(20_000))


def test_the_likelihood_is_normalised(known):
    task = known["rrr_product"]
    axis = np.linspace(-0.7, 0.7, 1401)
    x = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(task.log_target(x)).sum() * 1e-6 == pytest.approx(1, abs=5e-3)


def test_published_slips_are_those_that_are_known(known):
    assert pytest.approx(-6.19, abs=5e-3) == metrics.RRR_SLIP
    task = known["mixture_c"]
    inside = np.array([[-1.0, 0.0], [1.0, 0.1]])
    assert metrics.within_circles(inside).all() and not task.accepts(inside).any()


def test_distances_of_shifted_points():
    x = np.random.default_rng(0).normal(size=(300, 2))
    assert metrics.w2(x, x + [3.0, 4.0]) == pytest.approx(5.0)
    # The mean of 25 cos^2 over directions is 12.5.
    sliced = metrics.sliced_w2(x, x + [3.0, 4.0])
    assert sliced == pytest.approx(12.5**0.5, rel=0.03)
    assert metrics.chamfer(x, x) == 0
    assert metrics.chamfer(np.zeros((2, 2)), np.array([[3.0, 4.0]] * 2)) == 10
    y = np.random.default_rng(1).normal(size=(300, 2))
    assert abs(metrics.mmd2(x, y)) < 0.02 < metrics.mmd2(x, y + 1)


def test_every_task_has_methods_of_its_kind(known):
    p = densities()
    for task in known.values():
        assert set(task.parts) <= set(p)
        parts = tuple(p[name] for name in task.parts)
        names = [n for n, _ in methods(task, parts, p["everywhere"], Settings())]
        assert len(names) == len(set(names)) >= 8
        assert any(name.endswith("reverse SDE") for name in names)


def test_particles_reach_a_target_that_plain_diffusion_misses(known):
    """At a fifth of the samples and steps of the table."""
    task, p = known["annealing"], densities()
    parts, settings = (p["two widths"],), Settings(samples=400, steps=60)
    target = task.target(jax.random.key(3), 400)
    wanted = ("reverse SDE", "Feynman-Kac, densities")
    found = {
        name: metrics.w2(method(jax.random.key(5)).x, target)
        for name, method in methods(task, parts, p["everywhere"], settings)
        if name in wanted
    }
    assert found["Feynman-Kac, densities"] < found["reverse SDE"] / 4


@pytest.mark.slow
def test_the_command_goes_on_and_tells_mistakes(tmp_path):
    def run(*arguments):
        command = (sys.executable, "-m", "experiments.benchmarks2d", *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    small = ("--samples=64", "--steps=12", "--seeds=1", "--train-steps=2")
    first = run("corners_or", f"--workdir={tmp_path}", *small)
    assert first.returncode == 0, first.stderr
    assert "SuperDiff OR" in first.stdout
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["corners_or"]["floor"]["W2"] > 0
    assert (tmp_path / "figures" / "corners_or.png").stat().st_size > 10_000
    again = run("corners_or", f"--workdir={tmp_path}", *small)
    assert again.returncode == 0 and "training" not in again.stdout
    unknown = run("corners", f"--workdir={tmp_path}", *small)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: unknown task corners; there are rrr_prod")
    other = run("corners_or", f"--workdir={tmp_path}", "--steps=13")
    assert other.returncode == 2 and "another config" in other.stderr


def test_the_page_holds_the_numbers_of_the_results():
    text = (readme.HERE / "README.md").read_text()
    now = tables.fill(text, tables.read(readme.HERE), readme.TABLES)
    assert now == text, "run experiments.benchmarks2d.readme"
    assert tables.BLOCK.search(text)


def test_committed_results_reach_the_floor():
    """Issue: the best sampler within 1.5 floors on every task that is not empty."""
    found = tables.read(readme.HERE)["benchmarks2d"]
    assert set(found) == set(tasks())
    for name, one in found.items():
        if one["floor"] is not None:
            row = readme._best(one, "exact")
            assert readme._floors(row, one) < 1.5, name
    assert jnp.isfinite(jnp.asarray(found["product_a"]["floors"])).all()
