from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedEvaluator
from torch import nn

from common.handlers.stage_outputs import StageOutputs
from common.inferers.gated import GatedInferer
from common.networks.two_stage import TwoStage
from tests.common.handlers.video_runs import PatchIsTissue


def outputs(images: torch.Tensor) -> tuple[list[dict], GatedInferer]:
    """Run an evaluator over one batch and return its output, taken apart."""
    inferer = GatedInferer()
    network = TwoStage(PatchIsTissue(), nn.Conv2d(3, 1, 1), classifier_size=(8, 8), segmenter_size=(8, 8))
    engine = SupervisedEvaluator(
        "cpu", [{"image": images}], network, inferer=inferer, val_handlers=[StageOutputs(inferer)]
    )
    engine.run()
    return engine.state.output, inferer


@pytest.mark.parametrize("clips", [1, 2])
def test_of_clips(clips):
    brightness = torch.tensor([[0.9, 0.1, 0.6], [0.1, 0.1, 0.1]])[:clips]
    found, inferer = outputs(brightness[:, :, None, None, None].expand(clips, 3, 3, 8, 8))
    assert len(found) == clips
    for item, p_present, passes in zip(found, inferer.last.p_present, brightness > 0.5, strict=True):
        torch.testing.assert_close(item["p_present"], p_present)
        assert torch.equal(item["passes"], passes) and torch.equal(item["seg_ran"], passes)
        assert item["pred"].shape == (3, 1, 8, 8)


def test_of_frames():
    found, inferer = outputs(torch.tensor([0.9, 0.1])[:, None, None, None].expand(2, 3, 8, 8))
    assert [item["p_present"] for item in found] == inferer.last.p_present.tolist()
    assert [(item["passes"], item["seg_ran"]) for item in found] == [(True, True), (False, False)]
