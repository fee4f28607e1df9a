"""What stands around MONAI's engines: start-up checks, precision, batches, schedules, several processes."""

from __future__ import annotations

from .cross_pseudo_supervision import CrossPseudoSupervisionTrainer
from .distributed import distribute, join_ranks, leave_ranks, local_batch_size
from .launch import Switches, check_bundle, one_of, start_run
from .packages import require_package
from .precision import Precision
from .prepare_batch import PreparePartialLabelBatch, PreparePlainBatch
from .prepare_hybrid_batch import PrepareHybridBatch
from .schedule import make_schedule
from .stage_run import StageRun

__all__ = [
    "CrossPseudoSupervisionTrainer",
    "Precision",
    "PrepareHybridBatch",
    "PreparePartialLabelBatch",
    "PreparePlainBatch",
    "StageRun",
    "Switches",
    "check_bundle",
    "distribute",
    "join_ranks",
    "leave_ranks",
    "local_batch_size",
    "make_schedule",
    "one_of",
    "require_package",
    "start_run",
]
