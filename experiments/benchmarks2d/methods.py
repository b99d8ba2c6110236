"""Every way to sample a composition: by kind of task, for densities and for scores."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import compjax as cj
from compjax.divergence import ExactTrace
from compjax.samplers import (
    HMC,
    MALA,
    UHMC,
    ULA,
    Ancestral,
    And,
    FeynmanKac,
    Heun,
    Or,
    Superposition,
    UnbiasedFeynmanKac,
    corrected,
    score_only,
    tune,
)
from experiments.benchmarks2d.tasks import Points, Task

SIGMA_MIN, SIGMA_MAX = 0.002, 20.0


class Settings(NamedTuple):
    """What all methods share.

    Args:
        samples: How many are wanted.
        steps: Noise levels.
        moves: Of a Markov kernel at each.
        particles: In a population, for every sample that is wanted of it.
        proposals: For every sample that rejection is to keep.
    """

    samples: int = 2000
    steps: int = 100
    moves: int = 4
    particles: int = 4
    proposals: int = 4

    def sigmas(self) -> jax.Array:
        """The grid; it ends at SIGMA_MIN, where everything is still smooth."""
        return cj.karras_sigmas(self.steps + 1, SIGMA_MIN, SIGMA_MAX)[:-1]


class Drawn(NamedTuple):
    """What a method drew.

    Args:
        x: `[n, 2]`, fewer where rejection left fewer.
        evaluations: Of all parts together, for every sample returned.
        says: Diagnostics: acceptance, effective sample size, share kept.
    """

    x: Points
    evaluations: float
    says: dict[str, float]


Method = Callable[[jax.Array], Drawn]
"""From a key to samples; it compiles once and serves every key."""


def methods(
    task: Task, parts: tuple[Any, ...], everywhere: Any, settings: Settings
) -> Iterator[tuple[str, Method]]:
    """Names and methods that apply to a task.

    Args:
        task: The benchmark.
        parts: Its densities, or scores that were learned.
        everywhere: The same for a wide box, the background of lifts.
        settings: Shared numbers.
    """
    exact = all(hasattr(part, "log_prob") for part in parts)
    yield from KINDS[task.kind](task, parts, everywhere, settings, exact)


def _product(task, parts, everywhere, settings, exact):
    score = cj.product(*parts, weights=task.coefficients)
    yield from _plain("", score, settings)
    yield from _chains("", score, settings, exact)
    affine = abs(sum(task.coefficients) - 1) < 1e-6
    trace = None if affine else ExactTrace()
    yield "Feynman-Kac", _particles(FeynmanKac(divergence=trace), score, settings)
    if exact:
        unbiased = UnbiasedFeynmanKac()
        yield "Feynman-Kac, densities", _particles(unbiased, score, settings)
        moving = UnbiasedFeynmanKac(kernel=MALA(0.3), moves=settings.moves)
        yield (
            "Feynman-Kac, densities, MALA moves",
            _particles(moving, score, settings),
        )
    if all(c > 0 for c in task.coefficients) and len(parts) > 1:
        yield "SuperDiff AND", _diffuse(Superposition(And()), score, settings)
        wanted = (True,) * len(parts)
        yield (
            "lift rejection",
            _rejection(score, parts, wanted, "all", everywhere, settings, exact),
        )


def _mixture(task, parts, everywhere, settings, exact):
    together = cj.product(*parts)
    yield "SuperDiff OR", _diffuse(Superposition(Or()), together, settings)
    average = cj.product(*parts, weights=[1 / len(parts)] * len(parts))
    yield from _plain("average of scores, ", average, settings)
    if not exact:
        yield from _chains("average of scores, ", average, settings, exact)
        wanted = (True,) * len(parts)
        yield (
            "average of scores, lift rejection",
            _rejection(average, parts, wanted, "any", everywhere, settings, exact),
        )
        return
    mixture = cj.mixture(*parts)
    yield from _plain("mixture, ", mixture, settings)
    yield from _chains("mixture, ", mixture, settings, exact)
    wanted = (True,) * len(parts)
    yield (
        "average of scores, lift rejection",
        _rejection(average, parts, wanted, "any", everywhere, settings, exact),
    )


def _negation(task, parts, everywhere, settings, exact):
    keep, avoid = parts
    signed = cj.product(keep, avoid, weights=task.coefficients)
    yield from _plain("signed, ", signed, settings)
    yield from _chains("signed, ", signed, settings, exact)
    trace = None if abs(sum(task.coefficients) - 1) < 1e-6 else ExactTrace()
    weighted = FeynmanKac(divergence=trace)
    yield "signed, Feynman-Kac", _particles(weighted, signed, settings)
    if exact:
        unbiased = UnbiasedFeynmanKac()
        yield (
            "signed, Feynman-Kac, densities",
            _particles(unbiased, signed, settings),
        )
        bounded = cj.contrast(keep, avoid)
        yield from _plain("contrast, ", bounded, settings)
        yield from _chains("contrast, ", bounded, settings, exact)
        yield (
            "contrast, Feynman-Kac, densities",
            _particles(UnbiasedFeynmanKac(), bounded, settings),
        )
    for name, proposal in (("signed, ", signed), ("first part, ", keep)):
        yield (
            f"{name}lift rejection",
            _rejection(
                proposal, parts, (True, False), "all", everywhere, settings, exact
            ),
        )


KINDS = {"product": _product, "mixture": _mixture, "negation": _negation}


def _plain(prefix: str, score: Any, settings: Settings):
    yield f"{prefix}reverse SDE", _diffuse(Ancestral(), score, settings)
    yield f"{prefix}probability flow", _diffuse(Heun(), score, settings)


def _chains(prefix: str, score: Any, settings: Settings, exact: bool):
    """Unadjusted chains with one step size; adjusted ones that are tuned."""
    yield f"{prefix}ULA", _corrected(ULA(0.1), score, settings)
    yield f"{prefix}UHMC", _corrected(UHMC(0.3), score, settings)
    if exact:
        yield f"{prefix}MALA", _tuned(MALA(0.5), score, settings, 0.574)
        yield f"{prefix}HMC", _tuned(HMC(0.5), score, settings, 0.651)
    points = 3 if exact else 1  # evaluations inside of every line
    decided = score_only(MALA(0.5), points)
    yield (
        f"{prefix}MALA, score only ({points})",
        _tuned(decided, score, settings, 0.574),
    )


def _corrected(kernel: Any, score: Any, settings: Settings) -> Method:
    return _diffuse(corrected(Ancestral(), kernel, settings.moves), score, settings)


def _tuned(kernel: Any, score: Any, settings: Settings, acceptance: float) -> Method:
    """A kernel that is tuned once, on other chains than those that are measured."""

    @cache
    def sampler() -> Any:
        found = tune(
            jax.random.key(10_000),
            kernel,
            score,
            (256, 2),
            settings.sigmas(),
            acceptance=acceptance,
        )
        return corrected(Ancestral(), found, settings.moves)

    return lambda key: _diffuse(sampler(), score, settings)(key)


def _diffuse(sampler: Any, score: Any, settings: Settings) -> Method:
    """Independent samples."""

    def method(key: jax.Array) -> Drawn:
        shape = (settings.samples, 2)
        x, info = cj.sample(key, score, sampler, shape, settings.sigmas())
        says = {}
        if hasattr(info, "acceptance"):
            says["acceptance"] = float(info.acceptance.mean())
        return Drawn(np.asarray(x), float(info.evaluations.sum()), says)

    return method


def _particles(sampler: Any, score: Any, settings: Settings) -> Method:
    """One population, larger than what is returned of it."""

    def method(key: jax.Array) -> Drawn:
        key_sample, key_choose = jax.random.split(key)
        n = settings.samples * settings.particles
        x, info = cj.sample(key_sample, score, sampler, (n, 2), settings.sigmas())
        x = jax.random.permutation(key_choose, x)[: settings.samples]
        cost = float(info.evaluations.sum()) * settings.particles
        says = {
            "least effective sample size": float(info.effective_sample_size.min()),
            "log normalizer": float(info.log_normalizer[-1]),
        }
        return Drawn(np.asarray(x), cost, says)

    return method


def _rejection(
    proposal: Any,
    parts: tuple[Any, ...],
    wanted: tuple[bool, ...],
    how: str,
    everywhere: Any,
    settings: Settings,
    exact: bool,
) -> Method:
    """Samples of plain diffusion, kept where lifts have the wanted signs."""
    levels = cj.karras_sigmas(33, SIGMA_MIN, SIGMA_MAX)[:-1]
    draws = 8

    def propose(key: jax.Array) -> jax.Array:
        shape = (settings.samples, 2)
        return cj.sample(key, proposal, Ancestral(), shape, settings.sigmas())[0]

    def lifts(key: jax.Array, x: jax.Array) -> jax.Array:
        if exact:
            ground = everywhere.log_prob(x, SIGMA_MIN)
            return jnp.stack([p.log_prob(x, SIGMA_MIN) - ground for p in parts])
        keys = jax.random.split(key, len(parts))
        return jnp.stack(
            [
                cj.lift(k, p, everywhere, x, levels, draws).mean
                for k, p in zip(keys, parts, strict=True)
            ]
        )

    def holds(key: jax.Array, x: jax.Array) -> np.ndarray:
        right = (np.asarray(lifts(key, x)) > 0) == np.array(wanted)[:, None]
        return right.all(0) if how == "all" else right.any(0)

    one = settings.steps + (1 if exact else (len(levels) - 1) * draws * 2)

    def method(key: jax.Array) -> Drawn:
        kept = cj.samplers.rejection(
            key, propose, holds, settings.samples, rounds=settings.proposals
        )
        cost = one * kept.proposals / max(len(kept.x), 1)
        return Drawn(kept.x, cost, {"kept": kept.share})

    return method
