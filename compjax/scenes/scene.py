"""What a CLEVR picture shows: objects, a camera and three lamps, as one pytree.

World coordinates are CLEVR's: z is up, the ground is z = 0, objects stand on it within
``|x|, |y| < 3``, and the camera looks at the origin.  All numbers are the generator
defaults of CLEVR (Johnson et al. 2017) and of the Blender file that comes with it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from compjax.types import as_float, concrete, pytree, set_fields

SHAPES = ("cube", "sphere", "cylinder")
"""Names of the values of `Scene.shape`."""

COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
"""Names of the values of `Scene.color`, in CLEVR's order."""

COLOR_RGB = (
    (87 / 255, 87 / 255, 87 / 255),
    (173 / 255, 35 / 255, 35 / 255),
    (42 / 255, 75 / 255, 215 / 255),
    (29 / 255, 105 / 255, 20 / 255),
    (129 / 255, 74 / 255, 25 / 255),
    (129 / 255, 38 / 255, 192 / 255),
    (41 / 255, 208 / 255, 208 / 255),
    (255 / 255, 238 / 255, 51 / 255),
)
"""Linear RGB reflectance of each colour: CLEVR divides by 255 and decodes no gamma."""

MATERIALS = ("rubber", "metal")
"""Names of the values of `Scene.material`."""

SIZES = (0.7, 0.35)
"""Radii of a large and of a small object, in world units."""

SIZE_NAMES = ("large", "small")
"""What CLEVR calls the `SIZES`."""

LAMPS = ("key", "fill", "back")
"""The order of the rows of `Scene.lamps`."""

CAMERA = (7.481131553649902, -6.5076398849487305, 5.34366512298584)
"""Where the camera stands before jitter."""

LAMP_POSITIONS = (
    (6.446710109710693, -2.905174732208252, 4.258398056030273),
    (-4.671124458312988, -4.01359748840332, 3.0112245082855225),
    (-1.168501377105713, 2.646024465560913, 5.815736770629883),
)
"""Where the key, fill and back lamps hang before jitter; all aim at the origin."""

MAX_OBJECTS = 10
"""The most objects a CLEVR scene has."""

Values = Any
"""Whatever makes an array; once a Scene is constructed its fields are JAX arrays."""

_CODES = {"shape": len(SHAPES), "color": len(COLORS), "material": len(MATERIALS)}


@pytree
class Scene:
    """Up to `n` objects, a camera and three lamps; what `render` makes a picture of.

    The arrays have a fixed length n whatever the number of objects: `present` says
    which slots hold one, so that scenes of different counts share a compiled program
    and stack into a batch.  `jax.vmap` over a stacked Scene renders the batch.

    Args:
        xy: `[n, 2]`, where each object stands, in world units.
        rotation: `[n]`, turn about the vertical, in radians.
        size: `[n]`, radius in world units: CLEVR's are 0.7 and 0.35.
        shape: `[n]`, index into `SHAPES`.
        color: `[n]`, index into `COLORS`.
        material: `[n]`, index into `MATERIALS`.
        present: `[n]`, whether the slot holds an object.
        camera: `[3]`, where the camera stands.
        lamps: `[3, 3]`, where the key, fill and back lamps hang, in this order.

    Raises:
        ValueError: if shapes disagree, if there are more than 10 slots or none, or if
            a value that can be looked at is not finite or not an index.

    Source: CLEVR, Johnson et al. 2017, generator defaults.

    Example:
        >>> scene = Scene(
        ...     xy=[[0.0, 0.0]], rotation=[0.3], size=[0.7], shape=[0], color=[1],
        ...     material=[0], present=[True],
        ... )
        >>> scene.camera.shape, SHAPES[int(scene.shape[0])]
        ((3,), 'cube')
    """

    xy: Values
    rotation: Values
    size: Values
    shape: Values
    color: Values
    material: Values
    present: Values
    camera: Values = CAMERA
    lamps: Values = LAMP_POSITIONS

    def __post_init__(self) -> None:
        for name in ("xy", "rotation", "size", "camera", "lamps"):
            set_fields(self, **{name: as_float(getattr(self, name))})
        for name in _CODES:
            set_fields(self, **{name: jnp.asarray(getattr(self, name), jnp.int32)})
        set_fields(self, present=jnp.asarray(self.present, bool))
        n = self.present.size
        if not 1 <= n <= MAX_OBJECTS:
            raise ValueError(
                f"Scene: present has {n} slots; give 1 to {MAX_OBJECTS} of them, and"
                " mark those that hold no object with present = False."
            )
        per_object = ("rotation", "size", "shape", "color", "material", "present")
        shapes = {"xy": (n, 2), "camera": (3,), "lamps": (3, 3)}
        for name, shape in (shapes | {name: (n,) for name in per_object}).items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(
                    f"Scene: {name} has shape {got}; give {shape}, as present has"
                    f" {n} slots (batches of scenes are made by jax.vmap)."
                )
        self._check_values()

    def _check_values(self) -> None:
        for name in ("xy", "rotation", "size", "camera", "lamps"):
            value = concrete(getattr(self, name))
            if value is not None and not np.all(np.isfinite(value)):
                raise ValueError(
                    f"Scene: {name} = {value} is not finite; give finite numbers, also"
                    " in slots whose present is False."
                )
        for name in ("camera", "lamps"):
            value = concrete(getattr(self, name))
            if value is not None and (np.hypot(*value.T[:2]) < 1e-3).any():
                raise ValueError(
                    f"Scene: {name} = {value} stands right above or below the origin,"
                    " which it looks at, so that no way is up; move it aside."
                )
        size = concrete(self.size)
        if size is not None and np.any(size <= 0):
            raise ValueError(
                f"Scene: size = {size} has radii that are not positive; mark missing"
                " objects with present = False instead."
            )
        for name, count in _CODES.items():
            value = concrete(getattr(self, name))
            if value is not None and np.any((value < 0) | (value >= count)):
                raise ValueError(
                    f"Scene: {name} = {value} is out of range; give indices from 0 to"
                    f" {count - 1} into {name.upper()}S."
                )


def check_single(scene: Scene) -> Scene:
    """The scene as it is, once it is known to be one and not a batch.

    Raises:
        ValueError: if its leaves have an axis too many.

    Example:
        >>> import jax
        >>> batch = jax.tree.map(lambda leaf: leaf[None], Scene(
        ...     xy=[[0.0, 0.0]], rotation=[0.3], size=[0.7], shape=[0], color=[1],
        ...     material=[0], present=[True],
        ... ))
        >>> check_single(batch)
        Traceback (most recent call last):
        ...
        ValueError: present has shape (1, 1): give one scene; jax.vmap serves a batch.
    """
    if np.ndim(scene.present) != 1:
        raise ValueError(
            f"present has shape {np.shape(scene.present)}: give one scene; jax.vmap"
            " serves a batch."
        )
    return scene
