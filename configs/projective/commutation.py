"""Composing noised Gaussians against noising their composition, in four features.

Command:   python -m experiments.projective.commutation --workdir=runs/commutation
Hardware:  any CPU, seconds
Expected:  no divergence at any noise level for the rotation and the scaling, which are
           orthogonal up to maps within the blocks; positive ones for both shears; none
           for a shear of parts with equal covariances.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration of the figure."""
    config = ConfigDict()
    config.seed = 0  # nothing is drawn; recorded with the results
    config.shift = 2.0  # how far a conditional moves the mean of its feature
    config.variance = 0.1  # of a conditional's own feature; the background has 1
    config.angle = 35.0  # of the rotation, in degrees
    config.scales = (1.0, 3.0)  # units of the two features
    config.shears = (0.5, 1.5)  # how much of feature 2 is added to feature 1
    config.sigma_min = 0.03  # lowest noise level of the curves
    config.sigma_max = 20.0  # highest
    config.levels = 80  # noise levels of the curves
    config.checked = (0.3, 1.0, 3.0)  # noise levels at which quadrature checks them
    config.grid = 401  # points a side of that quadrature
    config.steps = 400  # of the reverse SDE, whose law is propagated exactly
    config.start = 80.0  # noise level at which it starts
    config.end = 0.002  # last noise level before 0
    return config
