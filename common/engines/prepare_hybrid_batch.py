"""What the trainer of a stage that sees another stage's results takes from a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.engines import PrepareBatch

from common.networks import SSHSNet

__all__ = ["PrepareHybridBatch"]


class PrepareHybridBatch(PrepareBatch):
    """Run SSHSNet's first stage on the windows of a batch, once each, and hand its results on with the patches.

    Args:
        pipeline: whose first stage is run, without gradient.
        dtype: the type of autocast in which it runs; float32 switches it off.

    A batch is what :class:`common.transforms.RandWindowPatchesd` gives of B windows with K patches each: ``image`` and
    ``label`` (B, K, 1, h, w, D), ``stack`` (B, D, 3, H / 2, W / 2), ``boxes`` (B, K, 4); and ``drawn`` (B, C).

    Returned are the patches (B * K, 1, h, w, D); ``label`` and ``drawn`` of each, for the losses for partial labels;
    and, as further arguments of the network, the probabilities and feature maps where the patches are.
    """

    def __init__(self, pipeline: SSHSNet, dtype: torch.dtype = torch.float32) -> None:
        self.pipeline, self.dtype = pipeline, dtype

    def __call__(
        self,
        batchdata: Mapping[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], tuple[torch.Tensor, torch.Tensor], dict[str, Any]]:
        def move(key: str) -> torch.Tensor:
            tensor = batchdata[key]
            plain = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
            return plain.to(device=device, non_blocking=non_blocking)

        patches, label, stack, boxes = (move(key) for key in ("image", "label", "stack", "boxes"))
        # Triples of slices: the middle ones are the window, the outermost ones of the first and last its neighbours.
        window = stack[:, :, 1].permute(0, 2, 3, 1)[:, None]
        before, after = (stack[:, at, side][:, None, ..., None] for at, side in ((0, 0), (-1, 2)))
        self.pipeline.stage1.eval()  # its own training, in the same process, leaves it in training mode
        with torch.autocast(stack.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            context = self.pipeline.context(window, before, after, True)
        seen = self.pipeline.crop((context[0].float(), context[1].float()), boxes.flatten(0, 1))
        target = {"label": label.flatten(0, 1), "drawn": move("drawn").repeat_interleave(patches.shape[1], dim=0)}
        return patches.flatten(0, 1), target, seen, {}
