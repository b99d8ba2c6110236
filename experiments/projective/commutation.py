"""Where composing commutes with noise: rotated, scaled and sheared features.

    python -m experiments.projective.commutation --workdir=runs/commutation

Parts that factorize in features z = Ax are seen in x.  The figure shows the divergence
of C[p^sigma] from N_sigma C[p] against sigma, and what a sampler that follows the
former makes of it (Bradley et al. 2025, lemma 7.1).
"""

import itertools
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, training
from compjax.densities import Gaussian, compose_gaussians
from experiments import launch
from experiments.projective import exact

Parts = tuple[Gaussian, ...]
"""The background, then the conditionals."""


def main(config: ConfigDict, workdir: Path) -> None:
    """Computes, draws and prints."""
    if config.levels < 2 or config.grid < 101:
        raise ValueError(
            f"config.levels must be at least 2 and config.grid at least 101, got "
            f"{config.levels} and {config.grid}."
        )
    workdir = training.open_workdir(workdir, config.to_dict())
    started = time.monotonic()
    families = make_families(config)
    sigmas = np.geomspace(config.sigma_min, config.sigma_max, config.levels)
    curves = {
        name: [analysis.commutation_kl(b, conditionals, s) for s in sigmas.tolist()]
        for name, (b, *conditionals) in families.items()
    }
    sampled = {name: sampled_kl(parts, config) for name, parts in families.items()}
    checks = [
        exact.Check(f"largest KL, {name}", max(curve), 0.0, "lemma 7.1 / Theorem N")
        for name, curve in curves.items()
        if not name.startswith("shear")
    ]
    for name, (b, *conditionals) in families.items():
        if name.startswith("shear"):
            for s in config.checked:
                closed = analysis.commutation_kl(b, conditionals, s)
                value = quadrature_kl((b, *conditionals), s, config.grid)
                label = f"KL at sigma = {s:g}, {name}"
                checks.append(exact.Check(label, value, closed, "closed form"))
    for name, kl in sampled.items():
        if not name.startswith("shear"):
            label = f"KL(sampled || C[p]), {name}"
            checks.append(exact.Check(label, kl, 0.0, "theorem 5.3, up to steps"))
    numbers = {"sigmas": sigmas.tolist(), "kl": curves, "sampled_kl": sampled}
    report = exact.Report(checks, numbers, draw(sigmas, curves, sampled))
    exact.keep(config, workdir, "commutation", started, report)


def make_families(config: ConfigDict) -> dict[str, Parts]:
    """The same factorized parts, seen through different features."""
    cos, sin = np.cos(np.deg2rad(config.angle)), np.sin(np.deg2rad(config.angle))
    maps = {
        f"rotation by {config.angle:g} degrees": np.array([[cos, -sin], [sin, cos]]),
        "scaling by {:g} and {:g}".format(*config.scales): np.diag(config.scales),
    }
    for shear in config.shears:
        maps[f"shear {shear:g}"] = np.array([[1.0, shear], [0.0, 1.0]])
    narrow = features(config.shift, config.variance)
    families = {name: seen_in_x(narrow, matrix) for name, matrix in maps.items()}
    shifts, shear = features(config.shift, 1.0), config.shears[-1]
    equal = seen_in_x(shifts, np.array([[1.0, shear], [0.0, 1.0]]))
    return {**families, f"equal covariances, shear {shear:g}": equal}


def features(shift: float, variance: float) -> Parts:
    """Laws of z: conditional i moves and narrows feature i."""
    narrow = lambda i: np.diag(np.where(np.arange(2) == i, variance, 1.0))
    conditionals = (Gaussian(shift * np.eye(2)[i], narrow(i)) for i in range(2))
    return Gaussian(np.zeros(2), np.eye(2)), *conditionals


def seen_in_x(parts: Parts, matrix: np.ndarray) -> Parts:
    """Laws of x where z = Ax."""
    inverse = np.linalg.inv(matrix)
    return tuple(part.pushforward(inverse) for part in parts)


def quadrature_kl(parts: Parts, sigma: float, points: int) -> float:
    """The same divergence from the library's scores' densities, on a grid."""
    background, *conditionals = parts
    target = compose_gaussians(background, conditionals)
    spread = np.sqrt(np.asarray(target.noised(sigma).cov, float).diagonal())
    # Eight standard deviations either way, of the wider of the two laws.
    axes = [
        np.linspace(m - 12 * s, m + 12 * s, points)
        for m, s in zip(np.asarray(target.mean, float), spread, strict=True)
    ]
    grid = jnp.asarray(np.stack(np.meshgrid(*axes), -1).reshape(-1, 2), jnp.float32)
    composed = cj.compose(background, *conditionals)
    logs = np.asarray(composed.log_density(grid, sigma), np.float64)
    p = np.exp(logs - logs.max())
    cell = np.prod([axis[1] - axis[0] for axis in axes])
    log_p = logs - logs.max() - np.log(p.sum() * cell)
    gap = log_p - np.asarray(target.log_prob(grid, sigma), np.float64)
    return float((p * gap).sum() / p.sum())


def sampled_kl(parts: Parts, config: ConfigDict) -> float:
    """The divergence of the sampled law from C[p]: both are Gaussian.

    A step of the reverse SDE is x + (sigma^2 - sigma_next^2) s + sigma_up noise with a
    score that is affine in x, so mean and covariance follow without drawing a sample.
    """
    background, *conditionals = parts
    mean, cov = np.zeros(2), config.start**2 * np.eye(2)
    grid = cj.karras_sigmas(config.steps, config.end, config.start)
    levels = np.asarray(grid, np.float64)
    for sigma, sigma_next in itertools.pairwise(levels):
        law = compose_gaussians(background, conditionals, sigma=float(sigma))
        step = sigma**2 - sigma_next**2
        pull = step * np.linalg.inv(np.asarray(law.cov, np.float64))
        keep = np.eye(2) - pull
        mean = keep @ mean + pull @ np.asarray(law.mean, np.float64)
        up = sigma_next**2 * step / sigma**2
        cov = keep @ cov @ keep.T + up * np.eye(2)
    target = compose_gaussians(background, conditionals)
    return analysis.gaussian_kl(Gaussian(mean, (cov + cov.T) / 2), target)


def draw(
    sigmas: np.ndarray, curves: dict[str, list[float]], sampled: dict[str, float]
) -> Figure:
    """Divergences along the path, and at its end."""
    figure = Figure(figsize=(9.6, 3.8), dpi=110, layout="constrained")
    path, end = figure.subplots(1, 2, width_ratios=(3, 2))
    styles = ("-", "--", "-", "-", ":")
    colors = ("C0", "C1", "C3", "C4", "C2")
    for (name, curve), style, color in zip(curves.items(), styles, colors, strict=True):
        path.plot(sigmas, curve, style, color=color, label=name)
    path.set(
        xscale="log",
        xlabel="noise level sigma",
        ylabel="KL(C[p^sigma] || N_sigma C[p]), nats",
        title="Composing commutes with noise,\nbut not in sheared features",
    )
    path.legend(frameon=False, fontsize=8)
    names = list(sampled)[::-1]
    values = [max(sampled[name], 0.0) for name in names]
    end.barh(range(len(names)), values, color=list(colors)[::-1])
    end.set_yticks(range(len(names)), [name.replace(", ", "\n") for name in names])
    for i, value in enumerate(values):
        end.text(value, i, f" {value:.2g}", va="center", fontsize=8)
    end.tick_params(axis="y", labelsize=8)
    end.set(
        xlim=(0, 1.25 * max(values)),
        xlabel="KL(sampled law || C[p]), nats",
        title="and what reverse diffusion\nthen samples is off",
    )
    return figure


if __name__ == "__main__":
    launch.run(main, "projective/commutation.py")
