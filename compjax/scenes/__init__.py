"""CLEVR in JAX: random scenes, their pictures, conditions, and an object detector."""

from compjax.scenes.blender import render_blender
from compjax.scenes.camera import check_size, pixel_coords, solve_camera
from compjax.scenes.clevr_json import from_record, load, save, to_record
from compjax.scenes.detector import Detections, detect, resize, valid_xy
from compjax.scenes.encode import bumps, colors, empty, location, locations, null
from compjax.scenes.matching import hit_radius, match, pairs
from compjax.scenes.placement import first, rearrange, sample, sample_apart
from compjax.scenes.relations import DIRECTIONS, RELATIONS, relationships
from compjax.scenes.scene import COLORS, MATERIALS, SHAPES, SIZE_NAMES, SIZES, Scene
from compjax.scenes.tracer import render
from compjax.scenes.visible import object_map, sample_visible, visible_pixels

__all__ = [
    "COLORS",
    "DIRECTIONS",
    "MATERIALS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SIZE_NAMES",
    "Detections",
    "Scene",
    "bumps",
    "check_size",
    "colors",
    "detect",
    "empty",
    "first",
    "from_record",
    "hit_radius",
    "load",
    "location",
    "locations",
    "match",
    "null",
    "object_map",
    "pairs",
    "pixel_coords",
    "rearrange",
    "relationships",
    "render",
    "render_blender",
    "resize",
    "sample",
    "sample_apart",
    "sample_visible",
    "save",
    "solve_camera",
    "to_record",
    "valid_xy",
    "visible_pixels",
]
