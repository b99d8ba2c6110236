"""Operators: functions from score functions to score functions.

For sigma > 0 the composition of noised scores is in general *not* the score of the
noised composition; docs/math.md says when it is.  Every operator here acts on the
noised parts, one noise level at a time.

* `weighted`: compose, product, power, guide, negate — sums of scores
* `conditions`: compose_conditions — the same sum over one conditional score
* `posterior`: mixture, contrast, harmonic_mean — sums weighted by who explains x
* `paths`: switch, pullback — along the noise level, and through a bijection
* `local`: localize — each output sees only its window
"""

from compjax.compose.conditions import ConditionSum, compose_conditions
from compjax.compose.local import Localized, localize
from compjax.compose.paths import Pullback, Switch, pullback, switch
from compjax.compose.posterior import (
    Contrast,
    HarmonicMean,
    Mixture,
    contrast,
    harmonic_mean,
    mixture,
)
from compjax.compose.weighted import (
    WeightedSum,
    compose,
    guide,
    negate,
    power,
    product,
)

__all__ = [
    "ConditionSum",
    "Contrast",
    "HarmonicMean",
    "Localized",
    "Mixture",
    "Pullback",
    "Switch",
    "WeightedSum",
    "compose",
    "compose_conditions",
    "contrast",
    "guide",
    "harmonic_mean",
    "localize",
    "mixture",
    "negate",
    "power",
    "product",
    "pullback",
    "switch",
]
