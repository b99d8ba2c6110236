"""Why the unconditional background fades, and why clutter hides it: Figure 12.

    python -m experiments.projective.appendix_g --workdir=runs/appendix_g

Left, one coordinate is on in every example; right, every coordinate is on or off like
a coin.  Four requests are composed over two backgrounds, with exact scores (Bradley et
al. 2025, appendix G).  The 1/k law, and what replaces it in noise, are ours.
"""

import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, training
from compjax.densities import BernoulliClutter, Gaussian, GaussianMixture
from experiments import launch
from experiments.projective import exact

PROJECTIVE, BAYES = "background $p_b$", "unconditional $p_u$"


def main(config: ConfigDict, workdir: Path) -> None:
    """Computes, draws and prints."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    started = time.monotonic()
    k = len(config.requested)
    panels = {
        "one at a time (eq. 17)": one_at_a_time(config, config.requested),
        "coin clutter (eq. 18)": clutter(config),
    }
    samples = {
        (panel, name): draw_samples(config, composition)
        for panel, compositions in panels.items()
        for name, composition in compositions.items()
    }
    law = [(k, scale, strengths(config, k, scale)) for scale in config.floors]
    ks = range(1, config.coordinates + 1)
    law += [(j, config.scale, strengths(config, j, config.scale)) for j in ks]
    numbers = {
        "panels": {
            f"{panel}, {name}": x.mean(0).tolist()
            for (panel, name), x in samples.items()
        },
        "law": [{"k": j, "scale": scale, **found} for j, scale, found in law],
    }
    report = exact.Report(
        checks(config, samples, law), numbers, draw(config, samples, law)
    )
    exact.keep(config, workdir, "appendix_g", started, report)


def check(config: ConfigDict) -> None:
    """Raises a ValueError for requests that are not coordinates."""
    requested, n = list(config.requested), config.coordinates
    inside = all(0 <= i < n for i in requested)
    if not requested or not inside or len(set(requested)) < len(requested):
        raise ValueError(
            f"config.requested must hold different coordinates below {n}, got "
            f"{requested}."
        )
    if not 1 <= config.shown <= config.samples:
        raise ValueError(
            f"config.shown must lie between 1 and config.samples, got {config.shown}."
        )


def one_at_a_time(
    config: ConfigDict, requested: Any, scale: float | None = None
) -> dict[str, Any]:
    """Equation 17: $p_i = N(e_i, scale^2 I)$."""
    n, scale = config.coordinates, config.scale if scale is None else scale
    cov = scale**2 * np.eye(n)
    parts = [Gaussian(np.eye(n)[i], cov) for i in requested]
    covs = np.broadcast_to(cov, (n, n, n))
    return {
        PROJECTIVE: cj.compose(Gaussian(np.zeros(n), cov), *parts),
        BAYES: cj.compose(GaussianMixture(np.zeros(n), np.eye(n), covs), *parts),
    }


def clutter(config: ConfigDict) -> dict[str, Any]:
    """Equation 18: coordinates on or off like coins, one of them certainly on."""
    n = config.coordinates
    background = BernoulliClutter(np.full(n, config.coin), config.scale)
    conditionals = [background.with_object(i) for i in range(n)]
    parts = [conditionals[i] for i in config.requested]
    return {
        PROJECTIVE: cj.compose(background, *parts),
        BAYES: cj.compose(cj.mixture(*conditionals), *parts),
    }


def draw_samples(config: ConfigDict, composition: Any) -> np.ndarray:
    """Samples of the reverse SDE, `[samples, coordinates]`."""
    grid = cj.karras_sigmas(config.steps, config.end, config.start)
    shape, key = (config.samples, config.coordinates), jax.random.key(config.seed)
    sampler = cj.samplers.Ancestral()
    return np.asarray(cj.sample(key, composition, sampler, shape, grid)[0])


def strengths(config: ConfigDict, k: int, scale: float) -> dict[str, float]:
    """What k requested coordinates show over the unconditional background.

    The mode is found by ascent from zero: the composed density is log-concave, with a
    curvature between 1 / v and (1 + (k - 1) / 2v) / v.
    """
    n, requested = config.coordinates, range(k)
    composition = one_at_a_time(config, requested, scale)[BAYES]
    variance = scale**2
    step = variance / (1 + (k - 1) / (4 * variance))

    @jax.jit
    def climb(composition: Any, x: Any) -> Any:
        uphill = lambda _, x: x + step * composition(x, 0.0)
        return jax.lax.fori_loop(0, 5000, uphill, x)

    mode = np.asarray(climb(composition, jnp.zeros((1, n))))[0]
    mean = draw_samples(config, composition).mean(0)
    solved = analysis.composed_strength(k, n, variance)
    return {
        "mode": float(mode[:k].mean()),
        "solved": solved.requested,
        "sampled": float(mean[:k].mean()),
        "total": float(mean.sum()),
    }


def checks(config: ConfigDict, samples: Any, law: Any) -> list[exact.Check]:
    """Means, modes and totals beside closed forms."""
    k, requested = len(config.requested), list(config.requested)
    rest = np.setdiff1d(np.arange(config.coordinates), requested)
    left, right = dict.fromkeys(panel for panel, _ in samples)
    rows = []
    for panel, name, columns, expected, source in (
        (left, PROJECTIVE, requested, 1.0, "theorem 5.3"),
        (left, PROJECTIVE, rest, 0.0, "theorem 5.3"),
        (left, BAYES, requested, 1 / k, "1/k law"),
        (left, BAYES, rest, 0.0, "1/k law"),
        (right, PROJECTIVE, requested, 1.0, "theorem 5.3"),
        (right, PROJECTIVE, rest, config.coin, "theorem 5.3"),
        (right, BAYES, requested, 1.0, "identity p_u = p_b |x| / nq"),
        (right, BAYES, rest, bayes_clutter(config), "C[p], not what is sampled"),
    ):
        which = "requested" if columns is requested else "others"
        label = f"{panel.split(' (')[0]}, over {name[-4:-1]}, {which}"
        value = float(samples[panel, name][:, columns].mean())
        rows.append(exact.Check(label.replace("$", ""), value, expected, source))
    for j, scale, found in law:
        label = f"mode, k = {j}, scale {scale:g}"
        rows.append(exact.Check(label, found["mode"], found["solved"], "fixed point"))
    for j, scale, found in law[: len(config.floors)]:
        label = f"mode, k = {j}, scale {scale:g}"
        source = "1/k: holds at small scales only"
        rows.append(exact.Check(label, found["mode"], 1 / j, source))
    return rows


def bayes_clutter(config: ConfigDict) -> float:
    """The rate of clutter in C[p] over p_u, which weighs images by |x|^(1 - k).

    For binary images $p_u(x) = p_b(x) |x| / (nq)$, so the composition over $p_u$ is
    that over $p_b$ times $|x|^{-(k-1)}$.
    """
    k, q = len(config.requested), config.coin
    others = config.coordinates - k
    m = np.arange(others + 1)
    binomials = np.array([math.comb(others, j) for j in m])
    weights = binomials * q**m * (1 - q) ** (others - m) * (k + m) ** (1.0 - k)
    return float(weights @ m / weights.sum() / max(others, 1))


def draw(config: ConfigDict, samples: Any, law: Any) -> Figure:
    """Both panels as heat maps, the law in k, and the law in noise."""
    figure = Figure(figsize=(11.4, 4.3), dpi=110, layout="constrained")
    maps, curves = figure.subfigures(1, 2, width_ratios=(3, 2.4))
    for ax, ((panel, name), x) in zip(
        maps.subplots(1, 4, sharey=True), samples.items(), strict=True
    ):
        image = ax.imshow(
            x[: config.shown], cmap="magma", vmin=0, vmax=1, aspect="auto"
        )
        ax.set_title(f"{panel}\n{name}".replace(" (", "\n("), fontsize=9)
        ax.set_xticks(range(config.coordinates))
        for i in config.requested:
            ax.get_xticklabels()[i].set_fontweight("bold")
        ax.set_xlabel("coordinate")
    maps.axes[0].set_ylabel("samples")
    maps.colorbar(image, ax=maps.axes, shrink=0.6, label="strength")
    maps.suptitle(
        "Requested coordinates (bold): p_u fades them, unless there is clutter"
    )
    in_k, in_noise = curves.subplots(1, 2)
    by_k = [(j, found) for j, scale, found in law[len(config.floors) :]]
    js = [j for j, _ in by_k]
    in_k.plot(js, [1 / j for j in js], "k:", label="1/k")
    in_k.plot(js, [found["sampled"] for _, found in by_k], "o", label="samples, mean")
    in_k.set(
        xlabel="requests k",
        ylabel="strength of a request",
        ylim=(0, 1.05),
        title=f"1/k at scale {config.scale:g}",
    )
    in_k.legend(frameon=False, fontsize=8)
    k, n = len(config.requested), config.coordinates
    scales = np.geomspace(min(config.floors), max(config.floors), 60)
    solved = [analysis.composed_strength(k, n, s**2).requested for s in scales]
    at = law[: len(config.floors)]
    in_noise.plot(scales, solved, "k-", lw=1, label="fixed point, solved")
    in_noise.axhline(1 / k, color="k", ls=":", label="1/k")
    places = [scale for _, scale, _ in at]
    in_noise.plot(places, [f["mode"] for *_, f in at], "o", label="mode, by ascent")
    in_noise.plot(places, [f["sampled"] for *_, f in at], "x", label="samples, mean")
    in_noise.set(
        xscale="log",
        xlabel="noise floor (scale)",
        ylim=(0, 1.05),
        title=f"k = {k}: stronger in noise",
    )
    in_noise.legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    launch.run(main, "projective/appendix_g.py")
