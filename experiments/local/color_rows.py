"""From the arrays of the experiment on colours to rows of numbers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from compjax import analysis, scenes
from experiments.local import color_probes
from experiments.local.color_statistics import (
    crossed_cosines,
    half_width,
    meets,
    number,
    over_seeds,
    ranking,
    rates,
)
from experiments.projective.colors import APART

Arrays = Mapping[str, np.ndarray]

YELLOW = scenes.COLORS.index("yellow")
OTHERS = [color for color in color_probes.COLORS if color != YELLOW]
COMPATIBLE = ("blue", "purple", "cyan")
"""What composes with yellow in figure 5 of Bradley et al. 2025."""


def locality(
    config: ConfigDict, drawn: Arrays, measured: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """How far from its object a label changes the score, and what to expect.

    Two nulls: a change that is equal in all pixels, and one that is that of the mean
    image, as it is where noise has hidden all objects, of a colour whose object may
    stand anywhere.

    Returns:
        `rows`, one for each model and noise level, whose errors are those of training
        seeds and of scenes together; `nulls`, by name.
    """
    margin, sigmas = config.locality.margin, np.asarray(config.locality.sigmas)
    rows = []
    for name, parts in measured.items():
        reports = [
            analysis.Locality(
                sigmas,
                part["locality"]["distances"],
                analysis.Views(*[part["locality"]["mass"]] * 3),
            )
            for part in parts
        ]
        shares = [report.beyond(margin).score for report in reports]
        mean, of_seeds = over_seeds([share.mean for share in shares])
        of_scenes = np.mean([share.error for share in shares], axis=0)
        radii = np.array([report.radius().score for report in reports])
        strength = np.mean([report.strength().score for report in reports], axis=0)
        errors = np.hypot(np.nan_to_num(of_seeds), of_scenes)
        for i, sigma in enumerate(sigmas):
            rows.append(
                {
                    "model": name,
                    "sigma": float(sigma),
                    "beyond": number(mean[i]),
                    "error": number(errors[i]),
                    "beyond_by_seed": [number(share.mean[i]) for share in shares],
                    "r90_by_seed": [number(r) for r in radii[:, i]],
                    "strength": float(strength[i]),
                }
            )
    images = color_probes.shifts(color_probes.mean_images(dict(drawn)), "empty")
    where = (images.mean(0).reshape(-1, *drawn["pair_x0"].shape[1:]) ** 2).mean(0)
    where = where.sum(-1, keepdims=True)
    kinds = {"uniform": np.ones_like(where), "mean_image": where}
    nulls = {}
    for name, squares in kinds.items():
        report = color_probes.spread(dict(drawn), squares[None])
        share = report.beyond(margin).score
        nulls[name] = {
            "beyond": float(share.mean[0]),
            "error": float(share.error[0]),
            "r90": float(report.radius().score[0]),
        }
    return {"rows": rows, "nulls": nulls, "margin": margin}


def cosines(
    config: ConfigDict,
    drawn: Arrays,
    measured: Sequence[Mapping[str, Arrays]],
    composed: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Cosines of the shifts of all colours, and how they rank those beside yellow.

    Returns:
        One row for the colours of objects, for mean images, for every kind of features,
        and for the score, each over its backgrounds; some have the `matrix` of all
        cosines, and of the half widths of their 95 % intervals over training seeds.
    """
    f, rows = config.features, []
    shares = {name: row["both"] for name, row in composed.items()}
    features = [part["features"] for part in measured]

    def add(matrices: Any, **what: Any) -> None:
        rows.append(cosine_row(np.asarray(matrices), shares, **what))

    # What is known of composition: objects' colours less the ground's, without noise.
    rgb = np.array([composed[name]["shift"] for name in scenes.COLORS])
    found = crossed_cosines(np.stack([rgb, rgb]))
    bare = {"told": None, "sigma": None, "shown": True}
    add([found], of="shift", pooled=True, background="empty", **bare)
    images = color_probes.mean_images(dict(drawn))
    for i, background in enumerate((*color_probes.BACKGROUNDS, "one")):
        # Images have no training seeds; noise does not change the mean of images.
        moved = color_probes.shifts(images, background)
        for pooled in (True, False):
            found = crossed_cosines(pool(moved, 3) if pooled else moved)
            add([found], of="image", pooled=pooled, background=background, **bare)
        for s, sigma in enumerate(f.sigmas):
            at = {"background": background, "sigma": float(sigma)}
            shown = sigma == f.sigma
            if background in color_probes.BACKGROUNDS:
                found = [one["score"][i, s] for one in features]
                add(found, of="score", pooled=False, told=None, shown=shown, **at)
            for layer, (t, told) in itertools.product(
                f.layers, enumerate(color_probes.TOLD)
            ):
                means = [one[layer][t, s] for one in features]
                moved_by = [color_probes.shifts(one, background) for one in means]
                c = color_probes.channels(config, layer, means[0].shape[-1])
                for pooled in (True, False):
                    found = [
                        crossed_cosines(pool(one, c) if pooled else one)
                        for one in moved_by
                    ]
                    of = {"of": layer, "pooled": pooled, "told": told}
                    add(found, shown=shown and layer == f.layer, **of, **at)
    return rows


def pool(shifts: np.ndarray, channels: int) -> np.ndarray:
    """`[2, k, f]` to `[2, k, channels]`: means over the places of a grid."""
    return shifts.reshape(*shifts.shape[:2], -1, channels).mean(2)


def cosine_row(
    matrices: np.ndarray, shares: Mapping[str, float], *, shown: bool, **what: Any
) -> dict[str, Any]:
    """One row: cosines `[s, 8, 8]` of all training seeds, and what they rank.

    Args:
        matrices: The cosines.
        shares: Of images with both colours, for each colour beside yellow.
        shown: Whether the row has the whole matrix.
        what: The cosines are of.
    """
    n = len(matrices)
    mean, error = over_seeds(matrices)
    width = half_width(error, n)
    both = [shares[scenes.COLORS[color]] for color in OTHERS]
    beside = lambda matrix: np.abs(matrix[YELLOW, OTHERS])
    ranks = ranking(beside(mean).tolist(), both)
    by_seed = [ranking(beside(matrix).tolist(), both).rho for matrix in matrices]
    is_compatible = np.isin([scenes.COLORS[color] for color in OTHERS], COMPATIBLE)
    row = what | {
        "yellow": rounded(mean[YELLOW]),
        "yellow_width": rounded(width[YELLOW]),
        "off_diagonal": number(np.abs(mean[~np.eye(len(mean), dtype=bool)]).mean()),
        "compatible": number(beside(mean)[is_compatible].mean()),
        "incompatible": number(beside(mean)[~is_compatible].mean()),
        "rho": number(ranks.rho),
        "p": number(ranks.p),
        "rho_by_seed": [number(rho) for rho in by_seed],
    }
    if shown:
        row |= {"matrix": [rounded(line) for line in mean]}
        row |= {"matrix_width": [rounded(line) for line in width]}
    return row


def rounded(values: np.ndarray) -> list[float | None]:
    """Numbers as JSON has them, to four digits."""
    return [number(np.round(value, 4)) for value in values]


def requests(
    config: ConfigDict, truth: Arrays, measured: Sequence[Mapping[str, Arrays]]
) -> list[dict[str, Any]]:
    """One row for every number of colours, counted over all training seeds."""
    asked = color_probes.orders(config)
    apart = APART * config.common.data.size
    n, seeds = len(asked), len(measured)

    def answers(found: Arrays, k: int, asked: np.ndarray) -> np.ndarray:
        each = zip(found[f"xy_{k}"], found[f"color_{k}"], asked, strict=True)
        return np.array([meets(xy, seen, wanted, apart) for xy, seen, wanted in each])

    rows = []
    for k in config.sample.requests:
        found = [part["samples"] for part in measured]
        seen = np.concatenate([one[f"color_{k}"] for one in found])
        row: dict[str, Any] = {
            "k": k,
            "images": len(seen),
            "objects": float((seen >= 0).sum(1).mean()),
            "colors": float(np.mean([len(set(one) - {-1}) for one in seen.tolist()])),
        }
        if k:
            own, other = asked[:, :k], asked[:, -k:]
            met = np.concatenate([answers(one, k, own) for one in found])
            chance = np.concatenate([answers(one, k, other) for one in found])
            ceiling = np.tile(answers(truth, k, own), seeds)
            has = (seen[:, :, None] == np.tile(own, (seeds, 1))[:, None]).any(1)
            row |= {"found": float(has.mean())}
            row |= rates(
                met, chance, ceiling, np.repeat(np.arange(seeds), n), config.seed
            )
        rows.append(row)
    return rows
