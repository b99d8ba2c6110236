"""Lemma 7.2 by construction: a composed path that no sampler follows.

Command:   python -m experiments.projective.non_smoothness --workdir=runs/non_smoothness
Hardware:  any CPU, about a minute
Expected:  from sigma = 0.2 tau to tau the mass at the corners goes from 8 to 78 %,
           whatever tau; so the path's speed is at least 1 / (2 tau), while that of
           every part stays below sqrt 2; both samplers end in the wrong place at
           small angles and in the right one at 90 degrees.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration of the figure."""
    config = ConfigDict()
    config.seed = 0  # of the samples
    config.weight = 0.1  # probability under the background that a feature is 0
    config.length = 1.0  # the features' other value, in the units of x
    config.scale = 0.001  # standard deviation of the points; small beside tau
    config.angles = (2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 75.0, 90.0)  # degrees
    config.profiles = (2.0, 10.0, 45.0)  # angles whose mass is drawn against sigma
    config.levels = 60  # noise levels of those curves
    config.speeds = (1.0, 2.0, 4.0, 8.0, 16.0)  # angles whose speed is drawn
    config.samples = 4096  # of each sampler at each angle
    config.steps = 400  # of either sampler
    config.start = 20.0  # noise level at which they start
    config.end = 0.0005  # last noise level before 0
    return config
