"""Densities given any set of conditions, each of which governs a region of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from compjax.densities.independent import Independent
from compjax.types import pytree, set_fields, static


@pytree
class ConditionalProjective:
    r"""Conditional projective composition (CPC): one law for every set of conditions.

    $$p(x \mid c_J) = p(x|_{M_J^c} \mid \emptyset)
      \prod_{j \in J} p(x|_{M_j} \mid c_j), \qquad
      M_J^c = [n] \setminus \bigcup_{j \in J} M_j$$

    Each condition governs its own coordinates, the regions are independent, and the
    rest is as it is without conditions.  The background's coordinates may depend on one
    another, also across regions.  `given(J)` is the law, for every J.

    Args:
        background: $p(x \mid \emptyset)$, an exact density on `[n]` with a method
            `marginal`.
        masks: $M_1, \dots, M_k$, disjoint sets of coordinates.
        conditionals: $p(x|_{M_j} \mid c_j)$, one density a mask, on `[len(M_j)]`.

    Raises:
        ValueError: If masks overlap or leave `range(n)`, there is not one conditional
            each, a conditional does not fit its mask, or the background has no
            marginals.

    Source: Bradley 2025 (2509.16447), by second-hand reports of its definition.

    Example:
        >>> import jax.numpy as jnp
        >>> from compjax.densities import Gaussian
        >>> background = Gaussian(jnp.zeros(3), jnp.eye(3) + 0.5)
        >>> at = lambda m: Gaussian(jnp.full(1, m), jnp.eye(1))
        >>> family = ConditionalProjective(background, ((0,), (2,)), (at(4.0), at(9.0)))
        >>> family.given((0,)).blocks
        ((1, 2), (0,))
        >>> family.given((0, 1)).denoise(jnp.zeros((1, 3)), 1e3).round(2)
        Array([[4., 0., 9.]], dtype=float32)
    """

    background: Any
    masks: tuple[tuple[int, ...], ...] = static()
    conditionals: tuple[Any, ...]

    def __post_init__(self) -> None:
        masks = tuple(tuple(int(i) for i in mask) for mask in self.masks)
        set_fields(self, masks=masks, conditionals=tuple(self.conditionals))
        if not hasattr(self.background, "marginal"):
            raise ValueError(
                f"The background, a {type(self.background).__name__}, has no "
                "`marginal`: give an exact density that can be marginalised."
            )
        for part in (self.background, *self.conditionals):
            if not (hasattr(part, "log_prob") and hasattr(part, "sample")):
                raise ValueError(
                    "Background and conditionals must be exact densities, got a "
                    f"{type(part).__name__}."
                )
        if len(masks) != len(self.conditionals):
            raise ValueError(
                f"{len(masks)} masks need as many conditionals, got "
                f"{len(self.conditionals)}."
            )
        flat = [i for mask in masks for i in mask]
        if len(_event(self.background)) != 1:
            raise ValueError(
                "The background must live on [n], one axis of coordinates, got "
                f"{list(_event(self.background))}."
            )
        (n,) = _event(self.background)
        inside = all(0 <= i < n for i in flat)
        if not inside or not all(masks) or len(set(flat)) < len(flat):
            raise ValueError(
                f"Masks are disjoint, non-empty sets of the coordinates 0 to {n - 1}, "
                f"got {masks}."
            )
        for j, (mask, part) in enumerate(zip(masks, self.conditionals, strict=True)):
            if _event(part) != (len(mask),):
                raise ValueError(
                    f"Conditional {j} lives on {list(_event(part))}, its mask {mask} "
                    f"needs [{len(mask)}]."
                )

    def given(self, present: Iterable[int]) -> Independent:
        r"""The law $p(x \mid c_J)$, exact at every noise level.

        Args:
            present: $J$, which of the conditions hold; none of them for the background.

        Raises:
            ValueError: If there is no such condition, or one is given twice.
        """
        present = tuple(int(j) for j in present)
        known = set(range(len(self.masks)))
        if len(set(present)) < len(present) or not set(present) <= known:
            raise ValueError(
                f"The {len(known)} conditions are numbered from 0, and each may be "
                f"given once; got {present}."
            )
        rest = self.rest(present)
        blocks = tuple(self.masks[j] for j in present)
        parts = tuple(self.conditionals[j] for j in present)
        if not rest:
            return Independent(blocks, parts)
        return Independent((rest, *blocks), (self.background.marginal(rest), *parts))

    def rest(self, present: Iterable[int]) -> tuple[int, ...]:
        r"""$M_J^c$, the coordinates that no condition of J governs, in their order."""
        governed = [i for j in present for i in self.masks[j]]
        (n,) = _event(self.background)
        return tuple(np.setdiff1d(np.arange(n), np.array(governed, int)).tolist())


def _event(density: Any) -> tuple[int, ...]:
    """The shape of one draw; nothing is drawn."""
    draw = jax.eval_shape(lambda: density.sample(jax.random.key(0), 1))
    return draw.shape[1:]
