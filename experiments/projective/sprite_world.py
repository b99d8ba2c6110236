"""Settings A, B and C with exact scores: which of their failures need no network?

    python -m experiments.projective.sprite_world --workdir=runs/sprite_world

Scenes hold objects, one of a few templates each, in nine places.  One-object models
over the empty scene (A) or the unconditional one (B), and cluttered models over clutter
(C), are composed into scenes with k = 1, ..., 9 requests (Bradley et al. 2025, section
5.3).  All densities are exact: sums over the sets of occupied places.
"""

import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from compjax import analysis, training
from compjax.densities import Sprites
from experiments import launch
from experiments.projective import exact, sprite_pictures

SDE, ODE = "reverse SDE", "Heun"


def main(config: ConfigDict, workdir: Path) -> None:
    """Samples, draws and prints."""
    check(config)
    workdir = training.open_workdir(workdir, config.to_dict())
    started = time.monotonic()
    worlds = make_worlds(config)
    ks = range(1, config.side**2 + 1)
    cells = [(name, 1.0, k, run) for name in worlds for k in ks for run in (sde, ode)]
    cells += [("C", w, k, sde) for w in config.weights if w != 1.0 for k in ks[::2]]
    rows, images = [], {}
    for name, weight, k, run in launch.progress(cells, "sampled"):
        x, row = run(config, compose(worlds[name], weight, k), k)
        cell = {"setting": name, "weight": weight, "k": k}
        rows.append({**cell, **row, **score(config, worlds[name], x, k)})
        images.setdefault((name, weight, k), np.asarray(x[:1]))
    report = exact.Report(
        checks=checks(config, worlds, rows),
        numbers={"rows": rows},
        figure=sprite_pictures.draw(config, rows, images),
    )
    exact.keep(config, workdir, "sprite_world", started, report)


def check(config: ConfigDict) -> None:
    """Raises a ValueError for numbers that do not fit."""
    if not 1 <= config.most <= config.side**2:
        raise ValueError(
            f"config.most must lie between 1 and the {config.side**2} places, got "
            f"{config.most}."
        )
    for name in ("samples", "sde_steps", "ode_steps", "templates"):
        if config[name] < 2:
            raise ValueError(f"config.{name} must be at least 2, got {config[name]}.")


def make_worlds(config: ConfigDict) -> dict[str, tuple[Sprites, ...]]:
    """The background, then one conditional for every place, of each setting."""
    key, places = jax.random.key(config.seed), config.side**2
    templates = jax.random.normal(key, (config.templates, config.pixels**2))
    lengths = jnp.linalg.norm(templates, axis=1, keepdims=True)
    make = lambda counts: Sprites(
        config.norm * templates / lengths, np.array(counts), config.scale, places
    )
    empty, one = make([1.0]), make([0.0, 1.0])
    clutter = make([0.0] + [1.0] * config.most)
    alone = tuple(empty.with_object(i) for i in range(places))
    others = np.ones(config.most)  # 0, ..., most - 1 of them
    crowded = tuple(clutter.with_object(i, others) for i in range(places))
    return {"A": (empty, *alone), "B": (one, *alone), "C": (clutter, *crowded)}


def compose(world: tuple[Sprites, ...], weight: float, k: int) -> Any:
    """The first k places requested; the others have weight 0, to compile once."""
    background, *conditionals = world
    weights = weight * (jnp.arange(len(conditionals)) < k)
    return cj.compose(background, *conditionals, weights=weights)


def sde(
    config: ConfigDict, composition: Any, k: int, steps: int | None = None
) -> tuple[Any, dict[str, Any]]:
    """Samples of the reverse SDE, and what their weights say."""
    shape = (config.samples, config.side**2 * config.pixels**2)
    steps = config.sde_steps if steps is None else steps
    grid = cj.karras_sigmas(steps, config.end, config.start)
    key = jax.random.fold_in(jax.random.key(config.seed + 1), k)
    found = analysis.certificate(key, composition, shape, grid)
    row = {
        "sampler": SDE,
        "integral": float(found.integral),
        "effective_sample_size": float(found.effective_sample_size),
    }
    return found.x, row


def ode(config: ConfigDict, composition: Any, k: int) -> tuple[Any, dict[str, Any]]:
    """Samples of Heun's method."""
    shape = (config.samples, config.side**2 * config.pixels**2)
    grid = cj.karras_sigmas(config.ode_steps, config.end, config.start)
    key = jax.random.fold_in(jax.random.key(config.seed + 2), k)
    x, _ = cj.sample(key, composition, cj.samplers.Heun(), shape, grid)
    return x, {"sampler": ODE}


def score(config: ConfigDict, world: Any, x: Any, k: int) -> dict[str, Any]:
    """Strengths and rates of presence, over samples and places.

    A sample without any request present is *blank*; *full* objects are nearer to a
    whole template than to half of one.
    """
    strength = np.asarray(world[0].strength(x))
    present = strength > config.threshold
    requested = np.arange(strength.shape[1]) < k
    others, shown = present[:, ~requested], present[:, requested].any(1)
    return {
        "strength": float(strength[:, requested].mean()),
        "strength_shown": float(strength[shown][:, requested].mean())
        if shown.any()
        else None,
        "hit": float(present[:, requested].mean()),
        "unrequested": float(others.mean()) if others.size else 0.0,
        "objects": float(present.sum(1).mean()),
        "full": float((strength > 0.75).sum(1).mean()),
        "most_full": int((strength > 0.75).sum(1).max()),
        "blank": float((~shown).mean()),
        "exact": float((present == requested[None]).all(1).mean()),
    }


def clutter_law(places: int, most: int, k: int) -> float | None:
    r"""The rate at unrequested places under setting C's composition, k <= most.

    Sets S that hold the requests have the probability
    $p_b(S)^{1-k} \prod_i p_i(S) \propto (n / |S|)^k / \binom{n}{|S|}$, where n is the
    number of places, since $p_i(S) = p_b(S)\, n / |S|$.
    """
    if k > most or k == places:
        return None
    sizes = range(k, most + 1)
    weights = np.array(
        [
            math.comb(places - k, m - k) * (places / m) ** k / math.comb(places, m)
            for m in sizes
        ]
    )
    shares = np.array([(m - k) / (places - k) for m in sizes])
    return float(weights @ shares / weights.sum())


def surplus_law(most: int, k: int) -> float:
    """Setting C's mean strength of k requests, more than its data hold objects.

    One less than the most are shown whole; the others at one half, where to count an
    object and not to count it explain a scene equally well (docs/math.md).
    """
    return (most - 1 + (k - most + 1) / 2) / k


def checks(config: ConfigDict, worlds: Any, rows: Any) -> list[exact.Check]:
    """Samples beside theorem 5.3, the 1/k law and the laws of clutter."""
    places, most, found = config.side**2, config.most, []
    unit = [row for row in rows if row["weight"] == 1.0]

    def add(row: Any, what: str, expected: float, source: str) -> None:
        label = f"{row['setting']}, k = {row['k']}, {row['sampler']}: {what}"
        found.append(exact.Check(label, row[what], expected, source))

    for row in unit:
        k = row["k"]
        if row["setting"] == "A":
            add(row, "exact", 1.0, "theorem 5.3")
        if row["setting"] == "B":
            add(row, "strength", 1 / k, "1/k law")
    fine, _ = sde(config, compose(worlds["B"], 1.0, places), places, config.fine_steps)
    value = score(config, worlds["B"], fine, places)["strength"]
    label = f"B, k = {places}, reverse SDE in {config.fine_steps} steps: strength"
    found.append(exact.Check(label, value, 1 / places, "1/k law"))
    for row in unit:
        k = row["k"]
        if row["setting"] == "C" and k <= most:
            add(row, "hit", 1.0, "C[p], not what is sampled")
        rate = clutter_law(places, most, k)
        if row["setting"] == "C" and rate is not None:
            add(row, "unrequested", rate, "C[p], not what is sampled")
        if row["setting"] == "C" and k > most and row["strength_shown"] is not None:
            add(row, "strength_shown", surplus_law(most, k), "surplus at one half")
            add(row, "most_full", most - 1, "one less than the most in the data")
    a, b = (compose(worlds[name], 1.0, 1) for name in "AB")
    x = worlds["A"][1].sample(jax.random.key(config.seed + 3), 64, 1.0)
    gap = float(jnp.abs(a(x, 1.0) - b(x, 1.0)).max())
    found.append(exact.Check("B - A at k = 1, largest score", gap, 0.0, "algebra"))
    return found


if __name__ == "__main__":
    launch.run(main, "projective/sprite_world.py")
