"""The contracts of compjax: what a score function, a density and a sampler are.

Every Protocol's docstring is the specification of that object; nothing else in the
library repeats it.  Coordinates are variance exploding throughout,
``x = x0 + sigma * eps``, so one number, ``sigma``, is the noise level.

The module also holds `pytree`, the decorator that makes all of compjax's dataclasses.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, dataclass_transform, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Key, PyTree

PRNGKey = Key[Array, ""]
"""One typed key, made by `jax.random.key`; always the first argument."""

Sigma = float | int | Float[Array, ""] | Float[Array, "_"]
"""A noise level: one for the whole batch (a number or `[]`) or one each (`[b]`)."""

Number = float | int | Float[Array, ""]
"""A real scalar; stored as a float32 leaf, so that changing it never retraces."""

Condition = PyTree[Any]
"""What a conditional score is given; every leaf leads with an axis of size b or 1."""

Weight = Number | Callable[[Any], Any]
"""A composition weight: a number, or a function of sigma."""


@runtime_checkable
class ScoreFn(Protocol):
    """`(x, sigma) -> score`: the gradient in x of `log p_sigma(x)`.

    It is a *pytree callable*: parameters are leaves, never closed over, so that one
    compiled program serves every value of them.  `x` has shape `[b, *d]`, so has the
    score; `sigma` is a `Sigma`, and a scalar one stays scalar.
    """

    def __call__(
        self, x: Float[Array, "b *d"], sigma: Sigma, /
    ) -> Float[Array, "b *d"]: ...


@runtime_checkable
class Denoiser(ScoreFn, Protocol):
    """A score function that can say `E[x0 | x]`.

    A bare denoiser has the signature of a score, so denoisers never travel bare:
    `denoise` is a method of the score, and `score = (denoise - x) / sigma**2`.
    """

    def denoise(
        self, x: Float[Array, "b *d"], sigma: Sigma, /
    ) -> Float[Array, "b *d"]: ...


@runtime_checkable
class AnnealedDensity(ScoreFn, Protocol):
    """A score function with `log_density(x, sigma) -> [b]`, known up to a constant.

    The density is that of the *annealed path*: parts are noised, then combined.  In
    general that is not the noised combination (docs/math.md, "Commutation").
    The constant may depend on sigma, never on x.
    """

    def log_density(
        self, x: Float[Array, "b *d"], sigma: Sigma, /
    ) -> Float[Array, " b"]: ...


@runtime_checkable
class Density(Denoiser, AnnealedDensity, Protocol):
    """An exact probability density, normalised at every noise level.

    `log_prob(x, sigma)` is the log-density of `x0 + sigma * eps` and `sample` draws
    from it.  A class that inherits from this Protocol receives the other two methods.
    Densities are the oracles of the tests.
    """

    def log_prob(
        self, x: Float[Array, "b *d"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]: ...

    def sample(
        self, key: PRNGKey, n: int, sigma: Number = 0.0
    ) -> Float[Array, "n *d"]: ...

    def log_density(
        self, x: Float[Array, "b *d"], sigma: Sigma, /
    ) -> Float[Array, " b"]:
        """`log_prob`, whose constant is known."""
        return self.log_prob(x, sigma)

    def denoise(self, x: Float[Array, "b *d"], sigma: Sigma, /) -> Float[Array, "b *d"]:
        """`E[x0 | x] = x + sigma**2 * score`: Tweedie's formula."""
        return x + align(sigma, x) ** 2 * self(x, sigma)


@runtime_checkable
class ConditionalScore(Protocol):
    """`(x, sigma, condition) -> score`; `cj.condition(score, c)` makes a ScoreFn of it.

    Every leaf of `condition` leads with an axis of size b or 1.  *Empty* (nothing is
    there) and *null* (unknown) are two different conditions.
    """

    def __call__(
        self, x: Float[Array, "b *d"], sigma: Sigma, condition: Condition, /
    ) -> Float[Array, "b *d"]: ...


@runtime_checkable
class Sampler(Protocol):
    """A pair of pure functions, in the manner of optax and blackjax.

    `init` receives the start `x` and the whole grid `sigmas`, and returns a state with
    `state.x`; `step` moves it from `sigma` to `sigma_next < sigma` and returns the new
    state and an info of diagnostics.  `sigma_next` may be 0, where no score may be
    evaluated.  State carries what the next step needs; info what a reader wants.

    Two methods are optional.  `start(key, score, shape, sigmas)` replaces `init` where
    the user gives no start, for samplers whose start depends on the score.
    `check(score, sigmas)` raises a ValueError for what the sampler cannot sample,
    before anything is compiled.
    """

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], sigmas: Float[Array, " n"]
    ) -> Any: ...

    def step(
        self,
        key: PRNGKey,
        state: Any,
        score: ScoreFn,
        sigma: Number,
        sigma_next: Number,
    ) -> tuple[Any, Any]: ...


@runtime_checkable
class Kernel(Protocol):
    """A Markov kernel at one noise level, for the samples of a batch one by one.

    `init` receives where the samples are and returns a state with `state.x`; `step`
    moves them, and returns the new state and an info with `evaluations` of the target
    and `acceptance` `[b]`.  The target is a score, for some kernels an annealed
    density; sigma is above 0.
    """

    def init(
        self, key: PRNGKey, x: Float[Array, "b *d"], target: ScoreFn, sigma: Number
    ) -> Any: ...

    def step(
        self, key: PRNGKey, state: Any, target: ScoreFn, sigma: Number
    ) -> tuple[Any, Any]: ...


@runtime_checkable
class Bijection(Protocol):
    """A smooth invertible map of single events `[*d] -> [*d]` (batched by `jax.vmap`).

    `log_det(x)` is `log |det J|` of `forward` at x, a scalar.
    """

    def forward(self, x: Float[Array, "*d"]) -> Float[Array, "*d"]: ...

    def inverse(self, z: Float[Array, "*d"]) -> Float[Array, "*d"]: ...

    def log_det(self, x: Float[Array, "*d"]) -> Float[Array, ""]: ...


T = TypeVar("T")


def static(**kwargs: Any) -> Any:
    """A dataclass field that is part of a pytree's structure, not one of its leaves."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static,))
def pytree(cls: type[T]) -> type[T]:
    """A class decorator: a frozen dataclass, registered with JAX as a pytree.

    Fields are leaves (or subtrees) unless declared with `static`.  Instances compare by
    identity.  JAX rebuilds them through `object.__new__`, so a `__post_init__` checks
    what a *user* constructs and never sees JAX's tracers or placeholders.

    Example:
        >>> @pytree
        ... class Scaled:
        ...     factor: Array
        ...     def __call__(self, x, sigma):
        ...         return self.factor * x
        >>> jax.tree.map(lambda leaf: 2 * leaf, Scaled(jnp.float32(3.0))).factor
        Array(6., dtype=float32)
    """
    if "__repr__" not in vars(cls):
        cls.__repr__ = _repr
    cls = dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static", False))
    statics = tuple(f.name for f in fields if f.metadata.get("static", False))
    key_of = tuple(jax.tree_util.GetAttrKey(name) for name in leaves)

    def flatten(self: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children = tuple(getattr(self, name) for name in leaves)
        return children, tuple(getattr(self, name) for name in statics)

    def flatten_with_keys(self: T) -> tuple[Any, tuple[Any, ...]]:
        children, aux = flatten(self)
        return tuple(zip(key_of, children, strict=True)), aux

    def unflatten(aux: tuple[Any, ...], children: Any) -> T:
        self = object.__new__(cls)
        for name, value in zip(leaves, children, strict=True):
            object.__setattr__(self, name, value)
        for name, value in zip(statics, aux, strict=True):
            object.__setattr__(self, name, value)
        return self

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _repr(self: Any) -> str:
    fields = dataclasses.fields(self)
    inside = ", ".join(f"{f.name}={_short(getattr(self, f.name))}" for f in fields)
    return f"{type(self).__name__}({inside})"


def _short(value: Any) -> str:
    """A field for a reader: small arrays as numbers, large ones by shape."""
    if isinstance(value, jax.Array | np.ndarray):
        small = value.size <= 16 and concrete(value) is not None
        if small and jnp.issubdtype(value.dtype, jnp.floating):
            return str(np.round(np.asarray(value, float), 4).tolist())
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, dict):
        leaves = jax.tree.leaves(value)
        return f"<{sum(np.size(leaf) for leaf in leaves):,} numbers>"
    return repr(value)


def set_fields(self: Any, **values: Any) -> None:
    """Sets fields of a frozen dataclass; only for use inside its `__post_init__`."""
    for name, value in values.items():
        object.__setattr__(self, name, value)


def as_float(value: Any) -> Array:
    """`value` as an array of JAX's default float type, never weakly typed.

    Example:
        >>> as_float(2)
        Array(2., dtype=float32)
    """
    return jnp.asarray(value, dtype=jnp.result_type(float))


def whole(name: str, value: Any, least: int = 1) -> int:
    """A number of things, as an int.

    Args:
        name: Of the argument, for the message.
        value: What the user passed.
        least: The smallest that makes sense.

    Raises:
        ValueError: If it is not a whole number, or too small.

    Example:
        >>> whole("moves", 3.0)
        3
        >>> whole("moves", 0)
        Traceback (most recent call last):
        ...
        ValueError: moves must be a positive whole number, got 0.
    """
    if int(value) != value or value < least:
        kind = "a positive whole number" if least == 1 else f"at least {least}"
        raise ValueError(f"{name} must be {kind}, got {value}.")
    return int(value)


def concrete(value: Any) -> np.ndarray | None:
    """`value` as a NumPy array, or None where it is a tracer and cannot be looked at.

    Checks of values (not of shapes) go through this, so that they run when a user
    constructs an object and are skipped when the construction is itself being traced.

    Example:
        >>> float(concrete(jnp.float32(2.0)))
        2.0
    """
    if isinstance(value, Tracer):
        return None
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        return None
    return np.asarray(value)


def align(sigma: Sigma, x: Float[Array, "b *d"]) -> Array:
    """Sigma as an array that broadcasts against x: `[]` or `[b, 1, ..., 1]`.

    Args:
        sigma: One noise level, or `[b]`.
        x: `[b, *d]`, of which only the shape matters.

    Raises:
        ValueError: If sigma is neither a scalar nor one value per sample.

    Example:
        >>> align(jnp.ones(2), jnp.zeros((2, 3, 3))).shape
        (2, 1, 1)
    """
    sigma = as_float(sigma)
    if sigma.ndim == 0:
        return sigma
    if sigma.shape != x.shape[:1]:
        raise ValueError(
            f"sigma of shape {sigma.shape} does not fit x of shape {x.shape}: "
            "give one noise level, or one for each sample."
        )
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - 1))


def inner(a: Float[Array, "b *d"], b: Float[Array, "b *d"]) -> Float[Array, " b"]:
    """The inner product of every sample of a with that of b.

    Args:
        a: `[b, *d]`.
        b: `[b, *d]`.

    Example:
        >>> inner(jnp.ones((2, 3, 3)), jnp.ones((2, 3, 3)))
        Array([9., 9.], dtype=float32)
    """
    return (a * b).sum(tuple(range(1, a.ndim)))
