"""What CLEVR says of pairs of objects: left, right, in front, behind."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool

from compjax.scenes.scene import Scene, check_single

DIRECTIONS = {
    "left": (-0.6563112735748291, -0.7544902563095093, 0.0),
    "right": (0.6563112735748291, 0.7544902563095093, 0.0),
    "front": (0.754490315914154, -0.6563112735748291, 0.0),
    "behind": (-0.754490315914154, 0.6563112735748291, 0.0),
    "above": (0.0, 0.0, 1.0),
    "below": (0.0, 0.0, -1.0),
}
"""Unit vectors on the ground and up.  They belong to the camera before jitter: CLEVR's
generator reads the camera's pose before Blender has updated it, so that every released
scene carries these very numbers."""

RELATIONS = ("left", "right", "front", "behind")
"""The order of the rows of `relationships`."""

EPSILON = 0.2
"""World units by which one object is to the left of another, at least."""


def relationships(scene: Scene) -> Bool[Array, "4 n n"]:
    """Which objects stand to the left, right, front or back of which.

    Entry `[r, i, j]` says that object j is `RELATIONS[r]` of object i: that j is more
    than 0.2 further in that direction.

    Args:
        scene: one scene (`jax.vmap` for a batch).

    Returns:
        `[4, n, n]`; false wherever a slot holds no object.

    Source: CLEVR, Johnson et al. 2017, `relationships` of its scene files.

    Example:
        >>> from compjax.scenes import sample
        >>> import jax
        >>> left, right, front, behind = relationships(sample(jax.random.key(0), 4, 4))
        >>> bool((left == right.T).all()), bool((front == behind.T).all())
        (True, True)
    """
    check_single(scene)
    direction = jnp.array([DIRECTIONS[name][:2] for name in RELATIONS])
    # Not a matrix product: some accelerators round those to ten bits.
    along = (scene.xy[None] * direction[:, None]).sum(axis=-1)
    further = along[:, None, :] - along[:, :, None] > EPSILON
    pair = scene.present[:, None] & scene.present[None, :]
    return further & pair[None]
