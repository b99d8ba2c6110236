"""The machine whose windows are read off the covariance of the data."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from compjax.densities.gaussian import at_levels
from compjax.densities.streaming import (
    FLOOR,
    Running,
    include,
    log_weights,
    nothing_yet,
    over_chunks,
)
from compjax.densities.window_sums import as_images, check_images
from compjax.scores import DenoiserScore
from compjax.types import (
    Number,
    Sigma,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
    whole,
)

LEAST = 1e-6
"""What is smaller, relative to the largest, may be rounding."""


@pytree
class CovarianceMachine:
    r"""A machine whose windows are read off the covariance of the data.

    With the principal components $\Sigma = U \Lambda U^T$ of the data, the best linear
    denoiser is $M = U \frac{\Lambda}{\Lambda + \sigma^2} U^T$; value i sees those j to
    which it gives weight:

    $$D_i(x) = \sum_n \mathrm{softmax}_n\Bigl(-\sum_{j \in S_i}
        \frac{(x_j - \phi_{n, j})^2}{2 \sigma^2}\Bigr)\, \phi_{n, i}, \qquad
        S_i = \Bigl\{j : \frac{\lvert M_{ij} \rvert}{M_{ii}} \ge t
        \max_{k, l} \frac{\lvert M_{kl} \rvert}{M_{kk}}\Bigr\}.$$

    For small images: with $n = h w c$ the components take `4 * n * min(n, N)` bytes,
    and a call `4 * n**2` for the mask, b times that if every sample has a noise level
    of its own, and `12 * b * chunk * n`; it costs `b * N * n**2` operations.

    Args:
        data: $\phi$, `[N, h, w, c]`.
        threshold: t, in (0, 1].
        chunk: How many images to read at a time.
        variances: $\Lambda$, `[r]`; from the data if None.
        components: $U^T$, `[r, n]`; from the data if None.

    Raises:
        ValueError: If data are no images, or there are none, or the threshold is out of
            range, or only one of variances and components is given.

    Source: Lukoianov et al. 2025 (2509.09672).  Their code averages the softmaxes of
        batches; here there is one, over all data.

    Example:
        >>> halves = jnp.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
        >>> machine = CovarianceMachine(halves.repeat(2, 1).reshape(4, 1, 4, 1))
        >>> machine.mask(0.1).astype(int)
        Array([[1, 1, 0, 0],
               [1, 1, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 1, 1]], dtype=int32)
    """

    data: Any
    threshold: Any = 0.02
    chunk: int = static(default=64)
    variances: Any = None
    components: Any = None

    def __post_init__(self) -> None:
        data, threshold = as_images(self.data), as_float(self.threshold)
        if (value := concrete(threshold)) is not None and not 0 < value <= 1:
            raise ValueError(f"threshold must lie in (0, 1], got {value}.")
        if (self.variances is None) != (self.components is None):
            raise ValueError("Give both variances and components, or neither.")
        variances, components = self.variances, self.components
        if components is None:
            rows = data.reshape(len(data), -1)
            rows = rows - rows.mean(0, keepdims=True)
            _, scales, components = jnp.linalg.svd(rows, full_matrices=False)
            variances = scales**2 / len(data)
        set_fields(
            self,
            data=data,
            threshold=threshold,
            chunk=whole("chunk", self.chunk),
            variances=as_float(variances),
            components=as_float(components),
        )

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        return DenoiserScore(self.denoise)(x, sigma)

    def mask(self, sigma: Number) -> Bool[Array, "n n"]:
        """Which values j each value i sees, `[n, n]`.

        A value that (nearly) never varies sees none: it is what it always is.
        """
        variance = jnp.maximum(as_float(sigma) ** 2, FLOOR)
        shrink = self.variances / (self.variances + variance)
        highest = jax.lax.Precision.HIGHEST
        shrunk = self.components.T * shrink[None]
        filter_ = jnp.abs(jnp.matmul(shrunk, self.components, precision=highest))
        own = jnp.diagonal(filter_)[:, None]
        varies = own > LEAST * own.max()
        shares = jnp.where(varies, filter_ / jnp.where(varies, own, 1.0), 0.0)
        return varies & (shares >= self.threshold * shares.max())

    def denoise(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        """The values of the images that resemble x where each value looks."""
        check_images(x, sigma, self.data)
        return at_levels(self._denoise, x, sigma, self.data.shape[1:])

    def _denoise(self, x: Array, sigma: Array) -> Array:
        data = self.data.reshape(len(self.data), -1)
        seen = self.mask(sigma).astype(x.dtype)
        flat = x.reshape(len(x), -1)
        highest = jax.lax.Precision.HIGHEST

        def step(running: Running, values: Array, fresh: Array) -> Running:
            gaps = (flat[:, None] - values[None]) ** 2
            distances = jnp.einsum("bnj,ij->bni", gaps, seen, precision=highest)
            logs = log_weights(distances, sigma, fresh[:, None])
            return include(running, logs, values[..., None])

        start = nothing_yet((*flat.shape, 1))
        return over_chunks(step, start, data, self.chunk).mean().reshape(x.shape)
