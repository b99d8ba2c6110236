"""How many multiply-adds a function makes, and how many the devices could make."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_macs(fn: Callable[..., Any], *args: Any) -> int:
    """The multiply-adds of all convolutions and matrix products in `fn(*args)`.

    Nothing is computed: the function is traced.  One multiply-add is two floating-point
    operations; element-wise work does not count.  A training step makes three times the
    multiply-adds of its forward pass: once more for the gradient of the activations,
    once more for that of the weights.  Rematerialisation makes more, which model
    utilisation leaves out.

    Args:
        fn: Any function that JAX can trace.
        args: Its arguments, or `jax.ShapeDtypeStruct` in their place.

    Raises:
        ValueError: If there are multiply-adds in a `while` loop, whose number of trips
            is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> count_macs(jnp.matmul, jnp.ones((2, 3)), jnp.ones((3, 4)))
        24
    """
    return _of_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr)


def _of_jaxpr(jaxpr: Jaxpr) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: JaxprEqn) -> int:
    """The multiply-adds of one operation, those of the programs inside included."""
    params, name = equation.params, equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left, output = _shape(equation.invars[0]), _shape(equation.outvars[0])
        return math.prod(output) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel, output = _shape(equation.invars[1]), _shape(equation.outvars[0])
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        # Zeros between the pixels of a dilated input are not multiplied.
        holes = math.prod(params["lhs_dilation"])
        return math.prod(output) * math.prod(kernel) // (features * holes)
    inside = [_of_jaxpr(jaxpr) for jaxpr in _jaxprs(params)]
    if name == "scan":
        return params["length"] * sum(inside)
    if name == "cond":
        return max(inside)
    if name == "while" and any(inside):
        raise ValueError(
            "A while loop makes an unknown number of multiply-adds; count one trip, or "
            "take jax.lax.scan."
        )
    return sum(inside)


def _shape(variable: Any) -> tuple[int, ...]:
    """Of an input or an output of an operation."""
    return variable.aval.shape


def _jaxprs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The programs among the parameters of an operation."""
    for value in jax.tree.leaves(params, is_leaf=lambda v: isinstance(v, Jaxpr)):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value


def matmul_peak(dtype: Any, mesh: jax.sharding.Mesh) -> float:
    """Floating-point operations a second of all devices of a mesh, measured.

    Every device multiplies square matrices; the fastest of a few trials counts.  It
    takes a fraction of a second, and is the peak that model utilisation is relative to.

    Args:
        dtype: Of the matrices; products of `bfloat16` are accumulated in float32.
        mesh: Any mesh.

    Example:
        >>> mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
        >>> matmul_peak("float32", mesh) > 1e8
        True
    """
    n = 1024 if jax.default_backend() == "cpu" else 8192
    rows = jax.P(mesh.axis_names)
    draw = lambda key: jax.random.normal(key, (mesh.size * n, n), dtype)
    x = jax.jit(draw, out_shardings=jax.NamedSharding(mesh, rows))(jax.random.key(0))
    multiply = jax.jit(
        jax.shard_map(lambda x: x @ x, mesh=mesh, in_specs=rows, out_specs=rows)
    )
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        jax.block_until_ready(multiply(x))
        seconds.append(time.perf_counter() - started)
    return 2.0 * n**3 * mesh.size / min(seconds[1:])
