"""Compositions in which every condition has pixels of its own.

Theorem 5.3 of Bradley et al. 2025 asks that a conditional differs from the background
on its own block of pixels only.  A learned one does so nearly; what it changes
elsewhere is an error, and k of them add up.  Here they are set to zero.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from compjax.compose.weighted import contract
from compjax.types import Sigma, pytree


@pytree
class Windowed:
    r"""$s_b + \sum_i w_i\, M_i \odot (s_i - s_b)$, windows $M_i$ of 0 and 1.

    Where no two windows overlap, the criterion V of Theorem N is zero.

    Args:
        composition: Of `compose_conditions`.
        windows: $M_i$, `[k, b or 1, *d]`.

    Source: Ours.
    """

    composition: Any
    windows: Any

    def coefficients(self, sigma: Sigma) -> Array:
        """Those of the composition, `[k + 1]` or `[k + 1, b]`."""
        return self.composition.coefficients(sigma)

    def parts(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "k b *d"]:
        """The background, and the conditionals as they are inside their windows."""
        parts = self.composition.parts(x, sigma)
        background, conditionals = parts[:1], parts[1:]
        inside = background + self.windows * (conditionals - background)
        return jnp.concatenate([background, inside])

    def __call__(self, x: Float[Array, "b *d"], sigma: Sigma) -> Float[Array, "b *d"]:
        return contract(self.coefficients(sigma), self.parts(x, sigma))


def windows(
    places: np.ndarray, size: tuple[int, int], radius: float
) -> Float[np.ndarray, "k b h w 1"]:
    """The pixels that are nearer to a place than to any other, and within a radius.

    Args:
        places: `[b, k, 2]`, in pixels.
        size: Height and width of the image.
        radius: In pixels.
    """
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    seen = np.stack([columns, rows], axis=-1)
    distance = np.linalg.norm(seen - places[:, :, None, None], axis=-1)
    nearest = (
        distance.argmin(axis=1)[:, None]
        == np.arange(places.shape[1])[None, :, None, None]
    )
    inside = nearest & (distance <= radius)
    return inside.swapaxes(0, 1)[..., None].astype(np.float32)
