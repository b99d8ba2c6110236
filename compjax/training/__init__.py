"""Training a denoiser: `train` from end to end, and the parts it is made of."""

from compjax.training.averaging import power_function_beta, std_to_exp, update_average
from compjax.training.checkpoint import open_checkpoints, restore
from compjax.training.loop import train
from compjax.training.loss import denoising_loss
from compjax.training.mesh import data_mesh, everywhere, over_batch, split_batch
from compjax.training.metrics import MetricsWriter, read_metrics
from compjax.training.progress import Progress
from compjax.training.state import TrainState, init_state
from compjax.training.step import make_train_step
from compjax.training.workdir import open_workdir, write_json

__all__ = [
    "MetricsWriter",
    "Progress",
    "TrainState",
    "data_mesh",
    "denoising_loss",
    "everywhere",
    "init_state",
    "make_train_step",
    "open_checkpoints",
    "open_workdir",
    "over_batch",
    "power_function_beta",
    "read_metrics",
    "restore",
    "split_batch",
    "std_to_exp",
    "train",
    "update_average",
    "write_json",
]
