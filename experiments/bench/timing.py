"""Interleaved timings: every candidate in every round, medians, ratios of rounds."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def interleaved(
    candidates: Mapping[str, Callable[[], Any]], rounds: int = 15
) -> dict[str, dict[str, float]]:
    """Compile and run times of jitted calls, measured in turns.

    Args:
        candidates: Calls without arguments; the first is the reference.
        rounds: How often to run each, after one call that compiles and one to warm up.

    Returns:
        By name: `compile` (the first call), `run` (median) in seconds, and `ratio`, the
        median over rounds of the time against the reference's in the same round.
    """
    first = {}
    for name, call in candidates.items():
        first[name] = _seconds(call)
        call()
    times = {name: np.zeros(rounds) for name in candidates}
    for i in range(rounds):
        for name, call in candidates.items():
            times[name][i] = _seconds(call)
    reference = times[next(iter(candidates))]
    return {
        name: {
            "compile": first[name],
            "run": float(np.median(times[name])),
            "ratio": float(np.median(times[name] / reference)),
        }
        for name in candidates
    }


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
