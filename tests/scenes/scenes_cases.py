"""Scenes the tests of this folder share."""

import numpy as np

from compjax.scenes import Scene


def a_scene(**changes):
    n = len(changes.get("xy", [[0.0, 0.0]]))
    fields = {
        "xy": np.zeros((n, 2)),
        "rotation": np.zeros(n),
        "size": np.full(n, 0.7),
        "shape": np.ones(n, int),
        "color": np.ones(n, int),
        "material": np.zeros(n, int),
        "present": np.ones(n, bool),
    }
    return Scene(**(fields | changes))
