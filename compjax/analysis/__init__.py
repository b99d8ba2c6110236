"""Analysis: what a set of samples says about the composition that made them."""

from compjax.analysis.certificate import (
    Certificate,
    Weighted,
    certificate,
    commutation_defect,
    criterion,
    effective_sample_size,
    kl_bound,
)
from compjax.analysis.counting import Row, extra_objects, tally
from compjax.analysis.distances import (
    TwoSample,
    energy_distance,
    gaussian_kl,
    gaussian_w2,
    two_sample_test,
)

__all__ = [
    "Certificate",
    "Row",
    "TwoSample",
    "Weighted",
    "certificate",
    "commutation_defect",
    "criterion",
    "effective_sample_size",
    "energy_distance",
    "extra_objects",
    "gaussian_kl",
    "gaussian_w2",
    "kl_bound",
    "tally",
    "two_sample_test",
]
