r"""How local is a score?  Its squared derivatives by distance, against sigma.

Three questions about any model, one object to read the answers from:

* `locality`: how far do outputs look for *pixels*?
* `condition_locality`: how far does one *condition* act?
* `interaction`, `delta_cosines`: do conditions act independently of each other?

What the shares of a trained model mean shows beside the same curve of densities whose
locality is known, such as `gaussian_like` the data: high noise makes every score more
diagonal, and every denoiser less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from compjax.analysis.influence import Views
from compjax.analysis.influence_maps import (
    by_distance,
    distance_bins,
    influence_by_distance,
)
from compjax.analysis.interaction import Estimate
from compjax.densities import Gaussian
from compjax.types import (
    Condition,
    ConditionalScore,
    PRNGKey,
    ScoreFn,
    as_float,
    pytree,
    whole,
)
from compjax.windows import Windows


class Locality(NamedTuple):
    r"""Squared derivatives, sorted by the distance at which they act.

    Args:
        sigmas: `[n]`, noise levels.
        distances: `[m]`, those that occur, rising; in pixels for windows of images.
        mass: `Views` of `[n, b, m]`: for every level and sample, squared derivatives
            (or differences) at each distance, summed over outputs.
    """

    sigmas: Float[np.ndarray, " n"]
    distances: Float[np.ndarray, " m"]
    mass: Views

    def beyond(self, radius: float) -> Views:
        r"""The share of the mass further than a radius: the off-window share.

        Args:
            radius: In the units of the distances.

        Returns:
            `Views` of `Estimate` of `[n]`.  Errors treat samples as independent draws
            and hold those of the probes.
        """
        far = self.distances > radius
        return Views(
            *(_ratio(mass[..., far].sum(-1), mass.sum(-1)) for mass in self.mass)
        )

    def radius(self, share: float = 0.9) -> Views:
        r"""The smallest radius within which a share of the mass acts, such as $r_{90}$.

        Args:
            share: In (0, 1).

        Returns:
            `Views` of `[n]`; NaN where there is no mass.

        Raises:
            ValueError: If the share is not in (0, 1).
        """
        if not 0 < share < 1:
            raise ValueError(f"share must be in (0, 1), got {share}.")
        return Views(*(self._radius(mass.sum(1), share) for mass in self.mass))

    def strength(self) -> Views:
        """Root mean squares over samples: how much is acted in all.

        Returns:
            `Views` of `[n]`.
        """
        return Views(*(np.sqrt(mass.sum(-1).mean(-1)) for mass in self.mass))

    def _radius(self, mass: np.ndarray, share: float) -> np.ndarray:
        total = mass.sum(-1, keepdims=True)
        # Rounding may leave the last sum below the share of the total.
        within = np.cumsum(mass, axis=-1) >= share * total * (1 - 1e-6)
        return np.where(total[:, 0] > 0, self.distances[within.argmax(-1)], np.nan)

    def __str__(self) -> str:
        rows = ["  sigma   r90 of s, D, eps      beyond 0 of s, D, eps"]
        radii, shares = self.radius(), self.beyond(0.0)
        for i, sigma in enumerate(self.sigmas):
            near = "".join(f"{r[i]:6.4g}" for r in radii)
            far = "".join(f"{e.mean[i]:9.1%}" for e in shares)
            rows.append(f"{sigma:7.3g}  {near}   {far}")
        return "\n".join(rows)


def locality(
    key: PRNGKey,
    score: ScoreFn,
    x0: Any,
    sigmas: Any,
    windows: Windows,
    probes: int = 4,
) -> Locality:
    r"""How far outputs look for pixels, at each noise level.

    Draws $x = x_0 + \sigma\epsilon$, and random signs on each tile of outputs; the
    squared vector-Jacobian products are summed by their distance from the tile.  For
    tiles of one pixel and many probes it is the whole squared Jacobian.

    Args:
        key: A typed PRNG key.
        score: Any score; bind the conditions of a conditional one with `cj.condition`.
        x0: `[b, *d]`, clean samples, of the kind on which the model was trained.
        sigmas: `[n]`, noise levels above 0.
        windows: Tiles of outputs and their distances, such as `windows.square` gives;
            its radius does not matter here.
        probes: Random signs for every tile and sample.

    Returns:
        A `Locality`, which prints a table.

    Raises:
        ValueError: If shapes do not fit, a noise level is not positive, or `probes` is
            less than 1.

    Source: Ours, after the gradients of Bradley 2025 and Niedoba et al. 2024.

    Example:
        >>> import compjax as cj, jax.numpy as jnp
        >>> denoiser = lambda x, sigma: x / (1 + sigma**2)  # sees its own pixel only
        >>> score, x0 = cj.score_from_denoiser(denoiser), jnp.ones((2, 4, 4, 1))
        >>> pixels = cj.windows.square((4, 4), tile=1)
        >>> report = locality(jax.random.key(0), score, x0, [0.5, 5.0], pixels)
        >>> report.beyond(0.0).denoiser.mean.tolist()
        [0.0, 0.0]
    """
    x0, sigmas = as_float(x0), _levels(sigmas)
    probes, mass = whole("probes", probes), []
    distances, _ = distance_bins(windows.reach.distance, x0)

    @jax.jit
    def at_level(key: PRNGKey, score: Any, x0: Array, sigma: Array) -> Views:
        key_noise, key_probes = jax.random.split(key)
        x = x0 + sigma * jax.random.normal(key_noise, x0.shape)
        return influence_by_distance(key_probes, score, x, sigma, windows, probes)[1]

    for k, sigma in zip(jax.random.split(key, len(sigmas)), sigmas, strict=True):
        mass.append(at_level(k, score, x0, as_float(sigma)))
    return Locality(sigmas, distances, _stacked(mass))


def condition_locality(
    key: PRNGKey,
    score: ConditionalScore,
    x0: Any,
    sigmas: Any,
    condition: Condition,
    without: Condition,
    distance: Any,
) -> Locality:
    r"""How far a condition acts: by ablation, at each noise level.

    $$\lVert s_i(x \mid c_J) - s_i(x \mid c_{J \setminus j}) \rVert^2$$

    by the distance of pixel i from what condition j is about.  The shares are the same
    for s, D and $\epsilon$, whose differences are multiples of each other; the
    strengths are not.

    Args:
        key: A typed PRNG key.
        score: A conditional score.
        x0: `[b, *d]`, clean samples.
        sigmas: `[n]`, noise levels above 0.
        condition: $c_J$, leaves `[b or 1, ...]`.
        without: $c_{J \setminus j}$, the same with one condition taken away.
        distance: `[b, *d]`, of every pixel from condition j in each sample, 0 inside of
            its mask $M_j$; axes of length 1 stand for all entries.

    Returns:
        A `Locality`; `beyond(0.0)` is the share outside of the masks.

    Raises:
        ValueError: If shapes do not fit or a noise level is not positive.

    Source: Ours; Bradley 2025 measures conditional gradients, in a way that we do not
        know.

    Example:
        >>> import jax.numpy as jnp
        >>> from compjax.scores import as_score
        >>> score = as_score(lambda x, sigma, c: c - x)  # each condition, one place
        >>> both, one = jnp.array([[1.0, 1.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0]])
        >>> x0, distance = jnp.zeros((4, 3)), jnp.array([[1.0, 0.0, 1.0]])
        >>> report = condition_locality(
        ...     jax.random.key(0), score, x0, [1.0], both, one, distance
        ... )
        >>> report.beyond(0.0).score.mean.tolist()
        [0.0]
    """
    x0, sigmas, mass = as_float(x0), _levels(sigmas), []
    distances, bins = distance_bins(distance, x0)
    if len(bins) not in (1, len(x0)):
        raise ValueError(f"distance {bins.shape} does not fit {len(x0)} samples.")

    @jax.jit
    def at_level(
        key: PRNGKey, score: Any, x0: Array, sigma: Array, both: Any, one: Any
    ) -> Views:
        x = x0 + sigma * jax.random.normal(key, x0.shape)
        squares = (score(x, sigma, both) - score(x, sigma, one)) ** 2
        found = by_distance(squares, bins, len(distances))
        return Views(found, sigma**4 * found, sigma**2 * found)

    for k, sigma in zip(jax.random.split(key, len(sigmas)), sigmas, strict=True):
        mass.append(at_level(k, score, x0, as_float(sigma), condition, without))
    return Locality(sigmas, distances, _stacked(mass))


@pytree
class _Flat:
    """A density of vectors as a score of images."""

    density: Any

    def __call__(self, x: Array, sigma: Any) -> Array:
        return self.density(x.reshape(len(x), -1), sigma).reshape(x.shape)


def gaussian_like(x0: Any, ridge: float = 1e-4) -> Any:
    r"""The score of the Gaussian with the mean and the covariance of samples.

    The null of `locality`: what correlations alone make of the shares.  Its covariance
    is known, and so is every Jacobian.

    Args:
        x0: `[n, *d]`, clean samples.
        ridge: Added to the variances, in units of their mean.

    Returns:
        A score of `[b, *d]`.

    Raises:
        ValueError: If there are fewer than 2 samples.

    Source: Ours; the Wiener filter, of which Lukoianov et al. 2025 (2509.09672) read
        locality.

    Example:
        >>> x0 = jax.random.normal(jax.random.key(0), (50, 2, 2, 1))
        >>> gaussian_like(x0)(x0, 1.0).shape
        (50, 2, 2, 1)
    """
    flat = np.asarray(x0, float).reshape(len(x0), -1)
    if len(flat) < 2:
        raise ValueError(f"A covariance needs 2 samples or more, got {len(flat)}.")
    cov = np.cov(flat.T).reshape(flat.shape[1], -1)
    cov += ridge * np.trace(cov) / len(cov) * np.eye(len(cov))
    return _Flat(Gaussian(flat.mean(0), cov))


def _ratio(part: np.ndarray, whole: np.ndarray) -> Estimate:
    """Ratios of means over samples `[n, b]`, with the delta method's errors."""
    b, mean = part.shape[-1], whole.mean(-1)
    share = part.mean(-1) / np.where(mean > 0, mean, np.nan)
    residual = part - share[..., None] * whole
    return Estimate(share, residual.std(-1, ddof=min(1, b - 1)) / mean / np.sqrt(b))


def _levels(sigmas: Any) -> np.ndarray:
    levels = np.atleast_1d(np.asarray(sigmas, float))
    if levels.ndim > 1 or not ((levels > 0) & np.isfinite(levels)).all():
        raise ValueError(f"sigmas must be noise levels above 0, got {sigmas}.")
    return levels


def _stacked(mass: Sequence[Views]) -> Views:
    return Views(
        *(np.stack(jax.device_get(m)).astype(float) for m in zip(*mass, strict=True))
    )
