"""What is composed, and what should come out: the definitions of the benchmarks.

Parameters are those of the papers' code where they exist; `ours` marks the rest.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import compjax as cj
from compjax.densities import Box, Circle, GaussianMixture

Points = np.ndarray
"""`[n, 2]`."""


class Task(NamedTuple):
    """One benchmark.

    Args:
        name: As on the command line.
        source: Whose definition it is.
        kind: `product`, `mixture` or `negation`: which operators and samplers apply.
        parts: Names of `densities()`.
        coefficients: Of the parts in the paper's composition of scores.
        target: `(key, n) -> [n, 2]`, exact samples of what should come out; None where
            that is the empty set.
        accepts: `[n, 2] -> [n]`, what the papers count as right.
        log_target: `[n, 2] -> [n]`, the normalised log-density, where it is needed.
    """

    name: str
    source: str
    kind: str
    parts: tuple[str, ...]
    coefficients: tuple[float, ...]
    target: Callable[[jax.Array, int], Points] | None
    accepts: Callable[[Points], Points] | None
    log_target: Callable[[Points], Points] | None = None


def densities() -> dict[str, Any]:
    """Every density that a task composes, by name."""
    angles = 2 * np.pi * np.arange(8) / 8
    ring = 0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    column = np.array([[0.0, 0.5], [0.0, 0.0], [0.0, -0.5]])
    return {
        "ring": dots(ring, 0.03),
        "bar 0.4": box([-0.2, -1], [0.2, 1]),
        "bar 0.2": box([-0.1, -1], [0.1, 1]),
        "left bar": box([-0.3, -1], [-0.1, 1]),
        "right bar": box([0.1, -1], [0.3, 1]),
        "square 1.4": box([-0.7, -0.7], [0.7, 0.7]),
        "square 0.6": box([-0.3, -0.3], [0.3, 0.3]),
        "left circle": Circle(jnp.array([-0.5, 0.0]), 1.0),
        "right circle": Circle(jnp.array([0.5, 0.0]), 1.0),
        "left box": box([-1, -1], [-0.5, 1]),
        "right box": box([0.5, -1], [1, 1]),
        "left dots": dots(column - [0.25, 0], 0.03),
        "right dots": dots(column + [0.25, 0], 0.03),
        "square 2": box([-1, -1], [1, 1]),
        "square 1": box([-0.5, -0.5], [0.5, 0.5]),
        "strip": box([-0.5, -2], [0.5, 2]),
        "up": dots([[-1.5, 1.5], [1.5, 1.5]], 0.4),
        "down": dots([[-1.5, -1.5], [1.5, -1.5]], 0.4),
        "two widths": GaussianMixture(
            jnp.log(jnp.array([0.5, 0.5])),
            jnp.array([[-0.8, 0.0], [0.8, 0.0]]),
            jnp.stack([0.35**2 * jnp.eye(2), 0.12**2 * jnp.eye(2)]),
        ),
        "ground": scattered(16, 0, 0.0, 0.5),
        "first": scattered(16, 1, 0.0, 0.3),
        "second": scattered(16, 2, 0.0, 0.3),
        "first, out": scattered(16, 3, 1.2, 0.3),
        "second, out": scattered(16, 4, 1.2, 0.3),
        "everywhere": box([-2, -2], [2, 2]),
    }


def dots(means: Any, deviation: float) -> GaussianMixture:
    """A mixture of equal round Gaussians."""
    means = jnp.asarray(means, jnp.float32)
    covs = deviation**2 * jnp.stack([jnp.eye(2)] * len(means))
    return GaussianMixture(jnp.zeros(len(means)), means, covs)


def scattered(modes: int, seed: int, shift: float, deviation: float) -> GaussianMixture:
    """A mixture with random means, uniform in a square around (shift, shift)."""
    means = np.random.default_rng(seed).uniform(-0.8, 0.8, (modes, 2)) + shift
    return dots(means, deviation)


def box(low: Any, high: Any) -> Box:
    """A uniform density."""
    return Box(jnp.array(low, float), jnp.array(high, float))


def tasks() -> dict[str, Task]:
    """All benchmarks, by name."""
    p = densities()
    rrr, lift = "Du et al. 2023", "Yu et al. 2025"
    super_diff, ccg = "Skreta et al. 2024", "after Soiffer et al. 2026 (modes ours)"
    every = [
        Task(
            "rrr_product",
            rrr,
            "product",
            ("ring", "bar 0.4"),
            (1.0, 1.0),
            _grid(("ring", "bar 0.4"), (1.0, 1.0)),
            _inside(p, ("bar 0.4",), 0.0, near=_ring(0.09)),
            _normalised(p, ("ring", "bar 0.4"), (1.0, 1.0)),
        ),
        Task(
            "rrr_mixture",
            rrr,
            "mixture",
            ("left bar", "right bar"),
            (1.0, 1.0),
            _union(p, ("left bar", "right bar")),
            _inside(p, ("left bar", "right bar")),
        ),
        Task(
            "rrr_negation",
            rrr,
            "negation",
            ("square 1.4", "square 0.6"),
            (1.3, -0.3),
            _difference(p, "square 1.4", "square 0.6"),
            _outside(p, "square 1.4", "square 0.6"),
        ),
        Task(
            "product_a",
            lift,
            "product",
            ("ring", "bar 0.2"),
            (1.0, 1.0),
            _grid(("ring", "bar 0.2"), (1.0, 1.0)),
            _near([[0.0, 0.5], [0.0, -0.5]], 0.09, square=True),
        ),
        Task(
            "product_b",
            lift,
            "product",
            ("left circle", "right circle"),
            (1.0, 1.0),
            _points([[0.0, 0.75**0.5], [0.0, -(0.75**0.5)]]),
            _near([[0.0, 0.75**0.5], [0.0, -(0.75**0.5)]], 0.1),
        ),
        Task(
            "product_c",
            lift,
            "product",
            ("left box", "right box"),
            (1.0, 1.0),
            None,
            None,
        ),
        Task(
            "mixture_a",
            lift,
            "mixture",
            ("left dots", "right dots"),
            (1.0, 1.0),
            _union(p, ("left dots", "right dots")),
            _near(
                np.concatenate([p[n].means for n in ("left dots", "right dots")]),
                0.09,
            ),
        ),
        Task(
            "mixture_b",
            lift,
            "mixture",
            ("left box", "right box"),
            (1.0, 1.0),
            _union(p, ("left box", "right box")),
            _inside(p, ("left box", "right box")),
        ),
        Task(
            "mixture_c",
            lift,
            "mixture",
            ("left circle", "right circle"),
            (1.0, 1.0),
            _union(p, ("left circle", "right circle")),
            _on_circles(0.1),
        ),
        Task(
            "negation_a",
            lift,
            "negation",
            ("square 2", "square 1"),
            (1.0, -0.5),
            _difference(p, "square 2", "square 1"),
            _outside(p, "square 2", "square 1"),
        ),
        Task(
            "negation_b",
            lift,
            "negation",
            ("square 2", "strip"),
            (1.0, -0.5),
            _difference(p, "square 2", "strip"),
            _outside(p, "square 2", "strip"),
        ),
        Task(
            "negation_c",
            lift,
            "negation",
            ("square 1", "square 2"),
            (1.0, -0.5),
            None,
            None,
        ),
        Task(
            "corners_or",
            super_diff,
            "mixture",
            ("up", "down"),
            (1.0, 1.0),
            _union(p, ("up", "down")),
            None,
        ),
        Task(
            "corners_and",
            super_diff + "; the product as target is ours",
            "product",
            ("up", "down"),
            (1.0, 1.0),
            _grid(("up", "down"), (1.0, 1.0)),
            None,
        ),
        Task(
            "annealing",
            "after Skreta et al. 2025 (modes ours)",
            "product",
            ("two widths",),
            (3.0,),
            _grid(("two widths",), (3.0,)),
            None,
        ),
        Task(
            "ccg_in",
            ccg,
            "product",
            ("ground", "first", "second"),
            (-1.0, 1.0, 1.0),
            _grid(("ground", "first", "second"), (-1.0, 1.0, 1.0)),
            None,
        ),
        Task(
            "ccg_out",
            ccg,
            "product",
            ("ground", "first, out", "second, out"),
            (-1.0, 1.0, 1.0),
            _grid(("ground", "first, out", "second, out"), (-1.0, 1.0, 1.0)),
            None,
        ),
    ]
    return {task.name: task for task in every}


EXTENT = 3.0
CELLS = 1500


def _grid(names: tuple[str, ...], c: tuple[float, ...]) -> Any:
    """Samples of prod p_i^c_i: a cell of a fine grid, then a place in it."""

    def target(key: jax.Array, n: int) -> Points:
        centers, logs, _ = _quadrature(names, c)
        weights = np.exp(logs - logs.max())
        random = np.random.default_rng(jax.random.bits(key, (2,), "uint32").tolist())
        chosen = random.choice(len(weights), n, p=weights / weights.sum())
        width = 2 * EXTENT / CELLS
        return centers[chosen] + random.uniform(-width / 2, width / 2, (n, 2))

    return target


def _normalised(p: dict[str, Any], names: tuple[str, ...], c: tuple[float, ...]) -> Any:
    """The log-density of the same."""

    def log_target(x: Points) -> Points:
        log_integral = _quadrature(names, c)[2]
        parts = [np.asarray(p[name].log_prob(jnp.asarray(x))) for name in names]
        return sum(w * part for w, part in zip(c, parts, strict=True)) - log_integral

    return log_target


@cache
def _quadrature(
    names: tuple[str, ...], c: tuple[float, ...]
) -> tuple[Points, Points, float]:
    """Centers of cells, log prod p_i^c_i there, and the log of its integral."""
    width = 2 * EXTENT / CELLS
    axis = -EXTENT + width * (np.arange(CELLS) + 0.5)
    centers = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    x = jnp.asarray(centers, jnp.float32)
    blocks = x.reshape(-1, 9000, 2)
    total, p = np.zeros(len(centers)), densities()
    for name, weight in zip(names, c, strict=True):
        log_prob = jax.jit(p[name].log_prob)
        total += weight * np.concatenate([log_prob(block) for block in blocks])
    log_integral = np.logaddexp.reduce(total) + 2 * np.log(width)
    return centers, total, float(log_integral)


def _union(p: dict[str, Any], names: tuple[str, ...]) -> Any:
    def target(key: jax.Array, n: int) -> Points:
        return np.asarray(cj.mixture(*(p[name] for name in names)).sample(key, n))

    return target


def _points(points: Any) -> Any:
    def target(key: jax.Array, n: int) -> Points:
        chosen = jax.random.randint(key, (n,), 0, len(points))
        return np.asarray(points, float)[np.asarray(chosen)]

    return target


def _difference(p: dict[str, Any], keep: str, avoid: str) -> Any:
    def target(key: jax.Array, n: int) -> Points:
        propose = lambda key: p[keep].sample(key, 2 * n)
        holds = lambda key, x: ~inside(p[avoid], x)
        return cj.samplers.rejection(key, propose, holds, n).x

    return target


def inside(box: Box, x: Any, margin: float = 0.0) -> Points:
    """Whether points lie in a box that is wider by a margin."""
    x, low, high = np.asarray(x), np.asarray(box.low), np.asarray(box.high)
    return ((x >= low - margin) & (x <= high + margin)).all(1)


def _inside(
    p: dict[str, Any], names: tuple[str, ...], margin: float = 0.0, near: Any = None
) -> Any:
    def accepts(x: Points) -> Points:
        held = np.any([inside(p[name], x, margin) for name in names], axis=0)
        return held if near is None else held & near(x)

    return accepts


def _outside(p: dict[str, Any], keep: str, avoid: str) -> Any:
    return lambda x: inside(p[keep], x) & ~inside(p[avoid], x)


def _ring(distance: float) -> Any:
    angles = 2 * np.pi * np.arange(8) / 8
    return _near(0.5 * np.stack([np.cos(angles), np.sin(angles)], axis=1), distance)


def _near(points: Any, distance: float, square: bool = False) -> Any:
    order = np.inf if square else 2

    def accepts(x: Points) -> Points:
        away = x[:, None] - np.asarray(points, float)[None]
        return np.linalg.norm(away, ord=order, axis=-1).min(1) <= distance

    return accepts


def _on_circles(distance: float) -> Any:
    def accepts(x: Points) -> Points:
        centers = np.array([[-0.5, 0.0], [0.5, 0.0]])
        away = np.linalg.norm(x[:, None] - centers[None], axis=-1) - 1
        return np.abs(away).min(1) <= distance

    return accepts
