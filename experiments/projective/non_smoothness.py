"""A composition that factorizes in features, and that no sampler finds in x.

    python -m experiments.projective.non_smoothness --workdir=runs/non_smoothness

Two features at an angle, whose conditionals compose to a single point.  Above a noise
level tau, proportional to the angle, most of the composed path's mass is elsewhere,
and samplers stay there (Bradley et al. 2025, lemma 7.2; the construction is ours).
"""

import functools
import itertools
import time
from pathlib import Path

import jax
import numpy as np
import scipy.special
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, training
from experiments import launch
from experiments.projective import exact

SAMPLERS = {"reverse SDE": cj.samplers.Ancestral, "flow ODE": cj.samplers.Heun}


def main(config: ConfigDict, workdir: Path) -> None:
    """Computes, draws and prints."""
    if config.samples < 2 or config.steps < 2 or config.levels < 2:
        raise ValueError(
            "config.samples, config.steps and config.levels must be at least 2, got "
            f"{config.samples}, {config.steps} and {config.levels}."
        )
    workdir = training.open_workdir(workdir, config.to_dict())
    started = time.monotonic()
    masses = {angle: mass_curve(config, angle) for angle in config.profiles}
    speeds = {angle: speed(config, angle) for angle in config.speeds}
    cells = [(name, angle) for angle in config.angles for name in SAMPLERS]
    wrong = {
        cell: wrong_fraction(config, *cell)
        for cell in launch.progress(cells, "sampled")
    }
    report = exact.Report(
        checks=checks(config, masses, speeds, wrong),
        numbers={
            "corner_mass": {f"{angle:g}": curve for angle, curve in masses.items()},
            "speed_times_tau": {f"{a:g}": s * tau for a, (tau, s) in speeds.items()},
            "wrong_fraction": {
                name: {f"{a:g}": wrong[name, a] for a in config.angles}
                for name in SAMPLERS
            },
        },
        figure=draw(config, masses, speeds, wrong),
    )
    exact.keep(config, workdir, "non_smoothness", started, report)


def make(config: ConfigDict, angle: float) -> analysis.Corners:
    """The construction at an angle in degrees."""
    return analysis.corners(
        np.deg2rad(angle), config.weight, config.length, config.scale
    )


def total_noise(config: ConfigDict, level: float) -> float:
    """The noise to add so that points have this standard deviation in all."""
    return float(np.sqrt(max(level**2 - config.scale**2, 0.0)))


def mass_curve(config: ConfigDict, angle: float) -> dict[str, list[float]]:
    """The composed mass at the corners against sigma / tau, by quadrature."""
    made = make(config, angle)
    lowest = max(0.1 * made.tau, config.scale)
    levels = np.geomspace(lowest, 0.6 * config.length, config.levels)
    mass = [
        analysis.corner_mass(made, total_noise(config, level))
        for level in levels.tolist()
    ]
    return {"sigma_over_tau": (levels / made.tau).tolist(), "mass": mass}


def speed(config: ConfigDict, angle: float) -> tuple[float, float]:
    """Tau, and the speed of the path between 0.3 and 0.2 tau."""
    made = make(config, angle)
    ends = [total_noise(config, s * made.tau) for s in (0.3, 0.2)]
    return made.tau, analysis.path_speed(made, *ends)


def wrong_fraction(config: ConfigDict, name: str, angle: float) -> float:
    """The share of samples that end nearer the corners than 0, where all should be."""
    made = make(config, angle)
    x, _ = cj.sample(
        jax.random.key(config.seed),
        cj.compose(made.background, *made.conditionals),
        SAMPLERS[name](),
        (config.samples, 2),
        cj.karras_sigmas(config.steps, config.end, config.start),
    )
    # The bisector is the first axis, and the corners' middle at L cos(angle / 2).
    middle = config.length * np.cos(np.deg2rad(angle) / 2) / 2
    return float((np.asarray(x)[:, 0] > middle).mean())


@functools.cache
def small_angle_limit(weight: float, start: float) -> float:
    """The wrong fraction of the flow as the angle vanishes.

    Then u = v = 1 on a line, where the flow keeps the order of its starts: the wrong
    fraction is the share of normal starts beyond the one that parts the two ends.  On
    the way from there to sigma = 0 the corners separate, and no mass comes back.
    """
    end, steps = 0.01, 4000
    quantiles = (np.arange(4001) + 0.5) / 4001
    x = start * scipy.special.ndtri(quantiles)
    levels = np.geomspace(start, end, steps)
    w = weight
    places = np.arange(3.0)
    conditional = np.array([w, 1 - w, 0.0])
    background = np.array([w**2, 2 * w * (1 - w), (1 - w) ** 2])

    def slope(x: np.ndarray, sigma: float) -> np.ndarray:
        """Dx / dsigma = (x - D) / sigma with the composed D = 2 D_1 - D_b."""
        weights = np.exp(-((x[:, None] - places) ** 2) / (2 * sigma**2))
        mean = lambda law: weights @ (law * places) / (weights @ law)
        return (x - 2 * mean(conditional) + mean(background)) / sigma

    for sigma, sigma_next in itertools.pairwise(levels):
        step, first = sigma_next - sigma, slope(x, sigma)
        x = x + step / 2 * (first + slope(x + step * first, sigma_next))
    return float((x > 0.5).mean())


def checks(config: ConfigDict, masses, speeds, wrong) -> list[exact.Check]:
    """Quadrature and samples beside closed forms and bounds."""
    rows = []
    smallest = min(masses)
    levels, mass = masses[smallest].values()
    for level in (0.3, 1.0, 3.0):
        value = float(np.interp(np.log(level), np.log(levels), mass))
        limit = float(analysis.jump(level, config.weight))
        label = f"corner mass at {level:g} tau, {smallest:g} degrees"
        rows.append(exact.Check(label, value, limit, "limit tau -> 0"))
    plateau = analysis.plateau(config.weight)
    label = f"largest corner mass, {smallest:g} degrees"
    rows.append(exact.Check(label, max(mass), plateau, "(1 - w) / (1 + w)"))
    gain = np.diff(analysis.jump(np.array([0.2, 0.3]), config.weight))[0]
    fastest = config.length * float(np.sqrt(gain)) / 0.1
    source = "limit tau -> 0; lemma 7.2 asks for 0.5 or more"
    for angle, (tau, value) in speeds.items():
        label = f"speed of C[p^sigma] times tau, {angle:g} degrees"
        rows.append(exact.Check(label, value * tau, fastest, source))
    smallest, widest = min(config.angles), max(config.angles)
    label = f"wrong fraction, flow ODE, {smallest:g} degrees"
    value = wrong["flow ODE", smallest]
    limit = small_angle_limit(config.weight, config.start)
    rows.append(exact.Check(label, value, limit, "limit of angle -> 0, solved"))
    for name in SAMPLERS:
        label = f"wrong fraction, {name}, {widest:g} degrees"
        rows.append(exact.Check(label, wrong[name, widest], 0.0, "lemma 7.1"))
    return rows


def draw(config: ConfigDict, masses, speeds, wrong) -> Figure:
    """The jump, its speed, and where samplers end."""
    figure = Figure(figsize=(11.4, 3.7), dpi=110, layout="constrained")
    jump, lipschitz, samplers = figure.subplots(1, 3)
    for i, (angle, curve) in enumerate(masses.items()):
        levels, mass = curve.values()
        jump.plot(levels, mass, color=f"C{i}", label=f"{angle:g} degrees, quadrature")
    s = np.geomspace(0.1, 30, 200)
    limit = analysis.jump(s, config.weight)
    jump.plot(s, limit, "k:", lw=2, label="limit of small angles")
    plateau = analysis.plateau(config.weight)
    jump.axhline(plateau, color="0.7", lw=0.8)
    jump.text(0.11, plateau + 0.01, "(1 - w) / (1 + w)", fontsize=8)
    jump.set(
        xscale="log",
        xlim=(0.1, 30),
        ylim=(-0.02, 1.0),
        xlabel="sigma / tau",
        ylabel="mass of C[p^sigma] at the corners",
        title="The composed mass jumps\nwhere sigma passes tau",
    )
    jump.legend(frameon=False, fontsize=8, loc="lower right")
    taus, values = np.array(list(speeds.values())).T
    lipschitz.loglog(1 / taus, values, "o-", color="C3", label="C[p^sigma], measured")
    lipschitz.loglog(1 / taus, 0.5 / taus, "k:", label="1 / (2 tau), lemma 7.2")
    lipschitz.axhline(2**0.5, color="C2", label="bound of every part, sqrt 2")
    lipschitz.set(
        ylim=(1, None),
        xlabel="1 / tau",
        ylabel="W2 / change of sigma",
        title="so its speed grows like 1 / tau,\nthat of the parts does not",
    )
    ticks = 5.0 * 2.0 ** np.arange(8)
    ticks = ticks[(ticks > 0.9 / taus.max()) & (ticks < 1.1 / taus.min())]
    lipschitz.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    lipschitz.minorticks_off()
    lipschitz.legend(frameon=False, fontsize=8)
    for name, marker in zip(SAMPLERS, "os", strict=True):
        share = [wrong[name, angle] for angle in config.angles]
        samplers.plot(config.angles, share, f"{marker}-", ms=4, label=name)
    limit = small_angle_limit(config.weight, config.start)
    samplers.axhline(limit, color="C1", ls=":", label="flow ODE, limit of small angles")
    samplers.set(
        xticks=(0, 30, 60, 90),
        ylim=(-0.02, 1.0),
        xlabel="angle of the features, degrees",
        ylabel="share of samples in the wrong place",
        title="and samplers miss it, unless\nfeatures are nearly orthogonal",
    )
    samplers.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    launch.run(main, "projective/non_smoothness.py")
