"""Rendered scenes with their objects: what the detector learns from and is tested on.

A pool is a folder of shards, each a file that is written whole or not at all; what is
missing is rendered when the pool is opened again.  A shard depends on the seed and on
its number only.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compjax import datasets, scenes
from compjax.scenes import files
from compjax.scenes.scene import MAX_OBJECTS
from experiments import launch

SIDE = 128
HELD_OUT = 987_654
"""Folded into the keys of scenes that are in no pool."""

Draw = Callable[[jax.Array, Any], scenes.Scene]
"""`(key, jitter) -> scene`."""


def ruled(key: jax.Array, jitter: Any) -> scenes.Scene:
    """0 to 10 objects, of which nothing hides any but 200 pixels."""
    return scenes.sample_visible(key, 0, MAX_OBJECTS, jitter)


def crowded(key: jax.Array, jitter: Any) -> scenes.Scene:
    """The same, with 5 to 10 objects."""
    return scenes.sample_visible(key, 5, MAX_OBJECTS, jitter)


def free(key: jax.Array, jitter: Any) -> scenes.Scene:
    """0 to 10 objects, whatever can be seen of them."""
    return scenes.sample(key, 0, MAX_OBJECTS, jitter)


def plain(key: jax.Array, jitter: Any) -> scenes.Scene:
    """0 to 6 large rubber objects well apart, as the quickstart asks for; no jitter."""
    del jitter
    key_count, key = jax.random.split(key)
    apart = scenes.sample_apart(key, 6, 0.14, jitter=0.0)
    count = jax.random.randint(key_count, (), 0, 7)
    return datasets.plain(scenes.first(apart, count))


def draw_scenes(key: jax.Array, draw: Draw, count: int, still: float) -> scenes.Scene:
    """A batch of scenes.

    Args:
        key: decides everything.
        draw: one scene.
        count: how many.
        still: the share of scenes without jitter.
    """
    key_still, key_scenes = jax.random.split(key)
    jitter = jax.random.bernoulli(key_still, 1 - still, (count,)).astype(float)
    return _drawing(draw)(jax.random.split(key_scenes, count), jitter)


def held_out(seed: int, count: int) -> scenes.Scene:
    """Scenes that no pool of any seed below a million holds; half of them still."""
    key = jax.random.fold_in(jax.random.key(seed), HELD_OUT)
    return draw_scenes(key, ruled, count, 0.5)


def pictures(drawn: scenes.Scene, size: tuple[int, int], preset: str = "fast") -> Any:
    """`[b, h, w, 3]`: one render after the other, which is fastest on a CPU."""
    return _rendering(size, preset)(drawn)


def labels(drawn: scenes.Scene) -> dict[str, np.ndarray]:
    """What there is to find in a batch of scenes.

    Returns:
        `[b, n, 2]` `xy` as fractions of the frame; `[b, n]` `present`, `visible` pixels
        of 320 x 240, and indices `color`, `shape`, `size` and `material`.
    """
    xy, visible = _looking(drawn)
    radii = np.asarray(drawn.size)[..., None]
    return {
        "xy": np.asarray(xy),
        "visible": np.asarray(visible),
        "present": np.asarray(drawn.present),
        "color": np.asarray(drawn.color),
        "shape": np.asarray(drawn.shape),
        "size": np.argmin(np.abs(radii - np.array(scenes.SIZES)), axis=-1),
        "material": np.asarray(drawn.material),
    }


def open_pool(folder: Path, seed: int, config: Any) -> dict[str, np.ndarray]:
    """All examples of a pool; shards that are missing are rendered first.

    Args:
        folder: of the shards.
        seed: of the scenes.
        config: the fields `pool` of configs/scenes/detector.py.

    Returns:
        `labels`, padded to ten objects, and `image`: `[b, 128, 128, 3]`, bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{i:04}.npz" for i in range(config.shards)]
    missing = [i for i, file in enumerate(files) if not file.exists()]
    devices = jax.local_devices()

    def work(device: Any, number: int) -> None:
        with jax.default_device(device):
            write_shard(files[number], seed, number, config)

    starts = range(0, len(missing), len(devices))
    with ThreadPoolExecutor(len(devices)) as threads:
        for i in launch.progress(starts, "rendering the pool, part"):
            list(threads.map(work, devices, missing[i : i + len(devices)]))
    shards = []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            shards.append(dict(arrays))
    return {name: np.concatenate([s[name] for s in shards]) for name in shards[0]}


def write_shard(file: Path, seed: int, number: int, config: Any) -> None:
    """Renders one shard of a pool, all or nothing."""
    key = jax.random.fold_in(jax.random.key(seed), number)
    kinds = (
        (ruled, config.ruled),
        (crowded, config.crowded),
        (free, config.free),
        (plain, config.plain),
    )
    parts = []
    for i, (draw, count) in enumerate(kinds):
        if count:
            drawn = draw_scenes(jax.random.fold_in(key, i), draw, count, config.still)
            image = np.asarray(pictures(drawn, (SIDE, SIDE)))
            known = {name: _padded(value) for name, value in labels(drawn).items()}
            parts.append({"image": np.round(255 * image).astype(np.uint8)} | known)
    arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    with files.whole(file) as draft, draft.open("wb") as out:
        np.savez(out, **arrays)


def _padded(values: np.ndarray) -> np.ndarray:
    """`[b, n, ...]` with zeros up to n = 10."""
    rest = [(0, 0)] * (values.ndim - 2)
    return np.pad(values, [(0, 0), (0, MAX_OBJECTS - values.shape[1]), *rest])


@functools.cache
def _drawing(draw: Draw) -> Callable:
    return jax.jit(lambda keys, jitter: jax.lax.map(lambda a: draw(*a), (keys, jitter)))


@functools.cache
def _rendering(size: tuple[int, int], preset: str) -> Callable:
    draw = lambda scene: scenes.render(scene, size, preset)
    return jax.jit(lambda drawn: jax.lax.map(draw, drawn))


@jax.jit
def _looking(drawn: scenes.Scene) -> tuple[jax.Array, jax.Array]:
    def look(scene: scenes.Scene) -> tuple[jax.Array, jax.Array]:
        return scenes.pixel_coords(scene, (1, 1))[:, :2], scenes.visible_pixels(scene)

    return jax.lax.map(look, drawn)
