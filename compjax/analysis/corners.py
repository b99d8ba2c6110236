r"""A composition that no sampler can follow: lemma 7.2, by construction.

Two features take the values 0 and L, $x = z_1 u + z_2 v$ with unit vectors at an angle.
In z the conditionals factorize and compose to the single point 0.  In x, at noise above
$\tau = \lVert Lu - Lv\rVert$, the corners Lu and Lv merge, and most of the mass of the
composed path sits there; below it has to jump to 0 while $\sigma$ falls by about
$\tau$.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from compjax.densities import Gaussian, GaussianMixture

LARGEST = 1e18
"""Of a length: its square is finite in float32."""


class Corners(NamedTuple):
    """The parts of lemma 7.2's composition.

    Args:
        background: Both features are independently 0 with probability `weight`.
        conditionals: In the first, feature 1 is 0; in the second, feature 2.
        target: What they compose to, the point 0.
        tau: The distance of the corners that merge, in the units of x.
        length: $L$, the value of a feature that is not 0.
    """

    background: GaussianMixture
    conditionals: tuple[GaussianMixture, GaussianMixture]
    target: Gaussian
    tau: float
    length: float


def corners(
    angle: float, weight: float = 0.1, length: float = 1.0, scale: float = 1e-3
) -> Corners:
    r"""The construction of lemma 7.2.

    Args:
        angle: Between the features' directions, in radians, in (0, pi/2]; at pi/2 the
            features are orthogonal and the composition is exact.
        weight: $w$, the background's probability that a feature is 0.
        length: $L$, the features' other value.
        scale: Points are Gaussians of this standard deviation, that is noised points:
            small beside `tau`.

    Returns:
        Parts, target and tau.

    Raises:
        ValueError: If a number is out of range.

    Source: ours, for Bradley et al. 2025, lemma 7.2.

    Example:
        >>> made = corners(np.pi / 3)
        >>> round(made.tau, 6), made.background.means.shape
        (1.0, (4, 2))
    """
    for name, value, low, high in (
        ("angle", angle, 0.0, np.pi / 2 + 1e-9),
        ("weight", weight, 0.0, 1 - 1e-9),
        ("length", length, 0.0, LARGEST),
        ("scale", scale, 0.0, LARGEST),
    ):
        if not low < value <= high:
            raise ValueError(
                f"{name} must lie in ({low:.3g}, {high:.3g}], got {value}."
            )
    along = np.array([np.cos(angle / 2), np.sin(angle / 2)])
    u, v = length * along, length * along * np.array([1, -1])
    zero = np.zeros(2)

    def points(places: Any, probabilities: Any) -> GaussianMixture:
        covs = np.broadcast_to(scale**2 * np.eye(2), (len(places), 2, 2))
        return GaussianMixture(np.log(probabilities), np.stack(places), covs)

    w = weight
    return Corners(
        background=points(
            [zero, u, v, u + v], [w**2, w * (1 - w), w * (1 - w), (1 - w) ** 2]
        ),
        conditionals=(points([zero, v], [w, 1 - w]), points([zero, u], [w, 1 - w])),
        target=Gaussian(zero, scale**2 * np.eye(2)),
        tau=float(np.linalg.norm(u - v)),
        length=float(length),
    )


def plateau(weight: float) -> float:
    r"""The share of mass at the merged corners, $\tau \ll \sigma \ll L$.

    The mass there is to that at 0 as $(1 - w)^2 / (2 w (1 - w)) = (1 - w) / (2 w)$.

    Args:
        weight: $w$, in (0, 1).

    Returns:
        The share, $(1 - w) / (1 + w)$.

    Raises:
        ValueError: If the weight is out of range.

    Source: ours; docs/math.md.

    Example:
        >>> round(plateau(0.1), 3)
        0.818
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie in (0, 1), got {weight}.")
    return (1 - weight) / (1 + weight)


def jump(level: Any, weight: float) -> Float[np.ndarray, "..."]:
    r"""The share of mass at the merged corners at $\sigma = s\,\tau$, as $\tau \to 0$.

    $$\frac{r}{1 + r}, \qquad r(s) = \frac{1 - w}{w}\, e^{-1/8s^2}\,
      E_{\xi \sim N(0, 1)}\Bigl[\frac{1}{2\cosh(\xi / 2s)}\Bigr],$$

    which climbs from 0 to `plateau(weight)` while s goes from 0.2 to a few.

    Args:
        level: $s = \sigma / \tau$, positive.
        weight: $w$, in (0, 1).

    Returns:
        Shares of mass, of the shape of `level`.

    Raises:
        ValueError: If a level or the weight is out of range.

    Source: ours; docs/math.md.

    Example:
        >>> jump(np.array([0.1, 1.0, 100.0]), 0.1).round(3)
        array([0.   , 0.782, 0.818])
    """
    s = np.asarray(level, np.float64)
    if not ((s > 0).all() and 0 < weight < 1):
        raise ValueError(
            f"level must be positive and weight in (0, 1), got {level} and {weight}."
        )
    # The integrand is smooth and Gaussian at both ends: trapezoids converge
    # exponentially, and 2001 of them resolve 1 / cosh(xi / 2s) down to s = 0.01.
    xi = np.linspace(-10, 10, 2001)
    bell = np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi)
    decay = np.abs(xi) / (2 * s[..., None])
    sech_half = np.exp(-decay) / (1 + np.exp(-2 * decay))
    mean = np.trapezoid(bell * sech_half, xi, axis=-1)
    ratio = (1 - weight) / weight * np.exp(-1 / (8 * s**2)) * mean
    return np.asarray(ratio / (1 + ratio))


class Profile(NamedTuple):
    """The composed law at one noise level, along the bisector of the two features.

    Args:
        along: `[m]`, distances from 0 along the bisector.
        density: `[m]`, the marginal density there, normalised.
    """

    along: Float[np.ndarray, " m"]
    density: Float[np.ndarray, " m"]


def profile(made: Corners, sigma: float) -> Profile:
    r"""The marginal of $C[p^\sigma]$ along the bisector, by quadrature.

    Args:
        made: What `corners` returned.
        sigma: Noise level; with the scale of the points, at least L / 1000.

    Returns:
        The marginal on a grid of a quarter of a standard deviation.

    Raises:
        ValueError: If the grid would be too large.

    Source: ours.

    Example:
        >>> found = profile(corners(np.pi / 2), 0.2)
        >>> round(float(np.trapezoid(found.density, found.along)), 6)
        1.0
    """
    from scipy.special import logsumexp

    variance = float(made.target.cov[0, 0]) + sigma**2
    width, far = variance**0.5, float(np.linalg.norm(made.background.means[3]))
    if not 1e-3 * made.length <= width:
        raise ValueError(
            f"sigma must be at least {1e-3 * made.length:.3g}, got {sigma}."
        )
    # Beyond 7 standard deviations of the outermost points lies less than 1e-11, and
    # trapezoids of a quarter of one are exact for Gaussians to about as much.
    half = made.tau / 2 + 7 * width
    axis = lambda low, high: np.linspace(low, high, int(4 * (high - low) / width) + 2)
    along, across = axis(-7 * width, far + 7 * width), axis(-half, half)

    def log_density(part: GaussianMixture) -> np.ndarray:
        means, logs = np.asarray(part.means, float), np.asarray(part.log_weights, float)
        x = -((along[None] - means[:, :1]) ** 2) / (2 * variance)
        y = -((across[None] - means[:, 1:]) ** 2) / (2 * variance)
        joint = logs[:, None, None] + x[:, :, None] + y[:, None, :]
        return np.asarray(logsumexp(joint, axis=0))

    first, second = map(log_density, made.conditionals)
    logs = first + second - log_density(made.background)
    density = np.trapezoid(np.exp(logs - logs.max()), across, axis=1)
    return Profile(along, density / np.trapezoid(density, along))


def corner_mass(made: Corners, sigma: float) -> float:
    r"""The share of the mass of $C[p^\sigma]$ that is nearer the corners than 0.

    Args:
        made: What `corners` returned.
        sigma: Noise level.

    Returns:
        A share, by quadrature; the composition itself has none of it.

    Raises:
        ValueError: As `profile`.

    Source: ours.

    Example:
        >>> made = corners(0.05, weight=0.1)
        >>> [round(corner_mass(made, s * made.tau), 2) for s in (0.1, 1.0)]
        [0.0, 0.78]
    """
    middle = float(np.linalg.norm(made.background.means[3])) / 4
    along, cumulative = _cumulative(profile(made, sigma))
    return float(1 - np.interp(middle, along, cumulative))


def path_speed(made: Corners, sigma: float, sigma_next: float) -> float:
    r"""A lower bound on the speed of the composed path between two noise levels.

    $$\frac{W_2(C[p^\sigma], C[p^{\sigma'}])}{\lvert\sigma - \sigma'\rvert}$$

    It is the exact ratio of the marginals along the bisector, which is smaller, as
    projections shrink distances.  The parts of any composition have ratios of at most
    the square root of the dimension, here $\sqrt 2$.

    Args:
        made: What `corners` returned.
        sigma: A noise level.
        sigma_next: Another.

    Returns:
        The ratio.

    Raises:
        ValueError: If the levels are equal, or as `profile`.

    Source: ours, for Bradley et al. 2025, lemma 7.2.

    Example:
        >>> made = corners(0.05, weight=0.1)
        >>> path_speed(made, made.tau, 0.2 * made.tau) > 1 / (2 * made.tau)
        True
    """
    if sigma == sigma_next:
        raise ValueError(f"A speed needs two noise levels, got {sigma} twice.")
    levels = (np.arange(20_000) + 0.5) / 20_000
    ends = []
    for level in (sigma, sigma_next):
        along, cumulative = _cumulative(profile(made, level))
        ends.append(np.interp(levels, cumulative, along))
    distance = np.sqrt(np.mean((ends[0] - ends[1]) ** 2))
    return float(distance / abs(sigma - sigma_next))


def _cumulative(found: Profile) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function of a profile."""
    from scipy.integrate import cumulative_trapezoid

    cumulative = np.asarray(cumulative_trapezoid(found.density, found.along, initial=0))
    return found.along, cumulative / cumulative[-1]
