"""Diagnoses your composition before you sample it, and writes a page about it.

    python -m experiments.projective.diagnose --parts=my_parts.py --workdir=runs/mine

my_parts.py is a Python file that defines `background` and `conditionals` (score
functions: exact densities, networks, lifted functions), and, where they are not
densities, `shape`, the shape of one sample.  It may define `weights`, `sigmas` (noise
levels), and `draws` (clean samples of the background, then of each conditional).
The workdir receives report.html and results.json.
"""

import json
import operator
import runpy
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

import compjax as cj
from compjax import analysis, training
from compjax.scores import check_score
from experiments import launch, results
from experiments.projective import page


def main(arguments: list[str] | None = None) -> None:
    """Reads the parts, diagnoses, writes the page."""
    parser = launch.parser("experiments.projective.diagnose", __doc__)
    parser.add_argument("--parts", type=Path, required=True, help="your Python file")
    parser.add_argument(
        "--workdir", required=True, help="where the page goes; an older one is replaced"
    )
    parser.add_argument("--samples", type=int, default=2000, help="drawn of each part")
    parser.add_argument("--steps", type=int, default=200, help="noise levels")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    args = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        workdir = check_workdir(args.workdir)
        parts = read(args.parts)
        sigmas = parts.get("sigmas")
        if sigmas is None:
            sigmas = default_sigmas(parts, args.steps)
        key = jax.random.key(args.seed)
        shape = (args.samples, *event_shape(parts))
        composed = cj.compose(
            parts["background"], *parts["conditionals"], weights=parts.get("weights")
        )
        d = analysis.diagnose(
            key,
            parts["background"],
            parts["conditionals"],
            shape,
            sigmas,
            weights=parts.get("weights"),
            draws=parts.get("draws"),
        )
        workdir.mkdir(parents=True, exist_ok=True)
        report = workdir / "report.html"
        training.write_json(
            workdir / "results.json",
            summary(d) | results.provenance(args.seed, started),
        )
        report.write_text(page.page(args.parts.stem, d, composed))
    except (ValueError, OSError) as error:
        launch.fail(launch.explain(error))
    print(d)
    print(f"page: {report}")


def check_workdir(workdir: str) -> Path:
    """The folder of the page.

    Raises:
        ValueError: If it is none, or that of another command's run.
    """
    if not workdir:
        raise ValueError("--workdir: name a folder for the page.")
    path = Path(workdir)
    if path.exists() and not path.is_dir():
        raise ValueError(f"--workdir: {path} is a file, not a folder.")
    if (path / "config.json").exists():
        raise ValueError(f"--workdir: {path} holds another run; take a new folder.")
    return path


def read(file: Path) -> dict[str, Any]:
    """What a file of the user's defines.

    Raises:
        ValueError: If it does not run, or lacks a name.
    """
    if not file.is_file():
        raise ValueError(f"--parts: there is no file {file}.")
    sys.path.insert(0, str(file.parent.resolve()))  # it may import its neighbours
    try:
        parts = runpy.run_path(str(file))
    except (Exception, SystemExit) as error:
        raise ValueError(f"{file} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    wanted = {
        "background": "a score function",
        "conditionals": "a list of score functions",
    }
    for name, what in wanted.items():
        if name not in parts:
            raise ValueError(f"{file} must define {name}, {what}.")
    scores = parts["conditionals"]
    listed = hasattr(scores, "__len__") and not isinstance(scores, Mapping)
    if callable(scores) or not listed or not len(scores):
        raise ValueError(
            f"{file}: conditionals must be a list of score functions, [one, another]."
        )
    check_score(parts["background"], f"{file}: background")
    for i, score in enumerate(scores):
        check_score(score, f"{file}: conditional {i}")
    return parts


def event_shape(parts: dict[str, Any]) -> tuple[int, ...]:
    """The shape of one sample: told, or drawn."""
    if "shape" in parts:
        try:
            shape = tuple(operator.index(n) for n in np.ravel(parts["shape"]).tolist())
        except (TypeError, ValueError):
            shape = ()
        if not shape or min(shape) < 1:
            raise ValueError(
                f"shape must be that of one sample, such as (64, 64, 3), got "
                f"{parts['shape']!r}."
            )
        return shape
    if "draws" in parts:
        return np.shape(parts["draws"][0])[1:]
    background = parts["background"]
    if hasattr(background, "sample"):
        draw = lambda key: background.sample(key, 1)
        return jax.eval_shape(draw, jax.random.key(0)).shape[1:]
    raise ValueError(
        "The background is no density: define shape, that of one sample, in the file."
    )


def default_sigmas(parts: dict[str, Any], steps: int) -> Any:
    """Noise levels that suit the data, from 1/500 of its size to 100 times that.

    The size of exact densities is measured; scores are taken to be of unit size.
    """
    scores = (parts["background"], *parts["conditionals"])
    draws = parts.get("draws")
    if draws is None and not all(hasattr(s, "sample") for s in scores):
        return cj.karras_sigmas(steps)
    if draws is None:
        keys = jax.random.split(jax.random.key(0), len(scores))
        draws = [s.sample(k, 500) for s, k in zip(scores, keys, strict=True)]
    size = float(np.concatenate([np.ravel(x) for x in draws]).std())
    if not size > 0:
        raise ValueError("All samples of the parts are equal: there is no noise level.")
    return cj.karras_sigmas(steps, size / 500, 100 * size)


def summary(d: analysis.Diagnosis) -> dict[str, Any]:
    """The verdict and its numbers, of JSON types."""
    c, b = d.certificate, d.background
    plain = lambda x: json.loads(json.dumps(np.nan_to_num(np.asarray(x)).tolist()))
    return {
        "findings": [f._asdict() for f in d.findings],
        "kl_bound": float(c.kl_bound),
        "effective_sample_size": float(c.effective_sample_size),
        "integral": float(c.integral),
        "sigma": d.sigma,
        "overlap": plain(d.blocks.overlap),
        "leak": plain(d.blocks.leak),
        "labels": plain(d.blocks.labels),
        "cosines": plain(d.orthogonality.cosines),
        "dependence": plain(d.factorization.dependence),
        "outside": plain(d.factorization.outside),
        "kl_to_background": plain(b.to_background),
        "kl_from_background": plain(b.from_background),
        "log_ratio": plain(b.log_ratio),
        "mixture": b.mixture,
    }


if __name__ == "__main__":
    main()
