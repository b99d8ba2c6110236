"""The empirical law of a data set, whose exact scores memorise it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.densities.streaming import (
    include,
    log_weights,
    nothing_yet,
    over_chunks,
)
from compjax.scores import DenoiserScore
from compjax.types import (
    Density,
    Number,
    PRNGKey,
    Sigma,
    align,
    as_float,
    pytree,
    set_fields,
    static,
    whole,
)


@pytree
class Empirical(Density):
    r"""Data points, each as likely as the others, with noise: the ideal model of a set.

    $$p_\sigma(x) = \frac1N \sum_{n=1}^N N(x; \phi_n, \sigma^2 I), \qquad
      D(x) = \sum_n \mathrm{softmax}_n\Bigl(
        -\frac{\lVert x - \phi_n \rVert^2}{2 \sigma^2}\Bigr)\, \phi_n.$$

    Reverse diffusion with this score ends in the data.  The data are read `chunk` at a
    time: a call costs `b * N * d` operations and no more memory than about
    `4 * b * chunk * d` bytes beside x and the data.

    At $\sigma = 0$ the log-density is $\infty$ on the data and $-\infty$ elsewhere, the
    denoiser finds the nearest point, and the score is 0, as that of any denoiser.

    Args:
        data: $\phi$, `[N, *d]`.
        chunk: How many data points to read at a time.

    Raises:
        ValueError: If there are no data, or `chunk` is no positive whole number.

    Source: Karras et al. 2022, eq. 57; Kamb and Ganguli 2024, the ideal score.

    Example:
        >>> p = Empirical(jnp.array([[-1.0], [1.0]]))
        >>> p.denoise(jnp.array([[0.0], [3.0]]), 0.5)
        Array([[0.],
               [1.]], dtype=float32)
        >>> p.sample(jax.random.key(0), 3).shape
        (3, 1)
    """

    data: Any
    chunk: int = static(default=64)

    def __post_init__(self) -> None:
        data = as_float(self.data)
        if data.ndim < 1 or not data.size:
            raise ValueError(f"data must be [N, *d] with N >= 1, got {data.shape}.")
        set_fields(self, data=data, chunk=whole("chunk", self.chunk))

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return DenoiserScore(self.denoise)(x, sigma)

    def denoise(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        """`E[x0 | x]`, the posterior mean over the data."""
        flat, data = self._flat(x)

        def step(running: Any, points: Array, fresh: Array) -> Any:
            logs = log_weights(_distances(flat, points), sigma, fresh)
            return include(running, logs, points)

        mean = over_chunks(step, nothing_yet(flat.shape), data, self.chunk).mean()
        return mean.reshape(x.shape)

    def log_prob(
        self, x: Float[Array, "b *d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""
        flat, data = self._flat(x)
        sigma = align(sigma, flat[:, 0])
        noisy = sigma > 0
        level = jnp.where(noisy, sigma, 1.0)

        def step(state: Any, points: Array, fresh: Array) -> Any:
            running, nearest = state
            distances = _distances(flat, points)
            logs = log_weights(distances, level, fresh)
            running = include(running, logs, points[:, :0])
            return running, jnp.minimum(nearest, distances.min(1))

        start = nothing_yet((len(x), 0)), jnp.full(len(x), jnp.inf)
        running, nearest = over_chunks(step, start, data, self.chunk)
        log_volume = flat.shape[1] * (jnp.log(level) + np.log(2 * np.pi) / 2)
        smooth = running.log_total() - np.log(len(data)) - log_volume
        sharp = jnp.where(nearest == 0, jnp.inf, -jnp.inf)
        return jnp.where(noisy, smooth, sharp)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n *d"]:
        """`[n, *d]` independent draws at a noise level."""
        key_which, key_noise = jax.random.split(key)
        which = jax.random.randint(key_which, (n,), 0, len(self.data))
        clean = self.data[which]
        return clean + as_float(sigma) * jax.random.normal(key_noise, clean.shape)

    def _flat(self, x: Array) -> tuple[Array, Array]:
        """Samples and data as rows, after a check of the shape of x."""
        event = self.data.shape[1:]
        if x.shape[1:] != event:
            raise ValueError(
                f"x must be [b, {', '.join(map(str, event))}], got {x.shape}."
            )
        return x.reshape(len(x), -1), self.data.reshape(len(self.data), -1)


def _distances(x: Array, points: Array) -> Array:
    """`[b, n]`, as sums of squares: |x|^2 - 2 x.y + |y|^2 cancels at small noise."""
    return ((x[:, None] - points[None]) ** 2).sum(-1)
