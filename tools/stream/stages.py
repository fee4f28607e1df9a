"""The networks of a bundle, called for one frame after another, each timed by itself."""

from __future__ import annotations

from typing import ClassVar

import torch

from common.inferers import FrameStream
from tools.stream.timing import StepTimes

__all__ = ["OneStage", "Stages", "TwoStages", "stages_of"]


class OneStage:
    """A network that is called on every frame, with what it remembers of those before.

    Args:
        network: see :class:`common.inferers.FrameStream`.
        device: where to compute.
        dtype: the type of autocast; float32 switches it off.
        use_ifa: see :class:`common.inferers.FrameStream`.
    """

    steps: ClassVar[tuple[str, ...]] = ("network",)

    def __init__(self, network: torch.nn.Module, device: torch.device, dtype: torch.dtype, use_ifa: bool) -> None:
        self._stream = FrameStream(network, device, use_ifa=use_ifa, dtype=dtype)

    def reset(self) -> None:
        """Forget all frames."""
        self._stream.reset()

    def __call__(self, image: torch.Tensor, times: StepTimes) -> tuple[torch.Tensor | None, float | None]:
        """Segment the next frame.

        Args:
            image: (3, h, w) on the device, preprocessed.
            times: of the steps.

        Returns:
            The mask's logits (1, h, w), None where the segmenter was not called; and the probability that what is
            sought is in the frame, None of a network that has no such thing.
        """
        with times.step("network"):
            return self._stream.push(image, logits=True), None


class TwoStages:
    """A gate that says whether something is in the frame, and a segmenter that is called if so.

    Args:
        network: with ``gate``, ``threshold`` and ``segment_where``, as :class:`common.networks.TwoStage` has them. It
            is moved to ``device`` and put into evaluation mode.
        device: where to compute.
        dtype: the type of autocast; float32 switches it off.
    """

    steps: ClassVar[tuple[str, ...]] = ("classifier", "segmenter")

    def __init__(self, network: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._network = network.to(device).eval()
        self._device, self._dtype = device, dtype

    def reset(self) -> None:
        """Do nothing: frames are segmented one by one."""

    @torch.no_grad()
    def __call__(self, image: torch.Tensor, times: StepTimes) -> tuple[torch.Tensor | None, float | None]:
        """See :meth:`OneStage.__call__`."""
        x = image.unsqueeze(0)
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            with times.step("classifier"):
                probability = self._network.gate(x)
                # On tensors, as in the network's own forward: which side of it a rounded threshold falls matters.
                passes = probability >= self._network.threshold
                present = bool(passes)
            if not present:
                return None, float(probability)
            with times.step("segmenter"):
                logits = self._network.segment_where(x, passes)
        return logits.squeeze(0).float(), float(probability)


Stages = OneStage | TwoStages


def stages_of(network: torch.nn.Module, device: torch.device, dtype: torch.dtype, use_ifa: bool) -> Stages:
    """Return how a network is called; see :class:`OneStage` for the arguments."""
    # By attribute, which TorchScript modules have as well.
    if hasattr(network, "gate") and hasattr(network, "segment_where"):
        return TwoStages(network, device, dtype)
    return OneStage(network, device, dtype, use_ifa)
