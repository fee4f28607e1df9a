"""Two networks on frames, of which the first decides where the second is called."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import convert_to_dst_type

from common.inferers.autocast import AutocastInferer
from common.inferers.flips import mean_of

__all__ = ["GatedInferer", "GatedRun"]


@dataclass(frozen=True)
class GatedRun:
    """What the two stages did in one call.

    The tensors are on the CPU, of shape ``(B,)`` for frames and ``(B, T)`` for clips.

    Args:
        p_present: probabilities of tissue being in sight, float32.
        passes: whether they reach the network's threshold.
        seg_ran: whether the segmenter was called on the frame.
        ms_classifier: milliseconds of the first stage.
        ms_segmenter: milliseconds of the second; 0 where it was called on no frame.
    """

    p_present: torch.Tensor
    passes: torch.Tensor
    seg_ran: torch.Tensor
    ms_classifier: float
    ms_segmenter: float


class GatedInferer(AutocastInferer):
    """One pass of a two-stage network over frames, or over clips as batches of frames; the result is float32.

    The network is a :class:`common.networks.TwoStage`, in plain PyTorch or TorchScript, in evaluation mode. Its gate is
    decided on probabilities in float32, whatever autocast computes in. No frame's result depends on those that it is
    computed with, but for rounding: convolutions of another batch size may add in another order.

    An ordinary network for frames, which has no gate, may stand in its place: it is called on all of them, and each
    counts as one that passes with certainty (``p_present`` 1).

    Args:
        dtype: the type of autocast; float32 switches it off.
        ungated: call the segmenter on all frames and blot out nothing, to evaluate it by itself. ``p_present`` and
            ``passes`` stay what the classifier says.
        arguments: further arguments of an ordinary network, by name, the same for each call.
        flips: show both stages the frames' mirror images (left and right) too. The gate is decided once, on the mean of
            the two probabilities, and masks are the mean of the probabilities of both passes.

    Attributes:
        last: the :class:`GatedRun` of the last call; None before the first.
    """

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        ungated: bool = False,
        arguments: Mapping[str, Any] | None = None,
        flips: bool = False,
    ) -> None:
        super().__init__(dtype, arguments)
        self.ungated, self.flips = ungated, flips
        self.last: GatedRun | None = None

    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segment frames.

        Args:
            inputs: frames ``(B, 3, H, W)`` or clips ``(B, T, 3, H, W)``.
            network: the two stages, or an ordinary network.
            args: further arguments of an ordinary network.
            kwargs: the same, by name.

        Returns:
            Logits ``(B, 1, H, W)`` or ``(B, T, 1, H, W)``; those of frames that do not pass are ``CLOSED_LOGIT``.

        Raises:
            ValueError: the input has another rank.
        """
        if inputs.ndim not in (4, 5):
            raise ValueError(f"expected frames (B, 3, H, W) or clips (B, T, 3, H, W), got shape {list(inputs.shape)}")
        # A MetaTensor would see to its metadata at every operation of both networks.
        frames = inputs.as_subclass(torch.Tensor).flatten(0, -4)
        begun = between = _now(frames.device)
        # By attribute, which TorchScript modules have as well.
        if hasattr(network, "segment_where"):
            with torch.autocast(frames.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
                probabilities = self._present(frames, network)
                passes = probabilities >= network.threshold
                ran = torch.ones_like(passes) if self.ungated or network.always_segment else passes
                between = _now(frames.device)
                logits = self._segmented(
                    frames, network.segment if self.ungated else lambda shown: network.segment_where(shown, passes)
                )
                if self.flips and not self.ungated:
                    # The mean of equal numbers is rounded; those of a closed gate are stated.
                    logits[~passes] = network.closed_logit
        else:
            one_pass = super().__call__
            logits = self._segmented(frames, lambda shown: one_pass(shown, network, *args, **kwargs))
            probabilities = torch.ones(len(frames))
            passes = ran = probabilities > 0
        end = _now(frames.device)
        leading = inputs.shape[:-3]
        self.last = GatedRun(
            *(part.cpu().reshape(leading) for part in (probabilities, passes, ran)),
            ms_classifier=(between - begun) * 1000,
            ms_segmenter=(end - between) * 1000 if ran.any() else 0.0,
        )
        logits = logits.reshape(*leading, *logits.shape[1:])
        return convert_to_dst_type(logits, inputs, dtype=torch.float32)[0]

    def _present(self, frames: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
        shown = (frames, frames.flip(-1)) if self.flips else (frames,)
        return sum(network.classify(one).detach().float().sigmoid() for one in shown) / len(shown)

    def _segmented(self, frames: torch.Tensor, segment: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        logits = segment(frames)
        return mean_of(logits.float(), segment(frames.flip(-1)).flip(-1).float(), "sigmoid") if self.flips else logits


def _now(device: torch.device) -> float:
    """Return the time in seconds once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
