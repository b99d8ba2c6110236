r"""Analytic machines: denoisers that look at data through windows, without training.

Each of them is a score with `.denoise`, and the score of no law: every output has a
posterior of its own over the training images, from what its window shows.  At
$\sigma = 0$ the score is 0 and the denoiser finds the nearest patch.

The data are read `chunk` images at a time.  If a machine does not say otherwise, a call
needs about `12 * b * chunk * h * w` bytes beside x and the data (measured; c times as
many where the compiler does not add up channels at once; five times as many for a
gradient, which also keeps one x for every chunk), and some
`b * N * h * w * (2 * c + 2 * side)` operations.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.densities.streaming import (
    Running,
    include,
    log_weights,
    nothing_yet,
    over_chunks,
    relative_weights,
    weighted_sum,
)
from compjax.densities.window_sums import (
    as_images,
    as_window,
    at_window,
    box_sum,
    centred_sum,
    check_images,
    circular_sum,
    covering_sum,
    per_pixel,
    sides_of,
    squares,
)
from compjax.scores import DenoiserScore
from compjax.types import Sigma, as_float, pytree, set_fields, static, whole


@pytree
class LocalMachine:
    r"""The local score machine (LS): a posterior of its own for every pixel.

    $$D_i(x) = \sum_n \mathrm{softmax}_n\Bigl(
        -\frac{\lVert x_{W_i} - \phi_{n, W_i} \rVert^2}{2 \sigma^2}\Bigr)\,
        \phi_{n, i}$$

    with the window $W_i$ of odd side around pixel i, cut where the image ends.  Nothing
    outside $W_i$ has any influence on pixel i.  A window over the whole image makes it
    `Empirical`.

    Args:
        data: $\phi$, `[N, h, w, c]`.
        window: The side, odd; or a schedule `((0.0, side), (sigma, side), ...)`, each
            side being that from its noise level up.
        chunk: How many images to read at a time.

    Raises:
        ValueError: If data are no images, or there are none, or the window is even.

    Source: Kamb and Ganguli 2024 (2412.20292), the LS machine.

    Example:
        >>> halves = jnp.zeros((2, 1, 4, 1)).at[0, :, :2].set(1.0).at[1, :, 2:].set(1.0)
        >>> machine = LocalMachine(halves, 1)
        >>> machine.denoise(jnp.ones((1, 1, 4, 1)), 0.1).ravel()
        Array([1., 1., 1., 1.], dtype=float32)
    """

    data: Any
    window: Any = static()
    chunk: int = static(default=64)

    def __post_init__(self) -> None:
        data, chunk = as_images(self.data), whole("chunk", self.chunk)
        set_fields(self, data=data, window=as_window(self.window), chunk=chunk)

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        return DenoiserScore(self.denoise)(x, sigma)

    def denoise(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        """The centres of the patches that pixels' windows resemble."""
        check_images(x, sigma, self.data)
        return at_window(self.window, self._denoise, as_float(sigma), x)

    def _denoise(self, side: int, sigma: Array, x: Array) -> Array:
        def step(running: Running, images: Array, fresh: Array) -> Running:
            distances = centred_sum(squares(x, images), side)
            logs = log_weights(distances, sigma, per_pixel(fresh))
            return include(running, logs, images)

        return over_chunks(step, nothing_yet(x.shape), self.data, self.chunk).mean()


@pytree
class EquivariantMachine:
    r"""The equivariant local score machine (ELS): patches from all places, on a torus.

    $$D_i(x) = \sum_{n, j} \mathrm{softmax}_{n, j}\Bigl(
        -\frac{\lVert x_{W_i} - \phi_{n, W_j} \rVert^2}{2 \sigma^2}\Bigr)\,
        \phi_{n, j}$$

    over all images n and all places j.  Windows continue on the other side of the
    image.  It is the local machine of the data in all their shifts, and costs h w times
    as much; its gradient keeps h w copies of x.

    Args:
        data: $\phi$, `[N, h, w, c]`.
        window: Side or schedule, as for `LocalMachine`; at most as long as the image.
        chunk: How many images to read at a time.

    Raises:
        ValueError: As `LocalMachine`, or if a window is longer than the image.

    Source: Kamb and Ganguli 2024 (2412.20292), the ELS machine.

    Example:
        >>> ramp = jnp.arange(3.0).reshape(1, 1, 3, 1)
        >>> machine = EquivariantMachine(jnp.tile(ramp, (1, 3, 1, 1)), 1)
        >>> machine.denoise(jnp.full((1, 3, 3, 1), 1.9), 0.1)[0, 0].ravel()
        Array([2., 2., 2.], dtype=float32)
    """

    data: Any
    window: Any = static()
    chunk: int = static(default=64)

    def __post_init__(self) -> None:
        data, window = as_images(self.data), as_window(self.window)
        if max(sides_of(window)) > min(data.shape[1:3]):
            raise ValueError(
                f"A window of side {max(sides_of(window))} meets itself on the other "
                f"side of an image of {data.shape[1:3]} pixels: make it smaller."
            )
        chunk = whole("chunk", self.chunk)
        set_fields(self, data=data, window=window, chunk=chunk)

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        return DenoiserScore(self.denoise)(x, sigma)

    def denoise(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        """The centres of the patches, from anywhere, that windows resemble."""
        check_images(x, sigma, self.data)
        return at_window(self.window, self._denoise, as_float(sigma), x)

    def _denoise(self, side: int, sigma: Array, x: Array) -> Array:
        def step(running: Running, images: Array, fresh: Array, _: Array) -> Running:
            distances = circular_sum(squares(x, images), side)
            logs = log_weights(distances, sigma, per_pixel(fresh))
            return include(running, logs, images)

        start = nothing_yet(x.shape)
        return _over_shifts(step, start, self.data, self.chunk).mean()


@pytree
class BoundaryMachine:
    r"""The boundary-broken machine (bbELS): patches from places that see the same edge.

    $$D_i(x) = \sum_{n,\ j \sim i} \mathrm{softmax}_{n, j}\Bigl(
        -\frac{\lVert x_{W_i} - \phi_{n, W_j} \rVert^2}{2 \sigma^2}\Bigr)\,
        \phi_{n, j}$$

    where $j \sim i$ if the image ends at the same offsets in both windows: a corner
    sees the patches of that corner, a pixel beside the left edge those of all pixels
    that are, and inner pixels see each other's.  Windows are cut where the image ends.
    It costs h w times as much as `LocalMachine`; its gradient keeps h w copies of x.

    Args:
        data: $\phi$, `[N, h, w, c]`.
        window: Side or schedule, as for `LocalMachine`.
        chunk: How many images to read at a time.

    Raises:
        ValueError: As `LocalMachine`.

    Source: Kamb and Ganguli 2024 (2412.20292), the boundary-broken ELS machine.

    Example:
        >>> ramp = jnp.arange(4.0).reshape(1, 1, 4, 1)
        >>> machine = BoundaryMachine(ramp, 3)
        >>> machine.denoise(jnp.full((1, 1, 4, 1), 9.0), 0.1).ravel()
        Array([0., 2., 2., 3.], dtype=float32)
    """

    data: Any
    window: Any = static()
    chunk: int = static(default=64)

    def __post_init__(self) -> None:
        data, chunk = as_images(self.data), whole("chunk", self.chunk)
        set_fields(self, data=data, window=as_window(self.window), chunk=chunk)

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        return DenoiserScore(self.denoise)(x, sigma)

    def denoise(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        """The centres of the patches, from like places, that windows resemble."""
        check_images(x, sigma, self.data)
        return at_window(self.window, self._denoise, as_float(sigma), x)

    def _denoise(self, side: int, sigma: Array, x: Array) -> Array:
        rows, columns = (_incidence(n, side // 2) for n in x.shape[1:3])

        # Windows of like places that are cut are those of one place, the others lie
        # within the image: nothing that comes in from its other side is ever seen.
        def step(
            running: Running, images: Array, fresh: Array, shift: Array
        ) -> Running:
            like = _same(rows, shift[0])[:, None] & _same(columns, shift[1])[None]
            distances = centred_sum(squares(x, images), side)
            allowed = per_pixel(fresh) & like[None]
            return include(running, log_weights(distances, sigma, allowed), images)

        start = nothing_yet(x.shape)
        return _over_shifts(step, start, self.data, self.chunk).mean()


def _over_shifts(step: Any, state: Any, data: Array, chunk: int) -> Any:
    """`over_chunks` of `step(state, images, fresh, shift)`, images in every shift."""
    h, w = data.shape[1:3]
    shifts = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w)), -1).reshape(-1, 2)

    def each(state: Any, images: Array, fresh: Array) -> Any:
        def shifted(state: Any, shift: Array) -> tuple[Any, None]:
            return step(state, jnp.roll(images, shift, (1, 2)), fresh, shift), None

        shifted = jax.checkpoint(shifted, prevent_cse=False)
        return jax.lax.scan(shifted, state, shifts)[0]

    return over_chunks(each, state, data, chunk)


def _incidence(n: int, reach: int) -> Array:
    """`[n, 2]`, how far the ends of the image are, up to the reach of a window."""
    i = np.arange(n)
    return jnp.asarray(np.minimum(np.stack([i, n - 1 - i], 1), reach))


def _same(incidence: Array, shift: Array) -> Array:
    """`[n]`, where a place and the one that is shifted onto it see the same ends."""
    return (incidence == jnp.roll(incidence, shift, 0)).all(1)


@pytree
class PatchMachine:
    r"""Patch set posterior composites (PSPC): every crop is denoised, then averaged.

    $$D(x) = \frac{\sum_C C^T E[C x_0 | C x]}{\sum_C C^T 1}, \qquad
      E[C x_0 | C x] = \sum_n \mathrm{softmax}_n\Bigl(
        -\frac{\lVert C x - C \phi_n \rVert^2}{2 \sigma^2}\Bigr)\, C \phi_n,$$

    over all square crops C that lie in the image.  A pixel sees `side - 1` pixels far.
    Data are read twice: the first time for the sums of weights, one for each crop.

    Args:
        data: $\phi$, `[N, h, w, c]`.
        window: Side of the crops, even or odd, or a schedule as for `LocalMachine`; a
            side that is longer than the image is that of the image.
        chunk: How many images to read at a time.

    Raises:
        ValueError: As `LocalMachine`, but for even sides.

    Source: Niedoba et al. 2024 (2411.19339), PSPC-Square.

    Example:
        >>> machine = PatchMachine(jnp.array([-1.0, 1.0]).reshape(2, 1, 1, 1), 1)
        >>> machine.denoise(jnp.full((1, 1, 1, 1), 0.3), 0.1).ravel()
        Array([1.], dtype=float32)
    """

    data: Any
    window: Any = static()
    chunk: int = static(default=64)

    def __post_init__(self) -> None:
        data, chunk = as_images(self.data), whole("chunk", self.chunk)
        window = as_window(self.window, parity=None)
        set_fields(self, data=data, window=window, chunk=chunk)

    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        return DenoiserScore(self.denoise)(x, sigma)

    def denoise(
        self, x: Float[Array, "b h w c"], sigma: Sigma
    ) -> Float[Array, "b h w c"]:
        """For every pixel the average over the denoised crops that hold it."""
        check_images(x, sigma, self.data)
        return at_window(self.window, self._denoise, as_float(sigma), x)

    def _denoise(self, side: int, sigma: Array, x: Array) -> Array:
        h, w = x.shape[1:3]
        sides = (min(side, h), min(side, w))
        crops = (h - sides[0] + 1, w - sides[1] + 1)

        def logs(images: Array, fresh: Array) -> Array:
            distances = box_sum(squares(x, images), sides)
            return log_weights(distances, sigma, per_pixel(fresh))

        def add_up(running: Running, images: Array, fresh: Array) -> Running:
            nothing = jnp.zeros((len(images), *crops, 0))
            return include(running, logs(images, fresh), nothing)

        start = nothing_yet((len(x), *crops, 0))
        totals = over_chunks(add_up, start, self.data, self.chunk)

        def paste(composite: Array, images: Array, fresh: Array) -> Array:
            weights = relative_weights(logs(images, fresh), totals.reference)
            posterior = weights / totals.sums[:, None, ..., 0]
            return composite + weighted_sum(covering_sum(posterior, sides), images)

        composite = over_chunks(paste, jnp.zeros(x.shape), self.data, self.chunk)
        return composite / covering_sum(jnp.ones(crops), sides)[None, ..., None]
