r"""A mark of every array of a state, by which a damaged copy of it is known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32


def fingerprint(tree: PyTree) -> dict[str, int]:
    r"""A number of 32 bits for every leaf, which any change of a single entry changes.

    With $w_i$ the bits of the entries, in words of 32, and $i$ their position,

    $$m = \sum_i h\bigl(w_i \oplus h(i)\bigr) \bmod 2^{32}.$$

    As $h$ is a bijection of the words, another word at one position gives another sum;
    larger damage passes with probability $2^{-32}$.  The sum is exact, so that it does
    not depend on how an array is split over devices.

    Args:
        tree: Of arrays, typed keys among them.

    Returns:
        The number of every leaf, by the path of the leaf.

    Source: $h$ is the finaliser of MurmurHash3 (Appleby, public domain).

    Example:
        >>> fingerprint({"w": jnp.zeros(3)}) == fingerprint({"w": -jnp.zeros(3)})
        False
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    marks = [_mark(leaf) for _, leaf in leaves]  # all at work before one is read
    return {
        jax.tree_util.keystr(path): int(mark)
        for (path, _), mark in zip(leaves, jax.device_get(marks), strict=True)
    }


@jax.jit
def _mark(leaf: Any) -> UInt32[Array, ""]:
    """The sum over the words of one array; compiled once for every shape and layout."""
    words = _words(leaf)
    position, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):  # elementwise: no device needs another's
        position += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * (
            jnp.uint32(stride % 2**32)
        )
        stride *= words.shape[axis]
    return jnp.sum(_scramble(words ^ _scramble(position)), dtype=jnp.uint32)


def _words(leaf: Any) -> UInt32[Array, "..."]:
    """The bits of an array as words of 32: one an entry, or two in a last axis."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag])
    if leaf.dtype == bool:
        leaf = leaf.astype(jnp.uint8)
    bits = min(8 * leaf.dtype.itemsize, 32)
    words = jax.lax.bitcast_convert_type(leaf, jnp.dtype(f"uint{bits}"))
    return words.astype(jnp.uint32)


def _scramble(word: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of the words of 32 bits, every bit of which depends on every bit."""
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
