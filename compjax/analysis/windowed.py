r"""What a network with windows learns where one object of several is labelled.

Scenes hold a restricted number of objects, and labels are incomplete: experiment 2 of
Bradley 2025 (2509.16447).  A network that sees one place and its label at a time has a
best answer to that, in closed form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from compjax.densities import ConditionalProjective, Independent, Sprites
from compjax.types import Number, as_float, concrete


class BaseRates(NamedTuple):
    """How likely a place that is not labelled holds an object.

    Args:
        elsewhere: In images that label another place; nan where none label any.
        nowhere: In images without a label; nan where all have one.
        window: In all images: all that is known to a network that sees this place only.
    """

    elsewhere: Float[Array, ""]
    nowhere: Float[Array, ""]
    window: Float[Array, ""]


def base_rates(counts: Any, places: int, labelled: Number = 1.0) -> BaseRates:
    r"""Base rates when one random object of each image is labelled with its place.

    With $m \sim \pi$ objects in n places, $\mu = E[m]$, and $a$ the probability that an
    image has a label, its share `labelled` times $P(m \ge 1)$,

    $$\frac{E[m \mid m \ge 1] - 1}{n - 1}, \qquad
      \frac{\mu\,(1 - labelled)}{n\,(1 - a)}, \qquad
      \frac{\mu - a}{n - a}.$$

    The last mixes the first two: it is what a windowed network puts at places that
    nobody asked for, and does not depend on how many are asked for elsewhere.

    Args:
        counts: $\pi$, `[m + 1]`, relative probabilities of 0, 1, ..., m objects.
        places: $n$.
        labelled: The probability that an image with objects keeps its label; 1 less the
            dropout of labels.

    Raises:
        ValueError: If counts are not probabilities of at most n objects, or `labelled`
            is not in [0, 1].

    Source: ours, for experiment 2 of Bradley 2025 (2509.16447).

    Example:
        >>> rates = base_rates([0.0, 1.0, 1.0, 1.0], places=9)  # 1 to 3 objects
        >>> float(rates.elsewhere), float(rates.window)
        (0.125, 0.125)
    """
    pi, labelled = as_float(counts), as_float(labelled)
    if pi.ndim != 1 or not 1 <= len(pi) <= places + 1:
        raise ValueError(
            f"counts are probabilities of 0 to {places} objects in {places} places, "
            f"got shape {pi.shape}."
        )
    if (value := concrete(pi)) is not None and not (
        (value >= 0).all() and value.sum() > 0
    ):
        raise ValueError(f"counts are relative probabilities, got {value}.")
    if (value := concrete(labelled)) is not None and not 0 <= value <= 1:
        raise ValueError(f"labelled is a probability, got {value}.")
    pi = pi / pi.sum()
    mean, some = pi @ jnp.arange(len(pi)), 1 - pi[0]
    a = labelled * some
    ratio = lambda top, bottom: jnp.where(
        bottom > 0, top / jnp.where(bottom > 0, bottom, 1.0), jnp.nan
    )
    return BaseRates(
        elsewhere=ratio(labelled * (mean - some), a * (places - 1)),
        nowhere=ratio(mean * (1 - labelled), places * (1 - a)),
        window=ratio(mean - a, places - a),
    )


def windowed_family(world: Sprites, labelled: Number = 1.0) -> ConditionalProjective:
    r"""What the best windowed network samples: it sees a place and its label at a time.

    Trained on scenes of `world` in which one random object is labelled, its optimum is
    $E[x_{0,i} \mid x_i, c_i]$ at place i: the denoiser of an object where the place is
    labelled; of an object at the `base_rates`, else of nothing, where it is not.  These
    are the scores of a CPC, whose `given(J)` fills every place of J, at any number of
    them, and holds objects elsewhere at the base rate.

    Args:
        world: Scenes without required places; places are the windows.
        labelled: As for `base_rates`.

    Raises:
        ValueError: If the world has required places.

    Source: ours, for experiments 2 and 3 of Bradley 2025 (2509.16447).

    Example:
        >>> world = Sprites(jnp.ones((1, 1)), [0.0, 1.0, 1.0, 1.0], 0.1, 9)
        >>> asked = windowed_family(world).given((0, 1, 2, 3, 4))
        >>> asked.denoise(jnp.zeros((1, 9)), 100.0)[0, 3:6].round(2)
        Array([1.  , 1.  , 0.12], dtype=float32)
    """
    if world.required:
        raise ValueError(
            f"Give the world without conditions; this one requires {world.required}."
        )
    rate = base_rates(world.counts, world.places, labelled).window
    place = lambda counts, *required: Sprites(
        world.templates, counts, world.scale, 1, required
    )
    free, filled = place(jnp.stack([1 - rate, rate])), place(jnp.ones(1), 0)
    pixels = world.templates.shape[1]
    starts = range(0, world.places * pixels, pixels)
    masks = tuple(tuple(range(start, start + pixels)) for start in starts)
    background = Independent(masks, (free,) * world.places)
    return ConditionalProjective(background, masks, (filled,) * world.places)
