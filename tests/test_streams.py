import jax
import jax.numpy as jnp
import numpy as np
import pytest

from compjax import scenes
from compjax.datasets import SingleObject

SIZE = (32, 32)
draw = jax.jit(lambda stream, key: stream(key))


def test_three_kinds_of_example_say_what_is_there():
    stream = SingleObject(SIZE, 48, empty=0.4, null=0.4)
    x0, condition = map(np.asarray, draw(stream, jax.random.key(0)))
    bump, unknown = condition[..., 0].max((1, 2)), condition[..., 1].min((1, 2))
    shows_object = np.abs(x0).max((1, 2, 3)) > 0.1
    is_null, is_located = unknown == 1, bump > 0.5
    is_empty = ~is_null & ~is_located
    assert is_empty.sum() > 5 and is_null.sum() > 5 and is_located.sum() > 5
    assert not (is_null & is_located).any()
    # Empty images are zero, for the empty scene is subtracted.
    np.testing.assert_allclose(x0[is_empty], 0, atol=1e-5)
    assert (condition[is_empty] == 0).all()
    assert shows_object[is_null | is_located].all()
    # The bump peaks on the object.
    for image, c in zip(x0[is_located], condition[is_located], strict=True):
        row, column = np.unravel_index(c[..., 0].argmax(), SIZE)
        near = np.abs(image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2])
        assert near.max() > 0.05


def test_probabilities_do_not_retrace_and_are_obeyed():
    x0, _ = draw(SingleObject(SIZE, 48, empty=1, null=0), jax.random.key(1))
    assert float(jnp.abs(x0).max()) < 1e-5
    _, condition = draw(SingleObject(SIZE, 48, empty=0, null=1), jax.random.key(2))
    np.testing.assert_array_equal(
        condition, np.broadcast_to(scenes.null(SIZE), condition.shape)
    )


def test_images_invert():
    stream = SingleObject(SIZE, 48)
    x0, _ = draw(stream, jax.random.key(2))
    images = np.asarray(stream.images(x0))
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_allclose(
        float(stream.scale) * (images - np.asarray(stream.background)), x0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"empty": -0.1}, "probability"),
        ({"null": 2}, "probability"),
        ({"batch": 0}, "1"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        SingleObject(**({"size": SIZE, "batch": 2} | change))
