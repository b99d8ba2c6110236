"""Rejection: keep of many proposals those of which a condition holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from compjax.types import PRNGKey, whole


class Kept(NamedTuple):
    """What `rejection` kept.

    Args:
        x: `[m, *d]` with m at most the wanted number; less if the rounds ran out.
        proposals: How many were looked at.
        share: The share of them that held: near 0, what was asked for is empty.
    """

    x: np.ndarray
    proposals: int
    share: float


def rejection(
    key: PRNGKey,
    propose: Callable[[PRNGKey], Any],
    holds: Callable[[PRNGKey, Any], Any],
    n: int,
    *,
    rounds: int = 100,
) -> Kept:
    r"""Proposals of which a condition holds.

    With lifts $\ell_i = \log p(x \mid c_i) - \log p(x)$ (`cj.lift`, or a difference of
    `log_prob`s) conditions are combined as truths are: `(l1 > 0) & (l2 > 0)` for AND,
    `|` for OR, `~` for NOT.  What is kept follows the proposals' law, restricted to
    where the condition holds: exact if that is what is wanted, as for uniform
    densities, and a filter otherwise.

    Args:
        key: A typed PRNG key.
        propose: From a key to `[b, *d]`.
        holds: From a key (for estimates) and `[b, *d]` to `[b]`, whether to keep.
        n: How many are wanted.
        rounds: How many batches of proposals at most.

    Returns:
        What was kept, on the host.

    Raises:
        ValueError: If n or rounds is not positive.

    Source: Yu et al. 2025 (CompLift, 2505.13740), for lifts.

    Example:
        >>> import compjax as cj
        >>> p = cj.densities.Box(jax.numpy.zeros(1), jax.numpy.ones(1))
        >>> kept = rejection(
        ...     jax.random.key(0),
        ...     lambda key: p.sample(key, 64),
        ...     lambda key, x: x[:, 0] < 0.5,
        ...     100,
        ... )
        >>> kept.x.shape, bool(kept.x.max() < 0.5)
        ((100, 1), True)
    """
    n, rounds = whole("n", n), whole("rounds", rounds)
    kept, proposals, held = [], 0, 0
    for key_round in jax.random.split(key, rounds):
        key_propose, key_hold = jax.random.split(key_round)
        x = propose(key_propose)
        held_now = np.asarray(holds(key_hold, x), bool)
        kept.append(np.asarray(x)[held_now])
        proposals += len(held_now)
        held += int(held_now.sum())
        if held >= n:
            break
    return Kept(np.concatenate(kept)[:n], proposals, held / proposals)
