"""The same scenes in Blender: the pictures that CLEVR's own generator would make.

Blender runs in processes of its own, one for every core, which may belong to another
Python than this one.  The generator's meshes, materials and stage are not part of this
package: `render_blender` reads them from the user's copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compjax.scenes.blender_process import Worker, blender_version, check_assets
from compjax.scenes.blender_worker import ASSETS, Picture, Settings, is_whole
from compjax.scenes.camera import check_size
from compjax.scenes.clevr_json import save, to_record
from compjax.scenes.files import locked, whole
from compjax.scenes.scene import COLOR_RGB, COLORS, Scene

DENOISER = "OPENIMAGEDENOISE"
"""The denoiser that runs on every CPU."""

LEAST, MOST = 4, 65536
"""Sides of a picture that Blender can render, in pixels."""

PERIOD = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def render_blender(
    scenes: Sequence[Scene],
    folder: str | os.PathLike,
    *,
    assets: str | os.PathLike,
    size: tuple[int, int] = (240, 320),
    samples: int = 512,
    denoiser: str | None = None,
    workers: int | None = None,
    python: str | os.PathLike | None = None,
) -> list[Path]:
    """Renders scenes with Blender's path tracer, as CLEVR's generator does.

    The folder receives one PNG a scene and `scenes.json`, CLEVR's scene file, which
    `load` reads back.  Called again after it was interrupted, it renders what is
    missing: a picture appears under its name only when it is whole.  `render.json`
    keeps what the pictures were rendered from; other scenes or settings are refused.

    Args:
        scenes: Scenes, each as it is.
        folder: where the pictures go; made if it is not there.
        assets: the generator's `image_generation/data`: `base_scene.blend`, `shapes/`
            and `materials/`.
        size: height and width in pixels; as for `render`, the frame is always 4:3.
        samples: rays a pixel; the generator takes 512.
        denoiser: None, as the generator, or ``"OPENIMAGEDENOISE"``, with which 16
            samples are enough: 44 dB from the picture of 512.
        workers: how many processes, each on one core and with about 0.4 GB of memory;
            one for every core that this process may use if None.
        python: an interpreter that has `bpy`; this one if None.

    Returns:
        The paths of the pictures, in the order of the scenes.

    Raises:
        ValueError: if an argument is wrong, an asset is missing, `bpy` cannot be used,
            or the folder holds other pictures; nothing is written.
        OSError: if a picture cannot be written.
        RuntimeError: if a Blender process dies, with what it said last; the pictures
            that are finished stay.

    Source: CLEVR, Johnson et al. 2017, generator defaults.

    Example:
        >>> import jax
        >>> from compjax.scenes import sample
        >>> scene = sample(jax.random.key(0), 3, 10)
        >>> render_blender(
        ...     [scene], "pictures", assets="nowhere"
        ... )  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: assets = nowhere has no base_scene.blend, shapes/SmoothCube_v2...
    """
    _check_numbers(scenes, size, samples, denoiser, workers)
    check_assets(Path(assets))
    folder = Path(folder).absolute()
    pictures = [picture(scene, index, folder) for index, scene in enumerate(scenes)]
    files = [Path(one["file"]) for one in pictures]
    made_from = {
        "size": list(size),
        "samples": samples,
        "denoiser": denoiser,
        "scenes": len(scenes),
        "fingerprint": _fingerprint(pictures),
        "assets": _digest(Path(assets)),
    }
    there = _check_folder(folder, made_from, files)
    missing = [one for one in pictures if not is_whole(Path(one["file"]), *size)]
    if missing:
        interpreter = sys.executable if python is None else os.fspath(python)
        made_from["blender"] = blender_version(interpreter)
        _same(folder, there, made_from)
        folder.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            assets=str(Path(assets).absolute()),
            height=size[0],
            width=size[1],
            samples=samples,
            denoiser=denoiser,
            threads=1,
        )
        with locked(folder):
            # Another process may have been at work here since we looked.
            _check_folder(folder, made_from, files)
            for leftover in folder.glob(".*.partial*"):  # of processes that were killed
                leftover.unlink(missing_ok=True)
            with whole(folder / "render.json") as draft:
                draft.write_text(json.dumps(made_from, indent=2) + "\n")
            if not (folder / "scenes.json").exists():
                save(folder / "scenes.json", scenes)
            count = min(workers or _cores(), len(missing))
            answers = _render_all(interpreter, settings, missing, count)
            _show(answers, len(files) - len(missing), len(files))
    elif not (folder / "scenes.json").exists():
        save(folder / "scenes.json", scenes)
    return files


def picture(scene: Scene, index: int, folder: Path) -> Picture:
    """What a Blender process is told of one scene.

    Args:
        scene: one scene.
        index: its number, which names the file.
        folder: where the file will be.

    Returns:
        A dictionary of plain numbers and strings.

    Raises:
        ValueError: if it is a batch, or has sizes that CLEVR does not know.

    Example:
        >>> import jax
        >>> from compjax.scenes import sample
        >>> told = picture(sample(jax.random.key(0), 2, 2), 7, Path("/pictures"))
        >>> told["file"], len(told["objects"])
        ('/pictures/CLEVR_new_000007.png', 2)
    """
    try:
        record = to_record(scene, index=index)
    except ValueError as error:
        raise ValueError(f"scene {index}: {error}") from None
    return Picture(
        file=str(folder / record["image_filename"]),
        objects=[
            {
                "shape": entry["shape"],
                "material": entry["material"],
                "rgb": list(COLOR_RGB[COLORS.index(entry["color"])]),
                "xyz": entry["3d_coords"],
                "rotation": entry["rotation"],
            }
            for entry in record["objects"]
        ],
        camera=record["camera_location"],
        lamps=record["lamp_locations"],
    )


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_numbers(
    scenes: Sequence[Scene],
    size: tuple[int, int],
    samples: int,
    denoiser: str | None,
    workers: int | None,
) -> None:
    if not scenes:
        raise ValueError("scenes is empty; give at least one Scene.")
    if min(check_size(size)) < LEAST or max(size) > MOST:
        raise ValueError(
            f"size = {size}: Blender renders {LEAST} to {MOST} pixels a side."
        )
    if samples < 1:
        raise ValueError(f"samples = {samples}: give at least 1 ray a pixel.")
    if denoiser not in (None, DENOISER):
        raise ValueError(f"denoiser = {denoiser!r}: give None or {DENOISER!r}.")
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers}: give at least 1 process, or None.")


def _fingerprint(pictures: Sequence[Picture]) -> str:
    """A digest of what the pictures show, wherever they are written."""
    shown = [{**told, "file": Path(told["file"]).name} for told in pictures]
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def _digest(assets: Path) -> str:
    """A digest of the generator's files."""
    digest = hashlib.sha256()
    for name in ASSETS:
        digest.update((assets / name).read_bytes())
    return digest.hexdigest()


def _check_folder(
    folder: Path, made_from: dict[str, Any], files: Sequence[Path]
) -> dict[str, Any]:
    """What the folder's pictures were made from; nothing if there are none."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"folder = {folder} is a file; give a folder.")
    record = folder / "render.json"
    if not record.exists():
        foreign = [file for file in (folder / "scenes.json", *files) if file.exists()]
        if foreign:
            raise ValueError(
                f"{foreign[0]} is there, from elsewhere; give another folder, as it"
                " would be overwritten."
            )
        return {}
    try:
        there = dict(json.loads(record.read_text()))
    except (TypeError, ValueError):
        raise ValueError(
            f"{record} is damaged; give another folder, as nobody knows what the"
            " pictures of this one were made from."
        ) from None
    _same(folder, there, made_from)
    return there


def _same(folder: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises a ValueError if the folder's pictures were made from something else."""
    differing = [
        f"{name}: {there.get(name)} there, {value} now"
        for name, value in now.items()
        if there and there.get(name) != value
    ]
    if differing:
        raise ValueError(
            f"{folder} holds pictures made from something else"
            f" ({', '.join(differing)}); give another folder, or what was given there."
        )


def _render_all(
    python: str, settings: Settings, pictures: Sequence[Picture], count: int
) -> Iterator[dict[str, float]]:
    """Renders pictures in `count` processes; yields the answer to each as it comes."""
    idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    def render(picture: Picture) -> dict[str, float]:
        worker = idle.get()
        try:
            return worker.render(picture)
        finally:  # one that died too: it answers at once that it is dead
            idle.put(worker)

    with ExitStack() as fleet, ThreadPoolExecutor(count) as pool:
        workers = [fleet.enter_context(Worker(python, settings)) for _ in range(count)]
        for worker in workers:
            idle.put(worker)
        futures = [pool.submit(render, picture) for picture in pictures]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:  # else leaving would wait for the pictures at hand
                worker.kill()
            raise


def _show(answers: Iterator[Any], done: int, total: int) -> None:
    """Counts the answers: a bar on a terminal, a line now and then elsewhere."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:  # Blender may be in another environment
        tqdm = None
    if sys.stderr.isatty() and tqdm is not None:
        bar = tqdm(answers, total=total, initial=done, unit="picture", smoothing=0.05)
        for _ in bar:
            pass
        return
    print(f"picture {done}/{total}, starting Blender", file=sys.stderr, flush=True)
    started = shown = time.monotonic()
    for count, _ in enumerate(answers, start=1):
        now = time.monotonic()
        if now - shown < PERIOD and done + count < total:
            continue
        shown = now
        speed = count / max(now - started, 1e-9)
        left = int((total - done - count) / speed)
        print(
            f"picture {done + count}/{total}, {60 * speed:.1f} a minute,"
            f" {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left",
            file=sys.stderr,
            flush=True,
        )
