"""Sets of files: which examples there are, and what is recorded of each.

An example is recorded as the released CLEVR is by TensorFlow Datasets' own `clevr`: its
picture as PNG bytes and its objects under CLEVR's names.  Camera, lamps and the chosen
object are recorded besides, so that every label can be made from a record.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from compjax import scenes
from compjax.datasets.labels import observe
from compjax.scenes.scene import MAX_OBJECTS
from compjax.scenes.tracer import PRESETS
from compjax.types import Number, PRNGKey

COLOR_NAMES = ("gray", "blue", "brown", "yellow", "red", "green", "purple", "cyan")
"""In the order of TensorFlow Datasets' `clevr`, which is not CLEVR's."""

SIZE_NAMES = ("small", "large")
"""In the order of TensorFlow Datasets' `clevr`."""

MOST_FILES = 512
"""Shards of a set; a reader keeps them all open, and systems allow about 1000."""

FEWEST_EXAMPLES = 256
"""Of a shard, unless the set has fewer."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that determines the bytes of a set of files.

    Example i depends on the seed, on `batch` and on i only, and is drawn together with
    the same `batch` examples always.  Scenes are CLEVR's, of which every object can be
    seen; the numbers of objects take turns from batch to batch, so that each is as
    frequent, up to one batch.

    Args:
        min_objects: The fewest objects in a picture.
        max_objects: The most.
        examples: How many examples.
        height: Of the pictures, in pixels.
        width: Of the pictures, in pixels.
        seed: Of everything that is random.
        jitter: Scales CLEVR's jitter of the camera and of the lamps.
        preset: Of `scenes.render`.
        batch: Examples that are drawn together; 1 suits a CPU, hundreds a GPU.
        shard: Examples in a file, a multiple of `batch`; None for what gives at most
            512 files, of at least 256 examples each.
        platform: JAX's name of what renders; others may round otherwise.

    Raises:
        ValueError: If a number is out of its range.

    Example:
        >>> plan = Plan(1, 3, examples=1_500_000)
        >>> plan.shard, plan.shards
        (2930, 512)
    """

    min_objects: int
    max_objects: int
    examples: int
    height: int = 128
    width: int = 128
    seed: int = 0
    jitter: float = 1.0
    preset: str = "fast"
    batch: int = 1
    shard: Any = None
    platform: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 <= self.min_objects <= self.max_objects <= MAX_OBJECTS:
            raise ValueError(
                f"min_objects = {self.min_objects}, max_objects = {self.max_objects}:"
                f" give 0 <= min_objects <= max_objects <= {MAX_OBJECTS}."
            )
        for name in ("examples", "height", "width", "batch"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} = {value}: give at least 1.")
        if not 0 <= self.seed < 2**32 or self.examples > 2**31:
            raise ValueError(
                f"seed = {self.seed}, examples = {self.examples}: give a seed below"
                " 2**32 and at most 2**31 examples."
            )
        if not 0 <= self.jitter < math.inf:
            raise ValueError(f"jitter = {self.jitter}: give 0, 1 for CLEVR's, or more.")
        counts = self.max_objects - self.min_objects + 1
        if -(-self.examples // self.batch) < counts:
            raise ValueError(
                f"examples = {self.examples}, batch = {self.batch}: fewer batches than"
                f" the {counts} numbers of objects; give a smaller batch."
            )
        if self.preset not in PRESETS:
            raise ValueError(f"preset = {self.preset!r}: choose {', '.join(PRESETS)}.")
        wanted = max(FEWEST_EXAMPLES, -(-self.examples // MOST_FILES))
        shard = -(-wanted // self.batch) * self.batch
        shard = shard if self.shard is None else self.shard
        if shard < 1 or shard % self.batch:
            raise ValueError(
                f"shard = {shard} is no multiple of batch = {self.batch}: give one that"
                " is."
            )
        object.__setattr__(self, "shard", shard)

    @property
    def shards(self) -> int:
        """How many files there are."""
        return -(-self.examples // self.shard)

    def examples_of(self, shard: int) -> range:
        """The numbers of the examples in one file."""
        first = shard * self.shard
        return range(first, min(first + self.shard, self.examples))


def features(height: int, width: int) -> Any:
    """What is recorded of an example, as a `tfds.features.FeaturesDict`.

    Example:
        >>> sorted(features(128, 128))
        ['camera', 'chosen', 'image', 'index', 'lamps', 'objects']
    """
    import tensorflow_datasets as tfds

    f = tfds.features
    return f.FeaturesDict(
        {
            "image": f.Image(shape=(height, width, 3), encoding_format="png"),
            "index": f.Scalar(dtype=np.int64, doc="Number of the example."),
            "objects": f.Sequence(
                {
                    "color": f.ClassLabel(names=COLOR_NAMES),
                    "material": f.ClassLabel(names=scenes.MATERIALS),
                    "shape": f.ClassLabel(names=scenes.SHAPES),
                    "size": f.ClassLabel(names=SIZE_NAMES),
                    "rotation": f.Tensor(shape=(), dtype=np.float32, doc="Radians."),
                    "3d_coords": f.Tensor(shape=(3,), dtype=np.float32),
                    "pixel_coords": f.Tensor(
                        shape=(3,),
                        dtype=np.float32,
                        doc="x right and y down in pixels of this image, not rounded;"
                        " depth in world units.",
                    ),
                }
            ),
            "camera": f.Tensor(shape=(3,), dtype=np.float32, doc="Looks at 0."),
            "lamps": f.Tensor(
                shape=(3, 3), dtype=np.float32, doc="Key, fill and back lamp."
            ),
            "chosen": f.Scalar(
                dtype=np.int32, doc="Index of one random object; -1 if there is none."
            ),
        }
    )


def examples(plan: Plan, shard: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """The examples of one file, as TensorFlow Datasets takes them.

    Args:
        plan: Of the set.
        shard: Number of the file.

    Yields:
        The number of the example, and a dictionary of its `features`.

    Example:
        >>> plan = Plan(1, 1, examples=2, height=8, width=8, batch=2)
        >>> number, example = next(examples(plan, 0))
        >>> number, example["image"][1:4], len(example["objects"])
        (0, b'PNG', 1)
    """
    numbers = plan.examples_of(shard)
    span = plan.max_objects - plan.min_objects + 1
    device = _device(plan.platform)
    for first in range(numbers.start, numbers.stop, plan.batch):
        count = plan.min_objects + first // plan.batch % span
        with jax.default_device(device):
            drawn = _draw(
                jax.random.key(plan.seed),
                first + np.arange(plan.batch),
                plan.jitter,
                count,
                (plan.height, plan.width),
                plan.preset,
            )
        drawn = jax.tree.map(np.asarray, drawn)
        for row in range(min(plan.batch, numbers.stop - first)):
            one = jax.tree.map(lambda leaf, row=row: leaf[row], drawn)
            yield first + row, {"index": first + row} | _described(one, count)


def _device(platform: str) -> Any:
    try:
        return jax.devices(platform)[0]
    except (RuntimeError, AssertionError):  # whichever, by JAX's version
        raise ValueError(
            f"platform = {platform!r}: JAX finds no such device here; choose cpu, or"
            " install what it needs."
        ) from None


@functools.partial(jax.jit, static_argnames=("count", "size", "preset"))
def _draw(
    key: PRNGKey,
    numbers: Int[Array, " b"],
    jitter: Number,
    count: int,
    size: tuple[int, int],
    preset: str,
) -> tuple[Array, scenes.Scene, Array, Array]:
    """Pictures as bytes, their scenes, pixel coordinates and chosen objects."""

    def one(number: Array) -> tuple[Array, scenes.Scene, Array, Array]:
        key_scene, key_chosen = jax.random.split(jax.random.fold_in(key, number))
        scene = scenes.sample_visible(key_scene, count, count, jitter)
        image = jnp.round(255 * scenes.render(scene, size, preset)).astype(jnp.uint8)
        chosen = observe(key_chosen, scene, size).chosen
        return image, scene, scenes.pixel_coords(scene, size), chosen

    return jax.vmap(one)(numbers)


def _described(drawn: tuple[Any, ...], count: int) -> dict[str, Any]:
    image, scene, pixels, chosen = drawn
    if scene.present.sum() != count:
        raise ValueError(
            f"no room was found for {count} objects; give a smaller max_objects."
        )
    objects = [
        {
            "color": scenes.COLORS[scene.color[i]],
            "material": scenes.MATERIALS[scene.material[i]],
            "shape": scenes.SHAPES[scene.shape[i]],
            "size": "large" if scene.size[i] > 0.5 else "small",
            "rotation": scene.rotation[i],
            "3d_coords": np.append(scene.xy[i], scene.size[i]),
            "pixel_coords": pixels[i],
        }
        for i in range(count)
    ]
    return {
        "image": png(image),
        "objects": objects,
        "camera": scene.camera,
        "lamps": scene.lamps,
        "chosen": chosen,
    }


def png(image: np.ndarray) -> bytes:
    r"""A picture `[h, w, 3]` of bytes as a PNG file's content.

    Example:
        >>> png(np.zeros((2, 2, 3), np.uint8))[:4]
        b'\x89PNG'
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png")
    return buffer.getvalue()
