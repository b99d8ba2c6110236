"""Experiment 3 of Bradley 2025 without a network: a machine of windows, 32 px scenes.

Command:   python -m experiments.local.clevr_machine --workdir=runs/local_clevr_machine
Hardware:  two CPU cores, no GPU: about 10 minutes where nothing else runs (16 on two
           shared cores); resumable
Expected:  up to ten places the conditional-local machine meets 96 % of the requests or
           more; corrected for chance, 95 % up to nine places and 94.6 % (92.6 to 96.8)
           at ten.  The ideal machine, whose windows are the image, meets a third of
           three.  Small rubber objects, a still camera and 32 pixels are ours.
"""

from ml_collections import ConfigDict

from configs.train import default


def get_config() -> ConfigDict:
    """Three machines, each shown three sets of scenes with one location named."""
    config = ConfigDict()
    config.seed = 0  # decides requests and, with `seeds`, noise
    config.seeds = (0, 1, 2)  # of the images that machines are shown, and of noise

    config.data = default.get_config().data
    config.data.set = "counts_one"  # one to three objects
    config.data.label = "locations_of_one"  # 16 x 16 cells of two pixels, one is named
    # Small rubber objects: about three pixels wide, so that the window of conditions
    # covers one, and ten of them do not touch.
    config.data.draw = "small"
    config.data.size = 32
    config.data.batch = 250
    config.data.null = 0.0
    config.data.jitter = 0.0
    config.data.offset = "empty"
    config.data.images = 3000  # that a machine is shown

    config.machine = ConfigDict()
    config.machine.window = 5  # side of the windows of pixels, or ((0, side), ...)
    # Side of the windows of conditions: the cell of a pixel and those around it, as far
    # as an object reaches from its cell.  No two cells below are nearer than two, so
    # the cell of a place never sees another place; cells between may see two, which no
    # label of training shows, and take the images that show one of them.
    config.machine.condition_window = 3
    config.machine.chunk = 16  # images that are read at a time

    config.sample = ConfigDict()
    config.sample.images = 16  # for every seed, machine and number of requests
    config.sample.together = 16  # of them that are sampled at a time
    config.sample.requests = tuple(range(11))  # locations asked of the machine
    config.sample.controls = (0, 1, 3, 6, 10)  # locations asked of the others
    # Row and column of the cells whose middles are the places: as many as there is room
    # for, if they are 4.4 pixels apart and their objects apart as CLEVR's rule has it.
    config.sample.cells = (
        *((4, 8), (5, 6), (6, 4), (6, 9), (7, 2), (7, 7), (7, 13)),
        *((8, 5), (8, 11), (9, 8), (10, 6), (10, 10), (12, 7)),
    )
    config.sample.steps = 10  # of DPM-Solver++
    config.sample.sigma_min = 0.02  # last noise level before 0
    config.sample.sigma_max = 20.0  # first noise level
    return config
