r"""The law that reverse diffusion samples where scores are affine: in closed form."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.densities import Gaussian
from compjax.noise import check_sigmas
from compjax.samplers.sde import ancestral_levels
from compjax.scores import check_score
from compjax.types import Number, as_float, concrete


def reverse_law(
    score: Any,
    dimension: int,
    sigmas: Float[Array | np.ndarray, " levels"],
    eta: Number = 1.0,
) -> Gaussian:
    r"""What `Ancestral(eta)` samples from an affine score, steps and all.

    A composition of Gaussians has the score $s = a + Jx$, so samples stay Gaussian:

    $$\mu \leftarrow \mu + g\,(a + J\mu), \qquad
      \Sigma \leftarrow (I + gJ)\,\Sigma\,(I + gJ)^\top + \sigma_{up}^2 I,$$

    with $g = (\sigma - \sigma_{down})\,\sigma$, from $N(0, \sigma_0^2 I)$.  At eta = 0
    it is the law of `Euler`; on a fine grid that of the reverse SDE or of the flow.
    It is the composition's own law where diffusion samples that, and predicts by how
    much it does not elsewhere.

    Args:
        score: An affine score, such as a composition of Gaussians.
        dimension: Of the space.
        sigmas: Decreasing noise levels, as for `sample`.
        eta: As for `Ancestral`.

    Returns:
        The law of the samples.

    Raises:
        ValueError: If the score is not affine, or the grid is not one.

    Source: Ours; elementary.

    Example:
        >>> import compjax as cj
        >>> p = Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> law = reverse_law(cj.product(p, p), 1, cj.karras_sigmas(4096))
        >>> round(float(law.cov[0, 0]), 2)  # and not 1/2
        0.33
    """
    check_score(score, "the score")
    check_sigmas(sigmas)
    sigmas = as_float(sigmas)
    for level in (sigmas[0], sigmas[len(sigmas) // 2], sigmas[-2]):
        _check_affine(score, dimension, level)
    mean, cov = _law(score, sigmas, as_float(eta), dimension)
    return Gaussian(mean, (cov + cov.T) / 2)


def _check_affine(score: Any, dimension: int, level: Array) -> None:
    """Affine on three lines that miss the origin, near and far."""
    for key in jax.random.split(jax.random.key(0), 3):
        start, direction = jax.random.normal(key, (2, dimension))
        for reach in (1.0, level):
            steps = reach * jnp.array([[0.0], [1.0], [2.7]])
            low, middle, high = score(start[None] + steps * direction[None], level)
            size = jnp.abs(jnp.stack([low, middle, high])).max()
            expected = low + (middle - low) * 2.7
            bend = concrete(jnp.abs(high - expected).max() / size)
            if bend is not None and not bend < 1e-3:
                raise ValueError(
                    f"{score!r} is not affine: moments are closed for compositions of "
                    "Gaussians only."
                )


@partial(jax.jit, static_argnames="dimension")
def _law(score, sigmas, eta, dimension):
    eye = jnp.eye(dimension)

    def step(carry, levels):
        mean, cov = carry
        sigma, sigma_next = levels
        down, up = ancestral_levels(eta, sigma, sigma_next)
        shift = score(jnp.zeros((1, dimension)), sigma)[0]
        slope = (score(eye, sigma) - shift[None]).T
        gain = (sigma - down) * sigma
        move = eye + gain * slope
        mean = mean + gain * (shift + slope @ mean)
        return (mean, move @ cov @ move.T + up**2 * eye), None

    start = jnp.zeros(dimension), sigmas[0] ** 2 * eye
    return jax.lax.scan(step, start, (sigmas[:-1], sigmas[1:]))[0]
