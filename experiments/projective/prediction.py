"""Which diagnostic foretells whether reverse diffusion samples a composition?

    python -m experiments.projective.prediction --workdir=runs/prediction

Success was defined, and the family frozen, before any diagnostic was run
(experiments/projective/family.py).  Every diagnostic is a number that should be larger
where sampling fails; its AUROC is the probability that it ranks a failure above a
success.  The table gives it for each kind, for all members, and without each kind.
"""

import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, training
from experiments import launch, results
from experiments.projective import family

NAMES = {
    "certificate": "certificate: bound on KL",
    "integral": "integral of sd(V)",
    "lost samples": "1 - effective sample size",
    "overlap": "overlap of score differences",
    "cosine": "largest |cosine| of shifts",
}
"""The diagnostics, and how the figure calls them."""

TARGET = 0.95
"""The pooled AUROC that the primary diagnostic was to reach."""


def main(config: ConfigDict, workdir: Path) -> None:
    """Judges the family, unless that was done; then draws and prints."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    results_file = workdir / "results.json"
    if not results_file.exists():
        started = time.monotonic()
        numbers = study(config)
        numbers |= results.provenance(config.seed, started)
        training.write_json(results_file, numbers)
    numbers = json.loads(results_file.read_text())
    figure_file = workdir / "figures" / "prediction.png"
    draw(numbers, config.threshold).savefig(figure_file)
    print(table(numbers))
    print(f"picture: {figure_file}\nnumbers: {results_file}")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail late."""
    if config.primary not in NAMES:
        raise ValueError(
            f"config.primary must be one of {list(NAMES)}, got {config.primary!r}."
        )
    for name, least in (("count", 1), ("samples", 2), ("steps", 2), ("resamples", 1)):
        if config[name] < least:
            raise ValueError(
                f"config.{name} must be at least {least}, got {config[name]}."
            )


def study(config: ConfigDict) -> dict[str, Any]:
    """Outcome and diagnostics of every member, and what they are worth."""
    sigmas = cj.karras_sigmas(config.steps, config.sigma_min, config.sigma_max)
    grid = np.asarray(sigmas, float)
    rng = np.random.default_rng(config.seed)
    members = list(family.family(grid, config.count))
    keys = jax.random.split(jax.random.key(config.seed), len(members))
    rows = []
    for i, member in enumerate(launch.progress(members, "member")):
        error = family.error(member, grid, config.outcome_samples, rng)
        values = diagnostics(keys[i], member, sigmas, config.samples)
        rows.append({"kind": member.kind, "error": error, **values})
    return {"rows": rows, **judge(rows, config)}


def parts(member: family.Member) -> tuple[Any, list[Any]]:
    """Background and conditionals as exact densities."""
    pairs = zip(member.conditional_means, member.conditional_covs, strict=True)
    conditionals = [cj.densities.Gaussian(mean, cov) for mean, cov in pairs]
    if len(member.means) == 1:
        return cj.densities.Gaussian(member.means[0], member.covs[0]), conditionals
    even = jnp.zeros(len(member.means))
    return cj.densities.GaussianMixture(even, member.means, member.covs), conditionals


def diagnostics(
    key: Any, member: family.Member, sigmas: Any, n: int
) -> dict[str, float | None]:
    """What each diagnostic says of a member; larger should mean worse."""
    background, conditionals = parts(member)
    key_path, key_points, key_blocks, *keys = jax.random.split(
        key, 4 + len(conditionals)
    )
    composed = cj.compose(background, *conditionals)
    shape = (n, member.means.shape[1])
    report = analysis.certificate(key_path, composed, shape, sigmas)
    draws = [
        p.sample(k, n) for p, k in zip((background, *conditionals), keys, strict=True)
    ]
    cosines = analysis.orthogonality(draws[0], draws[1:], resamples=100).cosines
    x = background.sample(key_points, n, 1.0)
    blocks = analysis.score_blocks(key_blocks, background, conditionals, x, 1.0)
    above = np.triu_indices(len(conditionals), 1)
    # No shift is no evidence: the cosine then says what it says of orthogonal ones.
    cosine = np.nan_to_num(np.abs(cosines[above]), nan=0.0).max()
    return {
        "certificate": float(report.kl_bound),
        "integral": float(report.integral),
        "lost samples": 1 - float(report.effective_sample_size),
        "overlap": float(blocks.overlap[above].max()),
        "cosine": float(cosine),
    }


def auroc(values: np.ndarray, failed: np.ndarray) -> float | None:
    """P(a failure ranks above a success), ties half; None if a class is empty."""
    from scipy.stats import rankdata

    bad, good = failed.sum(), (~failed).sum()
    if not (bad and good):
        return None
    ranks = rankdata(values)[failed].sum()
    return float((ranks - bad * (bad + 1) / 2) / (bad * good))


def judge(rows: list[dict[str, Any]], config: ConfigDict) -> dict[str, Any]:
    """AUROC by kind, pooled and without each kind, with 95 % intervals."""
    kinds = np.array([row["kind"] for row in rows])
    failed = np.array([row["error"] >= config.threshold for row in rows])
    names = list(dict.fromkeys(kinds.tolist()))
    summary = {}
    for name in NAMES:
        values = np.array([row[name] for row in rows])
        score = lambda which, values=values: interval(
            values[which], failed[which], kinds[which], config
        )
        summary[name] = {
            "pooled": score(np.full(len(rows), True)),
            "by kind": {kind: score(kinds == kind) for kind in names},
            "without kind": {kind: score(kinds != kind) for kind in names},
            "transfer": {
                kind: transfer(values, failed, kinds == kind) for kind in names
            },
        }
    failures = {kind: int(failed[kinds == kind].sum()) for kind in names}
    primary = summary[config.primary]["pooled"]["auroc"]
    check = {
        "quantity": f"pooled AUROC of the {config.primary}",
        "value": primary,
        "expected": TARGET,
        "deviation": None if primary is None else primary - TARGET,
        "source": "fixed beforehand, at least",
    }
    return {
        "checks": [check],
        "failures": failures,
        "members of a kind": config.count,
        "auroc": summary,
        "primary": config.primary,
    }


def interval(
    values: np.ndarray, failed: np.ndarray, kinds: np.ndarray, config: ConfigDict
) -> dict[str, float | None]:
    """AUROC with its bootstrap interval, over members within kinds."""
    point = auroc(values, failed)
    if point is None:
        return {"auroc": None, "low": None, "high": None}
    rng = np.random.default_rng(config.seed)
    groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    resampled = []
    for _ in range(config.resamples):
        which = np.concatenate([rng.choice(g, len(g)) for g in groups])
        if (value := auroc(values[which], failed[which])) is not None:
            resampled.append(value)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"auroc": point, "low": float(low), "high": float(high)}


def transfer(values: np.ndarray, failed: np.ndarray, out: np.ndarray) -> float | None:
    """Accuracy on a kind of the cut that separates all the others best."""
    if failed[~out].all() or not failed[~out].any():
        return None
    cuts = np.unique(values[~out])
    rates = [
        (values[~out][failed[~out]] >= c).mean()
        + (values[~out][~failed[~out]] < c).mean()
        for c in cuts
    ]
    cut = cuts[int(np.argmax(rates))]
    return float(((values[out] >= cut) == failed[out]).mean())


COLORS = ("tab:green", "tab:red", "tab:blue", "tab:purple", "tab:orange", "tab:brown")
MARKERS = "os^Dv*"


def draw(numbers: dict[str, Any], threshold: float) -> Any:
    """What the certificate bounds beside what happened; and all diagnostics' AUROC."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.35])
    draw_errors(left, numbers, threshold)
    draw_auroc(right, numbers)
    return figure


def draw_errors(ax: Any, numbers: dict[str, Any], threshold: float) -> None:
    """The error of each member against its bound."""
    floor = 1e-4  # below this is rounding of V
    for kind, color, marker in zip(numbers["failures"], COLORS, MARKERS, strict=True):
        mine = [row for row in numbers["rows"] if row["kind"] == kind]
        x, y = (
            [max(row[name], floor) for row in mine] for name in ("certificate", "error")
        )
        ax.loglog(x, y, marker, color=color, label=kind, ms=5, alpha=0.7, mew=0)
    ax.axhline(threshold, color="k", lw=0.8, ls="--")
    ax.text(floor, threshold * 1.15, "fails above", fontsize=9)
    ends = np.array([floor, 2.0])
    ax.plot(ends, ends, color="grey", lw=0.8)
    ax.text(1.3, 1.5, "error = bound", fontsize=9, color="grey", ha="right")
    ax.set(
        xlabel=f"certificate: bound but for the steps [nat, at least {floor:g}]",
        ylabel="KL(sampled law || composition) [nat]",
        title="The certificate ranks errors that it has not seen",
    )
    ax.legend(fontsize=8, loc="lower right")


def draw_auroc(ax: Any, numbers: dict[str, Any]) -> None:
    """AUROC of every diagnostic, pooled and by kind."""
    kinds = list(numbers["failures"])
    for i, name in enumerate(numbers["auroc"]):
        mine = numbers["auroc"][name]
        found = [mine["pooled"], *(mine["by kind"][kind] for kind in kinds)]
        shown = [(j, v) for j, v in enumerate(found) if v["auroc"] is not None]
        place = np.array([j for j, _ in shown]) + (i - 2) * 0.13
        value = [[v[k] for k in ("auroc", "low", "high")] for _, v in shown]
        value = np.array(value, float).reshape(-1, 3)
        bars = np.abs(value[:, 1:] - value[:, :1]).T
        style = {"fmt": MARKERS[i], "capsize": 2, "ms": 5}
        ax.errorbar(place, value[:, 0], bars, label=NAMES[name], **style)
    count = numbers["members of a kind"]
    for j, kind in enumerate(kinds, start=1):
        if numbers["failures"][kind] in (0, count):
            ax.text(
                j,
                0.72,
                "all succeed" if not numbers["failures"][kind] else "all fail",
                rotation=90,
                ha="center",
                va="center",
                fontsize=9,
                color="grey",
            )
    ax.axhline(0.5, color="grey", lw=0.8)
    ax.text(-0.45, 0.505, "chance", fontsize=8, color="grey", va="bottom")
    ax.axhline(0.95, color="k", lw=0.8, ls="--")
    totals = [sum(numbers["failures"].values()), *numbers["failures"].values()]
    sizes = [count * len(kinds), *[count] * len(kinds)]
    labels = [
        "\n".join([*column.replace(",", "").split(maxsplit=1), f"{t}/{n} fail"])
        for column, t, n in zip(["pooled", *kinds], totals, sizes, strict=True)
    ]
    ax.set_xticks(range(len(labels)), labels, fontsize=8)
    ax.set(
        xlim=(-0.5, len(labels) - 0.5),
        ylim=(0.2, 1.03),
        ylabel="AUROC of failure [95 % interval]",
        title="Cosines and overlaps do not say which compositions fail",
    )
    ax.legend(fontsize=8, loc="lower left")


def table(numbers: dict[str, Any]) -> str:
    """AUROC of every diagnostic: pooled, by kind, and without each kind."""
    kinds = list(numbers["failures"])
    show = lambda v: "   -" if v["auroc"] is None else f"{v['auroc']:.3f}"
    lines = []
    for title, part in (("by kind", "by kind"), ("without it", "without kind")):
        lines.append(f"AUROC {title:26}pooled [95 %]           " + "  ".join(kinds))
        for name, label in NAMES.items():
            mine = numbers["auroc"][name]
            pooled = mine["pooled"]
            cells = "  ".join(
                f"{show(mine[part][kind]):>{len(kind)}}" for kind in kinds
            )
            ends = ", ".join(
                "-" if pooled[end] is None else f"{pooled[end]:.3f}"
                for end in ("low", "high")
            )
            lines.append(f"{label:32}{show(pooled)} [{ends}]    {cells}")
    lines.append("accuracy on a kind of the cut that is best for the others")
    for name, label in NAMES.items():
        cells = "  ".join(
            f"{'-' if v is None else format(v, '.2f'):>{len(kind)}}"
            for kind, v in numbers["auroc"][name]["transfer"].items()
        )
        lines.append(f"{label:56}{cells}")
    cells = "  ".join(f"{numbers['failures'][kind]:>{len(kind)}}" for kind in kinds)
    lines.append(f"{'failures of ' + str(numbers['members of a kind']):56}{cells}")
    (check,) = numbers["checks"]
    if check["value"] is not None:
        lines.append(
            f"{check['quantity']}: {check['value']:.3f}, expected at least "
            f"{check['expected']}, deviation {check['deviation']:+.3f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch.run(main, "projective/prediction.py")
