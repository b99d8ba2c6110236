"""What is recorded is enough, and depends on the plan alone."""

import dataclasses

import jax
import numpy as np
import pytest
from datasets_cases import SMALL, clevr_features, drawn, recorded

from compjax import datasets, scenes
from compjax.datasets.records import COLOR_NAMES, SIZE_NAMES, Plan, examples, features


def test_a_recorded_scene_is_rendered_again_to_the_recorded_picture():
    """The camera, the lamps and every object survive, to a grey level of rounding."""
    draw = jax.jit(lambda s: scenes.render(s, (SMALL.height, SMALL.width)))
    for record in recorded()[:6]:
        again = 255 * np.asarray(draw(datasets.scene_of(record)))
        # Ten slots instead of one to three: another program, which rounds otherwise,
        # and where a ray only just misses an edge it may hit.
        wrong = np.abs(again - record["image"]) > 1
        assert wrong.mean() < 0.01


def test_recorded_objects_are_where_the_recorded_scene_has_them():
    for record in recorded()[:6]:
        image, seen = datasets.example(record)
        scene = datasets.scene_of(record)
        own = datasets.observe(jax.random.key(0), scene, image.shape[:2])
        there = seen.present
        np.testing.assert_array_equal(own.present, there)
        np.testing.assert_allclose(own.xy[there], seen.xy[there], atol=1e-5)
        for name in ("radius", "shape", "color", "material"):
            np.testing.assert_array_equal(
                getattr(own, name)[there], getattr(seen, name)[there], name
            )
        assert there[seen.chosen]


def test_every_count_is_as_frequent_and_every_object_can_be_seen():
    counts = [len(record["objects"]["color"]) for record in recorded()]
    assert [counts.count(k) for k in (1, 2, 3)] == [8, 8, 8]
    visible = jax.jit(scenes.visible_pixels)
    for record in recorded()[:6]:
        scene = datasets.scene_of(record)
        assert np.asarray(visible(scene))[np.asarray(scene.present)].min() >= 200


def test_every_object_gets_chosen():
    chosen = {(len(r["objects"]["color"]), int(r["chosen"])) for r in recorded()}
    assert {c for k, c in chosen if k == 3} == {0, 1, 2}
    assert all(c < k for k, c in chosen)


def test_who_is_named_needs_no_record_and_stays():
    """Sets that were written before anybody was named are read as new ones are."""
    record = max(recorded(), key=lambda record: len(record["objects"]["color"]))
    assert "named" not in record
    there = record["objects"]

    def moved(i):
        places = np.asarray(there["pixel_coords"]) + np.float32([i / 100, 0, 0])
        return datasets.example(record | {"objects": there | {"pixel_coords": places}})

    seen = [moved(i)[1] for i in range(600)]
    named = np.stack([one.named for one in seen])
    assert named[:, record["chosen"]].all() and not (named & ~seen[0].present).any()
    others = np.delete(named[:, :3], record["chosen"], axis=1)
    # Two fair coins: four outcomes within 5 standard deviations.
    outcomes = np.bincount(others @ [1, 2], minlength=4)
    assert np.abs(outcomes - 150).max() < 5 * np.sqrt(600 * 3 / 16)
    np.testing.assert_array_equal(moved(7)[1].named, named[7])


def test_an_example_does_not_depend_on_the_files_nor_on_their_number():
    other = dataclasses.replace(SMALL, shard=6, examples=11)
    assert [len(other.examples_of(i)) for i in range(other.shards)] == [6, 5]
    again = [pair for i in range(other.shards) for pair in examples(other, i)]
    assert [number for number, _ in again] == list(range(11))
    for (_, one), (_, two) in zip(again, drawn(), strict=False):
        assert one["image"] == two["image"]
        assert str(one["objects"]) == str(two["objects"])


def test_seeds_differ():
    other = dataclasses.replace(SMALL, seed=1, examples=6)
    _, one = next(examples(other, 0))
    assert one["image"] != drawn()[0][1]["image"]


def test_every_number_of_objects_gets_a_batch():
    with pytest.raises(ValueError, match="fewer batches than the 3 numbers"):
        Plan(1, 3, examples=512, batch=256)
    assert Plan(1, 3, examples=513, batch=256).shards == 3


def test_empty_scenes_have_nothing_chosen():
    plan = Plan(0, 0, examples=2, height=8, width=8)
    (record, _) = recorded(plan)
    assert record["chosen"] == -1 and not len(record["objects"]["color"])
    _, seen = datasets.example(record)
    assert not seen.present.any()


def test_records_have_what_clevrs_have():
    ours, theirs = features(320, 480), clevr_features()
    for name in theirs["objects"].keys():
        got, wanted = ours["objects"][name], theirs["objects"][name]
        assert got.np_dtype == wanted.np_dtype and got.shape == wanted.shape, name
    for name, names in {
        "color": COLOR_NAMES,
        "size": SIZE_NAMES,
        "shape": scenes.SHAPES,
        "material": scenes.MATERIALS,
    }.items():
        assert tuple(theirs["objects"][name].names) == names
    assert set(ours["objects"].keys()) == set(theirs["objects"].keys())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_objects": 4}, "min_objects = 4, max_objects = 3"),
        ({"max_objects": 11}, "max_objects = 11"),
        ({"examples": 0}, "examples = 0: give at least 1"),
        ({"height": 0}, "height = 0"),
        ({"batch": 0}, "batch = 0"),
        ({"seed": -1}, "seed = -1"),
        ({"jitter": float("nan")}, "jitter = nan"),
        ({"preset": "slow"}, "preset = 'slow': choose fast, faithful"),
        ({"shard": 3}, "shard = 3 is no multiple of batch = 2"),
        ({"shard": 0}, "shard = 0"),
    ],
)
def test_bad_plans_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_paper_sizes_make_a_moderate_number_of_files():
    for recipe in (datasets.BACKGROUND, datasets.SINGLE, datasets.CLUTTERED):
        plan = Plan(recipe.min_objects, recipe.max_objects, recipe.examples)
        assert 100 < plan.shards <= 512
        assert sum(len(plan.examples_of(i)) for i in range(plan.shards)) == (
            recipe.examples
        )
