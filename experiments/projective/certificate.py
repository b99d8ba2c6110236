"""Does weighting by the certificate recover what plain reverse diffusion misses?

    python -m experiments.projective.certificate --workdir=runs/certificate

Factorized Gaussians, seen through a growing shear: the composition is known in closed
form, and so is the law that plain sampling draws.  The weights, made of the evaluated
scores alone, move the samples back to the target.
"""

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


def main(config: ConfigDict, workdir: Path) -> None:
    """Samples and weights for every shear; then draws and prints."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    started = time.monotonic()
    runs = [weigh(config, s) for s in launch.progress(config.shears, "shear")]
    rows = [row for row, _, _ in runs]
    checks = [check for row in rows for check in compare(row)]
    numbers = {
        "checks": checks,
        "rows": rows,
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    figure_file = workdir / "figures" / "certificate.png"
    draw(rows, *runs[-1][1:]).savefig(figure_file)
    print(table(rows))
    print(f"picture: {figure_file}\nnumbers: {workdir / 'results.json'}")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail late."""
    if not config.shears:
        raise ValueError("config.shears must name at least one shear.")
    for name, least in (("samples", 100), ("steps", 2)):
        if config[name] < least:
            raise ValueError(
                f"config.{name} must be at least {least}, got {config[name]}."
            )


def sheared(config: ConfigDict, shear: float) -> tuple[Any, Any]:
    """A composition, and the Gaussian that it should sample."""
    view = np.array([[1.0, shear], [0.0, 1.0]])
    seen = lambda mean, variances: cj.densities.Gaussian(
        view @ np.array(mean), view @ np.diag(variances) @ view.T
    )
    narrow = config.variance
    conditionals = seen([1.0, 0.0], [narrow, 1.0]), seen([0.0, 1.0], [1.0, narrow])
    background = seen([0.0, 0.0], [1.0, 1.0])
    return cj.compose(background, *conditionals), seen([1.0, 1.0], [narrow, narrow])


def weigh(config: ConfigDict, shear: float) -> tuple[dict[str, Any], Any, Any]:
    """What one shear gives: its row, the certificate, and the target."""
    composed, target = sheared(config, shear)
    sigmas = cj.karras_sigmas(config.steps, config.sigma_min, config.sigma_max)
    shape = (config.samples, 2)
    report = analysis.certificate(jax.random.key(config.seed), composed, shape, sigmas)
    x = np.asarray(report.x, float)
    even = np.full(len(x), 1 / len(x))
    weights = np.asarray(jax.nn.softmax(report.log_weights), float)
    plain, weighted = moments(x, even), moments(x, weights)
    expected = np.asarray(target.cov, float)
    row = {
        "shear": shear,
        "expected covariance": expected.tolist(),
        "plain covariance": plain[1].tolist(),
        "weighted covariance": weighted[1].tolist(),
        "plain deviation": relative(plain[1], expected),
        "weighted deviation": relative(weighted[1], expected),
        "plain KL": kl(plain, target),
        "weighted KL": kl(weighted, target),
        "bound on KL": float(report.kl_bound),
        "effective sample size": float(report.effective_sample_size),
    }
    return row, report, target


def compare(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The weighted covariance, entry by entry, beside the target's."""
    found, expected = row["weighted covariance"], row["expected covariance"]
    return [
        {
            "quantity": f"weighted covariance ({i + 1}, {j + 1}) at shear "
            f"{row['shear']:g}, {row['plain covariance'][i][j]:.4f} without weights",
            "value": found[i][j],
            "expected": expected[i][j],
            "deviation": found[i][j] - expected[i][j],
            "source": "closed form",
        }
        for i, j in ((0, 0), (0, 1), (1, 1))
    ]


def moments(x: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and covariance."""
    mean = weights @ x
    return mean, (x - mean).T @ (weights[:, None] * (x - mean))


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    """The largest deviation of a covariance, relative to its largest entry."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def kl(law: tuple[np.ndarray, np.ndarray], target: Any) -> float:
    """From a Gaussian of these moments to the target."""
    return float(
        analysis.gaussian_kl(cj.densities.Gaussian(*map(jnp.asarray, law)), target)
    )


def draw(rows: list[dict[str, Any]], report: Any, target: Any) -> Any:
    """Laws at the largest shear, and errors at every one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.asarray(report.x, float)
    weights = np.asarray(jax.nn.softmax(report.log_weights), float)
    left.plot(*x[:3000].T, ".", ms=1, color="lightgrey")
    even = np.full(len(x), 1 / len(x))
    for law, style, label in (
        (
            (np.asarray(target.mean, float), np.asarray(target.cov, float)),
            "k-",
            "target",
        ),
        (moments(x, even), "r--", "plain samples"),
        (moments(x, weights), "b:", "weighted samples"),
    ):
        left.plot(*ellipse(*law), style, lw=2, label=label)
    left.set(
        xlabel="$x_1$",
        ylabel="$x_2$",
        title=f"Laws at shear {rows[-1]['shear']:g} (two standard deviations)",
    )
    left.legend()
    shears = [row["shear"] for row in rows]
    for name, style, label in (
        ("plain KL", "r--s", "plain"),
        ("weighted KL", "b:o", "weighted"),
        ("bound on KL", "k-", "bound on plain, but for the steps"),
    ):
        values = np.array([row[name] for row in rows])
        # No logarithm shows the bound 0 of an exact composition.
        right.plot(shears, np.where(values > 1e-6, values, np.nan), style, label=label)
    right.set(
        xlabel="shear",
        ylabel="KL to the target [nat]",
        yscale="log",
        title="Weights remove the error that the bound foretells",
    )
    right.legend(loc="center right")
    return figure


def ellipse(mean: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """Two standard deviations around a mean, `[2, 100]`."""
    angles = np.linspace(0, 2 * np.pi, 100)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    return mean[:, None] + 2 * np.linalg.cholesky(cov) @ circle


def table(rows: list[dict[str, Any]]) -> str:
    """Covariances with their deviation beside the expected one."""
    flat = lambda cov: " ".join(
        f"{cov[i][j]:7.4f}" for i, j in ((0, 0), (0, 1), (1, 1))
    )
    lines = [
        "shear  expected covariance      plain (deviation)                "
        "weighted (deviation)             KL plain  weighted  bound    ESS"
    ]
    for row in rows:
        lines.append(
            f"{row['shear']:5.2f}  {flat(row['expected covariance'])}  "
            f"{flat(row['plain covariance'])} ({row['plain deviation']:6.1%})  "
            f"{flat(row['weighted covariance'])} ({row['weighted deviation']:6.1%})  "
            f"{row['plain KL']:8.4f}  {row['weighted KL']:8.4f}  "
            f"{row['bound on KL']:7.4f}  {row['effective sample size']:6.1%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch.run(main, "projective/certificate.py")
