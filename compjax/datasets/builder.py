"""The sets of files as a TensorFlow Datasets builder.

This module imports TensorFlow Datasets; import it where it is needed.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from compjax.datasets.records import Plan, examples, features

SPLIT = "train"
"""The papers describe no other; a test set is a set with another seed."""


class ClevrScenes(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Rendered CLEVR scenes, written as ArrayRecord without TensorFlow.

    `download_and_prepare` draws the set in this process, which suits small ones;
    `experiments.scenes.generate` writes the same examples with many processes, goes on
    where it was interrupted, and writes byte for byte the same each time.  Either way
    `tfds.builder_from_directory` reads them.

    Args:
        plan: Which examples.
        data_dir: Below which TensorFlow Datasets keeps its sets.

    Example:
        >>> import tempfile
        >>> plan = Plan(0, 0, examples=2, height=8, width=8, batch=2)
        >>> builder = ClevrScenes(plan=plan, data_dir=tempfile.mkdtemp())
        >>> builder.download_and_prepare()  # doctest: +ELLIPSIS
        Downloading and preparing dataset ...
        >>> len(builder.as_data_source(SPLIT))
        2
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        self.plan = plan
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        plan = self.plan
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"CLEVR scenes with {plan.min_objects} to {plan.max_objects}"
            " objects, drawn by compjax.",
            features=features(plan.height, plan.width),
            disable_shuffling=True,  # files are in the order of the examples
            metadata=tfds.core.MetadataDict(dataclasses.asdict(plan)),
        )

    def _shard_iterators_per_split(
        self, dl_manager: Any
    ) -> Mapping[str, Sequence[Callable[[], Iterator[Any]]]]:
        del dl_manager  # nothing is downloaded
        shards = range(self.plan.shards)
        return {SPLIT: [functools.partial(examples, self.plan, i) for i in shards]}


def shard_name(plan: Plan, shard: int) -> str:
    """What a file of a set is called.

    Example:
        >>> shard_name(Plan(1, 1, examples=1000), 0)
        'clevr_scenes-train.array_record-00000-of-00004'
    """
    return f"{ClevrScenes.name}-{SPLIT}.array_record-{shard:05}-of-{plan.shards:05}"


def write_metadata(plan: Plan, directory: Path, num_bytes: int) -> None:
    """Makes a directory that holds all files of a set one that can be read.

    Args:
        plan: Of the set.
        directory: Of the files.
        num_bytes: Sum of their sizes.

    Example:
        >>> import os, tempfile
        >>> directory = Path(tempfile.mkdtemp())
        >>> write_metadata(Plan(0, 0, examples=2), directory, 0)
        >>> sorted(os.listdir(directory))[:3]
        ['dataset_info.json', 'features.json', 'metadata.json']
    """
    builder = ClevrScenes(plan=plan, data_dir=str(directory))
    template = tfds.core.ShardedFileTemplate(
        data_dir=tfds.core.Path(directory),
        dataset_name=builder.name,
        split=SPLIT,
        filetype_suffix="array_record",
    )
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=[len(plan.examples_of(i)) for i in range(plan.shards)],
        num_bytes=num_bytes,
        filename_template=template,
    )
    builder.info.set_splits(tfds.core.SplitDict([split]))
    builder.info.write_to_directory(directory)
