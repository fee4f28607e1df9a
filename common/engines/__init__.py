"""What stands around MONAI's engines: start-up checks, precision, batches."""

from __future__ import annotations

from .launch import Switches, check_bundle, start_run
from .precision import Precision
from .prepare_batch import PreparePartialLabelBatch
from .schedule import make_schedule

__all__ = ["Precision", "PreparePartialLabelBatch", "Switches", "check_bundle", "make_schedule", "start_run"]
