"""Training a denoiser: `train` from end to end, and the parts it is made of."""

from compjax.training.averaging import (
    Average,
    LastUpdates,
    PowerFunction,
    std_to_exp,
    update_average,
)
from compjax.training.checkpoint import Checkpoints, restore
from compjax.training.data import HostBatches, Prepared
from compjax.training.interruption import catch_sigterm
from compjax.training.loop import train
from compjax.training.loss import draw_noise, loss_at
from compjax.training.mesh import (
    everywhere,
    gather,
    keep_sharded,
    make_mesh,
    over_batch,
    placed_like,
    sharded,
    split_batch,
)
from compjax.training.metrics import MetricsWriter, read_metrics
from compjax.training.progress import Progress
from compjax.training.state import TrainState, init_state
from compjax.training.step import AFTER, BEFORE, Normalization, make_train_step
from compjax.training.workdir import open_workdir, write_json

__all__ = [
    "AFTER",
    "BEFORE",
    "Average",
    "Checkpoints",
    "HostBatches",
    "LastUpdates",
    "MetricsWriter",
    "Normalization",
    "PowerFunction",
    "Prepared",
    "Progress",
    "TrainState",
    "catch_sigterm",
    "draw_noise",
    "everywhere",
    "gather",
    "init_state",
    "keep_sharded",
    "loss_at",
    "make_mesh",
    "make_train_step",
    "open_workdir",
    "over_batch",
    "placed_like",
    "read_metrics",
    "restore",
    "sharded",
    "split_batch",
    "std_to_exp",
    "train",
    "update_average",
    "write_json",
]
