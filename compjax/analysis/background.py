r"""Is the background a mixture of its own conditionals?  Setting B, before sampling.

Three numbers of densities tell the settings apart, and scores alone give all of them:

* $KL(p_i \,\|\, p_b)$ and $KL(p_b \,\|\, p_i)$: a background that *contains* condition
  i, as a mixture does and clutter does, is close to it in the first sense only;
* $Z_{ij} = E_{p_b}[\rho_i \rho_j]$ with $\rho_i = p_i / p_b$: how much likelier j is
  where i is.  It is 1 for factorized conditionals, the clutter of setting C among them,
  and near 0 for parts of a mixture, where i rules out j.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.analysis.certificate import certificate
from compjax.compose import compose
from compjax.noise import check_sigmas
from compjax.types import PRNGKey, as_float


class Background(NamedTuple):
    r"""What a background has to do with its conditionals.

    Args:
        to_background: `[k]`, $KL(p_i \,\|\, p_b)$ in nats.
        from_background: `[k]`, $KL(p_b \,\|\, p_i)$.
        log_ratio: `[k, k]`, $\log Z_{ij}$ in nats; 0 on the diagonal.
        contained: `[k]`, whether the background holds condition i.
        exclusive: The pairs (i, j) that it holds both, and never together.
        mixture: Whether there are any: it looks like a mixture of its conditionals.
    """

    to_background: Float[np.ndarray, " k"]
    from_background: Float[np.ndarray, " k"]
    log_ratio: Float[np.ndarray, "k k"]
    contained: np.ndarray
    exclusive: tuple[tuple[int, int], ...]
    mixture: bool


def background_report(
    key: PRNGKey,
    background: Any,
    conditionals: Sequence[Any],
    draws: Sequence[Any],
    sigmas: Float[Array | np.ndarray, " levels"],
    *,
    asymmetry: float = 0.5,
    ratio: float = 0.5,
) -> Background:
    r"""Warns of a background that is a mixture of its conditionals.

    From scores alone, at k + 1 evaluations a level and one short sampling run a pair:

    $$KL(p \,\|\, q) = \tfrac12 \int E_p \lVert s_p - s_q \rVert^2\,d\sigma^2, \qquad
      Z_{ij} = E[W_{ij}]$$

    with the weights W of the `certificate` of `compose(b, i, j)`.  It warns where two
    conditions are both contained, $KL(p_i \| p_b) < a\,KL(p_b \| p_i)$, and exclude
    each other, $Z_{ij} < r$.  One conditional never warns: over any background it
    composes to itself.

    Args:
        key: A typed PRNG key.
        background: $s_b$.
        conditionals: $s_1, ..., s_k$.
        draws: Clean samples `[n, *d]` of the background, then of each conditional.
        sigmas: Decreasing noise levels; only the last may be 0.
        asymmetry: $a$, in (0, 1).
        ratio: $r$, in (0, 1).

    Returns:
        A `Background`.

    Raises:
        ValueError: If there is no conditional, not one set of draws for every part,
            thresholds are out of range, or as `certificate`.

    Source: Ours (docs/math.md); settings A, B, C are those of Bradley et al. 2025.

    Example:
        >>> import compjax as cj
        >>> at = lambda m: cj.densities.Gaussian(jnp.array([m]), jnp.eye(1))
        >>> i, j = at(-3.0), at(3.0)
        >>> parts = cj.mixture(i, j), i, j
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> draws = [p.sample(k, 200) for p, k in zip(parts, keys)]
        >>> grid = cj.karras_sigmas(50, 0.05, 40.0)
        >>> background_report(keys[0], parts[0], [i, j], draws, grid).mixture
        True
    """
    if not len(conditionals):
        raise ValueError("Give at least one conditional score.")
    scores = (background, *conditionals)
    if len(draws) != len(scores):
        raise ValueError(
            f"{len(scores)} scores need as many sets of draws, got {len(draws)}."
        )
    if not (0 < asymmetry < 1 and 0 < ratio < 1):
        raise ValueError(
            f"asymmetry and ratio must lie in (0, 1), got {asymmetry} and {ratio}."
        )
    sigmas, draws = as_float(sigmas), [as_float(x) for x in draws]
    key_noise, key_pairs = jax.random.split(key)
    keys = jax.random.split(key_noise, 2 * len(conditionals))
    to, back = [], []
    for i, score in enumerate(conditionals):
        to.append(score_kl(keys[2 * i], score, background, draws[i + 1], sigmas))
        back.append(score_kl(keys[2 * i + 1], background, score, draws[0], sigmas))
    to, back = np.array(to, float), np.array(back, float)
    log_ratio = _log_ratios(key_pairs, background, conditionals, draws[0].shape, sigmas)
    contained = to < asymmetry * back
    exclusive = tuple(
        (i, j)
        for i, j in itertools.combinations(range(len(conditionals)), 2)
        if contained[i] and contained[j] and log_ratio[i, j] < np.log(ratio)
    )
    return Background(to, back, log_ratio, contained, exclusive, bool(exclusive))


def score_kl(
    key: PRNGKey, p: Any, q: Any, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
) -> Float[Array, ""]:
    r"""$KL(p\,\|\,q) = \tfrac12 \int E_p \lVert s_p - s_q \rVert^2 d\sigma^2$, in nats.

    Args:
        key: A typed PRNG key, for the noise.
        p: A score function.
        q: Another.
        x: Clean samples of p.
        sigmas: Decreasing noise levels; what lies below the last positive one is left
            out, and what lies above the first.

    Returns:
        Nats, of trapezoids in $\log \sigma$.

    Raises:
        ValueError: If sigmas do not decrease.

    Source: De Bruijn's identity; Song et al. 2021 (2101.09258), theorem 2.

    Example:
        >>> import compjax as cj
        >>> p, q = (cj.densities.Gaussian([m], [[1.0]]) for m in (0.0, 2.0))
        >>> x, grid = jnp.zeros((4, 1)), cj.karras_sigmas(200, 0.01, 80.0)
        >>> round(float(score_kl(jax.random.key(0), p, q, x, grid)), 1)  # 2^2 / 2
        2.0
    """
    check_sigmas(sigmas)
    levels = jnp.where(sigmas > 0, sigmas, sigmas[-2])
    return _score_kl(key, p, q, x, levels)


@jax.jit
def _score_kl(key: PRNGKey, p: Any, q: Any, x: Array, levels: Array) -> Array:
    squares = score_squares(key, p, q, x, levels).mean(1)
    # Trapezoids in log sigma, where the integrand sigma^2 |ds|^2 is smooth.
    values = levels**2 * squares
    return -((values[1:] + values[:-1]) / 2 * jnp.diff(jnp.log(levels))).sum()


def score_squares(
    key: PRNGKey,
    p: Any,
    q: Any,
    x: Float[Array, "b *d"],
    levels: Float[Array, " levels"],
) -> Float[Array, "levels b"]:
    r"""$\lVert s_p - s_q \rVert^2$ at every sample, noised to every level.

    Args:
        key: A typed PRNG key, for the noise.
        p: A score function.
        q: Another.
        x: Clean samples.
        levels: Noise levels, positive.

    Example:
        >>> import compjax as cj
        >>> p, q = (cj.densities.Gaussian([m], [[1.0]]) for m in (0.0, 2.0))
        >>> x, levels = jnp.zeros((2, 1)), jnp.ones(1)
        >>> score_squares(jax.random.key(0), p, q, x, levels).round(4)
        Array([[1., 1.]], dtype=float32)
    """

    def square(inputs: tuple[Array, Array]) -> Array:
        key, sigma = inputs
        noised = x + sigma * jax.random.normal(key, x.shape, x.dtype)
        difference = p(noised, sigma) - q(noised, sigma)
        return (difference**2).reshape(len(x), -1).sum(1)

    return jax.lax.map(square, (jax.random.split(key, len(levels)), levels))


def _log_ratios(
    key: PRNGKey,
    background: Any,
    conditionals: Sequence[Any],
    shape: tuple[int, ...],
    sigmas: Array,
) -> np.ndarray:
    """`log E[W]` of the composition of every pair, `[k, k]`."""
    k = len(conditionals)
    ratios = np.zeros((k, k))
    pairs = list(itertools.combinations(range(k), 2))
    keys = jax.random.split(key, len(pairs))
    for key_pair, (i, j) in zip(keys, pairs, strict=True):
        pair = compose(background, conditionals[i], conditionals[j])
        logs = certificate(key_pair, pair, shape, sigmas).log_weights
        ratios[i, j] = ratios[j, i] = jax.nn.logsumexp(logs) - np.log(len(logs))
    return ratios
