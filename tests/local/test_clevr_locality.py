"""What networks of rendered scenes are probed on, and what is said of known scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compjax as cj
from compjax import datasets, scenes
from configs.local import clevr_laptop
from experiments.local import clevr_locality
from experiments.models import Model

DISC = 0.11


def stream(recipe):
    return datasets.Stream(
        recipe, (16, 16), 1, draw=datasets.streams.sample_at_places, jitter=0.0
    )


@pytest.fixture(scope="module", params=["vector_of_one", "locations_of_all"])
def on(request):
    label = getattr(datasets, request.param)
    data = stream(datasets.COUNTS_ALL._replace(label=label))
    return clevr_locality.probed(data, 24, jax.random.key(0), DISC), label


def test_one_label_is_taken_away(on):
    """Of several labels one cell goes; where it was the only one, nothing is said."""
    found, label = on
    told, rest = (
        np.asarray(c).reshape(24, -1) for c in (found.condition, found.without)
    )
    nothing = np.asarray(scenes.null(found.condition)).reshape(24, -1)
    alone = (rest == nothing).all(1)
    several = np.abs(told - rest)[~alone]
    assert (several.sum(1) == 1).all()
    assert (told.sum(1)[alone] == 1).all()
    if label is datasets.vector_of_one:
        assert alone.all()
    else:
        assert 0 < alone.sum() < 24  # a third of the scenes has one object


def test_distances_are_from_the_object_that_is_not_named_any_more(on):
    """In the middle of the disc is the cell, of a sixteenth of 16 pixels: a pixel."""
    found, label = on
    if label is datasets.vector_of_one:
        cell = np.asarray(found.condition)[:, :-1].argmax(1)
    else:
        gone = np.asarray(found.condition - found.without)[..., 0]
        cell = gone.reshape(24, -1).argmax(1)
    row, column = np.divmod(cell, 16)
    assert (found.distance[np.arange(24), row, column, 0] == 0).all()
    # A disc of 1.76 pixels holds as many as its area: 9.7, give or take its rim.
    inside = (found.distance == 0).sum((1, 2, 3))
    assert (inside >= 6).all() and (inside <= 14).all()
    assert found.distance.max() > 8


def test_what_changes_on_the_disc_alone_is_local():
    """A score that adds the label's cell, blown up by one pixel, stays on the disc."""
    data = stream(datasets.COUNTS_ALL)
    spread = jnp.ones((3, 3, 1, 1))

    def score(x, sigma, condition):
        cells = jax.lax.conv_general_dilated(
            condition[..., :1],
            spread,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return cells * jnp.ones_like(x) - x

    config = clevr_laptop.get_config()
    config.probe.images, config.probe.sigmas, config.probe.tile = 8, (1.0,), 4
    config.probe.disc = 0.15  # 2.4 pixels: the corners of the 3 x 3 square
    found = clevr_locality.probe(config, Model(cj.as_score(score), data))
    assert found["conditions"]["denoiser"]["beyond"] == [0.0]
    assert found["pixels"]["score"]["beyond"] == [0.0]
    everywhere = cj.as_score(
        lambda x, sigma, c: c[..., :1].sum((1, 2), keepdims=True) - x
    )
    found = clevr_locality.probe(config, Model(everywhere, data))
    # Of 256 pixels the disc holds 18: pi 2.4^2.
    (beyond,) = found["conditions"]["denoiser"]["beyond"]
    assert beyond == pytest.approx(1 - np.pi * 2.4**2 / 256, abs=0.02)
