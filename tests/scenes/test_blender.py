"""Blender behind `render_blender`: errors, resuming, and a stand-in for Blender itself.

The stand-in is a module `bpy` whose render writes noise that depends on the camera
alone: the processes, their files and all that may befall them are the real ones.
"""

import dataclasses
import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given
from PIL import Image, PngImagePlugin

from compjax import scenes
from compjax.scenes.blender_process import blender_version
from compjax.scenes.blender_worker import ASSETS, is_whole, without_notes

ROOT = Path(__file__).parents[2]
SIZE = (12, 16)

STAND_IN = """
import hashlib, os, struct, sys, time, zlib
from unittest.mock import MagicMock
bpy = MagicMock()
bpy.app.version_string = os.environ["STAND_IN_VERSION"]
camera = MagicMock()
objects = {name: MagicMock() for name in ("Lamp_Key", "Lamp_Fill", "Lamp_Back")}
bpy.data.objects = objects | {"Camera": camera}
def chunk(name, data):
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
def render(write_still):
    time.sleep(float(os.environ.get("STAND_IN_SECONDS", "0")))
    picture = bpy.context.scene.render
    if os.path.basename(picture.filepath)[1:].startswith(
        os.environ.get("STAND_IN_DIES_AT", "none")
    ):
        print("the last thing it said", flush=True)
        os.kill(os.getpid(), 9)
    height, width = picture.resolution_y, picture.resolution_x
    noise = hashlib.shake_256(repr(camera.location).encode())
    rows = noise.digest(height * (1 + 3 * width))
    rows = b"".join(
        b"\\0" + rows[i : i + 3 * width] for i in range(0, len(rows), 1 + 3 * width)
    )
    png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    )
    png += chunk(b"tEXt", b"Date\\0" + str(time.time()).encode())
    png += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with open(picture.filepath, "wb") as file:
        file.write(png[: len(png) - int(os.environ.get("STAND_IN_LOSES", "0"))])
bpy.ops.render.render = render
sys.modules["bpy"] = bpy
"""


@functools.cache
def some_scenes(count, seed=0):
    keys = jax.random.split(jax.random.key(seed), count)
    return tuple(scenes.sample(key, 0, 0) for key in keys)


@pytest.fixture
def assets(tmp_path):
    """Files that pass for the generator's as long as nobody opens them."""
    folder = tmp_path / "data"
    for name in ASSETS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"BLENDER-v277")
    return folder


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """This interpreter has `bpy`: the stand-in, told what to do by the environment."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "bpy.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setenv("STAND_IN_VERSION", "4.2.0 LTS")
    return monkeypatch


def contents(folder):
    """Every file of a folder, hidden ones too, by name."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def script(tmp_path, text):
    file = tmp_path / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": ()}, "scenes is empty"),
        ({"size": (2, 16)}, r"size = \(2, 16\)"),
        ({"size": (0, 16)}, r"size = \(0, 16\)"),
        ({"samples": 0}, "samples = 0"),
        ({"denoiser": "OPTIX"}, "denoiser = 'OPTIX'.*OPENIMAGEDENOISE"),
        ({"workers": 0}, "workers = 0"),
        ({"assets": "nowhere"}, "nowhere has no base_scene.blend.*clevr-dataset-gen"),
        ({"python": "/no/python"}, "/no/python cannot be run.*interpreter"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
    assets, tmp_path, changes, message
):
    arguments = {"scenes": some_scenes(1), "folder": tmp_path / "out", "assets": assets}
    with pytest.raises(ValueError, match=message):
        scenes.render_blender(**(arguments | changes))
    assert not (tmp_path / "out").exists()


def test_scenes_that_clevr_cannot_describe_are_named(assets, tmp_path):
    odd = scenes.sample(jax.random.key(0), 1, 1)
    odd = dataclasses.replace(odd, size=odd.size * 1.5)
    two = [scenes.sample(jax.random.key(0), 1, 1), odd]
    with pytest.raises(ValueError, match="scene 1: size = "):
        scenes.render_blender(two, tmp_path / "out", assets=assets)
    stacked = jax.tree.map(lambda *leaves: jax.numpy.stack(leaves), *two)
    with pytest.raises(ValueError, match=r"scene 0: .* give one scene"):
        scenes.render_blender([stacked], tmp_path / "out", assets=assets)


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_is_asked_for_by_name(assets, tmp_path, name):
    (assets / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=f"{name} is no Blender file.*clevr-dataset"):
        scenes.render_blender(some_scenes(1), tmp_path / "out", assets=assets)
    (assets / name).unlink()
    with pytest.raises(ValueError, match=f"has no {name}; .*clevr-dataset"):
        scenes.render_blender(some_scenes(1), tmp_path / "out", assets=assets)


def test_pictures_from_elsewhere_are_not_overwritten(assets, tmp_path):
    for name in ("scenes.json", "CLEVR_new_000001.png"):
        folder = tmp_path / Path(name).stem
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name} is there, from elsewhere"):
            scenes.render_blender(some_scenes(2), folder, assets=assets)
        assert contents(folder) == {name: b"mine"}
    with pytest.raises(ValueError, match="is a file; give a folder"):
        scenes.render_blender(some_scenes(2), folder / name, assets=assets)
    (tmp_path / "render.json").write_text("{")
    with pytest.raises(ValueError, match=r"render.json is damaged; give another"):
        scenes.render_blender(some_scenes(2), tmp_path, assets=assets)


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"python": [3, 12], "bpy": None}, r"Python 3\.12, and .* Python 3\.11 only"),
        (
            {"python": [3, 11], "bpy": None, "why": "libXi.so.6: cannot open"},
            r"cannot import bpy \(libXi.so.6: cannot open\); install compjax\[blender",
        ),
        ({"python": [3, 10], "bpy": "4.1.0"}, "has Blender 4.1.0, with which"),
        ({"python": [3, 11], "bpy": "5.0.1"}, "has Blender 5.0.1, with which"),
    ],
)
def test_interpreters_without_a_fit_blender_are_named(tmp_path, answer, message):
    python = script(tmp_path, f"echo '{json.dumps(answer)}'")
    with pytest.raises(ValueError, match=f"{python}.*{message}"):
        blender_version(str(python))


@pytest.mark.multiprocess
def test_the_interpreter_itself_is_asked(tmp_path, stand_in):
    assert blender_version(sys.executable) == "4.2.0 LTS"
    (tmp_path / "modules" / "bpy.py").write_text("raise ImportError('no libXi')")
    with pytest.raises(ValueError, match=r"cannot import bpy|Blender 4 comes as bpy"):
        blender_version(sys.executable)
    with pytest.raises(ValueError, match="does not answer as a Python does"):
        blender_version(str(script(tmp_path, "echo hello")))


# --- files of pictures ---


def png_of(pixels):
    """A PNG with a note, as bytes."""
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Date", "today")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png", pnginfo=notes)
    return file.getvalue()


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_only_a_whole_picture_is_whole(tmp_path_factory, seed, data):
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    png = png_of(pixels)
    file = tmp_path_factory.mktemp("png") / "picture.png"
    assert not is_whole(file, *SIZE)
    file.write_bytes(png)
    assert is_whole(file, *SIZE)
    assert not is_whole(file, *SIZE[::-1])

    bare = without_notes(png, *SIZE)
    assert b"today" in png and b"today" not in bare
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(bare))), pixels)
    assert without_notes(bare, *SIZE) == bare

    cut = data.draw(st.integers(0, len(png) - 1))
    file.write_bytes(png[:cut])
    assert not is_whole(file, *SIZE)
    damaged = bytearray(png)  # the checksum of a chunk sees any one byte that changes
    damaged[cut] ^= data.draw(st.integers(1, 255))
    file.write_bytes(damaged)
    assert not is_whole(file, *SIZE)


# --- processes, with the stand-in ---


@pytest.mark.multiprocess
def test_renders_what_is_missing_and_nothing_else(assets, tmp_path, stand_in, capfd):
    folder = tmp_path / "new" / "out"
    render = lambda **changes: scenes.render_blender(
        **{
            "scenes": some_scenes(5),
            "folder": folder,
            "assets": assets,
            "size": SIZE,
            "workers": 2,
        }
        | changes
    )
    files = render()
    assert "picture 5/5" in capfd.readouterr().err
    assert [file.name for file in files] == [f"CLEVR_new_{i:06d}.png" for i in range(5)]
    assert set(contents(folder)) == {"render.json", "scenes.json"} | {
        file.name for file in files
    }
    for scene, same in zip(
        some_scenes(5), scenes.load(folder / "scenes.json"), strict=True
    ):
        np.testing.assert_array_equal(scene.camera, same.camera)
        np.testing.assert_array_equal(scene.lamps, same.lamps)
    before = contents(folder)
    assert len({before[file.name] for file in files}) == 5  # five cameras

    # A finished folder needs no Blender; one with gaps is filled.
    assert render(python="/no/such/python") == files
    stamps = [file.stat().st_mtime_ns for file in files]
    files[1].unlink()
    files[3].write_bytes(files[3].read_bytes()[:-1])
    (folder / ".CLEVR_new_000001.1.partial.png").write_bytes(b"half")
    assert render() == files
    assert contents(folder) == before
    again = [file.stat().st_mtime_ns for file in files]
    assert [a == b for a, b in zip(stamps, again, strict=True)] == [1, 0, 1, 0, 1]

    for changes, message in (
        ({"scenes": some_scenes(5, seed=1)}, "fingerprint: "),
        ({"scenes": some_scenes(4)}, "scenes: 5 there, 4 now"),
        ({"size": (24, 32)}, r"size: \[12, 16\] there, \[24, 32\] now"),
        ({"samples": 16}, "samples: 512 there, 16 now"),
        ({"denoiser": "OPENIMAGEDENOISE"}, "denoiser: None there"),
    ):
        with pytest.raises(ValueError, match=message):
            render(**changes)
    files[0].unlink()
    stand_in.setenv("STAND_IN_VERSION", "4.4.0")
    with pytest.raises(ValueError, match=r"blender: 4.2.0 LTS there, 4.4.0 now"):
        render()
    assert contents(folder) == {k: v for k, v in before.items() if k != files[0].name}


@pytest.mark.multiprocess
def test_the_death_of_a_process_is_told_with_its_last_words(assets, tmp_path, stand_in):
    stand_in.setenv("STAND_IN_DIES_AT", "CLEVR_new_000002")
    render = lambda: scenes.render_blender(
        some_scenes(4), tmp_path / "out", assets=assets, size=SIZE, workers=1
    )
    with pytest.raises(RuntimeError, match=r"(?s)by signal 9.*000002.*the last thing"):
        render()
    # Those before it are there, and no half of the others.
    assert set(contents(tmp_path / "out")) == {
        "render.json",
        "scenes.json",
        "CLEVR_new_000000.png",
        "CLEVR_new_000001.png",
    }
    stand_in.delenv("STAND_IN_DIES_AT")
    assert all(is_whole(file, *SIZE) for file in render())


@pytest.mark.multiprocess
@pytest.mark.parametrize("limit", [0, 1])
def test_a_picture_that_is_not_written_whole_is_an_error(
    assets, tmp_path, stand_in, limit
):
    """Blender's PNG writer is silent when the disk is full; Python's is not."""
    python = sys.executable
    if limit:
        # No file above 512 or 1024 bytes, in the words of one shell or the other.
        python = script(tmp_path, f'ulimit -f 1\nexec {sys.executable} "$@"')
    else:
        stand_in.setenv("STAND_IN_LOSES", "3")
    with pytest.raises(OSError, match=r"000000.png was not written \(.*room"):
        scenes.render_blender(
            some_scenes(1),
            tmp_path / "out",
            assets=assets,
            size=(24, 32),
            python=python,
        )
    assert set(contents(tmp_path / "out")) == {"render.json", "scenes.json"}


RENDER = """
import sys, jax
from compjax import scenes
keys = jax.random.split(jax.random.key(0), 12)
scenes.render_blender(
    [scenes.sample(key, 0, 0) for key in keys],
    sys.argv[1], assets=sys.argv[2], size=(12, 16), workers=2,
)
"""


@pytest.mark.multiprocess
def test_kill_9_loses_no_picture_and_leaves_none_half(assets, tmp_path, stand_in):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    scenes.render_blender(some_scenes(12), whole, assets=assets, size=SIZE)
    command = [sys.executable, "-c", RENDER, str(killed), str(assets)]
    stand_in.setenv("STAND_IN_SECONDS", "0.2")
    kept = {}
    for wanted in (2, 5, 8):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
        while len(list(killed.glob("CLEVR*.png"))) < wanted:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        for file in killed.glob("CLEVR*.png"):
            stamp = file.stat().st_mtime_ns
            assert is_whole(file, *SIZE) and kept.setdefault(file, stamp) == stamp
    stand_in.setenv("STAND_IN_SECONDS", "0")
    subprocess.run(command, cwd=ROOT, check=True)
    now, then = contents(killed), contents(whole)
    assert now == then


# --- the command ---


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.scenes.blender", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.multiprocess
def test_the_command_renders_random_scenes_and_those_of_a_file(
    assets, tmp_path, stand_in
):
    size = ("--height=12", "--width=16", f"--assets={assets}")
    drawn, copied = tmp_path / "drawn", tmp_path / "copied"
    none = ("--min_objects=0", "--max_objects=0")
    done = command("--count=2", *none, f"--out={drawn}", *size)
    assert done.returncode == 0, done.stderr
    assert f"{drawn} holds all 2 pictures" in done.stdout
    done = command(f"--scenes={drawn / 'scenes.json'}", f"--out={copied}", *size)
    assert done.returncode == 0, done.stderr
    pictures = [
        {name: data for name, data in contents(folder).items() if name.endswith("png")}
        for folder in (drawn, copied)
    ]
    assert len(pictures[0]) == 2 and pictures[0] == pictures[1]

    stand_in.setenv("STAND_IN_DIES_AT", "CLEVR_new_000001")
    (drawn / "CLEVR_new_000001.png").unlink()
    done = command("--count=2", *none, f"--out={drawn}", *size)
    assert done.returncode == 2 and "the last thing it said" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count=1", "--out=x"], "--assets"),
        (["--count=1", "--scenes=x", "--out=x", "--assets=x"], "not allowed with"),
        (["--count=0", "--out=x", "--assets=x"], "--count=0"),
        (["--scenes=no.json", "--out=x", "--assets=x"], "no.json"),
        (["--count=1", "--max_objects=0", "--out=x", "--assets=no"], "min_objects = 3"),
    ],
)
def test_mistakes_end_the_command_in_one_line(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert message in done.stderr
