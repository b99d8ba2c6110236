"""Analysis: what a set of samples says about the composition that made them."""

from compjax.analysis.bounds import (
    DensityBound,
    composed_error,
    density_bound,
    girsanov_bound,
)
from compjax.analysis.certificate import (
    Certificate,
    Weighted,
    certificate,
    commutation_defect,
    criterion,
    effective_sample_size,
    kl_bound,
)
from compjax.analysis.corners import (
    Corners,
    Profile,
    corner_mass,
    corners,
    jump,
    path_speed,
    plateau,
    profile,
)
from compjax.analysis.counting import Row, extra_objects, tally
from compjax.analysis.distances import (
    TwoSample,
    energy_distance,
    gaussian_kl,
    gaussian_w2,
    two_sample_test,
)
from compjax.analysis.fading import Strengths, composed_strength
from compjax.analysis.projective import (
    ProjectiveError,
    gaussian_projective_error,
    projective_error,
)
from compjax.analysis.theorems import (
    Features,
    commutation_kl,
    composition_error,
    equivariance_error,
    in_features,
    mean_shift_products,
)

__all__ = [
    "Certificate",
    "Corners",
    "DensityBound",
    "Features",
    "Profile",
    "ProjectiveError",
    "Row",
    "Strengths",
    "TwoSample",
    "Weighted",
    "certificate",
    "commutation_defect",
    "commutation_kl",
    "composed_error",
    "composed_strength",
    "composition_error",
    "corner_mass",
    "corners",
    "criterion",
    "density_bound",
    "effective_sample_size",
    "energy_distance",
    "equivariance_error",
    "extra_objects",
    "gaussian_kl",
    "gaussian_projective_error",
    "gaussian_w2",
    "girsanov_bound",
    "in_features",
    "jump",
    "kl_bound",
    "mean_shift_products",
    "path_speed",
    "plateau",
    "profile",
    "projective_error",
    "tally",
    "two_sample_test",
]
