r"""Why the unconditional background fades: the 1/k law and what replaces it in noise.

The conditionals are $p_i = N(e_i, v I)$ in n dimensions, and the unconditional $p_u$ is
their equal mixture.  All of this is ours; Bradley et al. 2025, appendix G, has the
setting and its picture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Strengths(NamedTuple):
    """The mode of the composition over the unconditional background.

    Args:
        requested: What each of the k requested coordinates shows; 1 was asked for.
        others: What each of the remaining n - k shows; 0 was asked for.
    """

    requested: float
    others: float


def composed_strength(k: int, n: int, variance: float) -> Strengths:
    r"""How strongly k requested coordinates show over the unconditional background.

    The composed score is $\bigl(\sum_{i \in S} e_i - (k-1)\,w(x) - x\bigr) / v$ with
    responsibilities $w = \mathrm{softmax}(x / v)$.  Its only zero solves

    $$v \log\frac{w_r}{w_o} = 1 - (k - 1)(w_r - w_o), \qquad k w_r + (n - k) w_o = 1,$$

    and shows $1 - (k-1) w_r$ at requested and $-(k-1) w_o$ at other coordinates.  As
    $v \to 0$ these tend to $1/k$ and 0; at every v they add up to 1, to one object.

    Args:
        k: How many coordinates are requested, from 1 to n.
        n: How many there are.
        variance: $v$, of the conditionals and the noise together, positive.

    Returns:
        The mode, which is the only one, as the composition is log-concave.

    Raises:
        ValueError: If a number is out of range.

    Source: ours; docs/math.md.

    Example:
        >>> [round(composed_strength(4, 8, v).requested, 3) for v in (0.01, 0.25, 1.0)]
        [0.25, 0.354, 0.493]
    """
    if not 1 <= k <= n:
        raise ValueError(f"k must lie between 1 and n = {n}, got {k}.")
    if not 0 < variance < np.inf:
        raise ValueError(f"variance must be positive and finite, got {variance}.")
    if k in (1, n):  # nothing to fade with, or nobody to share with
        return Strengths(1 / k, 0.0)
    from scipy.optimize import brentq

    # In the log-ratio r = log(w_r / w_o) the equation is smooth and increasing, and
    # lies between 0 and the gap 1 / v that a background would leave.
    def responsibilities(ratio: float) -> tuple[float, float]:
        small = np.exp(-ratio)
        total = k + (n - k) * small
        return 1 / total, small / total

    def excess(ratio: float) -> float:
        requested, others = responsibilities(ratio)
        return variance * ratio - 1 + (k - 1) * (requested - others)

    ratio: Any = brentq(excess, 0.0, 1 / variance, xtol=1e-14)
    requested, others = responsibilities(ratio)
    return Strengths(float(1 - (k - 1) * requested), float(-(k - 1) * others))
