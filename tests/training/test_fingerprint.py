"""The fingerprint sees every bit, and nothing but the bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compjax.training.fingerprint import fingerprint

DTYPES = ("float32", "bfloat16", "float16", "int32", "uint8", "int8", "bool")
SHAPES = ((), (1,), (7,), (3, 5), (2, 3, 4))


@given(st.data())
def test_any_single_bit_changes_it(data):
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES)))
    shape = data.draw(st.sampled_from(SHAPES))
    size = int(np.prod(shape)) * dtype.itemsize
    content = bytearray(data.draw(st.binary(min_size=size, max_size=size)))
    if dtype.kind == "b":
        content = bytearray(byte & 1 for byte in content)

    def mark():
        array = np.frombuffer(bytes(content), dtype).reshape(shape)
        return fingerprint({"x": jnp.asarray(array)})["['x']"]

    before = mark()
    bit = 1 << (0 if dtype.kind == "b" else data.draw(st.integers(0, 7)))
    content[data.draw(st.integers(0, size - 1))] ^= bit
    assert mark() != before


@given(st.permutations(range(6)))
def test_the_order_of_the_entries_counts(order):
    x = jnp.arange(6.0)
    same = order == list(range(6))
    assert (fingerprint(x) == fingerprint(x[jnp.array(order)])) == same


def test_arrays_that_look_alike_are_told_apart():
    zeros = [jnp.zeros(shape) for shape in ((4,), (5,))]
    assert len({fingerprint(x)[""] for x in (*zeros, -zeros[0])}) == 3
    keys = [jax.random.key(seed) for seed in range(2)]
    assert fingerprint(keys[0]) != fingerprint(keys[1])
    assert fingerprint(jnp.array([1 + 2j])) != fingerprint(jnp.array([2 + 1j]))


@pytest.mark.parametrize("shape,spec", [((4, 1), ("a",)), ((2, 2), ("a", "b"))])
def test_the_layout_does_not_count(shape, spec):
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh(shape, ("a", "b"), auto)
    x = jax.random.normal(jax.random.key(0), (8, 4, 3))
    split = jax.device_put(x, jax.NamedSharding(mesh, jax.P(*spec)))
    assert not split.is_fully_replicated
    assert fingerprint(split) == fingerprint(x)


def test_it_is_the_sum_that_the_docstring_gives():
    """Computed once more, with Python's integers."""
    x = np.array([[1.5, -2.0, 0.0], [3.0, 1e-30, 7.0]], np.float32)

    def scramble(word):
        word = (word ^ (word >> 16)) * 0x85EBCA6B % 2**32
        word = (word ^ (word >> 13)) * 0xC2B2AE35 % 2**32
        return word ^ (word >> 16)

    words = [int(word) for word in x.view(np.uint32).ravel()]
    total = sum(scramble(word ^ scramble(i)) for i, word in enumerate(words))
    assert fingerprint({"x": jnp.asarray(x)}) == {"['x']": total % 2**32}
