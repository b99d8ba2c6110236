"""EDM2's optimizer: Adam, with a learning rate that ramps up and then decays."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from compjax.types import as_float


def edm2_learning_rate(
    peak: float | int,
    decay: float | int,
    batch: float | int,
    rampup_images: float | int = 10e6,
) -> optax.Schedule:
    r"""The learning rate as a function of the number of updates made before.

    $$\alpha_t = \alpha\, \frac{\min(1,\; t\,b / r)}{\sqrt{\max(1,\; t / t_{ref})}}$$

    The first update has the rate 0.

    Args:
        peak: The highest rate $\alpha$.
        decay: Number of updates $t_{ref}$ after which it decays.
        batch: Images in a batch, b.
        rampup_images: Number of images r over which it rises, whatever the batch.

    Returns:
        `step -> rate`, as optax takes it.

    Raises:
        ValueError: If a number is not positive.

    Source: Karras et al. 2024 (EDM2, 2312.02696); the ramp is that of its code.

    Example:
        >>> schedule = edm2_learning_rate(0.012, decay=35_000, batch=2048)
        >>> [round(float(schedule(step)), 4) for step in (0, 2442, 35_000, 140_000)]
        [0.0, 0.006, 0.012, 0.006]
    """
    numbers = {
        "peak": peak,
        "decay": decay,
        "batch": batch,
        "rampup_images": rampup_images,
    }
    for name, value in numbers.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}.")

    def schedule(step: Any) -> Float[Array, ""]:
        # Updates, not images, are counted: 2**31 images do not fit an int32.
        t = as_float(step)
        ramp = jnp.minimum(t * (batch / rampup_images), 1.0)
        return peak * ramp / jnp.sqrt(jnp.maximum(t / decay, 1.0))

    return schedule


def edm2_adam(learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam with EDM2's constants: b1 = 0.9, b2 = 0.99, eps = 1e-8; no weight decay.

    Args:
        learning_rate: A number, or a schedule such as `edm2_learning_rate`.

    Source: Karras et al. 2024 (EDM2, 2312.02696).

    Example:
        >>> optimizer = edm2_adam(0.01)
        >>> params = {"w": jnp.ones(2)}
        >>> updates, _ = optimizer.update(params, optimizer.init(params))
        >>> updates["w"].round(4)
        Array([-0.01, -0.01], dtype=float32)
    """
    return optax.adam(learning_rate, b1=0.9, b2=0.99, eps=1e-8)
