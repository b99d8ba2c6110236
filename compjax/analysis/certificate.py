r"""The bias certificate: does plain reverse diffusion sample this composition?

The path of composed densities $u_\tau = C[p^\tau]$, $\tau = \sigma^2$, obeys

$$\partial_\tau u = \tfrac12 \Delta u - V u, \qquad
  V = \tfrac12 \Bigl(\bigl\lVert \sum_i w_i \delta_i \bigr\rVert^2
      - \sum_i w_i \lVert \delta_i \rVert^2\Bigr), \quad \delta_i = s_i - s_b,$$

which is the heat equation, and so the path of noised compositions, if and only if V is
constant in x (Theorem N, docs/math.md).  Otherwise $\int V d\tau$ along a sampled path
is the logarithm of its importance weight.  All of it is made of the k + 1 scores that a
sampler evaluates anyway.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.compose.weighted import contract
from compjax.noise import check_sigmas
from compjax.samplers import Ancestral, effective_sample_size, sample
from compjax.samplers.weights import check_parts, differences, is_composition
from compjax.types import (
    Number,
    PRNGKey,
    ScoreFn,
    Sigma,
    as_float,
    concrete,
    inner,
    pytree,
)


def criterion(
    composition: Any, x: Float[Array | np.ndarray, "b *d"], sigma: Sigma
) -> Float[Array, " b"]:
    r"""How much a composition creates or destroys mass where noise would not.

    $$V(x, \sigma) = \tfrac12 \Bigl(\bigl\lVert \sum_i w_i \delta_i \bigr\rVert^2 -
        \sum_i w_i \lVert \delta_i \rVert^2\Bigr), \qquad \delta_i = s_i - s_b,$$

    for unit weights the sum of $\langle \delta_i, \delta_j \rangle$ over all pairs.
    Composing commutes with noise if and only if V is constant in x at every noise
    level.  Its value does not depend on which part is called the background.

    Args:
        composition: What `compose`, `compose_conditions`, `guide` or `negate` returns,
            or a `product` whose weights sum to one.
        x: `[b, *d]`.
        sigma: Noise level.

    Returns:
        `[b]`, in units of 1 / x^2.

    Raises:
        ValueError: If the composition has no parts, a part is itself a composition, or
            the coefficients do not sum to one.

    Source: Ours, Theorem N; equation 4 of docs/math.md.

    Example:
        >>> import compjax as cj
        >>> at = lambda *m: cj.densities.Gaussian(jnp.array(m), jnp.eye(2))
        >>> orthogonal = cj.compose(at(0.0, 0.0), at(1.0, 0.0), at(0.0, 2.0))
        >>> aligned = cj.compose(at(0.0, 0.0), at(1.0, 0.0), at(2.0, 0.0))
        >>> x = jnp.ones((1, 2))
        >>> [criterion(c, x, 1.0).round(4).tolist() for c in (orthogonal, aligned)]
        [[0.0], [0.5]]
    """
    check_composition(composition)
    x = as_float(x)
    value, _ = _evaluate(composition, x, sigma)
    return value


def check_composition(composition: Any) -> None:
    """Raises a ValueError unless Theorem N speaks of a composition.

    Args:
        composition: What the user passed.

    Raises:
        ValueError: If it has no parts, or a part is itself a composition.

    Example:
        >>> check_composition(jnp.tanh)
        Traceback (most recent call last):
        ...
        ValueError: A certificate needs the parts of a composition, which cj.compose ...
    """
    if not is_composition(composition):
        raise ValueError(
            "A certificate needs the parts of a composition, which cj.compose and "
            f"cj.compose_conditions keep; got {type(composition).__name__}."
        )
    check_parts(composition)


def _evaluate(composition: Any, x: Array, sigma: Sigma) -> tuple[Array, Array]:
    """V `[b]` and the composed score, of one evaluation of the parts."""
    coefficients = composition.coefficients(sigma)
    _check_affine(coefficients.sum(0))
    parts = composition.parts(x, sigma)
    shift, apart = differences(coefficients, parts)
    return (inner(shift, shift) - apart) / 2, contract(coefficients, parts)


def _check_affine(total: Array) -> None:
    value = concrete(total)
    if value is not None and not np.allclose(value, 1.0, atol=1e-4):
        raise ValueError(
            f"The coefficients sum to {value}, not to one: compose over a background, "
            "whose coefficient is what the weights leave."
        )


class WeightedInfo(NamedTuple):
    """What `Weighted` reports of a step: evaluations, and V where it began, `[b]`."""

    evaluations: Int[Array, ""]
    criterion: Float[Array, " b"]


@pytree
class Weighted:
    r"""A sampler that also reports V, from the parts it evaluates anyway.

    The marginals of the composed path follow from $\exp \int V d\sigma^2$ for the
    reverse SDE at every eta, and so for the probability flow, because the drift is
    the gradient of the path's own log-density.

    Args:
        sampler: One that evaluates the score once a step, at its state's x.

    Raises:
        ValueError: On a step, if the sampler evaluates the score anywhere else.

    Source: Ours; weights of this kind are Feynman-Kac corrections (Skreta et al. 2025,
        2503.02819, there for products).

    Example:
        >>> import compjax as cj
        >>> at = lambda m: cj.densities.Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> both, grid = cj.compose(at(0.0), at(1.0), at(2.0)), cj.karras_sigmas(8)
        >>> _, info = cj.sample(jax.random.key(0), both, Weighted(), (4, 1), grid)
        >>> info.criterion.shape
        (8, 4)
    """

    sampler: Any = dataclasses.field(default_factory=Ancestral)

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Any:
        """The state of the sampler inside."""
        return self.sampler.init(key, x, sigmas)

    def step(
        self,
        key: PRNGKey,
        state: Any,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[Any, WeightedInfo]:
        """One evaluation of the parts at (x, sigma)."""
        value, composed = _evaluate(score, state.x, sigma)

        def evaluated(x: Array, level: Sigma) -> Array:
            if x is not state.x or level is not sigma:
                raise ValueError(
                    f"{self.sampler!r} evaluates the score between the levels of the "
                    "grid, where no weight is kept: take Ancestral() or Euler()."
                )
            return composed

        state, info = self.sampler.step(key, state, evaluated, sigma, sigma_next)
        return state, WeightedInfo(info.evaluations, value)


class Certificate(NamedTuple):
    r"""Samples of a composition, and what their weights say of them.

    Args:
        x: `[b, *d]`, samples of plain reverse diffusion.
        log_weights: `[b]`, $\int V d\sigma^2$ along each path: `softmax` of them
            corrects averages over x.
        sigmas: `[n]`, the levels at which V was evaluated.
        deviation: `[n]`, the standard deviation of V over the samples at each level.
        integral: $\int sd(V)\,d\sigma^2$, no unit: 0 if and only if nothing is to be
            corrected.
        effective_sample_size: $(\sum W)^2 / \sum W^2$, as a share of b, in (0, 1].
        kl_bound: $\log E W - E \log W \ge KL(\text{sampled law} \,\|\, C[p])$, in
            nats, estimated from the b weights: too small once the effective sample
            size is near 1 / b.
    """

    x: Float[Array, "b *d"]
    log_weights: Float[Array, " b"]
    sigmas: Float[Array, " n"]
    deviation: Float[Array, " n"]
    integral: Float[Array, ""]
    effective_sample_size: Float[Array, ""]
    kl_bound: Float[Array, ""]


def certificate(
    key: PRNGKey,
    composition: Any,
    shape: tuple[int, ...],
    sigmas: Float[Array | np.ndarray, " levels"],
    *,
    sampler: Any = None,
    start: Float[Array, "b *d"] | None = None,
    sharding: Any = None,
) -> Certificate:
    r"""Samples of a composition with the weights that correct them.

    $$\log W = \int V\,d\sigma^2 \quad \text{(trapezoids)}, \qquad
      KL(\text{sampled law} \,\|\, C[p]) \le \log E\,W - E \log W.$$

    It needs no exact partner and no evaluation that sampling does not need.  It speaks
    of the scores it is given: it says whether diffusion samples their composition, not
    whether that composition is projective, nor whether the scores were learned well.
    The batch is one population: one composition, the same for every sample.

    Args:
        key: A typed PRNG key.
        composition: As for `criterion`, with weights that do not change with sigma.
        shape: `[b, *d]`, the shape of the samples.
        sigmas: Decreasing noise levels, from one that drowns the data; only the last
            may be 0.
        sampler: As for `Weighted`; None for `Ancestral()`, the reverse SDE.
        start: As for `sample`.
        sharding: As for `sample`.

    Returns:
        A `Certificate`.

    Raises:
        ValueError: As `criterion` and `sample`; or if weights change with sigma, or
            conditions with the sample.

    Source: Ours, Theorem N (docs/math.md); cf. Skreta et al. 2025 (2503.02819).

    Example:
        >>> import compjax as cj
        >>> at = lambda *m: cj.densities.Gaussian(jnp.array(m), jnp.eye(2))
        >>> exact = cj.compose(at(0.0, 0.0), at(1.0, 0.0), at(0.0, 2.0))
        >>> grid = cj.karras_sigmas(8)
        >>> report = certificate(jax.random.key(0), exact, (16, 2), grid)
        >>> [round(abs(float(v)), 4) for v in (report.kl_bound, report.integral)]
        [0.0, 0.0]
    """
    check_composition(composition)
    check_sigmas(sigmas)
    sigmas = as_float(sigmas)
    _check_population(composition, sigmas)
    weighted = Weighted(Ancestral() if sampler is None else sampler)
    x, info = sample(
        key, composition, weighted, shape, sigmas, start=start, sharding=sharding
    )
    return Certificate(x, *_summary(info.criterion, sigmas))


def _check_population(composition: Any, sigmas: Array) -> None:
    _check_affine(composition.coefficients(sigmas[0]).sum(0))
    coefficients = concrete(jax.vmap(composition.coefficients)(sigmas[:-1]))
    if coefficients is not None and np.ptp(coefficients, axis=0).max() > 1e-5:
        raise ValueError(
            f"Weights change along the grid, from {coefficients[0]} to "
            f"{coefficients[-1]}: Theorem N holds for constant ones."
        )
    batches = {leaf.shape[1] for leaf in _conditions(composition)}
    if batches - {1} or (coefficients is not None and coefficients.ndim == 3):
        raise ValueError(
            "Every sample has conditions or weights of its own, and their importance "
            "weights do not compare: give conditions [k, 1, ...] and weights [k], one "
            "composition at a time."
        )


def _conditions(composition: Any) -> list[Array]:
    return jax.tree.leaves(getattr(composition, "conditions", ()))


@jax.jit
def _summary(values: Array, sigmas: Array) -> tuple[Array, ...]:
    """What a certificate says beside its samples, of V `[n, b]` on a grid `[n + 1]`.

    Trapezoids, but for the last step, at whose end nothing was evaluated.  One program,
    because a CPU's devices can deadlock while they reduce for several at a time.
    """
    steps = -jnp.diff(sigmas**2)
    shares = (steps + jnp.concatenate([jnp.zeros(1), steps[:-1]])) / 2
    shares = shares.at[-1].add(steps[-1] / 2)
    deviation = values.std(1)
    log_weights = shares @ values
    return (
        log_weights,
        sigmas[:-1],
        deviation,
        shares @ deviation,
        effective_sample_size(log_weights),
        kl_bound(log_weights),
    )


def kl_bound(log_weights: Any) -> Float[Array, ""]:
    r"""$\log E\,W - E \log W$: how far weighting moves the law of the paths, in nats.

    It is $KL(Q \,\|\, P)$ of the sampled path law Q and the weighted one P, and so
    bounds that of their ends.

    Args:
        log_weights: `[b]`, finite, up to a constant.

    Returns:
        A scalar in nats, not negative.

    Source: Ours (data processing).

    Example:
        >>> float(kl_bound(jnp.full(5, 3.0)))
        0.0
    """
    logs = as_float(log_weights)
    centred = logs - logs.mean()
    return jax.nn.logsumexp(centred) - np.log(logs.size)
