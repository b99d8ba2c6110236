"""Whose error is it, the sampler's or the score's, as more conditions are composed?

    python -m experiments.projective.ledger --workdir=runs/ledger

Gaussians in four dimensions, conditional i moving and narrowing coordinate i; once as
they are, once through a shear.  A small network learns all their scores; the exact ones
are known.  Compositions of k = 1, ..., 4 conditions are charged to sampler and scores.
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, training
from compjax.types import pytree
from experiments import launch, results


def main(config: ConfigDict, workdir: Path) -> None:
    """Trains, samples, charges; then draws and prints."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    started = time.monotonic()
    rows = []
    for name, shear in (("factorized", 0.0), ("sheared", config.shear)):
        rows += [{"kind": name, **row} for row in book(config, shear, name)]
    checks = [
        {
            "quantity": f"energy distance of exact scores, factorized, k = {row['k']}",
            "value": row["sampler"],
            "expected": row["noise"],
            "deviation": row["sampler"] - row["noise"],
            "source": "theorem 5.3: at most the noise, in 95 % of cases",
        }
        for row in rows
        if row["kind"] == "factorized"
    ]
    numbers = {
        "checks": checks,
        "rows": rows,
        **results.provenance(config.seed, started),
    }
    training.write_json(workdir / "results.json", numbers)
    figure_file = workdir / "figures" / "ledger.png"
    draw(rows).savefig(figure_file)
    print(table(rows))
    print(f"picture: {figure_file}\nnumbers: {workdir / 'results.json'}")


def check(config: ConfigDict) -> None:
    """Raises a ValueError for what would otherwise fail late."""
    for name, least in (("conditions", 1), ("train_steps", 1), ("samples", 10)):
        if config[name] < least:
            raise ValueError(
                f"config.{name} must be at least {least}, got {config[name]}."
            )


def laws(config: ConfigDict, shear: float) -> tuple[Any, list[Any], list[Any]]:
    """Background, conditionals, and the compositions of the first k of them."""
    n = config.conditions
    view = np.eye(n) + shear * np.eye(n, k=1)

    def seen(on: np.ndarray) -> Any:
        variances = np.where(on, config.variance, 1.0)
        return cj.densities.Gaussian(
            view @ (config.shift * on), view @ np.diag(variances) @ view.T
        )

    background = seen(np.zeros(n))
    conditionals = [seen(row) for row in np.eye(n)]
    targets = [seen((np.arange(n) < k).astype(float)) for k in range(1, n + 1)]
    return background, conditionals, targets


@pytree
class Learned:
    """The conditional score of a small network, preconditioned as EDM's.

    Args:
        params: Weights and biases of the layers.
    """

    params: Any

    def __call__(self, x: Any, sigma: Any, condition: Any) -> Any:
        """The score of x `[b, n]` under a condition `[b or 1, n + 1]`, one-hot."""
        level = jnp.broadcast_to(sigma, x.shape[:1])[:, None]
        total = jnp.sqrt(1 + level**2)  # data are of unit size, nearly
        condition = jnp.broadcast_to(condition, (len(x), condition.shape[1]))
        waves = jnp.log(level) * jnp.array([0.5, 1.0, 2.0])[None]
        h = jnp.concatenate([x / total, jnp.sin(waves), jnp.cos(waves), condition], 1)
        for w, b in self.params[:-1]:
            h = jax.nn.silu(h @ w + b[None])
        w, b = self.params[-1]
        denoised = x / total**2 + level / total * (h @ w + b[None])
        return (denoised - x) / level**2


def train(config: ConfigDict, densities: list[Any]) -> Learned:
    """The score of all densities at once, by denoising."""
    n = config.conditions
    means = jnp.stack([p.mean for p in densities])
    roots = jnp.stack([jnp.linalg.cholesky(p.cov) for p in densities])
    sizes = (n + 6 + len(densities), *[config.width] * config.layers, n)
    key, *keys = jax.random.split(jax.random.key(config.seed), len(sizes))
    params = [
        (jax.random.normal(k, (i, o)) / np.sqrt(i), jnp.zeros(o))
        for k, i, o in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]
    rate = optax.cosine_decay_schedule(config.learning_rate, config.train_steps)
    optimizer = optax.adam(rate)

    def loss(params: Any, key: Any) -> Any:
        key_which, key_x, key_sigma, key_noise = jax.random.split(key, 4)
        shape = (config.batch, n)
        which = jax.random.randint(key_which, shape[:1], 0, len(densities))
        x = jnp.einsum("bij,bj->bi", roots[which], jax.random.normal(key_x, shape))
        x = x + means[which]
        sigma = jnp.exp(1.6 * jax.random.normal(key_sigma, shape[:1]) - 0.5)
        noise = jax.random.normal(key_noise, shape)
        one_hot = jax.nn.one_hot(which, len(densities))
        noised = x + sigma[:, None] * noise
        score = Learned(params)(noised, sigma, one_hot)
        weight = 1 + 1 / sigma[:, None] ** 2
        error = noised + sigma[:, None] ** 2 * score - x
        return (weight * error**2).mean()

    def step(carry: Any, key: Any) -> Any:
        params, state = carry
        value, slope = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(params, updates), state), value

    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))
    steps = jax.random.split(key, config.train_steps)
    (params, _), _ = run((params, optimizer.init(params)), steps)
    return Learned(params)


def book(config: ConfigDict, shear: float, name: str) -> list[dict[str, Any]]:
    """A row of errors for each k."""
    n = config.conditions
    background, conditionals, targets = laws(config, shear)
    network = train(config, [background, *conditionals])
    one_hot = jnp.eye(n + 1)[:, None]
    sigmas = cj.karras_sigmas(config.steps, config.sigma_min, config.sigma_max)
    rows = []
    for k in launch.progress(range(1, n + 1), f"{name}: k ="):
        # Weights of zero keep one compiled program for all k.
        weights = (jnp.arange(n) < k).astype(float)
        exact = cj.compose(background, *conditionals, weights=weights)
        learned = cj.compose_conditions(network, one_hot[0], one_hot[1:], weights)
        key_x, key = jax.random.split(jax.random.key(config.seed + k))
        x = targets[k - 1].sample(key_x, config.samples)
        entry = analysis.ledger(key, learned, exact, x, cj.samplers.Ancestral(), sigmas)
        rows.append({"k": k, **entry._asdict()})
    return rows


def draw(rows: list[dict[str, Any]]) -> Any:
    """Both errors and their sum against k, for each kind; and the scores alone."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure = Figure(figsize=(11.5, 3.9), dpi=110, layout="constrained")
    *axes, last = figure.subplots(1, len(kinds) + 1)
    for ax, kind in zip(axes, kinds, strict=True):
        mine = [row for row in rows if row["kind"] == kind]
        ks = [row["k"] for row in mine]
        for name, style, label in (
            ("total", "k-o", "learned scores to target"),
            ("sampler", "r--s", "sampler: exact scores to target"),
            ("score", "b-.^", "score: learned to exact scores"),
            ("noise", ":", "noise of the distance (95 %)"),
        ):
            color = {"color": "grey"} if name == "noise" else {}
            ax.semilogy(ks, [row[name] for row in mine], style, label=label, **color)
        ax.set(xlabel="composed conditions k", xticks=ks, title=kind, ylim=(5e-4, 1))
        last.semilogy(ks, [row["score_kl"] for row in mine], "-^", label=kind)
    axes[0].set_ylabel("energy distance")
    axes[0].legend(fontsize=8, loc="upper left")
    last.set(
        xlabel="composed conditions k",
        xticks=ks,
        ylabel="KL between learned and exact [nat]",
        title="scores alone",
    )
    last.legend(fontsize=8)
    figure.suptitle(
        "Through a shear it is the sampler that errs; scores err more with k"
    )
    return figure


def table(rows: list[dict[str, Any]]) -> str:
    """One line for every kind and k."""
    lines = [
        f"{'':12}k   total   sampler (expected)     score    noise  KL of the scores"
    ]
    for row in rows:
        expected = "noise" if row["kind"] == "factorized" or row["k"] == 1 else "above"
        lines.append(
            f"{row['kind']:12}{row['k']}  {row['total']:.4f}   {row['sampler']:.4f} "
            f"({expected:>5})      {row['score']:.4f}   {row['noise']:.4f}  "
            f"{row['score_kl']:.4f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    launch.run(main, "projective/ledger.py")
