"""All diagnostics of a composition at once, and a verdict in plain words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.analysis.background import Background, background_report
from compjax.analysis.certificate import Certificate, certificate
from compjax.analysis.factorization import Factorization, factorization
from compjax.analysis.orthogonality import Orthogonality, orthogonality
from compjax.analysis.score_blocks import ScoreBlocks, score_blocks
from compjax.compose import compose
from compjax.noise import check_sigmas
from compjax.samplers import Ancestral, sample
from compjax.scores import check_score
from compjax.types import PRNGKey, ScoreFn, as_float

SMALL_KL = 0.05
"""Nats below which a bound is called small: a third of a standard deviation."""

FEW = 100
"""Effective samples below which weighted averages are not to be trusted."""

CROSSING = 0.05
"""Shares of overlap or leak above which score blocks are called coupled."""


class Finding(NamedTuple):
    """One question, its answer, and why.

    Args:
        question: What was asked.
        answer: "yes", "no" or "unclear".
        evidence: The numbers behind it, and what to do.
    """

    question: str
    answer: str
    evidence: str


class Diagnosis(NamedTuple):
    """Everything that was measured, and the verdict.

    Args:
        certificate: Whether diffusion samples the composition.
        factorization: Definition 5.2, tested on samples of the parts.
        blocks: The same, read off the scores at one noise level.
        sigma: That level.
        orthogonality: Cosines of mean shifts.
        background: Whether the background is a mixture of the conditionals.
        draws: Samples of the background and of each conditional.
        findings: The verdict, a question at a time.
    """

    certificate: Certificate
    factorization: Factorization
    blocks: ScoreBlocks
    sigma: float
    orthogonality: Orthogonality
    background: Background
    draws: tuple[Float[Array, "b *d"], ...]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        lines = [f"{f.question}\n  {f.answer}: {f.evidence}" for f in self.findings]
        return "\n".join(lines)


def diagnose(
    key: PRNGKey,
    background: ScoreFn,
    conditionals: Sequence[ScoreFn],
    shape: tuple[int, ...],
    sigmas: Any,
    *,
    weights: Any = None,
    draws: Sequence[Any] | None = None,
    features: Callable[[Any], Any] | None = None,
) -> Diagnosis:
    """What can be said of a composition before anybody looks at its samples.

    Three questions, which have different answers: does plain reverse diffusion sample
    the composition (the certificate); is the composition projective, so that every
    condition looks as it does alone (factorization, with cosines beside it); and is the
    background a mixture of the conditionals, which makes them fade?

    Args:
        key: A typed PRNG key.
        background: A score function.
        conditionals: k score functions.
        shape: `[b, *d]`: how many samples the diagnostics draw, and of which shape.
        sigmas: Decreasing noise levels, from one that drowns the data; only the last
            may be 0.
        weights: k numbers; ones if None.
        draws: Clean samples of the background, then of each conditional.  If None,
            densities draw their own, and scores are sampled down the grid.
        features: As for `orthogonality`.

    Returns:
        A `Diagnosis`, which prints its verdict.

    Raises:
        ValueError: If there is no conditional, a part does not take samples of that
            shape, there is not one set of draws for every part, samples are not
            finite, the first noise level does not drown the data, or as the single
            diagnostics.

    Source: Ours.

    Example:
        >>> import compjax as cj, jax.numpy as jnp
        >>> at = lambda *m: cj.densities.Gaussian(jnp.array(m), 0.1 * jnp.eye(2))
        >>> parts = at(0.0, 0.0), [at(1.0, 0.0), at(0.0, 1.0)]
        >>> grid = cj.karras_sigmas(32, 0.01, 20.0)
        >>> report = diagnose(jax.random.key(0), *parts, (256, 2), grid)
        >>> [finding.answer for finding in report.findings]
        ['yes', 'yes', 'no']
    """
    if not len(conditionals):
        raise ValueError("A composition to diagnose needs at least one conditional.")
    check_sigmas(sigmas)
    shape = tuple(shape)
    scores = {"the background": background} | {
        f"conditional {i}": score for i, score in enumerate(conditionals)
    }
    for name, score in scores.items():
        _check_part(name, score, shape)
    if draws is not None:
        _check_draws(list(scores), draws, shape)
    composed = compose(background, *conditionals, weights=weights)
    key_path, key_draws, key_tests, key_points, key_probes, key_pairs = (
        jax.random.split(key, 6)
    )
    if draws is None:
        draws = _draw(key_draws, scores, shape, sigmas)
    draws = tuple(as_float(x) for x in draws)
    flat = [np.asarray(x).reshape(len(x), -1) for x in draws]
    for name, x in zip(scores, flat, strict=True):
        if not np.isfinite(x).all():
            raise ValueError(f"Samples of {name} are not finite: look at its score.")
    # Noise as large as the data: where scores see all of it, and are learned well.
    sigma = float(np.sqrt(np.mean([x.var(0).mean() for x in flat])))
    if not float(sigmas[0]) > sigma:
        raise ValueError(
            f"sigmas start at {float(sigmas[0]):.3g}, which does not drown data of "
            f"size {sigma:.3g}: start at ten times that or more."
        )
    report = certificate(key_path, composed, shape, sigmas)
    points = draws[0][:64]
    noise = jax.random.normal(key_points, points.shape)
    parts = background, conditionals
    measured = (
        report,
        factorization(key_tests, flat[0], flat[1:]),
        score_blocks(key_probes, *parts, points + sigma * noise, sigma),
        sigma,
        orthogonality(draws[0], draws[1:], features),
        background_report(key_pairs, *parts, draws, sigmas),
        draws,
    )
    partial = Diagnosis(*measured, ())
    return partial._replace(
        findings=(_sampled(partial), _projective(partial, weights), _mixture(partial))
    )


def _check_part(name: str, score: Any, shape: tuple[int, ...]) -> None:
    """Says which part does not take samples of that shape, before any work."""
    check_score(score, name)
    x, sigma = (jax.ShapeDtypeStruct(s, jnp.result_type(float)) for s in (shape, ()))
    try:
        found = jax.eval_shape(score, x, sigma).shape
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{name} does not take samples of shape {shape[1:]}: {reason}"
        ) from error
    if found != shape:
        raise ValueError(
            f"{name} returns {found} for samples {shape}: a score has their shape."
        )


def _check_draws(
    names: list[str], draws: Sequence[Any], shape: tuple[int, ...]
) -> None:
    """Says which part has no samples, or samples of another shape."""
    if len(draws) != len(names):
        raise ValueError(
            f"draws must hold samples of the background and of each conditional, "
            f"{len(names)} sets in all; it holds {len(draws)}."
        )
    for name, x in zip(names, draws, strict=True):
        if np.ndim(x) != len(shape) or np.shape(x)[1:] != shape[1:]:
            raise ValueError(
                f"draws of {name} have the shape {np.shape(x)}: it must be "
                f"(n, {', '.join(map(str, shape[1:]))})."
            )


def _draw(
    key: PRNGKey, scores: dict[str, Any], shape: tuple[int, ...], sigmas: Any
) -> list[Any]:
    """Samples of each part: its own if it is a density, else down the grid."""
    keys, draws = jax.random.split(key, len(scores)), []
    for k, (name, score) in zip(keys, scores.items(), strict=True):
        if hasattr(score, "sample"):
            draws.append(score.sample(k, shape[0]))
            continue
        try:
            draws.append(sample(k, score, Ancestral(), shape, sigmas)[0])
        except ValueError as error:
            raise ValueError(f"{name} cannot be sampled: {error}") from error
    return draws


def _sampled(d: Diagnosis) -> Finding:
    c, n = d.certificate, len(d.certificate.log_weights)
    size = float(c.effective_sample_size)
    bound = max(0.0, float(c.kl_bound))  # rounding makes a zero negative
    relation, answer = "<=", "no"
    if bound < SMALL_KL:
        answer, advice = "yes", "Sample it as it is."
    elif size * n >= FEW:
        advice = "Weight the samples by the certificate, or resample."
    else:
        relation = "may exceed"
        advice = (
            "So few effective samples can neither bound it nor be weighted: take a "
            "corrector, or parts that interact less."
        )
    numbers = (
        f"KL(sampled law || composition) {relation} {bound:.3g} nats; effective sample "
        f"size {size:.1%} of {n}; integral of sd(V) = {float(c.integral):.3g}."
    )
    question = "Does plain reverse diffusion sample this composition?"
    return Finding(question, answer, f"{numbers} {advice}")


def _projective(d: Diagnosis, weights: Any) -> Finding:
    question = "Is it projective, each condition as it is alone?"
    tests, blocks = d.factorization, d.blocks
    unit = weights is None or all(not callable(w) and float(w) == 1 for w in weights)
    if len(blocks.overlap) == 1 and unit:
        return Finding(question, "yes", "One conditional composes to itself.")
    apart = ~np.eye(len(blocks.overlap), dtype=bool)
    overlap = float(np.max(blocks.overlap, where=apart, initial=0.0))
    leak = float(blocks.leak.max())
    cosine = np.nan_to_num(np.abs(d.orthogonality.cosines))
    cosine = float(np.max(cosine, where=apart, initial=0.0))
    shared = int(np.max(tests.overlap, where=apart, initial=0))
    coupled = max(overlap, leak) > CROSSING
    numbers = (
        f"On scores, at noise {d.sigma:.2g}: differences overlap by {overlap:.1%}, "
        f"scores look across blocks by {leak:.1%} (up to {CROSSING:.0%} passes).  On "
        f"samples: two conditionals share up to {shared} changed coordinates, the "
        f"smallest p-value of independent blocks is {tests.dependence.min():.2g} (all "
        f"tests together err at level {tests.level:.2g}), the largest |cosine| of mean "
        f"shifts {cosine:.2f}."
    )
    if tests.factorized and not coupled and unit:
        answer, advice = "yes", "Every condition keeps its own block (theorem 5.3)."
    elif tests.factorized and not coupled:
        answer = "no"
        advice = (
            "Every condition keeps its own block, but a weight w other than one "
            "changes what is there, from p_i to p_i^w p_b^(1 - w)."
        )
    elif tests.factorized != coupled:
        answer = "no"
        advice = (
            "In these coordinates the conditionals do not factorize.  In others they "
            "may: a composition is projective in any features that factorize it "
            "(theorem 6.1), and nothing here looks for them."
        )
    else:
        answer, advice = (
            "unclear",
            "Samples and scores disagree: draw more, or retrain.",
        )
    return Finding(question, answer, f"{numbers} {advice}")


def _mixture(d: Diagnosis) -> Finding:
    b = d.background
    question = "Is the background a mixture of its conditionals?"
    k = len(b.to_background)
    if k == 1:
        return Finding(question, "no", "There is no second one that it could exclude.")
    held = ", ".join(map(str, np.flatnonzero(b.contained)))
    lowest = np.exp(b.log_ratio[~np.eye(k, dtype=bool)].min())
    numbers = (
        f"It contains {f'conditional {held}' if held else 'no conditional'}; where "
        f"one holds, another is at least {lowest:.2g} times as likely as elsewhere in "
        f"it (1 if independent, 0 if they exclude each other)."
    )
    if b.mixture:
        pairs = ", ".join(f"{i} and {j}" for i, j in b.exclusive)
        advice = (
            f"It holds {pairs}, but never together: composing them makes each fade, to "
            "1/k of its strength in the closed case (equation 5).  Take a background "
            "that holds none of them, or all of them independently."
        )
        return Finding(question, "yes", f"{numbers} {advice}")
    if held:
        numbers += "  What it contains does not fade: no two exclude each other."
    return Finding(question, "no", numbers)
