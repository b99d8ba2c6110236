"""Hypothesis strategies of densities, weights, noise levels, points and bijections.

They draw values and never shapes, so that one compiled program serves all examples, and
no subnormal numbers, which XLA flushes to zero.  Covariances have condition numbers of
at most a few hundred.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compjax import densities
from compjax.testing.bijections import Affine, Chain, SinhArcsinh


def composite(build: Callable[..., Any]) -> Callable[..., st.SearchStrategy[Any]]:
    """`hypothesis.strategies.composite` for a function that may compile.

    JAX names the files of its compilation cache with Python's `random`, whose use
    inside a strategy hypothesis reports as an error; so its state is put back.
    """

    @functools.wraps(build)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        state = random.getstate()
        try:
            return build(*args, **kwargs)
        finally:
            random.setstate(state)

    return st.composite(quiet)


def floats(low: float, high: float) -> st.SearchStrategy[float]:
    """Floats that float32 holds, without subnormals."""
    low, high = float(np.float32(low)), float(np.float32(high))
    return st.floats(low, high, width=32, allow_subnormal=False)


def arrays(shape: tuple[int, ...], low: float, high: float) -> st.SearchStrategy[Any]:
    """float32 arrays of one shape, as JAX arrays."""
    elements = floats(low, high)
    return hnp.arrays(np.float32, shape, elements=elements).map(jnp.asarray)


def noise_levels(low: float = 0.05, high: float = 20.0) -> st.SearchStrategy[Any]:
    """Scalar noise levels, even in log sigma."""
    return floats(np.log(low), np.log(high)).map(lambda u: jnp.float32(np.exp(u)))


def weights(k: int, low: float = -2.0, high: float = 3.0) -> st.SearchStrategy[Any]:
    """`[k]` composition weights, negative ones among them."""
    return arrays((k,), low, high)


def points(b: int = 4, d: int = 3) -> st.SearchStrategy[Any]:
    """`[b, d]` points around the densities below."""
    return arrays((b, d), -4.0, 4.0)


@composite
def gaussians(draw: Any, d: int = 3) -> densities.Gaussian:
    """Gaussians with correlated coordinates."""
    root = draw(arrays((d, d), -1.0, 1.0))
    return densities.Gaussian(
        draw(arrays((d,), -2.0, 2.0)), root @ root.T + 0.1 * jnp.eye(d)
    )


@composite
def gaussian_mixtures(draw: Any, d: int = 3, m: int = 3) -> densities.GaussianMixture:
    """Mixtures of m correlated Gaussians."""
    roots = draw(arrays((m, d, d), -1.0, 1.0))
    covs = roots @ jnp.swapaxes(roots, 1, 2) + 0.1 * jnp.eye(d)[None]
    means = draw(arrays((m, d), -2.0, 2.0))
    return densities.GaussianMixture(draw(arrays((m,), -2.0, 2.0)), means, covs)


@composite
def clutters(draw: Any, n: int = 3) -> densities.BernoulliClutter:
    """Coordinates switched on at random."""
    return densities.BernoulliClutter(
        draw(arrays((n,), 0.05, 0.95)), draw(floats(0.2, 1.0))
    )


@composite
def independents(draw: Any, d: int = 3) -> densities.Independent:
    """A correlated pair (a mixture) and single coordinates, in shuffled places."""
    order = draw(st.permutations(range(d)))
    blocks = (tuple(order[:2]), *((i,) for i in order[2:]))
    parts = [draw(gaussian_mixtures(len(block), 2)) for block in blocks]
    return densities.Independent(blocks, tuple(parts))


def any_densities(d: int = 3) -> st.SearchStrategy[Any]:
    """Any of the densities above on `[d]`."""
    return st.one_of(gaussians(d), gaussian_mixtures(d), clutters(d), independents(d))


@composite
def factorized_conditionals(draw: Any, k: int = 2) -> densities.FactorizedConditionals:
    """K conditionals, each a mixture on two coordinates of its own, and M_b of one."""
    blocks = (*((2 * i, 2 * i + 1) for i in range(k)), (2 * k,))
    background = tuple(draw(gaussian_mixtures(len(block), 2)) for block in blocks)
    own = tuple(draw(gaussian_mixtures(2, 2)) for _ in range(k))
    return densities.FactorizedConditionals.from_blocks(blocks, background, own)


@composite
def sprites(draw: Any, places: int = 4, pixels: int = 2) -> densities.Sprites:
    """Scenes with one required object, and up to two others."""
    templates = draw(arrays((2, pixels), -2.0, 2.0)) + 0.3
    counts = draw(arrays((3,), 0.0, 1.0)).at[draw(st.integers(0, 2))].set(1.0)
    scale = draw(floats(0.2, 1.0))
    return densities.Sprites(templates, counts, scale, places, (1,))


@composite
def rotations(draw: Any, d: int = 3) -> Any:
    """`[d, d]` orthogonal matrices, reflections among them."""
    q, r = np.linalg.qr(np.asarray(draw(arrays((d, d), -1.0, 1.0)), float) + np.eye(d))
    return jnp.asarray(q * np.where(np.diagonal(r) < 0, -1, 1)[None])


@composite
def factorized_gaussians(
    draw: Any, k: int = 2
) -> tuple[densities.Gaussian, tuple[densities.Gaussian, ...]]:
    """A Gaussian background and k conditionals that factorize: one coordinate each.

    Conditionals are narrower than the background on their own coordinate, so that their
    composition has a positive precision in every basis and at every noise level.
    """
    mean, variance = draw(arrays((k,), -1.0, 1.0)), draw(arrays((k,), 0.7, 1.5))
    own_mean, ratio = draw(arrays((k,), -2.0, 2.0)), draw(arrays((k,), 0.1, 0.9))
    conditionals = tuple(
        densities.Gaussian(
            mean.at[i].set(own_mean[i]),
            jnp.diag(variance.at[i].set(ratio[i] * variance[i])),
        )
        for i in range(k)
    )
    return densities.Gaussian(mean, jnp.diag(variance)), conditionals


@composite
def bijections(draw: Any, d: int = 3) -> Chain:
    """A bend of every coordinate between two affine maps that mix them."""
    near_identity = [jnp.eye(d) + draw(arrays((d, d), -0.8, 0.8)) / d for _ in range(2)]
    first, last = (Affine(m, draw(arrays((d,), -0.5, 0.5))) for m in near_identity)
    bend = SinhArcsinh(draw(arrays((d,), -0.5, 0.5)), draw(arrays((d,), 0.7, 1.3)))
    return Chain((first, bend, last))
