"""Counts of what was asked for and of what came along, on sprites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from compjax import analysis
from experiments.local.world import PRESENT, World, draw_requests


def count(
    config: ConfigDict, world: World, name: str, drawn: Sequence[dict[int, np.ndarray]]
) -> list[dict[str, Any]]:
    """Rows of counts, one a number of requests, over all training seeds.

    Args:
        config: Of the experiment.
        world: Its sprites.
        name: Of the model.
        drawn: For each training seed, images `[n, h, w, 1]` by number of requests.
    """
    own: list[float] = []
    rows = []
    for k in sorted(drawn[0]):
        images = np.concatenate([x[k] for x in drawn])
        n = len(drawn[0][k])
        requests = draw_requests(world, config.sample.images, k, config.seed)
        present = world.strength(images) > PRESENT
        asked = np.tile(requests.named[:n].reshape(n, -1), (len(drawn), 1))
        objects, met = present.sum(1), (present & asked).sum(1)
        if k <= 1:
            own.append(float((objects - met).mean()))
        row: dict[str, Any] = {"model": name, "k": k}
        if (~asked).any():
            row["unrequested"] = float(present[~asked].mean())
        if k == 0:
            row["objects"] = float(objects.mean())
            rows.append(row | {"histogram": np.bincount(objects).tolist()})
            continue
        true = world.strength(requests.true[:n]) > PRESENT
        seeds = np.repeat(np.arange(len(drawn)), n)
        extra = (own[0], own[1]) if len(own) == 2 else None
        row |= tally(config, world, present, true, asked, seeds, extra)
        each = (seeds == seed for seed in range(len(drawn)))
        row["by_seed"] = [
            tally(config, world, present[of], true, asked[of], seeds[of])["corrected"]
            for of in each
        ]
        rows.append(row)
    return rows


def tally(
    config: ConfigDict,
    world: World,
    present: np.ndarray,
    true: np.ndarray,
    asked: np.ndarray,
    seeds: np.ndarray,
    extra: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """`analysis.tally` of occupied places; true scenes repeat for every seed."""
    centres = world.centres()
    where = lambda occupied: [centres[one] for one in occupied]
    row = analysis.tally(
        where(present),
        where(np.tile(true, (len(present) // len(true), 1))),
        np.stack(where(asked)),
        config.world.pixels / 2,
        config.seed,
        training_seeds=seeds,
        own_extra=extra,
    )
    return row._asdict()
