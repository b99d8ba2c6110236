"""Each record once an epoch, the same batches on any number of processes."""

import json

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from datasets_cases import CAMERA, TWO, clevr_features, clevr_record, recorded, stacked

from compjax import datasets, scenes


class Numbered:
    """Records told apart by their one pixel."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        described = {
            "color": [1],
            "shape": [0],
            "material": [0],
            "size": [0],
            "pixel_coords": [(0.5, 0.5, 9.0)],
        }
        image = np.full((1, 1, 3), i, np.uint8)
        return {"image": image, "objects": described, "chosen": 0}


def numbers(batches, source, **options):
    it = iter(datasets.pipeline(source, **options))
    return np.array([next(it)[0][:, 0, 0, 0] for _ in range(batches)])


def test_every_epoch_has_every_record_once_in_an_order_of_its_own():
    seen = numbers(6, Numbered(12), batch=4, seed=5).reshape(2, 12)
    np.testing.assert_array_equal(np.sort(seen, axis=1), np.tile(np.arange(12), (2, 1)))
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(
        numbers(3, Numbered(12), batch=4, seed=5), seen[0].reshape(3, 4)
    )
    assert (numbers(3, Numbered(12), batch=4, seed=6) != seen[0].reshape(3, 4)).any()


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_read_the_parts_of_the_same_batches(monkeypatch, processes):
    whole = numbers(5, Numbered(20), batch=6, seed=1)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    parts = []
    for index in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(numbers(5, Numbered(20), batch=6, seed=1))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_an_iterator_goes_on_from_its_state():
    reading = datasets.pipeline(Numbered(10), batch=3)
    it = iter(reading)
    for _ in range(4):
        next(it)
    state = json.loads(json.dumps(it.get_state()))
    expected = [next(it)[0] for _ in range(3)]
    other = iter(datasets.pipeline(Numbered(10), batch=3))
    other.set_state(state)
    for images in expected:
        np.testing.assert_array_equal(next(other)[0], images)


def test_batches_are_the_records_and_their_labels():
    source = recorded()
    it = iter(datasets.pipeline(source, batch=len(source), seed=3))
    images, objects = next(it)
    own = stacked([datasets.example(record)[1] for record in source])
    label = lambda objects: np.asarray(datasets.locations_of_one(objects))
    order = [
        next(i for i, r in enumerate(source) if (r["image"] == image).all())
        for image in images
    ]
    assert sorted(order) == list(range(len(source)))
    np.testing.assert_array_equal(label(objects), label(own)[order])


def test_pictures_are_resized_by_areas():
    record = recorded()[0]
    image, objects = datasets.example(record, size=(12, 8))
    blocks = record["image"].reshape(12, 2, 8, 4, 3).mean(axis=(1, 3))
    assert np.abs(image - blocks).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(objects.xy, datasets.example(record)[1].xy)
    assert objects.picture == (12, 8)


@pytest.mark.parametrize(("batch", "message"), [(0, "batch = 0"), (9, "the 8 records")])
def test_bad_batches_are_refused(batch, message):
    with pytest.raises(ValueError, match=message):
        datasets.pipeline(Numbered(8), batch)


def test_a_batch_must_split_over_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    with pytest.raises(ValueError, match="batch = 4 does not split over 3"):
        datasets.pipeline(Numbered(8), 4)


class Clevr(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Three examples, written with the features of TensorFlow Datasets' `clevr`."""

    VERSION = tfds.core.Version("3.1.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=clevr_features())

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "validation")}

    def _generate_examples(self):
        for number, objects in enumerate((TWO, TWO[:1], [])):
            yield number, clevr_record(number, objects)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    Clevr(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return data_dir


def test_the_released_clevr_gives_our_labels(prepared):
    source = datasets.open_clevr(prepared)
    assert len(source) == 3
    by_name = {record["file_name"]: record for record in source}
    image, objects = datasets.example(by_name[b"CLEVR_train_000000.png"], (128, 128))
    assert image.shape == (128, 128, 3)
    np.testing.assert_array_equal(image[0, 0], [0, 100, 200])
    np.testing.assert_array_equal(objects.present, [True, True] + [False] * 8)
    places = np.array([thing["pixel_coords"][:2] for thing in TWO]) / (480, 320)
    np.testing.assert_allclose(objects.xy[:2], places, rtol=1e-6)
    np.testing.assert_allclose(objects.radius[:2], [0.35, 0.7])
    assert [scenes.COLORS[i] for i in objects.color[:2]] == ["purple", "red"]
    assert [scenes.SHAPES[i] for i in objects.shape[:2]] == ["cylinder", "cube"]
    assert [scenes.MATERIALS[i] for i in objects.material[:2]] == ["metal", "rubber"]
    assert objects.chosen in (0, 1)
    batch = jax.tree.map(lambda leaf: np.asarray(leaf)[None], objects)
    grid = np.asarray(datasets.locations_of_all(batch))[0, :, :, 0]
    cells = {(int(16 * y), int(16 * x)) for x, y in places}
    assert len(cells) == 2 and {tuple(cell) for cell in np.argwhere(grid)} == cells
    assert datasets.colors_of_all(batch)[0].nonzero()[0].tolist() == [1, 5]
    _, nothing = datasets.example(by_name[b"CLEVR_train_000002.png"])
    assert nothing.chosen == -1 and not nothing.present.any()


def test_the_released_clevr_has_scenes(prepared):
    scene = datasets.scene_of(
        max(datasets.open_clevr(prepared), key=lambda r: len(r["objects"]["color"]))
    )
    np.testing.assert_allclose(scene.xy[:2], [(0.5, -1.0), (-1.5, 2.0)], atol=1e-6)
    np.testing.assert_allclose(scene.rotation[:2], [1.5, 300.0])
    assert scene.present.sum() == 2
    # Coordinates are rounded to whole pixels, and a pixel is 1/40 of a unit there.
    np.testing.assert_allclose(scene.camera, CAMERA, atol=0.1)


def test_the_choice_of_an_object_is_fair_and_fixed():
    record = lambda i: {
        "image": np.zeros((2, 2, 3), np.uint8),
        "file_name": f"CLEVR_train_{i:06}.png".encode(),
        "objects": {
            "color": [0, 0],
            "shape": [0, 0],
            "material": [0, 0],
            "size": [0, 0],
            "pixel_coords": [(1.0, 1.0, 9.0)] * 2,
        },
    }
    first = [int(datasets.example(record(i))[1].chosen) for i in range(1000)]
    again = [int(datasets.example(record(i))[1].chosen) for i in range(1000)]
    assert first == again
    assert abs(np.mean(first) - 0.5) < 5 * np.sqrt(0.25 / 1000)


def test_a_grain_pipeline_reads_the_released_clevr(prepared):
    it = iter(datasets.pipeline(datasets.open_clevr(prepared), 3, size=(32, 32)))
    images, objects = next(it)
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    assert sorted(objects.present.sum(axis=1)) == [0, 1, 2]


def test_what_is_missing_or_has_no_labels_is_said(prepared, tmp_path):
    with pytest.raises(ValueError, match="holds no prepared CLEVR; prepare it where"):
        datasets.open_clevr(tmp_path)
    with pytest.raises(ValueError, match="released without annotations"):
        datasets.open_clevr(prepared, "test")
    with pytest.raises(ValueError, match="Unknown split 'valid'"):
        datasets.open_clevr(prepared, "valid")
    with pytest.raises(ValueError, match="holds no set; write one with"):
        datasets.open_set(tmp_path)


def test_a_set_in_tensorflows_own_format_is_refused(prepared, tmp_path):
    there = tmp_path / "clevr" / "3.1.0"
    there.mkdir(parents=True)
    for file in (prepared / "clevr" / "3.1.0").glob("*.json"):
        text = file.read_text().replace('"array_record"', '"tfrecord"')
        (there / file.name).write_text(text)
    with pytest.raises(ValueError, match="written as tfrecord, which only TensorFlow"):
        datasets.open_clevr(tmp_path)
