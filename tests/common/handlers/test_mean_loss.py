from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.losses import DiceLoss

from common.handlers import NegativeLoss


def test_minus_the_mean_over_the_items_each_by_itself():
    noise = torch.Generator().manual_seed(0)
    items = [
        (torch.rand(1, 4, 5, generator=noise), (torch.rand(1, 4, 5, generator=noise) > 0.5).float()) for _ in "abc"
    ]
    batches = [items[:2], items[2:]]  # of different length: a mean of means would be another number
    engine = Engine(lambda engine, batch: [{"prob": p, "label": y} for p, y in batch])
    NegativeLoss(DiceLoss(smooth_nr=0.0, smooth_dr=1e-5), ["prob", "label"]).attach(engine, "val_negative_loss")
    engine.run(batches)
    wanted = [1 - 2 * (p * y).sum() / (p.sum() + y.sum() + 1e-5) for p, y in items]
    assert engine.state.metrics["val_negative_loss"] == pytest.approx(-float(torch.stack(wanted).mean()), abs=1e-6)
