"""Independent blocks of coordinates, and the factorized conditionals made of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.densities.gaussian import check_indices
from compjax.types import Density, Number, PRNGKey, Sigma, pytree, set_fields, static


@pytree
class Independent(Density):
    r"""$\prod_i p_i(x|_{M_i})$ over a partition $M_i$ of the coordinates.

    Isotropic noise acts on each coordinate alone, so the blocks stay independent.

    Args:
        blocks: The index sets $M_i$, which partition `range(n)`.
        parts: One density a block, on events `[len(M_i)]`.

    Raises:
        ValueError: If the blocks are not a partition, or there is not one part each.

    Example:
        >>> from compjax.densities import Gaussian
        >>> unit = Gaussian(jnp.zeros(1), jnp.eye(1))
        >>> p = Independent(((1,), (0,)), (unit, unit))
        >>> p(jnp.array([[1.0, 2.0]]), 0.0)
        Array([[-1., -2.]], dtype=float32)
    """

    blocks: tuple[tuple[int, ...], ...] = static()
    parts: tuple[Any, ...]

    def __post_init__(self) -> None:
        blocks = tuple(tuple(int(i) for i in block) for block in self.blocks)
        indices = sorted(i for block in blocks for i in block)
        if not blocks or not all(blocks) or indices != list(range(len(indices))):
            raise ValueError(
                f"Blocks must partition range(n) into non-empty sets, got {blocks}."
            )
        if len(blocks) != len(self.parts):
            raise ValueError(
                f"{len(blocks)} blocks need as many parts, got {len(self.parts)}."
            )
        for i, part in enumerate(self.parts):
            if not (hasattr(part, "log_prob") and hasattr(part, "sample")):
                raise ValueError(
                    f"Part {i} must be an exact density, got {type(part).__name__}."
                )
        set_fields(self, blocks=blocks, parts=tuple(self.parts))

    def _split(self, x: Array) -> list[Array]:
        n = sum(map(len, self.blocks))
        if x.shape[1:] != (n,):
            raise ValueError(f"x must be [b, {n}], got {x.shape}.")
        return [x[:, np.array(block)] for block in self.blocks]

    def _join(self, values: list[Array]) -> Array:
        order = np.argsort([i for block in self.blocks for i in block])
        return jnp.concatenate(values, axis=1)[:, order]

    def __call__(self, x: Float[Array, "b n"], sigma: Sigma) -> Float[Array, "b n"]:
        pairs = zip(self.parts, self._split(x), strict=True)
        return self._join([part(block, sigma) for part, block in pairs])

    def log_prob(
        self, x: Float[Array, "b n"], sigma: Sigma = 0.0
    ) -> Float[Array, " b"]:
        """The normalised log-density at a noise level, `[b]`."""
        pairs = zip(self.parts, self._split(x), strict=True)
        return jnp.stack([part.log_prob(block, sigma) for part, block in pairs]).sum(0)

    def sample(self, key: PRNGKey, n: int, sigma: Number = 0.0) -> Float[Array, "n d"]:
        """`[n, d]` independent draws at a noise level."""
        keys = jax.random.split(key, len(self.parts))
        pairs = zip(self.parts, keys, strict=True)
        return self._join([part.sample(k, n, sigma) for part, k in pairs])

    def marginal(self, indices: Any) -> Independent:
        """The law of some coordinates, in the order given.

        A block that is cut needs a part with a `marginal` of its own.

        Raises:
            ValueError: If `indices` are not different coordinates of this density, or a
                part that is cut has no marginals.
        """
        kept = check_indices(indices, sum(map(len, self.blocks)))
        position = {int(c): i for i, c in enumerate(kept)}
        blocks, parts = [], []
        for block, part in zip(self.blocks, self.parts, strict=True):
            inside = [i for i, c in enumerate(block) if c in position]
            if 0 < len(inside) < len(block):
                if not hasattr(part, "marginal"):
                    raise ValueError(
                        f"{type(part).__name__} has no marginals: keep or drop its "
                        f"block {block} whole."
                    )
                part = part.marginal(inside)
            if inside:
                blocks.append(tuple(position[block[i]] for i in inside))
                parts.append(part)
        return Independent(tuple(blocks), tuple(parts))


class FactorizedConditionals(NamedTuple):
    r"""A background and conditionals that satisfy Bradley's definition 5.2.

    Over a partition $M_b, M_1, \dots, M_k$ of the coordinates, conditional i differs
    from the background on its own block only:
    $p_i(x) = p_i(x|_{M_i})\, p_b(x|_{M_i^c})$, and the blocks are independent.
    Make one with `from_blocks`; compose it by
    `compose(parts.background, *parts.conditionals)`.

    Args:
        background: $p_b$.
        conditionals: $p_1, \dots, p_k$.

    Source: Bradley et al. 2025, definition 5.2.

    Example:
        >>> from compjax.densities import Gaussian
        >>> at = lambda m: Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> background, conditionals = FactorizedConditionals.from_blocks(
        ...     ((0,), (1,)), (at(0.0), at(0.0)), (at(1.0), at(2.0))
        ... )
        >>> [p.denoise(jnp.zeros((1, 2)), 1.0).round(3).tolist() for p in conditionals]
        [[[0.5, 0.0]], [[0.0, 1.0]]]
    """

    background: Independent
    conditionals: tuple[Independent, ...]

    @classmethod
    def from_blocks(
        cls,
        blocks: tuple[tuple[int, ...], ...],
        background: tuple[Density, ...],
        conditionals: tuple[Density, ...],
    ) -> FactorizedConditionals:
        """Factorized conditionals from the laws of their blocks.

        Args:
            blocks: $M_1, ..., M_k$, then whatever blocks make up $M_b$.
            background: The background's law of every block.
            conditionals: Conditional i's law of block i.

        Raises:
            ValueError: If there are more conditionals than blocks, or as `Independent`.
        """
        if len(conditionals) > len(blocks):
            raise ValueError(
                f"{len(conditionals)} conditionals need as many blocks, got "
                f"{len(blocks)}: conditional i has block i for its own."
            )
        base = Independent(blocks, background)
        replaced = (
            (*base.parts[:i], part, *base.parts[i + 1 :])
            for i, part in enumerate(conditionals)
        )
        return cls(base, tuple(Independent(blocks, parts) for parts in replaced))

    def composition(self) -> Independent:
        r"""The law $p_b(x|_{M_b})\prod_i p_i(x|_{M_i})$ that `compose` samples exactly.

        Source: Bradley et al. 2025, theorem 5.3.
        """
        own = [p.parts[i] for i, p in enumerate(self.conditionals)]
        rest = self.background.parts[len(own) :]
        return Independent(self.background.blocks, (*own, *rest))
