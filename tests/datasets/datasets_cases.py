"""What the tests of this folder share."""

import functools

import jax
import numpy as np

from compjax.datasets.records import Plan, examples, features

SMALL = Plan(1, 3, examples=24, height=24, width=32, batch=2, shard=8)


@functools.cache
def drawn(plan=SMALL):
    """All examples of a plan, as they are handed to TensorFlow Datasets."""
    return [pair for shard in range(plan.shards) for pair in examples(plan, shard)]


@functools.cache
def recorded(plan=SMALL):
    """All examples of a plan, as they are read from its files."""
    record = features(plan.height, plan.width)
    return [
        record.deserialize_example_np(record.serialize_example(new))
        for _, new in drawn(plan)
    ]


def stacked(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def clevr_record(number, objects):
    """An example of the released CLEVR, before TensorFlow Datasets encodes it."""
    from compjax.datasets.records import png

    image = np.full((320, 480, 3), (number, 100, 200), np.uint8)
    image[:, 240:] = 50
    return {
        "image": png(image),
        "file_name": f"CLEVR_train_{number:06}.png",
        "question_answer": [{"question": "How many?", "answer": str(len(objects))}],
        "objects": objects,
    }


CAMERA = np.array([7.3, -6.9, 5.2])


def seen_at_480(place):
    """The released dataset's `pixel_coords`: its pictures are 480 wide and 320 high."""
    backward = CAMERA / np.linalg.norm(CAMERA)
    right = np.cross([0.0, 0.0, 1.0], backward)
    right /= np.linalg.norm(right)
    ray = np.array(place) - CAMERA
    depth = -ray @ backward
    x = 480 * (0.5 + 35 / 32 * (ray @ right) / depth)
    y = 320 * (0.5 - 35 / 32 * 1.5 * (ray @ np.cross(backward, right)) / depth)
    return [float(round(x)), float(round(y)), depth]


TWO = [
    {
        "color": "purple",
        "material": "metal",
        "shape": "cylinder",
        "size": "small",
        "rotation": 1.5,
        "3d_coords": [0.5, -1.0, 0.35],
        "pixel_coords": seen_at_480([0.5, -1.0, 0.35]),
    },
    {
        "color": "red",
        "material": "rubber",
        "shape": "cube",
        "size": "large",
        "rotation": 300.0,
        "3d_coords": [-1.5, 2.0, 0.7],
        "pixel_coords": seen_at_480([-1.5, 2.0, 0.7]),
    },
]


@functools.cache
def clevr_features():
    """What TensorFlow Datasets' own `clevr` declares."""
    import tensorflow_datasets as tfds

    return tfds.builder("clevr", data_dir="/nonexistent", try_gcs=False).info.features
