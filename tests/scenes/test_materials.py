"""Lobes and lamps against closed forms and integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scenes_cases import a_scene

from compjax.scenes.light import in_mirror, lights
from compjax.scenes.materials import frame, fresnel, glint, metal_alphas
from compjax.scenes.scatter import cosine_lobe, glossy_lobe, low_discrepancy
from compjax.scenes.vectors import Vec


def test_fresnel_is_that_of_both_polarisations():
    cosine = np.linspace(0.02, 1, 50)
    for index in (1.2, 1.4):
        inside = np.sqrt(1 - (1 - cosine**2) / index**2)  # Snell
        s = ((cosine - index * inside) / (cosine + index * inside)) ** 2
        p = ((inside - index * cosine) / (inside + index * cosine)) ** 2
        np.testing.assert_allclose(
            fresnel(jnp.asarray(cosine, jnp.float32), index), (s + p) / 2, atol=1e-5
        )


def directions(n=400):
    """Unit vectors [n * 4n] evenly over the upper hemisphere, and their solid angle."""
    z = (np.arange(n) + 0.5) / n
    angle = 2 * np.pi * (np.arange(4 * n) + 0.5) / (4 * n)
    z, angle = (a.ravel() for a in np.meshgrid(z, angle))
    side = np.sqrt(1 - z * z)
    xyz = (side * np.cos(angle), side * np.sin(angle), z)
    return Vec(*(jnp.asarray(a, jnp.float32) for a in xyz)), 2 * np.pi / z.size


UP = Vec(jnp.zeros(1), jnp.zeros(1), jnp.ones(1))
AXES = frame(UP, Vec(jnp.ones(1), jnp.zeros(1), jnp.zeros(1)))


@pytest.mark.parametrize("metal", [False, True])
def test_facets_of_a_highlight_cover_the_surface(metal):
    """With light and eye together, D is glint * 4 / (n.l), and D (n.h) sums to one."""
    view, solid = directions()
    light = lights(a_scene(), Vec(*(jnp.zeros(1) for _ in range(3))))[0]
    object.__setattr__(light, "towards", view)
    object.__setattr__(light, "spread", jnp.zeros(1))
    n = view.x.shape
    axes = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, n), AXES)
    lobe = glint(light, axes, view, jnp.full(n, metal))
    total = float((lobe * 4).sum() * solid)
    # GGX has a tail that the grid's horizon cuts; both stay within a percent.
    assert total == pytest.approx(1.0, abs=0.01)


def test_cosine_directions_average_what_a_cosine_does():
    points = np.asarray(low_discrepancy(4096)[0])
    found = jax.vmap(lambda point: cosine_lobe(AXES, point))(jnp.asarray(points))
    cosine = np.asarray(found.z).ravel()
    # Moments of the density 2 c dc on [0, 1]: a low-discrepancy set is far better than
    # the 1 / sqrt(n) of chance.
    for power, expected in ((1, 2 / 3), (2, 1 / 2), (3, 2 / 5)):
        assert (cosine**power).mean() == pytest.approx(expected, abs=2e-3)
    assert abs(np.asarray(found.x).mean()) < 2e-3


@pytest.mark.parametrize("metal", [0.0, 1.0])
@pytest.mark.parametrize("cosine", [0.95, 0.6])
def test_glossy_directions_have_the_lobe_of_the_highlight(metal, cosine):
    """Sums of f(direction) over both: by samples and by integration of `glint`."""
    view = Vec(jnp.full(1, np.sqrt(1 - cosine**2)), jnp.zeros(1), jnp.full(1, cosine))
    points = np.asarray(low_discrepancy(8192)[1])
    lobe_of = lambda point: glossy_lobe(AXES, view, jnp.full(1, metal), point)
    direction, weight = jax.vmap(lobe_of)(jnp.asarray(points))
    target = lambda d: jnp.exp(2 * d.x + d.y - d.z)
    sampled = float((target(direction) * weight).mean())
    grid, solid = directions()
    light = lights(a_scene(), Vec(*(jnp.zeros(1) for _ in range(3))))[0]
    object.__setattr__(light, "towards", grid)
    object.__setattr__(light, "spread", jnp.zeros(1))
    n = grid.x.shape
    wide = lambda tree: jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, n), tree)
    lobe = glint(light, wide(AXES), wide(view), jnp.full(n, metal > 0.5))
    integrated = float((target(grid) * lobe).sum() * solid)
    # Weights are capped at 2, and facets near the horizon at 0.01: a percent or two.
    assert sampled == pytest.approx(integrated, rel=0.03)


def test_metal_is_rougher_along_the_axis():
    around, along = metal_alphas()
    assert around * along == pytest.approx(0.2**2)
    assert around < along


@pytest.mark.parametrize("blur", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("lamp", [0, 1, 2, 3])
def test_a_lamp_in_a_mirror_sends_its_irradiance_whatever_the_blur(lamp, blur):
    """The integral of the image over directions is the irradiance facing the lamp."""
    light = lights(a_scene(), Vec(*(jnp.zeros(1) for _ in range(3))))[lamp]
    towards = light.towards
    middle = np.array([np.ravel(c)[0] for c in (towards.x, towards.y, towards.z)])
    side = np.cross(middle, [0.3, 0.5, 0.8])
    side /= np.linalg.norm(side)
    other = np.cross(middle, side)
    # Square of directions that holds the image, in the plane at distance one.
    reach = blur + 0.25
    u = (np.arange(1200) + 0.5) / 1200 * 2 * reach - reach
    u, v = (a.ravel() for a in np.meshgrid(u, u))
    d = middle + u[:, None] * side + v[:, None] * other
    length = np.linalg.norm(d, axis=1)
    solid = (2 * reach / 1200) ** 2 / length**3
    d = d / length[:, None]
    direction = Vec(*(jnp.asarray(d[:, i], jnp.float32) for i in range(3)))
    total = (np.asarray(in_mirror(light, direction, blur)) * solid).sum()
    # A wide ramp reaches directions of less solid angle: the ratio of a tangent and its
    # angle, (1 + blur^2 / 4)^(3/2) at most.
    loss = (1 + (blur / 2 + 0.1) ** 2) ** -1.5
    irradiance = float(light.irradiance[0])
    assert loss * 0.97 * irradiance < total < 1.03 * irradiance
