r"""The U-Net of EDM2, preconditioned: an estimate of $E[x_0 \mid x]$ for images.

Source: Karras et al. 2024 (EDM2, 2312.02696); the
preconditioning is that of Karras et al. 2022 (EDM, 2206.00364), table 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.networks.edm2.blocks import DecoderBlock, EncoderBlock
from compjax.networks.magnitude import (
    MPConv,
    MPFourier,
    Taps,
    check_taps,
    downsample,
    mp_cat,
    mp_silu,
    mp_sum,
    upsample,
)
from compjax.noise import align
from compjax.scores import edm_preconditioning
from compjax.types import Condition, Sigma, as_float


def as_it_is(block: type[nn.Module]) -> type[nn.Module]:
    """`block`: nothing is wrapped around it."""
    return block


class UNet(nn.Module):
    r"""EDM2's denoiser of images, $D = c_{skip}\,x + c_{out}\,F(c_{in}\,x, c_{noise})$.

    The output of F is zero at initialisation, so a fresh denoiser is $c_{skip}\,x$.  A
    second head, `log_variance`, estimates how well it denoises at each noise level.

    A condition is one of two things.  With `condition_channels` it is an image, `[b or
    1, h, w, condition_channels]`, which F sees beside its input, or a coarser grid,
    whose cells are repeated to the size of the image; its entries should be of order 1.
    With `label_dim` it is a vector of norm about 1, `[b or 1, label_dim]`, such as a
    one-hot class, which is embedded with the noise level; None stands for zeros.

    Args:
        channels: Channels of the first level; EDM2's XS has 128, S 192, M 256, L 320.
        channel_mult: Channels of every level, in units of `channels`; each level halves
            the resolution.
        num_blocks: Blocks of every level of the encoder; the decoder has one more.
        attn_resolutions: Heights, in grid points, at which the blocks have attention.
        channels_per_head: A level with fewer channels than this has no attention.
        patch: Side of the squares of pixels that are one grid point; 1 is EDM2.
        positions: Frequencies of the Fourier features of places (`places`) that F sees
            beside its input.  With 0, as in EDM2, a small network learns where it is
            from the zeros around the image, and slowly.
        label_dim: Length of a vector condition.
        condition_channels: Channels of an image condition.
        label_balance: Share of the label in the embedding.
        concat_balance: Share of the skip connections in the decoder's concatenations.
        res_balance: Share of the residual branches.
        attn_balance: Share of the attentions.
        sigma_data: Standard deviation of the data.
        logvar_channels: Fourier features of the head `log_variance`.
        dropout: Probability of dropping an activation inside the residual branches; in
            force where `apply` is given `rngs={"dropout": key}`, and only there.
        resample_filter: Taps of the filter with which levels are resampled, an even
            number of them, such as (1, 1) or (1, 3, 3, 1).
        wrap: A function from a class of blocks to the class that is used; with
            `flax.linen.remat` every block is computed again when its gradients are
            taken, which needs less memory and one forward pass more.
        image: `(height, width, channels)` of the images that the network is for; None
            for all that fit.
        dtype: Of the activations; the denoised image is float32 in any case.

    Raises:
        ValueError: If both kinds of condition are asked for, or a field is out of
            range; or, when it is traced, if a condition or an image has a shape that
            does not fit.

    Source: Karras et al. 2024 (2312.02696); `patch` follows
    Hoogeboom et al. 2024 (2410.19324).

    Example:
        >>> import jax
        >>> module = UNet(channels=8, channel_mult=(1, 2), condition_channels=1)
        >>> x, condition = jnp.ones((2, 16, 16, 3)), jnp.zeros((1, 16, 16, 1))
        >>> variables = jax.eval_shape(
        ...     module.init, jax.random.key(0), x, 1.0, condition
        ... )
        >>> jax.eval_shape(module.apply, variables, x, 1.0, condition).shape
        (2, 16, 16, 3)
    """

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 3, 4)
    num_blocks: int = 3
    attn_resolutions: tuple[int, ...] = (16, 8)
    channels_per_head: int = 64
    patch: int = 1
    positions: int = 0
    label_dim: int = 0
    condition_channels: int = 0
    label_balance: float = 0.5
    concat_balance: float = 0.5
    res_balance: float = 0.3
    attn_balance: float = 0.3
    sigma_data: float = 0.5
    logvar_channels: int = 128
    dropout: float = 0.0
    resample_filter: Taps = (1, 1)
    wrap: Callable[..., Any] = as_it_is
    image: tuple[int, int, int] | None = None
    dtype: Any = jnp.float32

    def __post_init__(self) -> None:
        if self.label_dim and self.condition_channels:
            raise ValueError(
                f"label_dim = {self.label_dim} and condition_channels = "
                f"{self.condition_channels}: a condition is a vector or an image; set "
                "one of them to 0."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}.")
        if self.positions < 0:
            raise ValueError(f"positions must be at least 0, got {self.positions}.")
        check_taps(self.resample_filter)
        if self.image is not None:
            self._check_size(self.image)
        super().__post_init__()

    def setup(self) -> None:
        self.logvar_fourier = MPFourier(self.logvar_channels)
        self.logvar_linear = MPConv(1)

    def log_variance(self, sigma: Sigma) -> Float[Array, " b"]:
        r"""$u(\sigma)$: the estimated logarithm of the weighted denoising error.

        Args:
            sigma: One noise level (then `[1]` is returned) or `[b]`.

        Source: Karras et al. 2024; see `training.loss`.
        """
        c_noise = edm_preconditioning(jnp.atleast_1d(as_float(sigma)))[3]
        return self.logvar_linear(self.logvar_fourier(c_noise))[:, 0]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], sigma: Sigma, condition: Condition = None
    ) -> Float[Array, "b h w c"]:
        if self.is_initializing():
            self.log_variance(sigma)
        self._check(x, condition)
        sigma = jnp.broadcast_to(as_float(sigma), x.shape[:1])
        c_skip, c_out, c_in, c_noise = edm_preconditioning(sigma, self.sigma_data)
        F = self._raw(align(c_in, x) * x, c_noise, condition)
        return align(c_skip, x) * x + align(c_out, x) * F.astype(jnp.float32)

    @nn.nowrap
    def _raw(self, x: Array, c_noise: Array, condition: Condition) -> Array:
        """The network F: `[b, h, w, c]` of unit variance, to the same."""
        widths = [self.channels * mult for mult in self.channel_mult]
        h, c = x.shape[1], x.shape[-1]
        emb = self._embed(c_noise, condition, widths).astype(self.dtype)
        if self.condition_channels:
            condition = jnp.broadcast_to(condition, (len(x), *condition.shape[1:]))
            for axis in (1, 2):
                times = x.shape[axis] // condition.shape[axis]
                condition = jnp.repeat(condition, times, axis)
            x = jnp.concatenate([x, condition.astype(x.dtype)], axis=-1)
        x = fold(x.astype(self.dtype), self.patch)
        # Nothing here has a bias: a channel of ones gives the first layer one.
        where = places(x.shape[1], x.shape[2], self.positions).astype(self.dtype)
        where = jnp.broadcast_to(where[None], (len(x), *where.shape))
        x = jnp.concatenate([x, jnp.ones_like(x[..., :1]), where], axis=-1)
        encode, decode = (
            partial(
                self.wrap(block),
                res_balance=self.res_balance,
                attn_balance=self.attn_balance,
                dropout=self.dropout,
                taps=self.resample_filter,
            )
            for block in (EncoderBlock, DecoderBlock)
        )

        def heads(level: int) -> int:
            attends = h // self.patch // 2**level in self.attn_resolutions
            return widths[level] // self.channels_per_head if attends else 0

        x = MPConv(widths[0], (3, 3), name="encoder0_conv")(x)
        skips = [x]
        for level, width in enumerate(widths):
            if level:
                down = encode(
                    x.shape[-1], resample=downsample, name=f"encoder{level}_down"
                )
                x = down(x, emb)
                skips.append(x)
            for i in range(self.num_blocks):
                block = encode(width, heads(level), name=f"encoder{level}_block{i}")
                x = block(x, emb)
                skips.append(x)

        for level, width in reversed(list(enumerate(widths))):
            if level == len(widths) - 1:
                # The coarsest level opens with attention, whatever its resolution.
                n = width // self.channels_per_head
                x = decode(width, n, name=f"decoder{level}_in0")(x, emb)
                x = decode(width, name=f"decoder{level}_in1")(x, emb)
            else:
                up = decode(x.shape[-1], resample=upsample, name=f"decoder{level}_up")
                x = up(x, emb)
            for i in range(self.num_blocks + 1):
                block = decode(width, heads(level), name=f"decoder{level}_block{i}")
                x = block(mp_cat(x, skips.pop(), self.concat_balance), emb)

        gain = self.param("out_gain", nn.initializers.zeros, ())
        x = MPConv(c * self.patch**2, (3, 3), name="out_conv")(x, gain)
        return unfold(x, self.patch)

    @nn.nowrap
    def _embed(self, c_noise: Array, condition: Condition, widths: list[int]) -> Array:
        """The embedding `[b, e]` of the noise level and, if there is one, the label."""
        features = MPFourier(widths[0], name="emb_fourier")(c_noise)
        emb = MPConv(max(widths), name="emb_noise")(features)
        if self.label_dim:
            label = jnp.zeros((1, self.label_dim)) if condition is None else condition
            # A one-hot vector has the norm 1; its entries are to have the variance 1.
            label = label.astype(jnp.float32) * math.sqrt(self.label_dim)
            label = MPConv(max(widths), name="emb_label")(label)
            emb = mp_sum(emb, jnp.broadcast_to(label, emb.shape), self.label_balance)
        return mp_silu(emb)

    @nn.nowrap
    def _check(self, x: Array, condition: Condition) -> None:
        """Raises a ValueError where the image or its condition does not fit."""
        b, h, w, _ = x.shape
        if self.image not in (None, x.shape[1:]):
            raise ValueError(
                f"x of shape {x.shape}: this network is for images {self.image}; make "
                "one with another `image`, or with None for all that fit."
            )
        self._check_size(x.shape[1:])
        event = None
        if self.condition_channels:
            event = (*_grid(condition, h, w), self.condition_channels)
        elif self.label_dim and condition is not None:
            event = (self.label_dim,)
        allowed = [None] if event is None else [(b, *event), (1, *event)]
        given = None if condition is None else jnp.shape(condition)
        if given not in allowed:
            raise ValueError(
                f"condition of shape {given} for x of shape {x.shape}: this network "
                f"(label_dim = {self.label_dim}, condition_channels = "
                f"{self.condition_channels}) takes {allowed[0]}."
            )

    @nn.nowrap
    def _check_size(self, image: tuple[int, ...]) -> None:
        """Raises a ValueError where images `(h, w, c)` cannot be halved so often."""
        unit = self.patch * 2 ** (len(self.channel_mult) - 1)
        h, w, _ = image
        if min(image) < 1 or h % unit or w % unit:
            raise ValueError(
                f"Images of shape {image}: their height and width must be multiples of "
                f"patch * 2**(levels - 1) = {unit}; pad them or take fewer levels."
            )


def _grid(condition: Condition, h: int, w: int) -> tuple[int, int]:
    """Rows and columns of an image condition, if they divide h and w; else h and w."""
    shape = () if condition is None else jnp.shape(condition)
    if len(shape) == 4 and min(shape) and not (h % shape[1] or w % shape[2]):
        return shape[1], shape[2]
    return h, w


def places(h: int, w: int, n: int) -> Float[Array, "h w d"]:
    r"""Fourier features of where the points of a grid are, `[h, w, 4 n]`.

    $\sqrt2 \cos \pi m u$ and $\sqrt2 \sin \pi m u$ for m = 1, ..., n, along each axis,
    with u from 0 to 1 in the middles of points; mean squares are 1.

    Args:
        h: Rows.
        w: Columns.
        n: Frequencies.

    Source: Vaswani et al. 2017 (1706.03762); the frequencies are ours.

    Example:
        >>> places(2, 2, 1)[0, 1].round(3)  # cos, sin of the row, then of the column
        Array([ 1.,  1., -1.,  1.], dtype=float32)
    """

    def along(points: int) -> Array:
        u = (jnp.arange(points) + 0.5) / points
        angle = jnp.pi * u[:, None] * jnp.arange(1, n + 1)[None]
        waves = [jnp.cos(angle), jnp.sin(angle)]
        return math.sqrt(2) * jnp.concatenate(waves, axis=1)

    rows = jnp.broadcast_to(along(h)[:, None], (h, w, 2 * n))
    columns = jnp.broadcast_to(along(w)[None], (h, w, 2 * n))
    return jnp.concatenate([rows, columns], axis=-1)


def fold(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b H W C"]:
    """Squares of pixels as channels: `[b, h/p, w/p, p*p*c]`.

    Args:
        x: Images.
        patch: The side p of a square; 1 returns the images.

    Example:
        >>> fold(jnp.zeros((1, 8, 8, 3)), 4).shape
        (1, 2, 2, 48)
    """
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.swapaxes(2, 3).reshape(b, h // patch, w // patch, patch**2 * c)


def unfold(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b H W C"]:
    """The inverse of `fold`.

    Args:
        x: `[b, h/p, w/p, p*p*c]`.
        patch: The side p of a square.

    Example:
        >>> unfold(jnp.zeros((1, 2, 2, 48)), 4).shape
        (1, 8, 8, 3)
    """
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2)
    return x.swapaxes(2, 3).reshape(b, h * patch, w * patch, c // patch**2)
