"""Two errors, kept apart: that of the sampler, and that of the learned scores."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from compjax.analysis.background import score_kl
from compjax.analysis.distances import energy_distance, two_sample_test
from compjax.samplers import sample
from compjax.types import PRNGKey, Sampler, as_float


class Ledger(NamedTuple):
    r"""Where the error of a sampled composition comes from.

    Distances are energy distances, whose *square roots* obey the triangle inequality:
    that of the whole is at most the sum of the two others, so that the whole may reach
    twice their sum.

    Args:
        total: From samples of the learned composition to the reference.
        sampler: From samples of the *exact* scores to the reference: what better
            scores cannot mend.
        score: From samples of the learned to samples of the exact scores: what a
            better sampler cannot mend.
        noise: What two samples of one law show, in 95 of 100 cases.
        score_kl: $\tfrac12 \int E \lVert s_{learned} - s_{exact} \rVert^2 d\sigma^2$
            under the noised reference, in nats.
    """

    total: float
    sampler: float
    score: float
    noise: float
    score_kl: float


def ledger(
    key: PRNGKey,
    learned: Any,
    exact: Any,
    reference: Any,
    sampler: Sampler,
    sigmas: Any,
    permutations: int = 199,
) -> Ledger:
    """The error of a composition, split into that of its sampler and of its scores.

    Args:
        key: A typed PRNG key.
        learned: The composition of learned scores.
        exact: The same composition of exact scores.
        reference: Samples `[b, *d]` of what was asked for: exact ones, or those of a
            sampler that ran long enough.
        sampler: Whose error is asked for.
        sigmas: Its noise levels.
        permutations: Behind the noise level of the distances.

    Returns:
        A `Ledger`.

    Raises:
        ValueError: As `sample` and `two_sample_test`.

    Source: Ours.

    Example:
        >>> import compjax as cj
        >>> exact = cj.densities.Gaussian([0.0], [[1.0]])
        >>> learned = cj.densities.Gaussian([1.0], [[1.0]])
        >>> x = exact.sample(jax.random.key(0), 300)
        >>> heun, grid = cj.samplers.Heun(), cj.karras_sigmas(16)
        >>> report = ledger(jax.random.key(1), learned, exact, x, heun, grid)
        >>> report.score > report.noise > report.sampler
        True
    """
    reference = as_float(reference)
    key_learned, key_exact, key_test, key_noise = jax.random.split(key, 4)
    follow = lambda key, score: sample(key, score, sampler, reference.shape, sigmas)[0]
    by_learned, by_exact = follow(key_learned, learned), follow(key_exact, exact)
    test = two_sample_test(key_test, by_exact, reference, permutations)
    return Ledger(
        float(energy_distance(by_learned, reference)),
        float(test.distance),
        float(energy_distance(by_learned, by_exact)),
        float(test.quantile),
        float(score_kl(key_noise, exact, learned, reference, as_float(sigmas))),
    )
