"""The conditional-local machine: an analytic model that generalises in length."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from compjax.densities.streaming import (
    Running,
    include,
    log_weights,
    nothing_yet,
    over_chunks,
)
from compjax.densities.window_sums import (
    as_images,
    as_window,
    at_window,
    centred_sum,
    check_images,
    per_pixel,
    squares,
)
from compjax.scores import DenoiserScore
from compjax.types import (
    Sigma,
    as_float,
    concrete,
    pytree,
    set_fields,
    static,
    whole,
)


@pytree
class ConditionalMachine:
    r"""A local machine whose pixels believe images that have the requested conditions.

    $$D_i(x | c) = \sum_n \mathrm{softmax}_n\Bigl(
        -\frac{\lVert x_{W_i} - \phi_{n, W_i} \rVert^2}{2 \sigma^2}
        - \lambda\, \bigl(g_{n, i} - \min_m g_{m, i}\bigr)\Bigr)\, \phi_{n, i}, \qquad
        g_{n, i} = \lVert c_{L_i} - c^{\phi_n}_{L_i} \rVert^2.$$

    $W_i$ is the window of pixels around pixel i and $L_i$ the window of conditions
    around the cell that holds i.  $\lambda$ is so large that the sum runs over the
    images whose conditions in $L_i$ *are* the requested ones, or, where there is none,
    over those that come nearest; `matches` counts them.  It is a local conditional
    score: trained (that is, shown) on scenes of few objects it draws scenes of many,
    as long as every $L_i$ has been seen.  With both windows over the whole image it is
    the ideal conditional model, which cannot.

    It costs what `LocalMachine` does, and `b * N * H * W * (C + 2 * condition_window)`
    operations more, twice.

    Args:
        data: $\phi$, `[N, h, w, c]`.
        conditions: $c^\phi$, `[N, H, W, C]`, a grid of cells over the image; H divides
            h, and W divides w.
        window: Side of the windows of pixels, or a schedule as for `LocalMachine`.
        condition_window: Side of the windows of conditions, in cells, odd.
        strictness: $\lambda$, positive.  A gap of 1 in the conditions outweighs one of
            $2 \sigma^2 \lambda$ in the pixels, 8000 at $\sigma = 0.002$; with
            smaller values pixels overrule conditions once noise is low.
        chunk: How many images to read at a time.

    Raises:
        ValueError: If data or conditions are no images, or do not fit each other, or a
            window is even, or `strictness` is not positive and finite.

    Source: Ours: the local conditional scores of Bradley 2025 (2509.16447) made with
        the LS machine of Kamb and Ganguli 2024.

    Example:
        >>> left, right = jnp.eye(2).reshape(2, 1, 2, 1)  # one object, left or right
        >>> scenes = jnp.stack([left, right])
        >>> machine = ConditionalMachine(scenes, scenes, 1, 1)
        >>> both = jnp.ones((1, 1, 2, 1))
        >>> machine.denoise(jnp.zeros((1, 1, 2, 1)), 10.0, both).ravel()
        Array([1., 1.], dtype=float32)
        >>> machine.matches(both).ravel()
        Array([1, 1], dtype=int32)
    """

    data: Any
    conditions: Any
    window: Any = static()
    condition_window: Any = static()
    strictness: Any = 1e9
    chunk: int = static(default=64)

    def __post_init__(self) -> None:
        data, conditions = as_images(self.data), as_float(self.conditions)
        fits = conditions.ndim == 4 and conditions.size and len(conditions) == len(data)
        if not fits or any(np.mod(data.shape[1:3], conditions.shape[1:3])):
            raise ValueError(
                "conditions must be [N, H, W, C], one grid for each of the "
                f"{len(data)} images, whose cells divide {data.shape[1:3]} pixels, got "
                f"{conditions.shape}."
            )
        strictness = as_float(self.strictness)
        value = concrete(strictness)
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"strictness must be positive and finite, got {value}.")
        cells = as_window(self.condition_window)
        if not isinstance(cells, int):
            raise ValueError(f"condition_window must be one odd side, got {cells}.")
        set_fields(
            self,
            data=data,
            conditions=conditions,
            window=as_window(self.window),
            condition_window=cells,
            strictness=strictness,
            chunk=whole("chunk", self.chunk),
        )

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        sigma: Sigma,
        condition: Any,
    ) -> Float[Array, "b h w c"]:
        denoise = lambda x, sigma: self.denoise(x, sigma, condition)
        return DenoiserScore(denoise)(x, sigma)

    def denoise(
        self,
        x: Float[Array, "b h w c"],
        sigma: Sigma,
        condition: Any,
    ) -> Float[Array, "b h w c"]:
        """The centres of patches of images that have the requested conditions.

        Args:
            x: `[b, h, w, c]`.
            sigma: Noise level.
            condition: `[b or 1, H, W, C]`, numbers or booleans.
        """
        check_images(x, sigma, self.data)
        condition = self._checked(condition, len(x))
        least = self._least(condition)
        whole_batch = (len(x), *condition.shape[1:])
        return at_window(
            self.window,
            self._denoise,
            as_float(sigma),
            x,
            jnp.broadcast_to(condition, whole_batch),
            jnp.broadcast_to(least, whole_batch[:-1]),
        )

    def _denoise(
        self, side: int, sigma: Array, x: Array, condition: Array, least: Array
    ) -> Array:
        def step(running: Running, items: tuple[Array, Array], fresh: Array) -> Running:
            images, conditions = items
            distances = centred_sum(squares(x, images), side)
            logs = log_weights(distances, sigma, per_pixel(fresh))
            excess = self._gaps(condition, conditions) - least[:, None]
            return include(
                running, logs - self._in_pixels(self.strictness * excess), images
            )

        items = (self.data, self.conditions)
        return over_chunks(step, nothing_yet(x.shape), items, self.chunk).mean()

    def matches(self, condition: Any) -> Int[Array, "b_or_1 h w"]:
        """How many training images have exactly the requested conditions, by pixel.

        Where there are none, the denoiser falls back on those that come nearest.

        Args:
            condition: `[b or 1, H, W, C]`, numbers or booleans.
        """
        condition = self._checked(condition, None)

        def step(count: Array, conditions: Array, fresh: Array) -> Array:
            equal = self._gaps(condition, conditions) == 0
            return count + (equal & per_pixel(fresh)[None]).sum(1)

        start = jnp.zeros(condition.shape[:-1], jnp.int32)
        return self._in_pixels(over_chunks(step, start, self.conditions, self.chunk))

    def _checked(self, condition: Any, b: int | None) -> Array:
        condition = as_float(condition)
        grid = self.conditions.shape[1:]
        fits = condition.ndim == 4 and condition.shape[1:] == grid
        if not fits or (b is not None and len(condition) not in (1, b)):
            raise ValueError(
                f"condition must be [b or 1, {', '.join(map(str, grid))}]"
                + ("" if b is None else f" with b = {b}")
                + f", got {condition.shape}."
            )
        return condition

    def _gaps(self, condition: Array, conditions: Array) -> Array:
        """Squared distances of conditions in every cell's window, `[b, n, H, W]`."""
        return centred_sum(squares(condition, conditions), self.condition_window)

    def _least(self, condition: Array) -> Array:
        """The smallest gap in every cell, `[b, H, W]`."""

        def step(least: Array, conditions: Array, fresh: Array) -> Array:
            return jnp.minimum(least, self._gaps(condition, conditions).min(1))

        start = jnp.full(condition.shape[:-1], jnp.inf)
        return over_chunks(step, start, self.conditions, self.chunk)

    def _in_pixels(self, cells: Array) -> Array:
        """`[..., H, W]` as `[..., h, w]`: every pixel has what its cell has."""
        h, w = (
            a // b for a, b in zip(self.data.shape[1:3], cells.shape[-2:], strict=True)
        )
        return jnp.repeat(jnp.repeat(cells, h, axis=-2), w, axis=-1)
