"""Reading sets of files: ours and the released CLEVR, through one grain pipeline.

Both are sources of dictionaries with the same entries, and both come out as pictures
and `Objects`, of which `labelled` makes training examples on the device.
"""

from __future__ import annotations

import functools
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from compjax import scenes
from compjax.datasets.labels import Objects
from compjax.datasets.records import COLOR_NAMES, SIZE_NAMES
from compjax.scenes.detector import resampling
from compjax.scenes.scene import LAMPS, MAX_OBJECTS

_COLORS = np.array([scenes.COLORS.index(name) for name in COLOR_NAMES], np.int32)
_RADII = np.array(
    [scenes.SIZES[scenes.SIZE_NAMES.index(name)] for name in SIZE_NAMES], np.float32
)
"""From the numbers of TensorFlow Datasets' names to ours."""


def open_set(directory: str | os.PathLike) -> Any:
    """The records of a set that `experiments.scenes.generate` wrote.

    Args:
        directory: Of the set.

    Returns:
        A sequence of dictionaries, read from the files when asked for.

    Raises:
        ValueError: If there is no whole set.

    Example:
        >>> open_set("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: nowhere holds no set; write one with python -m experiments.scenes...
    """
    from compjax.datasets.builder import SPLIT

    directory = Path(directory)
    if not (directory / "dataset_info.json").exists():
        partial = directory.with_name(directory.name + ".partial")
        state = (
            f"is not whole yet ({partial} is): finish it with"
            if partial.exists()
            else "holds no set; write one with"
        )
        raise ValueError(f"{directory} {state} python -m experiments.scenes.generate.")
    return _source(directory, SPLIT)


def open_clevr(data_dir: str | os.PathLike, split: str = "train") -> Any:
    """The records of the released CLEVR, which TensorFlow Datasets has prepared.

    Reading needs no TensorFlow; preparing does, once and in any environment:
    ``pip install tensorflow tensorflow-datasets`` and ``tfds build clevr
    --file_format=array_record --data_dir=DIRECTORY``.

    Its pictures are 480 x 320, wider than the frame that `scenes.render` draws, so
    `scene_of` gives the scene and not the picture again.

    Args:
        data_dir: The directory given as `DIRECTORY`.
        split: `"train"` or `"validation"`, or a part such as `"train[:1000]"`.

    Returns:
        A sequence of dictionaries, read from the files when asked for.

    Raises:
        ValueError: If it is not there, not as ArrayRecord, or has no annotations.

    Source: CLEVR, Johnson et al. 2017.

    Example:
        >>> open_clevr("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: nowhere holds no prepared CLEVR; prepare it where TensorFlow is ...
    """
    if split.startswith("test"):
        raise ValueError(
            f"split = {split!r} was released without annotations, so it has no labels;"
            " choose train or validation."
        )
    versions = Path(data_dir) / "clevr"
    found = sorted(versions.glob("*/dataset_info.json"))
    if not found:
        raise ValueError(
            f"{data_dir} holds no prepared CLEVR; prepare it where TensorFlow is"
            " installed: tfds build clevr --file_format=array_record"
            f" --data_dir={data_dir}"
        )
    return _source(found[-1].parent, split)


def _source(directory: Path, split: str) -> Any:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    file_format = builder.info.file_format
    if file_format is None or file_format.value != "array_record":
        raise ValueError(
            f"{directory} is written as {file_format and file_format.value}, which only"
            " TensorFlow reads: prepare it with --file_format=array_record."
        )
    recorded: Any = builder.info.features
    names = recorded["objects"]["color"].names
    if tuple(names) != COLOR_NAMES:
        raise ValueError(f"{directory} numbers colours as {names}, not {COLOR_NAMES}.")
    return builder.as_data_source(split)  # type: ignore[reportCallIssue]


def pipeline(
    source: Any,
    batch: int,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    threads: int = 8,
) -> Any:
    """Batches without end: `(images, objects)`, for this process.

    Each epoch is a new order of all records.  A batch is the same whatever the number
    of processes, which read a part of it each, in order: batch by batch, process p
    gets the p-th part.  Iterators have `get_state()` and `set_state(state)`, by which
    training goes on where it was interrupted, on as many processes.

    Args:
        source: What `open_set` or `open_clevr` returns, or any sequence of such
            records.
        batch: Number of examples of a batch, over all processes.
        seed: Of the order.
        size: Height and width to which pictures are resized by averaging areas; as
            they are if None.
        threads: That read ahead; each holds one batch.

    Returns:
        A `grain.IterDataset` of pairs: images `[b, h, w, 3]` as bytes, and `Objects`;
        NumPy arrays with b = batch / number of processes, which
        `jax.make_array_from_process_local_data` makes global.

    Raises:
        ValueError: If `batch` is not a multiple of the number of processes, or more
            than there are records.

    Example:
        >>> from compjax.datasets.records import Plan, examples, features
        >>> recorded = features(8, 8)
        >>> records = [
        ...     recorded.deserialize_example_np(recorded.serialize_example(new))
        ...     for _, new in examples(Plan(1, 1, examples=4, height=8, width=8), 0)
        ... ]
        >>> images, objects = next(iter(pipeline(records, batch=2)))
        >>> images.shape, objects.xy.shape
        ((2, 8, 8, 3), (2, 10, 2))
    """
    import grain

    processes = jax.process_count()
    if batch < 1 or batch % processes:
        raise ValueError(
            f"batch = {batch} does not split over {processes} processes: give a"
            " multiple of their number."
        )
    if batch > len(source):
        raise ValueError(f"batch = {batch} is more than the {len(source)} records.")
    records = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    ours = (
        records.map(functools.partial(example, size=size))
        .batch(batch // processes, drop_remainder=True)
        .slice(slice(jax.process_index(), None, processes))
    )
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    return ours.to_iter_dataset(ahead)


def example(
    record: Mapping[str, Any], size: tuple[int, int] | None = None
) -> tuple[UInt8[np.ndarray, "h w 3"], Objects]:
    """The picture of a record, and what is known of its objects.

    Of the released CLEVR the chosen object is not recorded; the name of the picture's
    file decides, so that it is always the same.  Which objects are named is recorded
    nowhere: where they appear, to the last bit, decides.

    Args:
        record: Of our sets or of TensorFlow Datasets' `clevr`, decoded.
        size: Height and width to resize to; None keeps the picture as it is.

    Returns:
        The picture, and `Objects` in ten slots without the batch axis.

    Example:
        >>> record = {
        ...     "image": np.zeros((320, 480, 3), np.uint8),
        ...     "file_name": b"CLEVR_train_000000.png",
        ...     "objects": {
        ...         "3d_coords": [(0.0, 0.0, 0.35)], "pixel_coords": [(240, 80, 9.0)],
        ...         "color": [1], "shape": [0], "material": [0], "size": [0],
        ...         "rotation": [0.0],
        ...     },
        ... }
        >>> image, objects = example(record, size=(128, 128))
        >>> image.shape, objects.xy[0], scenes.COLORS[objects.color[0]]
        ((128, 128, 3), array([0.5 , 0.25], dtype=float32), 'blue')
    """
    image, described = np.asarray(record["image"])[..., :3], record["objects"]
    height, width = image.shape[:2]
    count = len(described["color"])
    number = lambda name: np.asarray(described[name], np.int32).reshape(count)
    pixels = np.asarray(described["pixel_coords"], np.float32).reshape(count, 3)
    if "chosen" in record:
        chosen = int(record["chosen"])
    else:
        name = record["file_name"]
        name = name if isinstance(name, bytes) else name.encode()
        chosen = zlib.crc32(name) % count if count else -1
    coins = np.random.default_rng(zlib.crc32(pixels.tobytes()))
    named = coins.random(count) < 0.5
    named |= np.arange(count) == chosen
    if size is not None and size != (height, width):
        image = _resized(image, size)
    return image, Objects(
        xy=_padded(pixels[:, :2] / np.array([width, height], np.float32)),
        radius=_padded(_RADII[number("size")], fill=_RADII[0]),
        shape=_padded(number("shape")),
        color=_padded(_COLORS[number("color")]),
        material=_padded(number("material")),
        present=_padded(np.ones(count, bool)),
        chosen=np.int32(chosen),
        picture=image.shape[:2],
        named=_padded(named),
    )


def scene_of(record: Mapping[str, Any]) -> scenes.Scene:
    """The scene that a record describes.

    The released CLEVR has neither camera nor lamps; its camera is solved from where the
    objects appear, and its lamps are CLEVR's before jitter.

    Args:
        record: Of our sets or of TensorFlow Datasets' `clevr`, decoded.

    Returns:
        A Scene with ten slots.

    Raises:
        ValueError: If it describes what no scene can hold.

    Example:
        >>> from compjax.datasets.records import Plan, examples, features
        >>> recorded = features(8, 8)
        >>> _, new = next(examples(Plan(1, 1, examples=1, height=8, width=8), 0))
        >>> record = recorded.deserialize_example_np(recorded.serialize_example(new))
        >>> scene_of(record).present.shape
        (10,)
    """
    described = record["objects"]
    columns = {
        "color": [COLOR_NAMES[i] for i in described["color"]],
        "material": [scenes.MATERIALS[i] for i in described["material"]],
        "shape": [scenes.SHAPES[i] for i in described["shape"]],
        "size": [SIZE_NAMES[i] for i in described["size"]],
        "rotation": [float(angle) for angle in described["rotation"]],
        "3d_coords": [_list(place) for place in described["3d_coords"]],
        "pixel_coords": [_list(place) for place in described["pixel_coords"]],
    }
    rows = zip(*columns.values(), strict=True)
    entry: dict[str, Any] = {
        "objects": [dict(zip(columns, row, strict=True)) for row in rows]
    }
    if "camera" in record:
        entry["camera_location"] = _list(record["camera"])
        lamps = [_list(lamp) for lamp in record["lamps"]]
        entry["lamp_locations"] = dict(zip(LAMPS, lamps, strict=True))
    return scenes.from_record(entry)


def _list(values: Any) -> list[float]:
    return [float(value) for value in values]


def _padded(values: np.ndarray, fill: Any = 0) -> np.ndarray:
    whole = np.full((MAX_OBJECTS, *values.shape[1:]), fill, values.dtype)
    whole[: len(values)] = values
    return whole


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """As `scenes.resize`, for threads that must not use the device."""
    down = resampling(image.shape[0], size[0])
    across = resampling(image.shape[1], size[1])
    rows = np.tensordot(down, image.astype(np.float32), axes=1)
    resized = np.einsum("ij,bjc->bic", across, rows)
    return np.round(resized).astype(np.uint8)
