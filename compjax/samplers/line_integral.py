r"""Metropolis decisions without log-densities: the score, integrated along lines."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float

from compjax.samplers.mcmc import Move, Point
from compjax.types import Kernel, Number, PRNGKey, ScoreFn, inner, pytree, static


@pytree
class PathIntegral:
    r"""A target that has no log-density, but its differences along straight lines.

    $$\log p(y) - \log p(x) = \int_0^1 s(x + t(y - x)) \cdot (y - x)\,dt$$

    by Gauss and Lobatto's rule: its ends are known, so 0, 1, 2 or 3 points cost as many
    evaluations and are exact for scores that are polynomials of degree 1, 3, 5 or 7 on
    the line.  A learned score is the gradient of no density; then the integral depends
    on the line, and what a chain leaves invariant is not known.

    Args:
        score: The score.
        points: How many points there are between the ends.

    Source: Sjöberg et al. 2023 (2307.14012), there by trapezoids.
    """

    score: Any
    points: int = static()

    def __call__(self, x: Float[Array, "b *d"], sigma: Number) -> Float[Array, "b *d"]:
        return self.score(x, sigma)

    def log_ratio(self, start: Point, end: Point, sigma: Number) -> Float[Array, " b"]:
        """The difference of log-densities, end less start, `[b]`."""
        nodes, weights, end_weight = LOBATTO[self.points]
        away = end.x - start.x
        total = end_weight * (start.score + end.score)
        for node, weight in zip(nodes, weights, strict=True):
            total = total + weight * self.score(start.x + node * away, sigma)
        return inner(total, away)


LOBATTO = (
    ((), (), 1 / 2),
    ((1 / 2,), (2 / 3,), 1 / 6),
    ((0.5 - 0.05**0.5, 0.5 + 0.05**0.5), (5 / 12, 5 / 12), 1 / 12),
    (
        (0.5 - (3 / 28) ** 0.5, 1 / 2, 0.5 + (3 / 28) ** 0.5),
        (49 / 180, 16 / 45, 49 / 180),
        1 / 20,
    ),
)
"""Gauss and Lobatto's rules on [0, 1]: inner nodes, their weights, that of the ends."""


@pytree
class ScoreOnly:
    """A kernel whose decisions need no log-density; `score_only` makes it.

    Args:
        kernel: The kernel.
        points: Evaluations between start and proposal.
    """

    kernel: Any
    points: int = static()

    @property
    def step_size(self) -> Any:
        """That of the kernel."""
        return self.kernel.step_size

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], target: ScoreFn, sigma: Number
    ) -> Any:
        """The state of the kernel at x."""
        return self.kernel.init(key, x, PathIntegral(target, self.points), sigma)

    def step(
        self, key: PRNGKey, state: Any, target: ScoreFn, sigma: Number
    ) -> tuple[Any, Move]:
        """A move of the kernel, decided by integrals of the score."""
        return self.kernel.step(key, state, PathIntegral(target, self.points), sigma)


def score_only(kernel: Kernel, points: int = 3) -> ScoreOnly:
    """The kernel for targets without log-density: ratios are integrals of the score.

    Args:
        kernel: `MALA` or `HMC`; others decide nothing, and remain what they are.
        points: Evaluations of the score between start and proposal, 0 to 3.

    Raises:
        ValueError: If there is no rule with so many points.

    Source: Sjöberg et al. 2023 (2307.14012).

    Example:
        >>> import jax
        >>> import compjax as cj
        >>> score = cj.as_score(lambda x, sigma: -x)  # no log-density
        >>> kernel = score_only(cj.samplers.MALA(0.5), points=0)
        >>> x = jax.numpy.zeros((4, 1))
        >>> x, _ = cj.samplers.run_kernel(jax.random.key(0), kernel, x, score, 1.0, 5)
        >>> x.shape
        (4, 1)
    """
    if points not in range(len(LOBATTO)):
        raise ValueError(
            f"points = {points}: give 0, 1, 2 or 3 points between the ends of a line."
        )
    return ScoreOnly(kernel, points)
