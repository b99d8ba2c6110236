"""The run of Bradley et al. 2025: EDM2's XS, 128 x 128 pixels, 32 A100s, 16 hours.

Command:   srun python -m experiments.train --config=configs/train/bradley.py
           --workdir=/shared/runs/cluttered --config.data.set=cluttered
Hardware:  32 A100 with 80 GB on 4 hosts; docs/guide/training.md has the Slurm script
Expected:  2**27 images in 65 536 updates of 2048, about 16 hours in the paper (24 % of
           the GPUs' peak).  Not run yet by us: awaits the GPUs.

The sets of the paper: `background` (0 objects), `single` (1) and `cluttered` (1 to 5),
each with a network of its own.  Batch, number of images, preset, normalisation after
the update and the plain average of the last 4096 updates are the paper's (section 10);
the encoding of locations, the share of withheld labels, and drawing scenes while
training instead of reading them from files are ours.
"""

from ml_collections import ConfigDict

from configs.train import default


def get_config() -> ConfigDict:
    """`default` at the paper's resolution."""
    config = default.get_config()
    config.data.size = 128
    config.train.average_stds = (0.1,)  # looked at until the plain average begins
    config.train.snapshot_every = 0
    config.train.milestone_every = 16_384
    return config
