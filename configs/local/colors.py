"""Networks that are told colours, on two CPU cores: 32 px, plain scenes.

Command:   python -m experiments.local.colors --workdir=runs/local_colors
           --config=configs/local/colors.py
Hardware:  two CPU cores, no GPU: meant for 12 minutes, not timed on free cores;
           resumable
Expected:  from sigma = 0.5 on most of what the label of a place changes is at its
           object (85 % or more), and of what that of a colour changes ever less,
           until it is spread as mean images are (76 % elsewhere).  Shifts in the
           bottleneck are not orthogonal, and rank the colours beside yellow no better
           than R, G and B do.  Networks so small and so shortly trained draw blurred
           objects, and more colours than one seldom as asked, also in training's range.
           The paper says little of its experiment: sizes, levels, layers, statistics
           are ours.
"""

from ml_collections import ConfigDict

from configs.local import clevr_laptop
from configs.local.clevr import changed


def get_config() -> ConfigDict:
    """One network that is told colours and one that is told places, per seed."""
    config = ConfigDict()
    config.seed = 0  # decides scenes, requests and noise
    config.seeds = (0, 1, 2)  # of training
    config.common = clevr_laptop.get_config().common
    config.common.data.draw = "plain"
    config.common.network.channels = 32
    config.common.network.channel_mult = (1, 2)  # a bottleneck, of which the claim is
    config.common.network.num_blocks = 1
    config.common.network.positions = 0
    # Three objects take long to draw: fewer scenes, each at more noise levels.
    config.common.data.batch = 8
    config.common.train.noise_draws = 4
    config.common.train.steps = 2000
    config.common.train.decay = 1200

    config.models = ConfigDict()
    config.models.colors = changed("counts_all", "colors_of_all")
    # No colour is a label of its own, "nothing is there": shown, to be a background.
    config.models.colors.data.empty = 0.1
    config.models.places = changed("counts_all", "vector_of_all")  # the contrast
    config.models.places.train.steps = 1000
    config.models.places.train.decay = 600

    # What taking one condition away changes, and how far from its object.
    config.locality = ConfigDict()
    config.locality.scenes = 96  # with two or three objects of different colours
    config.locality.sigmas = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
    config.locality.margin = 2.0  # pixels around an object that are counted as its own

    # Shifts of activations, d_i = E[A | colour i] - E[A | nothing].
    config.features = ConfigDict()
    config.features.scenes = 128  # each in all eight colours
    config.features.sigmas = (0.2, 0.5, 1.0, 2.0, 5.0)
    # Of the U-Net: the bottleneck, and the end of every level of the decoder.
    config.features.layers = ("decoder1_in1", "decoder1_block1", "decoder0_block1")
    # What the claim is about, fixed before any result: the rest is exploration.
    config.features.layer = "decoder1_in1"
    config.features.sigma = 1.0

    config.sample = ConfigDict()
    config.sample.images = 96  # for every training seed and number of colours
    config.sample.together = 96  # of them that are sampled at a time
    config.sample.requests = (0, 1, 2, 3, 4, 5)  # colours that are asked for
    config.sample.steps = 16  # of DPM-Solver++
    config.sample.sigma_min = 0.02  # last noise level before 0
    config.sample.sigma_max = 20.0  # first noise level
    return config
