"""The convolutions and matrix products of a function, read from its jaxpr."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Product(NamedTuple):
    """A convolution `[b, h, w, i] * [k, k, i, o]`, or a batched matrix product.

    Args:
        left: Shape of the image, or of the left operand `[..., m, k]`.
        right: Shape of the weight, or of the right operand `[..., k, n]`.
        convolves: Whether it is a convolution.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    convolves: bool

    @property
    def multiply_adds(self) -> int:
        """How many there are, zero padding included."""
        if self.convolves:
            return math.prod(self.left[:3]) * math.prod(self.right)
        return math.prod(self.left) * self.right[-1]

    def as_json(self) -> dict[str, Any]:
        """What `torch_stack.py` reads."""
        if not self.convolves:
            return {"kind": "matmul", "left": self.left, "right": self.right}
        b, h, w, i = self.left
        names = dict(b=b, h=h, w=w, i=i, o=self.right[-1], k=self.right[0])
        return {"kind": "convolution", **names}

    def operands(self, dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array]:
        """Normal numbers of these shapes."""
        keys = jax.random.split(jax.random.key(0))
        left = jax.random.normal(keys[0], self.left, dtype)
        return left, jax.random.normal(keys[1], self.right, dtype)


def products(fn: Callable[..., Any], *args: Any) -> list[Product]:
    """Every product that a function makes, in order.

    Args:
        fn: Of images `[b, h, w, c]`; its convolutions have a stride of 1.
        args: Arrays or their shapes; nothing is computed.
    """
    return list(_products(jax.make_jaxpr(fn)(*args).jaxpr))


def _products(jaxpr: Any) -> Iterator[Product]:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "conv_general_dilated":
            left, right = (var.aval.shape for var in eqn.invars)
            yield Product(left, right, True)
        elif eqn.primitive.name == "dot_general":
            yield _matmul(eqn)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def _matmul(eqn: Any) -> Product:
    (sum_a, _), (batch_a, _) = eqn.params["dimension_numbers"]
    a, b = (var.aval.shape for var in eqn.invars)
    batch = tuple(a[axis] for axis in batch_a)
    k = math.prod(a[axis] for axis in sum_a)
    m = math.prod(a) // k // math.prod(batch)
    n = math.prod(b) // k // math.prod(batch)
    return Product((*batch, m, k), (*batch, k, n), False)
