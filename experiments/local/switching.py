"""At which noise levels do conditions act?  They are switched on and off along sigma.

An intervention, where curves of locality against sigma would only suggest: a model is
told the places above a noise level only, or below it only, by `cj.switch`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import compjax as cj
from experiments.local.models import Model
from experiments.local.world import PRESENT, World, draw_requests

SAMPLERS = {"ODE": cj.samplers.DPMSolverPP, "SDE": cj.samplers.Ancestral}


def switched(config: ConfigDict, world: World, model: Model) -> list[dict[str, Any]]:
    """Requests met and objects drawn, by level, side of it and sampler."""
    s = config.sample
    requests = draw_requests(world, config.switch.images, config.switch.k, config.seed)
    told, nothing = (
        cj.condition(model.network, model.encode(jnp.asarray(named)))
        for named in (requests.named, np.zeros_like(requests.named))
    )
    sigmas = cj.karras_sigmas(s.steps, s.sigma_min, s.sigma_max)
    asked = requests.named.reshape(len(requests.named), -1)
    rows = []
    for level in config.switch.sigmas:
        parts = {
            "above": cj.switch(nothing, told, level),
            "below": cj.switch(told, nothing, level),
        }
        for side, score in parts.items():
            for name, sampler in SAMPLERS.items():
                shape = requests.true.shape
                key = jax.random.key(config.seed)
                x, _ = cj.sample(key, score, sampler(), shape, sigmas)
                present = world.strength(x) > PRESENT
                row = {"sigma": level, "told": side, "sampler": name}
                row |= {"hit": float(present[asked].mean())}
                row |= {"unrequested": float(present[~asked].mean())}
                rows.append(row | {"objects": float(present.sum(1).mean())})
    return rows
