r"""The blocks of EDM2's U-Net, which add residual branches and attention to images.

Reading order: the residual branch and the attention that both halves share, a block of
the encoder, a block of the decoder.

Source: Karras et al. 2024 (EDM2, 2312.02696), config G.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.networks.magnitude import MPConv, Taps, mp_silu, mp_sum, normalize

CLIP = 256.0
"""Activations are clipped to this size after every block; it matters in bfloat16."""


def keep(x: Array, taps: Taps) -> Array:
    """`x`: the resampling of a block that does not resample."""
    del taps
    return x


class Branch(nn.Module):
    r"""The residual branch: two 3 x 3 convolutions, scaled in between by the embedding.

    $$y = W_1\,\phi\bigl((1 + g\,V e) \odot W_0\,\phi(x)\bigr)$$

    with $\phi$ the `mp_silu` and g a learned gain, zero at initialisation.

    Args:
        features: Output channels.
        dropout: The probability with which an input of $W_1$ is dropped, where the
            module is given a key of the name `dropout`.
    """

    features: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], emb: Float[Array, "b e"]
    ) -> Float[Array, "b h w features"]:
        y = MPConv(self.features, (3, 3), name="conv_res0")(mp_silu(x))
        gain = self.param("emb_gain", nn.initializers.zeros, ())
        scale = 1 + MPConv(self.features, name="emb_linear")(emb, gain)
        y = mp_silu(y * scale[:, None, None])
        y = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(y)
        return MPConv(self.features, (3, 3), name="conv_res1")(y)


class Attention(nn.Module):
    r"""Cosine self-attention over the pixels, to be added to its input.

    Queries, keys and values are normalised per head, so that logits are bounded by the
    square root of a head's channels.

    Args:
        heads: Number of heads; it divides the channels.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape
        qkv = MPConv(3 * c, (1, 1), name="attn_qkv")(x)
        # One channel is (head, its channel, which of q, k, v), the last one fastest.
        qkv = qkv.reshape(b, h * w, self.heads, c // self.heads, 3)
        q, k, v = jnp.moveaxis(normalize(qkv, axes=3), -1, 0)
        logits = jnp.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(c // self.heads)
        weights = jax.nn.softmax(logits.astype(jnp.float32)).astype(x.dtype)
        y = jnp.einsum("bhqk,bkhc->bqhc", weights, v).reshape(b, h, w, c)
        return MPConv(c, (1, 1), name="attn_proj")(y)


class EncoderBlock(nn.Module):
    """Resamples, changes channels, normalises every pixel, then adds the branch.

    Args:
        features: Output channels.
        heads: Heads of the attention at the end; 0 for none.
        resample: A function of images: `keep` or `downsample`.
        res_balance: Share of the branch in the sum.
        attn_balance: Share of the attention in the sum.
        dropout: Of the branch.
        taps: The filter of `resample`.
    """

    features: int
    heads: int = 0
    resample: Callable[..., Array] = keep
    res_balance: float = 0.3
    attn_balance: float = 0.3
    dropout: float = 0.0
    taps: Taps = (1, 1)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], emb: Float[Array, "b e"]
    ) -> Float[Array, "b H W features"]:
        x = self.resample(x, self.taps)
        if x.shape[-1] != self.features:
            x = MPConv(self.features, (1, 1), name="conv_skip")(x)
        x = normalize(x, axes=-1)
        y = Branch(self.features, self.dropout, name="branch")(x, emb)
        x = mp_sum(x, y, self.res_balance)
        if self.heads:
            attended = Attention(self.heads, name="attention")(x)
            x = mp_sum(x, attended, self.attn_balance)
        return jnp.clip(x, -CLIP, CLIP)


class DecoderBlock(nn.Module):
    """Resamples, then adds the branch to a skip connection that changes channels.

    Args:
        features: Output channels.
        heads: Heads of the attention at the end; 0 for none.
        resample: A function of images: `keep` or `upsample`.
        res_balance: Share of the branch in the sum.
        attn_balance: Share of the attention in the sum.
        dropout: Of the branch.
        taps: The filter of `resample`.
    """

    features: int
    heads: int = 0
    resample: Callable[..., Array] = keep
    res_balance: float = 0.3
    attn_balance: float = 0.3
    dropout: float = 0.0
    taps: Taps = (1, 1)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w i"], emb: Float[Array, "b e"]
    ) -> Float[Array, "b H W features"]:
        x = self.resample(x, self.taps)
        y = Branch(self.features, self.dropout, name="branch")(x, emb)
        if x.shape[-1] != self.features:
            x = MPConv(self.features, (1, 1), name="conv_skip")(x)
        x = mp_sum(x, y, self.res_balance)
        if self.heads:
            attended = Attention(self.heads, name="attention")(x)
            x = mp_sum(x, attended, self.attn_balance)
        return jnp.clip(x, -CLIP, CLIP)
