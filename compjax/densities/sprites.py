"""A world of sprites: scenes of objects in places, whose scores are exact.

It has what rendered scenes have, that places are empty or hold one of several objects
and that their *number* may be restricted, and no renderer and no network.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.densities.clutter import safe_log
from compjax.types import (
    Density,
    Number,
    PRNGKey,
    Sigma,
    align,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
)

LOG_ZERO = -1e9
"""Stands for log 0 where a gradient passes: finite, and far below all that occurs."""


@pytree
class Sprites(Density):
    r"""Scenes of n places, each of them empty or holding one of several objects.

    A set S of occupied places holds the required ones and m others, uniform among the
    sets of that size; m has the law `counts`.  A place in S shows a template, each as
    likely as the others, and any other place shows zeros; then comes noise of standard
    deviation `scale`.  At a noise level, with $v = scale^2 + \sigma^2$,

    $$p(x) = N(x; 0, v I) \prod_{i \in R} r_i
      \sum_m \frac{\pi_m}{\binom{n - \lvert R\rvert}{m}}\, e_m(r_j : j \notin R), \qquad
      r_j = \frac1T \sum_t \frac{N(x_j; \tau_t, v I)}{N(x_j; 0, v I)},$$

    where R holds the required places and $e_m$ is the elementary symmetric polynomial:
    the sum over all subsets costs no more than $n^2$ operations.

    Args:
        templates: $\tau$, `[T, pixels]`, what an object looks like.
        counts: $\pi$, `[m + 1]`, relative probabilities of 0, 1, ..., m objects in
            places that are not required.
        scale: Standard deviation of the noise floor, positive.
        places: $n$, the number of places; x is `[b, n * pixels]`, place by place.
        required: $R$, the places that certainly hold an object.

    Raises:
        ValueError: If shapes do not fit, a template is zero or not finite, a
            probability is negative, or there are fewer places than objects.

    Source: ours, after the settings of Bradley et al. 2025, section 5.3.

    Example:
        >>> empty = Sprites(jnp.ones((1, 4)), jnp.ones(1), 0.1, 3)
        >>> middle = empty.with_object(1)
        >>> middle.denoise(jnp.zeros((1, 12)), 10.0).reshape(3, 4).round(2)
        Array([[0., 0., 0., 0.],
               [1., 1., 1., 1.],
               [0., 0., 0., 0.]], dtype=float32)
    """

    templates: Any
    counts: Any
    scale: Any
    places: int = static()
    required: tuple[int, ...] = static(default=())

    def __post_init__(self) -> None:
        templates, counts = as_float(self.templates), as_float(self.counts)
        scale, required = as_float(self.scale), tuple(self.required)
        if templates.ndim != 2 or counts.ndim != 1 or scale.ndim != 0:
            raise ValueError(
                "Sprites need templates [T, pixels], counts [m + 1] and a scalar scale,"
                f" got shapes {templates.shape}, {counts.shape} and {scale.shape}."
            )
        if (value := concrete(templates)) is not None and not (
            value.size and np.isfinite(value).all() and (value != 0).any(1).all()
        ):
            raise ValueError(
                "templates hold at least one object, finite and visible (an empty "
                f"place is all zeros), got {value}."
            )
        inside = all(0 <= i < self.places for i in required)
        if not inside or len(set(required)) < len(required):
            raise ValueError(
                f"required holds different places of the {self.places}, got {required}."
            )
        if not 1 <= len(counts) <= self.places - len(required) + 1:
            raise ValueError(
                f"{len(counts)} counts do not fit {self.places} places, of which "
                f"{len(required)} are required: counts are those of the other places."
            )
        if (value := concrete(counts)) is not None and not (
            (value >= 0).all() and value.sum() > 0
        ):
            raise ValueError(f"counts are relative probabilities, got {value}.")
        if (value := concrete(scale)) is not None and not 0 < value < np.inf:
            raise ValueError(f"scale must be positive and finite, got {value}.")
        set_fields(
            self,
            templates=templates,
            counts=counts / counts.sum(),
            scale=scale,
            required=required,
        )

    def with_object(self, place: int, counts: Any = None) -> Sprites:
        """The conditional in which a place is certainly occupied.

        Args:
            place: Which one.
            counts: The law of the number of *other* objects; unchanged if None.

        Raises:
            ValueError: If there is no such place, or it is required already.
        """
        counts = self.counts if counts is None else counts
        required = (*self.required, place)
        return Sprites(self.templates, counts, self.scale, self.places, required)

    def __call__(self, x: Float[Array, "b d"], sigma: Sigma) -> Float[Array, "b d"]:
        variance = self._variance(x, sigma)
        logs = self._template_logs(x, variance)
        shares = self._occupied(logs)[..., None] * jax.nn.softmax(logs, axis=-1)
        expected = shares @ self.templates  # E[x0 - noise floor | x], [b, n, pixels]
        return (expected.reshape(x.shape) - x) / variance[:, :, 0]

    def log_prob(
        self, x: Float[Array, "b d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""
        variance = self._variance(x, sigma)
        log_ratios = jax.nn.logsumexp(self._template_logs(x, variance), axis=-1)
        v = variance[:, :, 0]
        empty = -0.5 * (x**2 / v + jnp.log(2 * np.pi * v)).sum(1)
        return empty + self._log_sum(log_ratios)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """`[n, places * pixels]` independent draws at a noise level."""
        key_count, key_order, key_template, key_noise = jax.random.split(key, 4)
        logs = safe_log(self.counts)
        count = jax.random.categorical(key_count, logs, shape=(n, 1))
        free = self._free()
        order = jax.random.uniform(key_order, (n, len(free)))
        ranks = jnp.argsort(jnp.argsort(order, axis=1), axis=1)
        occupied = jnp.ones((n, self.places), bool).at[:, free].set(ranks < count)
        which = jax.random.randint(
            key_template, (n, self.places), 0, len(self.templates)
        )
        clean = jnp.where(occupied[..., None], self.templates[which], 0.0)
        x = clean.reshape(n, -1)
        noise = jnp.sqrt(self.scale**2 + as_float(sigma) ** 2)
        return x + noise * jax.random.normal(key_noise, x.shape)

    def occupied(
        self, x: Float[Array, "b d"], sigma: Sigma = 0.0
    ) -> Float[Array, "b n"]:
        """The posterior probability that each place holds an object, `[b, places]`."""
        return self._occupied(self._template_logs(x, self._variance(x, sigma)))

    def strength(self, x: Float[Array, "b d"]) -> Float[Array, "b n"]:
        r"""How strongly each place shows an object: 1 for a template, 0 for zeros.

        It is the largest projection on a template,
        $\max_t\ x_j^T \tau_t / \lVert\tau_t\rVert^2$.

        Raises:
            ValueError: If x is not `[b, places * pixels]`.

        Example:
            >>> world = Sprites(2 * jnp.ones((1, 2)), jnp.ones(1), 0.1, 2)
            >>> world.strength(jnp.array([[2.0, 2.0, 1.0, 1.0]]))
            Array([[1. , 0.5]], dtype=float32)
        """
        self._check(x)
        blocks = x.reshape(len(x), self.places, -1)
        return (blocks @ self.templates.T / self._norms()[None, None]).max(-1)

    def _norms(self) -> Array:
        return (self.templates**2).sum(1)

    def _free(self) -> np.ndarray:
        """The places that are not required."""
        return np.setdiff1d(np.arange(self.places), np.array(self.required, int))

    def _variance(self, x: Array, sigma: Sigma) -> Array:
        """`[1 or b, 1, 1]`, after a check of the shape of x."""
        self._check(x)
        return (self.scale**2 + align(sigma, x) ** 2).reshape(-1, 1, 1)

    def _check(self, x: Array) -> None:
        d = self.places * self.templates.shape[1]
        if x.shape[1:] != (d,):
            raise ValueError(f"x must be [b, {d}], got {x.shape}.")

    def _template_logs(self, x: Array, variance: Array) -> Array:
        """`log N(x_j; tau_t) / N(x_j; 0) - log T`, `[b, n, T]`."""
        blocks = x.reshape(len(x), self.places, -1)
        inner = blocks @ self.templates.T - self._norms()[None, None] / 2
        return inner / variance - np.log(len(self.templates))

    def _occupied(self, template_logs: Array) -> Array:
        """The gradient of the log-sum over sets in the log-ratios of the places."""
        log_ratios = jax.nn.logsumexp(template_logs, axis=-1)
        return jax.grad(lambda logs: self._log_sum(logs).sum())(log_ratios)

    def _log_sum(self, log_ratios: Array) -> Array:
        r"""`log sum_S P(S) prod_{j in S} r_j`, `[b]`, over the sets that can occur."""
        free, required = self._free(), np.array(self.required, int)
        sums = log_symmetric(log_ratios[:, free], len(self.counts) - 1)
        logs = safe_log(self.counts) - _log_binomials(len(free), len(self.counts))
        certain = log_ratios[:, required].sum(1)
        return certain + jax.nn.logsumexp(logs[None] + sums, axis=1)


def log_symmetric(logs: Float[Array, "b n"], degree: int) -> Float[Array, "b m"]:
    r"""Logarithms of the elementary symmetric polynomials of $e^{logs}$.

    $e_m(r_1, \dots, r_n) = \sum_{\lvert S\rvert = m} \prod_{j \in S} r_j$, by the
    recursion $e_m \leftarrow e_m + r_j\, e_{m-1}$, which adds positive numbers only.

    Args:
        logs: `[b, n]`.
        degree: The largest m.

    Returns:
        `[b, degree + 1]`, of $e_0 = 1, e_1, \dots$.

    Example:
        >>> np.exp(log_symmetric(jnp.log(jnp.array([[2.0, 3.0]])), 2)).round(3)
        array([[1., 5., 6.]], dtype=float32)
    """
    start = jnp.full((len(logs), degree + 1), LOG_ZERO).at[:, 0].set(0.0)

    def include(sums: Array, log: Array) -> tuple[Array, None]:
        grown = sums[:, :-1] + log[:, None]
        return sums.at[:, 1:].set(jnp.logaddexp(sums[:, 1:], grown)), None

    return jax.lax.scan(include, start, logs.T)[0]


def _log_binomials(n: int, count: int) -> Array:
    """`log (n choose m)` for m = 0, ..., count - 1."""
    m = jnp.arange(count)
    log_factorial = lambda k: jax.scipy.special.gammaln(k + 1.0)
    return log_factorial(n) - log_factorial(m) - log_factorial(n - m)
