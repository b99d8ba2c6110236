"""One call of the network for all conditions, and nothing but `compose`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import compjax as cj
from compjax.testing import assert_close, assert_same_score, strategies

LEVELS, POINTS = strategies.noise_levels(), strategies.points()
parts_of = jax.jit(lambda score, x, sigma: score.parts(x, sigma))


def shifted(x, sigma, c):
    """A conditional score with vector conditions: N(c, 1)."""
    return (
        -(x - c) / (1 + sigma**2)
        if jnp.ndim(sigma) == 0
        else (-(x - c) / (1 + sigma[:, None] ** 2))
    )


SHIFTED = cj.as_score(shifted)


@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("batch", [1, 4])
def test_compose_conditions_is_compose_of_bound_scores(chunk, batch):
    @given(
        strategies.arrays((3, batch, 3), -2.0, 2.0),
        strategies.arrays((batch, 3), -2.0, 2.0),
        strategies.weights(3),
        POINTS,
        LEVELS,
    )
    def check(conditions, background, w, x, sigma):
        together = cj.compose_conditions(
            SHIFTED, background, conditions, w, chunk=chunk
        )
        apart = cj.compose(
            cj.condition(SHIFTED, background),
            *(cj.condition(SHIFTED, c) for c in conditions),
            weights=w,
        )
        foreign = cj.compose_conditions(
            SHIFTED, cj.condition(SHIFTED, background), conditions, w, chunk=chunk
        )
        for level in (sigma, sigma * jnp.array([0.5, 0.9, 1.1, 2.0])):
            assert_same_score(together, apart, x, level)
            assert_same_score(foreign, apart, x, level)
            assert_close(parts_of(together, x, level), parts_of(apart, x, level))
        np.testing.assert_allclose(
            together.coefficients(sigma), apart.coefficients(sigma), rtol=1e-6
        )

    check()


def test_compose_conditions_with_weights_of_each_sample():
    conditions = jnp.arange(6.0).reshape(2, 1, 3)
    w = jnp.array([[1.0, 0.0, 2.0], [0.0, 1.0, 0.5]])  # [k, b]
    x = jnp.ones((3, 3))
    composed = cj.compose_conditions(SHIFTED, jnp.zeros((1, 3)), conditions, w)
    for i in range(3):
        alone = cj.compose_conditions(SHIFTED, jnp.zeros((1, 3)), conditions, w[:, i])
        np.testing.assert_allclose(
            composed(x, 0.5)[i : i + 1], alone(x[i : i + 1], 0.5), rtol=1e-6
        )


def test_compose_conditions_calls_the_network_once():
    calls = []

    def counted(x, sigma, c):
        calls.append(x.shape)
        return shifted(x, sigma, c)

    composed = cj.compose_conditions(
        cj.as_score(counted), jnp.zeros((1, 3)), jnp.ones((8, 1, 3))
    )
    composed(jnp.ones((4, 3)), 0.5)
    assert calls == [(36, 3)]


def test_compose_conditions_keeps_the_batch_on_its_devices():
    mesh = jax.make_mesh((4,), ("data",), (jax.sharding.AxisType.Auto,))
    x = jax.device_put(jnp.ones((8, 3)), jax.NamedSharding(mesh, jax.P("data")))
    composed = cj.compose_conditions(SHIFTED, jnp.zeros((1, 3)), jnp.ones((5, 1, 3)))
    compiled = jax.jit(lambda s, x: s(x, 0.5)).lower(composed, x).compile()
    assert compiled.output_shardings.spec == jax.P("data")
    text = compiled.as_text()
    assert not any(op in text for op in ("all-gather", "all-to-all", "all-reduce"))


def test_prints_how_many_conditions_there_are():
    composed = cj.compose_conditions(SHIFTED, jnp.ones((1, 1)), jnp.ones((8, 1, 1)))
    assert "9 stacked conditions" in repr(composed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: cj.compose_conditions(
                SHIFTED, np.zeros((1, 3)), np.ones((2, 1, 4))
            ),
            "background condition",
        ),
        (
            lambda: cj.compose_conditions(
                SHIFTED, np.zeros((1, 3)), np.ones((2, 1, 3)), [1.0]
            ),
            "2 scores need 2 weights",
        ),
        (
            lambda: cj.compose_conditions(
                SHIFTED, np.zeros((1, 3)), np.ones((2, 1, 3)), chunk=0
            ),
            "chunk must be at least 1",
        ),
        (
            lambda: cj.compose_conditions(
                SHIFTED, np.zeros((1, 3)), np.ones((2, 3, 3))
            )(jnp.ones((4, 3)), 0.5),
            "does not fit a batch of 4",
        ),
        (
            lambda: cj.compose_conditions(SHIFTED, np.zeros((1, 3)), np.ones(2)),
            "batch axis",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
