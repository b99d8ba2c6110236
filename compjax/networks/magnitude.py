r"""Magnitude-preserving primitives: their output has the variance of their input.

If the inputs of a layer are independent and have unit variance, so has its output.  The
activations of a network made of such layers neither grow nor vanish, and no bias, group
normalisation or learning-rate warm-up is needed to keep them in place.

Images are `[b, h, w, c]`; weights are `[in, out]` or `[height, width, in, out]`.

Source: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion
models" (EDM2, 2312.02696).
"""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from compjax.types import Number, PRNGKey, as_float

EPSILON = 1e-4
"""Added to the root mean square before it divides; EDM2's value."""

Taps = tuple[float | int, ...]
"""The weights of a filter, an even number of them; (1, 1) is EDM2's choice."""


def normalize(
    x: Float[Array, "*d"], axes: int | tuple[int, ...], epsilon: float = EPSILON
) -> Float[Array, "*d"]:
    r"""`x` with a root mean square of one over `axes`: $x / (\epsilon + \mathrm{rms})$.

    Over the channels it is EDM2's pixel norm; over all axes but the last one of
    a weight, its weight normalisation (eq. 47).  The norm is taken in float32.

    Args:
        x: Any array.
        axes: The axes that are normalised together.
        epsilon: Keeps the quotient finite where x is zero.

    Example:
        >>> normalize(jnp.array([[3.0, 0.0], [3.0, 0.0]]), axes=0).round(2)
        Array([[1., 0.],
               [1., 0.]], dtype=float32)
    """
    square = jnp.square(x.astype(jnp.float32)).mean(axes, keepdims=True)
    # The gradient of sqrt is infinite at 0, where the norm is not what matters.
    zero = square == 0
    rms = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, square)))
    return x * (1 / (epsilon + rms)).astype(x.dtype)


def mp_silu(x: Float[Array, "*d"]) -> Float[Array, "*d"]:
    r"""$\mathrm{silu}(x) / 0.596$, the rms of silu under a normal law.

    Args:
        x: Activations of unit variance.

    Example:
        >>> x = jnp.linspace(-4, 4, 1000)
        >>> density = jnp.exp(-(x**2) / 2) / jnp.exp(-(x**2) / 2).sum()
        >>> round(float((density * mp_silu(x) ** 2).sum()), 2)
        1.0
    """
    return jax.nn.silu(x) / 0.596


def mp_sum(
    a: Float[Array, "*d"], b: Float[Array, "*d"], t: float = 0.5
) -> Float[Array, "*d"]:
    r"""$((1-t)\,a + t\,b) / \sqrt{(1-t)^2 + t^2}$.

    Args:
        a: First operand.
        b: Second operand, of the same shape.
        t: Share of b, in [0, 1].

    Example:
        >>> mp_sum(jnp.ones(1), jnp.ones(1), t=0.0)
        Array([1.], dtype=float32)
    """
    scale = 1 / math.hypot(1 - t, t)
    return a * ((1 - t) * scale) + b * (t * scale)


def mp_cat(
    a: Float[Array, "*d m"], b: Float[Array, "*d n"], t: float = 0.5
) -> Float[Array, "*d m+n"]:
    r"""A and b concatenated, weighted so that b contributes the share t.

    $$C\left[\tfrac{1-t}{\sqrt{N_a}}\,a \oplus \tfrac{t}{\sqrt{N_b}}\,b\right], \qquad
        C = \sqrt{\frac{N_a + N_b}{(1-t)^2 + t^2}}$$

    Args:
        a: `[..., m]`.
        b: `[..., n]`.
        t: Share of b, in [0, 1], whatever its number of channels.

    Example:
        >>> y = mp_cat(jnp.ones(10), jnp.ones(30))
        >>> [round(float((part**2).sum()), 3) for part in (y[:10], y[10:])]
        [20.0, 20.0]
    """
    m, n = a.shape[-1], b.shape[-1]
    scale = math.sqrt(m + n) / math.hypot(1 - t, t)
    weight_a, weight_b = scale * (1 - t) / math.sqrt(m), scale * t / math.sqrt(n)
    return jnp.concatenate([a * weight_a, b * weight_b], axis=-1)


class MPFourier(nn.Module):
    r"""Random Fourier features $\sqrt2 \cos(2\pi(f x + \varphi))$ of numbers.

    The frequencies $f \sim N(0, bandwidth^2)$ and phases $\varphi \sim U(0, 1)$ are
    drawn once and never trained: they are parameters behind a `stop_gradient`.

    Args:
        features: Number of them.
        bandwidth: Standard deviation of the frequencies.

    Example:
        >>> module = MPFourier(4)
        >>> y, _ = module.init_with_output(jax.random.key(0), jnp.zeros(2))
        >>> y.shape
        (2, 4)
    """

    features: int
    bandwidth: float = 1.0

    @nn.compact
    def __call__(self, x: Float[Array, " b"]) -> Float[Array, "b features"]:
        size, turn = (self.features,), 2 * math.pi
        freqs = self.param("freqs", nn.initializers.normal(turn * self.bandwidth), size)
        phases = self.param("phases", nn.initializers.uniform(turn), size)
        freqs, phases = jax.lax.stop_gradient((freqs, phases))
        return math.sqrt(2) * jnp.cos(x[:, None] * freqs[None] + phases[None])


class MPConv(nn.Module):
    r"""A convolution, or a linear map, without bias and with weights of unit norm.

    $$y = \hat w * x, \qquad \hat w_o = \frac{g}{\sqrt{N}} \,
        \frac{w_o}{\epsilon + \mathrm{rms}(w_o)}$$

    for every output channel o, with N inputs each (eqs. 47 and 66).  The normalisation
    is part of the function, so gradients are tangent to the sphere; `normalize_weights`
    keeps the stored weights themselves on it.

    Args:
        features: Output channels.
        kernel: `()` for a linear map, else the size of the window, odd numbers.

    Example:
        >>> module = MPConv(8, (3, 3))
        >>> y, _ = module.init_with_output(jax.random.key(0), jnp.ones((1, 4, 4, 2)))
        >>> y.shape
        (1, 4, 4, 8)
    """

    features: int
    kernel: tuple[int, ...] = ()

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *d i"], gain: Number = 1.0
    ) -> Float[Array, "b *d features"]:
        shape = (*self.kernel, x.shape[-1], self.features)
        w = self.param("weight", _standard_normal, shape)
        w = _normalize_rows(w) * (as_float(gain) / math.sqrt(math.prod(shape[:-1])))
        w = w.astype(x.dtype)
        if math.prod(self.kernel) == 1:
            return x @ w.reshape(x.shape[-1], self.features)
        layout = ("NHWC", "HWIO", "NHWC")
        ones = (1,) * len(self.kernel)
        return jax.lax.conv_general_dilated(
            x, w, ones, "SAME", dimension_numbers=layout
        )


def _standard_normal(key: PRNGKey, shape: tuple[int, ...]) -> Array:
    """A standard normal array; drawn flat, which XLA compiles twice as fast."""
    return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def _normalize_rows(weight: Array) -> Array:
    """Every output channel with a root mean square of one over its inputs."""
    return normalize(weight, axes=tuple(range(weight.ndim - 1)))


def normalize_weights(params: PyTree) -> PyTree:
    """The parameters with every `MPConv` weight back on its sphere; all others as is.

    Forced weight normalisation (eq. 66): without it the weights, whose gradients are
    tangent to the sphere, grow with every update, and their effective learning rate
    decays.

    Args:
        params: A parameter tree in which exactly the weights of `MPConv` have the name
            `weight`, as in all modules of this package.

    Example:
        >>> params = {"weight": jnp.full((2, 1), 5.0), "gain": jnp.array(5.0)}
        >>> normalized = normalize_weights(params)
        >>> float(normalized["weight"].mean().round(3)), float(normalized["gain"])
        (1.0, 5.0)
    """

    def visit(path: tuple[Any, ...], leaf: Array) -> Array:
        is_weight = getattr(path[-1], "key", None) == "weight"
        return _normalize_rows(leaf) if is_weight else leaf

    return jax.tree_util.tree_map_with_path(visit, params)


def downsample(
    x: Float[Array, "b h w c"], taps: Taps = (1, 1)
) -> Float[Array, "b h//2 w//2 c"]:
    r"""Images at half the resolution: filtered, then every second pixel.

    $$y_{ij} = \sum_{kl} f_k f_l\, x_{2i + k - p,\, 2j + l - p}, \qquad p = n/2 - 1,$$

    for n taps $f$, which are scaled to sum to one; x is zero outside.  Two equal taps
    take means over blocks of 2 x 2.

    Args:
        x: Images of even height and width.
        taps: Of the filter, an even number of them.

    Raises:
        ValueError: If there is not an even number of taps, or if they sum to zero.

    Example:
        >>> downsample(jnp.arange(4.0).reshape(1, 2, 2, 1)).ravel()
        Array([1.5], dtype=float32)
    """
    if taps == (1, 1):
        b, h, w, c = x.shape
        return x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
    check_taps(taps)
    f, pad = np.array(taps) / sum(taps), len(taps) // 2 - 1
    return _depthwise(x, np.outer(f, f), pad, window_strides=(2, 2))


def upsample(
    x: Float[Array, "b h w c"], taps: Taps = (1, 1)
) -> Float[Array, "b 2*h 2*w c"]:
    """Images at twice the resolution: four times the transpose of `downsample`.

    Two equal taps repeat every pixel as a block of 2 x 2.

    Args:
        x: Images.
        taps: Of the filter, an even number of them.

    Raises:
        ValueError: If there is not an even number of taps, or if they sum to zero.

    Example:
        >>> upsample(jnp.ones((1, 1, 1, 1))).shape
        (1, 2, 2, 1)
    """
    if taps == (1, 1):
        b, h, w, c = x.shape
        blocks = jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c))
        return blocks.reshape(b, 2 * h, 2 * w, c)
    check_taps(taps)
    f, pad = 2 * np.array(taps)[::-1] / sum(taps), len(taps) // 2
    return _depthwise(
        x, np.outer(f, f), pad, window_strides=(1, 1), lhs_dilation=(2, 2)
    )


def check_taps(taps: Taps) -> None:
    """Raises a ValueError unless these are the taps of a filter of even length.

    Args:
        taps: Weights of neighboring pixels, such as (1, 3, 3, 1).

    Example:
        >>> check_taps((1, 2, 1))
        Traceback (most recent call last):
        ...
        ValueError: A filter has an even number of taps, not of sum 0; got (1, 2, 1).
    """
    if len(taps) < 2 or len(taps) % 2 or not sum(taps):
        raise ValueError(
            f"A filter has an even number of taps, not of sum 0; got {taps}."
        )


def _depthwise(x: Array, kernel: np.ndarray, pad: int, **kwargs: Any) -> Array:
    """Every channel convolved with the same `[n, n]` kernel."""
    c = x.shape[-1]
    return jax.lax.conv_general_dilated(
        x,
        jnp.tile(jnp.asarray(kernel, x.dtype)[:, :, None, None], (1, 1, 1, c)),
        padding=((pad, pad), (pad, pad)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=c,
        **kwargs,
    )
