"""CLEVR in JAX: random scenes, their pictures, conditions, and an object finder."""

from compjax.scenes.camera import pixel_coords
from compjax.scenes.counter import find_objects, hit_radius, match
from compjax.scenes.encode import empty, location, null
from compjax.scenes.placement import first, sample, sample_apart
from compjax.scenes.scene import COLORS, MATERIALS, SHAPES, SIZES, Scene
from compjax.scenes.tracer import render

__all__ = [
    "COLORS",
    "MATERIALS",
    "SHAPES",
    "SIZES",
    "Scene",
    "empty",
    "find_objects",
    "first",
    "hit_radius",
    "location",
    "match",
    "null",
    "pixel_coords",
    "render",
    "sample",
    "sample_apart",
]
