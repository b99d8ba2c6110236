"""Analysis: what a set of samples says about the composition that made them."""

from compjax.analysis.background import (
    Background,
    background_report,
    score_kl,
)
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
    criterion,
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
from compjax.analysis.diagnosis import (
    Diagnosis,
    Finding,
    diagnose,
)
from compjax.analysis.distances import (
    TwoSample,
    energy_distance,
    gaussian_kl,
    gaussian_w2,
    two_sample_test,
)
from compjax.analysis.factorization import (
    Factorization,
    factorization,
)
from compjax.analysis.fading import Strengths, composed_strength
from compjax.analysis.features import NetworkFeatures, seen_through
from compjax.analysis.influence import (
    Influence,
    Views,
    influence,
    influence_estimate,
    response,
    response_estimate,
)
from compjax.analysis.influence_maps import influence_by_distance, recentred
from compjax.analysis.interaction import Estimate, delta_cosines, interaction
from compjax.analysis.ledger import (
    Ledger,
    ledger,
)
from compjax.analysis.local_noise import (
    Coupling,
    NoiseKL,
    cumulant_gradient,
    gaussian_coupling,
    gaussian_windows,
    kl_along_noise,
    projection,
)
from compjax.analysis.local_theory import (
    LocalDefect,
    blockwise_log_ratio,
    extension_error,
    local_defect,
    local_score,
)
from compjax.analysis.locality import (
    Locality,
    condition_locality,
    gaussian_like,
    locality,
)
from compjax.analysis.moments import reverse_law
from compjax.analysis.orthogonality import (
    Orthogonality,
    orthogonality,
)
from compjax.analysis.projective import (
    ProjectiveError,
    gaussian_projective_error,
    projective_error,
)
from compjax.analysis.score_blocks import (
    ScoreBlocks,
    find_blocks,
    score_blocks,
)
from compjax.analysis.theorems import (
    Features,
    commutation_defect,
    commutation_kl,
    composition_error,
    equivariance_error,
    in_features,
    mean_shift_products,
)
from compjax.analysis.windowed import BaseRates, base_rates, windowed_family
from compjax.samplers import effective_sample_size

__all__ = [
    "Background",
    "BaseRates",
    "Certificate",
    "Corners",
    "Coupling",
    "DensityBound",
    "Diagnosis",
    "Estimate",
    "Factorization",
    "Features",
    "Finding",
    "Influence",
    "Ledger",
    "LocalDefect",
    "Locality",
    "NetworkFeatures",
    "NoiseKL",
    "Orthogonality",
    "Profile",
    "ProjectiveError",
    "Row",
    "ScoreBlocks",
    "Strengths",
    "TwoSample",
    "Views",
    "Weighted",
    "background_report",
    "base_rates",
    "blockwise_log_ratio",
    "certificate",
    "commutation_defect",
    "commutation_kl",
    "composed_error",
    "composed_strength",
    "composition_error",
    "condition_locality",
    "corner_mass",
    "corners",
    "criterion",
    "cumulant_gradient",
    "delta_cosines",
    "density_bound",
    "diagnose",
    "effective_sample_size",
    "energy_distance",
    "equivariance_error",
    "extension_error",
    "extra_objects",
    "factorization",
    "find_blocks",
    "gaussian_coupling",
    "gaussian_kl",
    "gaussian_like",
    "gaussian_projective_error",
    "gaussian_w2",
    "gaussian_windows",
    "girsanov_bound",
    "in_features",
    "influence",
    "influence_by_distance",
    "influence_estimate",
    "interaction",
    "jump",
    "kl_along_noise",
    "kl_bound",
    "ledger",
    "local_defect",
    "local_score",
    "locality",
    "mean_shift_products",
    "orthogonality",
    "path_speed",
    "plateau",
    "profile",
    "projection",
    "projective_error",
    "recentred",
    "response",
    "response_estimate",
    "reverse_law",
    "score_blocks",
    "score_kl",
    "seen_through",
    "tally",
    "two_sample_test",
    "windowed_family",
]
