"""Settings A, B and C at the size of Bradley et al. 2025: 128 px, 2**27 images.

Command:   for every model, on 32 GPUs,
           srun python -m experiments.train --config=configs/train/bradley.py
           --config.data.set=cluttered --workdir=/shared/runs/clevr/models/cluttered-0
           (background-0; single-0 and colored-0 with --config.data.empty=0.1), then
           on one host
           python -m experiments.projective.clevr
           --config=configs/projective/clevr_paper.py --workdir=/shared/runs/clevr
Hardware:  32 A100 with 80 GB for the networks, 16 hours each; one for the samples
Expected:  Not run by us: awaits the GPUs.  33 steps are the paper's 65 model calls.
"""

from ml_collections import ConfigDict

from configs.projective.clevr import with_models
from configs.train import bradley


def get_config() -> ConfigDict:
    """The run of the paper, as far as it is known."""
    config = with_models(bradley.get_config())
    config.sample.steps = 33
    return config
