"""Training a denoiser: `train` from end to end, and the parts it is made of."""

from compjax.training.averaging import (
    Average,
    LastUpdates,
    PowerFunction,
    std_to_exp,
    update_average,
    which_average,
)
from compjax.training.checkpoint import Checkpoints, restore
from compjax.training.data import HostBatches, Prepared
from compjax.training.distributed import initialize
from compjax.training.export import export, load
from compjax.training.flops import count_macs, matmul_peak
from compjax.training.interruption import catch_sigterm
from compjax.training.loop import Evaluator, train
from compjax.training.loss import draw_noise, loss_at
from compjax.training.mesh import (
    everywhere,
    make_mesh,
    over_batch,
    placed_like,
    sharded,
)
from compjax.training.metrics import MetricsWriter, read_metrics
from compjax.training.optimizer import edm2_adam, edm2_learning_rate
from compjax.training.posthoc import reconstruct, save_snapshot
from compjax.training.progress import Progress
from compjax.training.state import TrainState, init_state
from compjax.training.step import AFTER, BEFORE, Normalization, make_train_step
from compjax.training.workdir import open_workdir, write_json

__all__ = [
    "AFTER",
    "BEFORE",
    "Average",
    "Checkpoints",
    "Evaluator",
    "HostBatches",
    "LastUpdates",
    "MetricsWriter",
    "Normalization",
    "PowerFunction",
    "Prepared",
    "Progress",
    "TrainState",
    "catch_sigterm",
    "count_macs",
    "draw_noise",
    "edm2_adam",
    "edm2_learning_rate",
    "everywhere",
    "export",
    "init_state",
    "initialize",
    "load",
    "loss_at",
    "make_mesh",
    "make_train_step",
    "matmul_peak",
    "open_workdir",
    "over_batch",
    "placed_like",
    "read_metrics",
    "reconstruct",
    "restore",
    "save_snapshot",
    "sharded",
    "std_to_exp",
    "train",
    "update_average",
    "which_average",
    "write_json",
]
