"""Renders CLEVR pictures in Blender: a script for an interpreter that has `bpy`.

It needs the standard library and `bpy`, nothing else, so that the interpreter may be
another one than that of JAX.  Whoever starts it writes lines of JSON to its standard
input: first the `Settings`, then a `Picture` each, and reads a line of JSON for each
from its standard output.  It ends with its standard input.

Each picture starts from the generator's `base_scene.blend`, so that none depends on
those before it: camera and lamps are moved (constraints in the file let them aim at
the origin, whatever their place), objects are taken from `shapes/`, and each gets a
material that is one node group of `materials/`, with its input `Color` set.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any, TypedDict

SHAPE_FILES = {
    "cube": "SmoothCube_v2",
    "sphere": "Sphere",
    "cylinder": "SmoothCylinder",
}
"""Files below `shapes/`, and the mesh object in each, by CLEVR's name of the shape."""

MATERIAL_FILES = {"rubber": "Rubber", "metal": "MyMetal"}
"""Files below `materials/`, and the node group in each, by CLEVR's name."""

ASSETS = (
    "base_scene.blend",
    *(f"shapes/{name}.blend" for name in SHAPE_FILES.values()),
    *(f"materials/{name}.blend" for name in MATERIAL_FILES.values()),
)
"""The files of the generator that are needed, below its folder of assets."""

PNG = b"\x89PNG\r\n\x1a\n"
"""What a PNG file begins with."""

ASPECT = 4 / 3
"""Width over height of CLEVR's frame."""

BLUR_GLOSSY = 2.0
"""How far Cycles blurs reflections seen by diffuse light: the generator's default."""

TRANSPARENT_BOUNCES = 8
"""The only bounces the generator sets; all others are Blender's defaults."""


class Settings(TypedDict):
    """What all pictures share."""

    assets: str
    height: int
    width: int
    samples: int
    denoiser: str | None
    threads: int  # 0: one for every core


class Object(TypedDict):
    """One object, in world units, radians and linear RGB."""

    shape: str
    material: str
    rgb: list[float]
    xyz: list[float]  # the centre; as objects stand on the ground, z is the radius
    rotation: float


class Picture(TypedDict):
    """One picture: where to write it, and what it shows."""

    file: str
    objects: list[Object]
    camera: list[float]
    lamps: dict[str, list[float]]  # by name: key, fill, back


def blender() -> Any:
    """The module `bpy`, which few interpreters have."""
    return importlib.import_module("bpy")


def main() -> None:
    """Answers every picture on standard input by a line that says it is rendered."""
    # Blender talks on standard output; from here on that goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    settings: Settings = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        picture: Picture = json.loads(line)
        started, started_cpu = time.perf_counter(), time.process_time()
        try:
            render(settings, picture)
            answer = {
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - started_cpu,
            }
        except (OSError, RuntimeError, ValueError) as error:
            answer = {"error": " ".join(str(error).split())}
        print(json.dumps(answer), file=answers, flush=True)


def render(settings: Settings, picture: Picture) -> None:
    """Renders one picture to its file, which appears only when it is complete.

    Raises:
        OSError: if it cannot be written.
        RuntimeError: if Blender says so.
        ValueError: if Blender did not say so, but wrote it in part.
    """
    bpy = blender()
    assets = Path(settings["assets"])
    bpy.ops.wm.open_mainfile(
        filepath=str(assets / ASSETS[0]), load_ui=False, use_scripts=False
    )
    place_stage(picture)
    for entry in picture["objects"]:
        add_object(assets, entry)
    set_up_cycles(settings)
    file = Path(picture["file"])
    partial = file.with_name(f".{file.stem}.{os.getpid()}.partial.png")
    bpy.context.scene.render.filepath = str(partial)
    try:
        bpy.ops.render.render(write_still=True)
        size = settings["height"], settings["width"]
        bare = without_notes(partial.read_bytes(), *size)
        with partial.open("wb") as whole:
            whole.write(bare)
            whole.flush()
            os.fsync(whole.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def place_stage(picture: Picture) -> None:
    """Moves the camera and the three lamps to where the picture has them."""
    bpy = blender()
    places = {f"Lamp_{name.title()}": xyz for name, xyz in picture["lamps"].items()}
    for name, xyz in {"Camera": picture["camera"], **places}.items():
        bpy.data.objects[name].location = xyz


def add_object(assets: Path, entry: Object) -> None:
    """Puts one object on the ground, with a material of its own."""
    bpy = blender()
    name = SHAPE_FILES[entry["shape"]]
    body = take(assets / "shapes" / f"{name}.blend", "objects", name)
    body.location = entry["xyz"]
    body.scale = (entry["xyz"][2],) * 3
    body.rotation_euler[2] = entry["rotation"]
    bpy.context.scene.collection.objects.link(body)

    name = MATERIAL_FILES[entry["material"]]
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    nodes = material.node_tree.nodes
    nodes.clear()
    group = nodes.new("ShaderNodeGroup")
    group.node_tree = take(assets / "materials" / f"{name}.blend", "node_groups", name)
    group.inputs["Color"].default_value = (*entry["rgb"], 1.0)
    output = nodes.new("ShaderNodeOutputMaterial")
    material.node_tree.links.new(group.outputs["Shader"], output.inputs["Surface"])
    body.data.materials.clear()
    body.data.materials.append(material)


def take(file: Path, kind: str, name: str) -> Any:
    """A copy of one named thing of another Blender file."""
    bpy = blender()
    with bpy.data.libraries.load(str(file), link=False) as (_, wanted):
        setattr(wanted, kind, [name])
    return getattr(wanted, kind)[0]


def set_up_cycles(settings: Settings) -> None:
    """Sets what the generator sets, and what Blender has since got other defaults for.

    The frame is 4:3 whatever the size: pixels of another ratio are not square.
    """
    bpy = blender()
    scene = bpy.context.scene
    picture, cycles = scene.render, scene.cycles
    picture.engine, cycles.device = "CYCLES", "CPU"
    picture.resolution_x, picture.resolution_y = settings["width"], settings["height"]
    picture.resolution_percentage = 100
    ratio = ASPECT * settings["height"] / settings["width"]
    # Blender wants both at least 1.
    picture.pixel_aspect_x, picture.pixel_aspect_y = max(ratio, 1), max(1 / ratio, 1)
    picture.image_settings.file_format = "PNG"
    picture.image_settings.color_mode = "RGB"
    picture.image_settings.color_depth = "8"
    picture.use_file_extension = False
    if settings["threads"]:
        picture.threads_mode, picture.threads = "FIXED", settings["threads"]
    cycles.samples = settings["samples"]
    cycles.seed = 0
    cycles.use_adaptive_sampling = False
    cycles.blur_glossy = BLUR_GLOSSY
    cycles.min_transparent_bounces = TRANSPARENT_BOUNCES
    cycles.transparent_max_bounces = TRANSPARENT_BOUNCES
    cycles.use_denoising = settings["denoiser"] is not None
    if settings["denoiser"] is not None:
        cycles.denoiser = settings["denoiser"]
    scene.world.cycles.sampling_method = "AUTOMATIC"


def is_whole(file: Path, height: int, width: int) -> bool:
    """Whether a file is there and is a PNG of this size, to its last chunk.

    Example:
        >>> is_whole(Path(__file__), 240, 320)
        False
    """
    try:
        without_notes(file.read_bytes(), height, width)
    except (FileNotFoundError, ValueError):
        return False
    return True


def without_notes(png: bytes, height: int, width: int) -> bytes:
    """A PNG without the chunks that do not tell its pixels, such as dates.

    What is left depends on the picture alone.

    Raises:
        ValueError: if it is no whole PNG of this size.

    Example:
        >>> without_notes(b"GIF", 240, 320)
        Traceback (most recent call last):
        ...
        ValueError: no whole PNG of 240 x 320 pixels
    """
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    whole = png[:8] == PNG and png[16:24] == size
    kept, start, name = [PNG], len(PNG), b""
    while whole and name != b"IEND":
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        name = png[start + 4 : start + 8]
        checksum = zlib.crc32(png[start + 4 : end - 4]).to_bytes(4, "big")
        whole = end <= len(png) and png[end - 4 : end] == checksum
        # The names of chunks that one may leave out begin with a small letter.
        if name[:1].isupper():
            kept.append(png[start:end])
        start = end
    if not whole:
        raise ValueError(f"no whole PNG of {height} x {width} pixels")
    return b"".join(kept)


if __name__ == "__main__":
    main()
