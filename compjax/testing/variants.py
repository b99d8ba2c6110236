"""Four ways to run the same function, which must give the same answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Fn = Callable[[Any, Any, Any], Any]
"""`(score, x [b, *d], sigma) -> [b, ...]`."""


def eager(fn: Fn) -> Fn:
    """The function itself.

    Example:
        >>> eager(lambda score, x, sigma: x)(None, 1.0, 2.0)
        1.0
    """
    return fn


def jitted(fn: Fn) -> Fn:
    """The function compiled, with the score as an argument.

    Example:
        >>> double = jitted(lambda score, x, sigma: sigma * x)
        >>> double(None, jnp.ones((1, 1)), 2.0)
        Array([[2.]], dtype=float32)
    """
    return jax.jit(fn)


def vmapped(fn: Fn) -> Fn:
    """The function of one sample at a time, under `jax.vmap`.

    Example:
        >>> double = vmapped(lambda score, x, sigma: sigma * x)
        >>> double(None, jnp.ones((2, 1)), 2.0).shape
        (2, 1)
    """

    def call(score: Any, x: Any, sigma: Any) -> Any:
        each = lambda x, sigma: fn(score, x[None], sigma)[0]
        return jax.vmap(each, (0, 0 if jnp.ndim(sigma) else None))(x, sigma)

    return call


def sharded(fn: Fn) -> Fn:
    """The function compiled, on a batch spread over as many devices as divide it.

    Example:
        >>> double = sharded(lambda score, x, sigma: sigma * x)
        >>> double(None, jnp.ones((4, 1)), 2.0).shape
        (4, 1)
    """

    def call(score: Any, x: Any, sigma: Any) -> Any:
        n = int(np.gcd(len(x), jax.device_count()))
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((n,), ("data",), auto, devices=jax.devices()[:n])
        over_batch = jax.NamedSharding(mesh, jax.P("data"))
        return jax.jit(fn)(score, jax.device_put(x, over_batch), sigma)

    return call


VARIANTS = {"eager": eager, "jit": jitted, "vmap": vmapped, "sharded": sharded}
"""By name, for `pytest.mark.parametrize`."""
