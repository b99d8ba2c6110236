"""Test a composition of your own in three lines, with the tools that test ours.

Assertions state laws (`assert_*`), `strategies` draws densities, weights, noise levels
and bijections for hypothesis, and `VARIANTS` runs a function eagerly, jitted, vmapped
and sharded over devices.

    @hypothesis.given(strategies.gaussian_mixtures(), strategies.points(),
                      strategies.noise_levels())
    def test_mine(p, x, sigma):
        assert_score_is_gradient(my_operator(p), x, sigma)

hypothesis and chex are imported when first used (`pip install "compjax[test]"`).
"""

from compjax.testing.bijections import Affine, Chain, SinhArcsinh
from compjax.testing.laws import (
    assert_close,
    assert_commutes_with_noise,
    assert_equivariant,
    assert_permutation_invariant,
    assert_same_score,
    assert_score_is_gradient,
    assert_single_trace,
)
from compjax.testing.variants import VARIANTS

__all__ = [
    "VARIANTS",
    "Affine",
    "Chain",
    "SinhArcsinh",
    "assert_close",
    "assert_commutes_with_noise",
    "assert_equivariant",
    "assert_permutation_invariant",
    "assert_same_score",
    "assert_score_is_gradient",
    "assert_single_trace",
]
