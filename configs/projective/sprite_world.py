"""Settings A, B and C of Bradley et al. 2025 in a world of sprites, with exact scores.

Command:   python -m experiments.projective.sprite_world --workdir=runs/sprite_world
Hardware:  two CPU cores, five minutes (nine beside other work)
Expected:  A shows every request for all k; B shows each at strength 1/k, so none from
           k = 3 on; C never shows more whole objects than its data hold, shows what is
           beyond at half strength, and leaves clutter, which weights above 1 remove.

Nothing is trained: what fails here fails with perfect scores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration of the figure."""
    config = ConfigDict()
    config.seed = 0  # of the templates and the samples
    config.side = 3  # places a side; there are side^2
    config.pixels = 5  # pixels a side of one place
    config.templates = 4  # different objects
    config.norm = 2.5  # Euclidean norm of a template
    config.scale = 0.05  # noise floor of a pixel
    config.most = 5  # most objects in a cluttered scene; 1 to this many, evenly
    config.threshold = 0.4  # strength from which an object counts as present
    config.samples = 256  # of every setting, number of requests and sampler
    config.weights = (1.0, 2.0, 4.0, 7.5)  # of the conditionals in setting C
    config.sde_steps = 400  # of the reverse SDE
    config.ode_steps = 32  # of Heun's method, as EDM2's
    config.fine_steps = 3000  # of the reverse SDE where B is checked once more
    config.start = 80.0  # noise level at which both start
    config.end = 0.002  # last noise level before 0
    return config
