"""Does measured locality predict length generalisation?

    python -m experiments.local.prediction --workdir=runs/local_prediction
        --config=configs/local/prediction.py

One probe, one range of noise levels and one outcome are named in the configuration
before training.  Networks differ in architecture, label scheme, length of training and
seed; a correlation counts within an architecture and label scheme (a *family*), because
between them anything may differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from scipy import stats

from compjax import training
from experiments import launch
from experiments.local import sprites

Values = Mapping[str, np.ndarray]
"""Probes by name, one number a model."""


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains and probes what is not there yet, then asks the question."""
    numbers, _, workdir = sprites.run(config, workdir)
    families = {
        name: f"{model.encoding}, {model.completeness:g}"
        for name, model in config.models.items()
    }
    study(config, numbers, families, workdir)
    training.write_json(workdir / "results.json", numbers)
    print(f"pictures: {workdir / 'figures'}\nnumbers: {workdir / 'results.json'}")


def study(
    config: ConfigDict,
    numbers: dict[str, Any],
    families: Mapping[str, str],
    workdir: Path,
) -> None:
    """Answers the question, as `prediction` among the numbers, in lines and a picture.

    Where an outcome or a probe is not known there is no answer, and a line says so.

    Args:
        config: With `models`, `seeds` and `prediction`.
        numbers: With `rows`, whose `by_seed` are the outcomes, and with the probes and
            losses of `models`, one a training seed.
        families: Of which family a model is.
        workdir: Where the picture goes.
    """
    models = table(config, numbers, families)
    needed = (models["outcome"], models["one"], models["probes"][primary(config)])
    unknown = np.isnan(needed).any(axis=0)
    if unknown.any():
        print(
            f"no study: of {unknown.sum()} networks the outcome is not known (true "
            "scenes meet no more requests than chance), or the probe (labels change "
            "nothing)."
        )
        return
    numbers["prediction"] = answer(config, models)
    draw(config, models, numbers["prediction"]).savefig(
        workdir / "figures" / "prediction.png"
    )
    print(tell(numbers["prediction"]))


def table(
    config: ConfigDict, numbers: Mapping[str, Any], families: Mapping[str, str]
) -> dict[str, Any]:
    """One entry a trained network: its family, its outcome, its probes."""
    p = config.prediction
    row = {(row["model"], row["k"]): row for row in numbers["rows"]}
    names = list(config.models)
    cells = [(name, i) for name in names for i in range(len(config.seeds))]
    probes = [numbers["models"][name][i] for name, i in cells]
    outcome = lambda k: [row[name, k]["by_seed"][i] for name, i in cells]
    return {
        "name": [name for name, _ in cells],
        "family": np.array([families[name] for name, _ in cells]),
        "outcome": np.array(outcome(p.k), float),
        "one": np.array(outcome(1), float),
        "loss": np.array([probe["loss"] for probe in probes]),
        "probes": {
            name: np.array([measured(config, probe, *name.split()) for probe in probes])
            for name in _probes(probes[0])
        },
    }


def primary(config: ConfigDict) -> str:
    """The name of the probe that was chosen beforehand."""
    p = config.prediction
    return f"{p.kind} {p.view} {p.measure}"


def measured(
    config: ConfigDict, probe: Mapping[str, Any], kind: str, view: str, measure: str
) -> float:
    """A probe's mean over the noise levels of the study."""
    low, high = config.prediction.sigmas
    sigmas = np.array(probe["sigmas"])
    chosen = (sigmas >= low) & (sigmas <= high)
    if not chosen.any():
        raise ValueError(
            f"config.prediction.sigmas = ({low}, {high}) holds none of the levels of "
            f"config.probe.sigmas, {sigmas.tolist()}."
        )
    return float(np.mean(np.array(probe[kind][view][measure], float)[chosen]))


def _probes(probe: Mapping[str, Any]) -> list[str]:
    kinds, measures = ("pixels", "conditions"), ("beyond", "radius", "strength")
    views = probe["pixels"]
    return [" ".join(parts) for parts in itertools.product(kinds, views, measures)]


def answer(config: ConfigDict, models: Mapping[str, Any]) -> dict[str, Any]:
    """The correlations, their intervals and p-values; see docs/math.md, "Counting"."""
    p = config.prediction
    rng = np.random.default_rng(config.seed)
    x, y = models["probes"][primary(config)], models["outcome"]
    family = models["family"]
    groups = [np.flatnonzero(family == one) for one in np.unique(family)]
    known = np.stack([models["one"], models["loss"]], axis=1)
    within = rank_correlation(x, y, groups)
    boot = [
        rank_correlation(x, y, [rng.choice(group, len(group)) for group in groups])
        for _ in range(p.resamples)
    ]
    low, high = np.nanquantile(boot, (0.025, 0.975))
    shuffled = [permuted(rng, groups, len(y)) for _ in range(p.resamples)]
    chance = np.array([rank_correlation(x, y[order], groups) for order in shuffled])
    every = {
        name: rank_correlation(values, y, groups)
        for name, values in models["probes"].items()
    }
    largest = np.array(
        [
            max(
                abs(rank_correlation(values, y[order], groups))
                for values in models["probes"].values()
            )
            for order in shuffled[: p.resamples // 4]
        ]
    )
    return {
        "primary": primary(config),
        "models": len(y),
        "families": len(groups),
        "within": within,
        "low": float(low),
        "high": float(high),
        "p": _p_value(abs(chance), within),
        "pooled": rank_correlation(x, y, [np.arange(len(y))]),
        "partial": partial(x, y, known, groups),
        "others": {
            name: {"within": value, "p_max": _p_value(largest, value)}
            for name, value in every.items()
        },
        "left_out": left_out(x, y, groups),
    }


def _p_value(drawn: np.ndarray, value: float) -> float:
    """The share of draws at least as large, the value itself among them."""
    return float((1 + (drawn >= abs(value)).sum()) / (1 + len(drawn)))


def rank_correlation(
    x: np.ndarray, y: np.ndarray, groups: Sequence[np.ndarray]
) -> float:
    """Spearman's correlation of ranks within groups, pooled over them."""
    parts = [
        tuple(stats.rankdata(v[group]) - (len(group) + 1) / 2 for v in (x, y))
        for group in groups
    ]
    a, b = (np.concatenate(side) for side in zip(*parts, strict=True))
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float(a @ b / size) if size > 0 else 0.0


def partial(
    x: np.ndarray, y: np.ndarray, known: np.ndarray, groups: Sequence[np.ndarray]
) -> float:
    """The same after what is `known` has explained what it can of both, by ranks."""
    parts = []
    for group in groups:
        ranks = [stats.rankdata(v[group]) for v in (x, y, *known.T)]
        a, b, *rest = (rank - rank.mean() for rank in ranks)
        parts.append((a, b, np.stack(rest, axis=1)))
    a, b, rest = (np.concatenate(side) for side in zip(*parts, strict=True))
    left = lambda v: v - rest @ np.linalg.lstsq(rest, v, rcond=None)[0]
    a, b = left(a), left(b)
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def permuted(
    rng: np.random.Generator, groups: Sequence[np.ndarray], n: int
) -> np.ndarray:
    """An order of n that mixes within groups only."""
    order = np.arange(n)
    for group in groups:
        order[group] = rng.permutation(group)
    return order


def left_out(
    x: np.ndarray, y: np.ndarray, groups: Sequence[np.ndarray]
) -> dict[str, float]:
    """Errors of a line through the other families, and of their mean, in each family.

    Root mean squares over all models; `own_mean`, which no prediction knows, is the
    error of the mean of the family itself.
    """
    errors: dict[str, list[float]] = {"line": [], "mean": [], "own_mean": []}
    for group in groups:
        rest = np.setdiff1d(np.arange(len(y)), group)
        slope, offset = np.polyfit(x[rest], y[rest], 1) if np.ptp(x[rest]) else (0, 0)
        errors["line"] += list((offset + slope * x[group] - y[group]) ** 2)
        errors["mean"] += list((y[rest].mean() - y[group]) ** 2)
        errors["own_mean"] += list((y[group].mean() - y[group]) ** 2)
    return {name: float(np.sqrt(np.mean(v))) for name, v in errors.items()}


def draw(
    config: ConfigDict, models: Mapping[str, Any], found: Mapping[str, Any]
) -> Figure:
    """Every network: its locality, and what it does at lengths it has not seen."""
    figure = Figure(figsize=(7.6, 4.6), dpi=150, layout="constrained")
    ax = figure.subplots()
    x, y, family = (
        models["probes"][found["primary"]],
        models["outcome"],
        models["family"],
    )
    for i, one in enumerate(np.unique(family)):
        mine = family == one
        ax.plot(x[mine], y[mine], "osD^vP*X"[i % 8], label=one, ms=6, alpha=0.8)
    p = config.prediction
    low, high = p.sigmas
    ax.set(
        xlabel=(
            "what a label changes outside of its place: share in squared "
            f"differences,\nmean over {low:g} "
            r"$\leq \sigma \leq$"
            f" {high:g}"
        ),
        ylabel=f"requests met at {p.k} places, corrected",
    )
    ax.set_title(
        f"Rank correlation within families {found['within']:.2f} "
        f"[{found['low']:.2f}, {found['high']:.2f}], p = {found['p']:.3f}; "
        f"pooled {found['pooled']:.2f}",
        fontsize=10,
    )
    ax.grid(alpha=0.3)
    ax.legend(title="family", fontsize=8)
    return figure


def tell(found: Mapping[str, Any]) -> str:
    """The answer in lines."""
    errors = found["left_out"]
    lines = [
        f"primary probe: {found['primary']}, {found['models']} networks in "
        f"{found['families']} families",
        f"rank correlation within families {found['within']:.2f} "
        f"[{found['low']:.2f}, {found['high']:.2f}], p = {found['p']:.4f}; pooled "
        f"{found['pooled']:.2f}; partial {found['partial']:.2f}",
        f"left-out family: error of the line {errors['line']:.3f}, of the mean "
        f"{errors['mean']:.3f} (of its own mean {errors['own_mean']:.3f})",
    ]
    for name, one in found["others"].items():
        lines.append(f"  {name:30} {one['within']:6.2f}  p_max {one['p_max']:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    launch.run(main, "local/prediction.py")
