"""One Blender process, and what it needs: an interpreter with `bpy`, and the assets."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from compjax.scenes import blender_worker
from compjax.scenes.blender_worker import ASSETS, Picture, Settings

WHERE = (
    "get them from the repository github.com/facebookresearch/clevr-dataset-gen,"
    " folder image_generation/data"
)

INSTALL = (
    "install compjax[blender] on Python 3.11, or give as python an interpreter that has"
    " `pip install 'bpy>=4.2,<5'`"
)

LAST_LINES = 15
"""How much is shown of what a process said before it died."""

PATIENCE = 10.0
"""Seconds that a process which has nothing to do is given to end."""


class Worker:
    """A Blender process that renders one picture after another.

    Args:
        python: an interpreter that has `bpy`.
        settings: what the pictures share.
    """

    def __init__(self, python: str, settings: Settings) -> None:
        # What Blender says goes to a file, as a pipe that nobody reads would fill.
        self._log = tempfile.TemporaryFile("a+b")
        self._process = subprocess.Popen(
            # -P: else the files beside the script would pass for modules.
            [python, "-P", blender_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._untold: tuple[Settings, ...] = (settings,)

    def render(self, picture: Picture) -> dict[str, float]:
        """Renders one picture.

        Returns:
            `seconds` that it took, and `cpu_seconds` over all threads.

        Raises:
            OSError: if it could not be rendered and written whole.
            RuntimeError: if the process died; its last lines are in the message.
        """
        told: Any = self._process.stdin
        answered: Any = self._process.stdout
        try:
            for line in (*self._untold, picture):
                told.write(json.dumps(line) + "\n")
            told.flush()
            line = answered.readline()
        except OSError:  # it is no longer there to listen
            line = ""
        if not line.endswith("\n"):
            raise RuntimeError(self._obituary(picture))
        self._untold = ()
        self._log.truncate(0)
        answer = json.loads(line)
        if "error" in answer:
            raise OSError(
                f"{picture['file']} was not written ({answer['error']}); is there room"
                " on the disk? Start again to go on with what is missing."
            )
        return answer

    def kill(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Lets the process end, as it does once there is nothing more to read."""
        with contextlib.suppress(OSError):  # it may have died with words unread
            self._process.stdin.close()  # pyright: ignore
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()  # pyright: ignore
        self._log.close()

    def _obituary(self, picture: Picture) -> str:
        code = self._process.wait()
        how = f"with exit status {code}" if code >= 0 else f"by signal {-code}"
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip().splitlines()
        last = "\n".join(said[-LAST_LINES:]) or "none"
        return (
            f"a Blender process ended {how} while it rendered {picture['file']};"
            " start again to go on with what is missing. Its last lines:\n" + last
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def check_assets(assets: Path) -> None:
    """Raises a ValueError unless this folder has all that Blender needs.

    Example:
        >>> check_assets(Path("/nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: assets = /nowhere has no base_scene.blend, ...
    """
    missing = [name for name in ASSETS if not (assets / name).is_file()]
    if missing:
        raise ValueError(f"assets = {assets} has no {', '.join(missing)}; {WHERE}.")
    for name in ASSETS:
        with (assets / name).open("rb") as file:
            if file.read(7) != b"BLENDER":
                raise ValueError(f"{assets / name} is no Blender file; {WHERE}.")


_PROBE = """
import json, sys
answer = {"python": sys.version_info[:2], "bpy": None, "why": None}
try:
    import bpy
    answer["bpy"] = bpy.app.version_string
except ImportError as error:
    answer["why"] = str(error)
print("\\n" + json.dumps(answer))
"""


def blender_version(python: str) -> str:
    """The version of Blender that an interpreter has as `bpy`.

    Raises:
        ValueError: if it cannot be run, has none, or one that is not supported.

    Example:
        >>> blender_version("/no/such/python")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: python = /no/such/python cannot be run (...
    """
    try:
        done = subprocess.run(
            [python, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        answer = json.loads(done.stdout.splitlines()[-1])
    except OSError as error:
        raise ValueError(
            f"python = {python} cannot be run ({error.strerror}); {INSTALL}."
        ) from None
    except (IndexError, ValueError, subprocess.TimeoutExpired):
        raise ValueError(
            f"python = {python} does not answer as a Python does; {INSTALL}."
        ) from None
    major, minor = answer["python"]
    if answer["bpy"] is None and (major, minor) != (3, 11):
        raise ValueError(
            f"{python} is Python {major}.{minor}, and Blender 4 comes as bpy for Python"
            f" 3.11 only; {INSTALL}."
        )
    if answer["bpy"] is None:
        raise ValueError(f"{python} cannot import bpy ({answer['why']}); {INSTALL}.")
    numbers = tuple(int(part) for part in answer["bpy"].split()[0].split(".")[:2])
    if not (4, 2) <= numbers < (5, 0):
        raise ValueError(
            f"{python} has Blender {answer['bpy']}, with which pictures come out"
            f" otherwise; {INSTALL}."
        )
    return answer["bpy"]
