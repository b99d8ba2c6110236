"""What parts that factorize only approximately, or are learned, can cost a composition.

All of it is ours: the paper's own statement of approximate factorization was not
available to us.  docs/math.md has the proofs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


def composed_error(errors: Any, background_error: float, weights: Any = None) -> float:
    r"""The error of a composition from those of its parts, by the triangle inequality.

    $$E = \sum_i \lvert w_i\rvert\,\epsilon_i
      + \bigl\lvert 1 - \sum_i w_i\bigr\rvert\,\epsilon_b$$

    which for unit weights is $\sum_i \epsilon_i + (k - 1)\,\epsilon_b$.  It bounds what
    is linear in the parts: log-densities (up to the constant) and scores.

    Args:
        errors: `[k]`, a bound for each conditional, in one norm.
        background_error: That of the background.
        weights: `[k]`; ones if None.

    Returns:
        $E$.

    Raises:
        ValueError: If an error is negative or not a number, or the weights do not fit.

    Source: ours; docs/math.md.

    Example:
        >>> composed_error([0.1, 0.1, 0.1], 0.05)
        0.4
    """
    errors = np.asarray(errors, np.float64)
    w = np.ones(errors.shape) if weights is None else np.asarray(weights, np.float64)
    if errors.ndim != 1 or w.shape != errors.shape:
        raise ValueError(
            f"errors and weights must both be [k], got {errors.shape} and {w.shape}."
        )
    if not ((errors >= 0).all() and background_error >= 0):
        raise ValueError(
            f"Errors are not negative, got {errors} and {background_error}."
        )
    return float(np.abs(w) @ errors + abs(1 - w.sum()) * background_error)


class DensityBound(NamedTuple):
    """What a bound on log-densities says of the composed laws.

    Args:
        kl: Largest divergence, either way, in nats.
        total_variation: Largest total variation.
    """

    kl: float
    total_variation: float


def density_bound(error: float) -> DensityBound:
    r"""How far two compositions can be apart whose log-densities differ by E at most.

    If $\lvert\log C[p] - \log C[q]\rvert \le E$ pointwise *before* normalisation, then

    $$KL \le E\coth E - 1 + \log\frac{\sinh E}{E} \le \min(E^2/2,\; 2E), \qquad
      TV \le \tanh(E/2) \le \min(E/2,\; \sqrt E).$$

    The first bounds are attained, by log-densities that differ by +E or -E.

    Args:
        error: $E$, from `composed_error`.

    Returns:
        The attained bounds.

    Raises:
        ValueError: If the error is negative or not finite.

    Source: ours.

    Example:
        >>> bound = density_bound(0.1)
        >>> round(bound.kl, 5), round(bound.total_variation, 5)
        (0.005, 0.04996)
    """
    e = float(error)
    if not 0 <= e < np.inf:
        raise ValueError(
            f"The error of log-densities is finite and not negative, got {error}."
        )
    if e < 1e-3:  # where the formula cancels; the next term of its series is O(E^6)
        return DensityBound(e**2 / 2 - e**4 / 36, float(np.tanh(e / 2)))
    # sinh E = e^E (1 - e^{-2E}) / 2, which does not overflow in this form.
    log_sinh = e + np.log(-np.expm1(-2 * e)) - np.log(2)
    kl = e / np.tanh(e) - 1 + log_sinh - np.log(e)
    return DensityBound(float(kl), float(np.tanh(e / 2)))


def girsanov_bound(sigmas: Any, squared_errors: Any) -> float:
    r"""The divergence of two reverse diffusions whose scores differ.

    $$KL(P \| Q) = \tfrac12 \int E_P \|s_P - s_Q\|^2 \, d\sigma^2$$

    between the laws of whole paths from a common start, so at least the divergence of
    their ends.  Score errors of k parts add up, and enter squared: at equal errors the
    bound grows like $(2k - 1)^2$.

    Args:
        sigmas: `[n]`, noise levels, rising or falling.
        squared_errors: `[n]`, the mean squared norm of the difference at each, under
            the first law.

    Returns:
        Nats, by the trapezoidal rule in $\sigma^2$.

    Raises:
        ValueError: If the shapes differ, levels are not in order, or one of them or an
            error is negative.

    Source: Girsanov's theorem; docs/math.md.

    Example:
        >>> girsanov_bound([0.0, 1.0, 2.0], [0.5, 0.5, 0.5])
        1.0
    """
    sigmas, errors = (np.asarray(v, np.float64) for v in (sigmas, squared_errors))
    if sigmas.ndim != 1 or sigmas.shape != errors.shape or len(sigmas) < 2:
        raise ValueError(
            f"sigmas and squared_errors must both be [n], n >= 2, got {sigmas.shape} "
            f"and {errors.shape}."
        )
    steps = np.diff(sigmas)
    if not ((sigmas >= 0).all() and ((steps > 0).all() or (steps < 0).all())):
        raise ValueError(
            f"sigmas are not negative and rise or fall throughout, got {sigmas}."
        )
    if not (errors >= 0).all():
        raise ValueError(f"Squared errors are not negative, got {errors}.")
    return float(0.5 * abs(np.trapezoid(errors, sigmas**2)))
