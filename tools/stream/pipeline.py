"""From a frame to its mask, by a bundle's own inference.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common.data.video import Frame
from common.engines.launch import refusals
from common.errors import InputError
from common.handlers import load_weights
from tools.stream.acceleration import accelerate
from tools.stream.bundle import read_bundle
from tools.stream.preprocessing import frame_preprocessing
from tools.stream.stages import TwoStages, stages_of
from tools.stream.timing import StepTimes

__all__ = ["FramePipeline", "SegmentedFrame", "lowest_logit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentedFrame:
    """What a pipeline found in a frame.

    Args:
        mask: booleans (H, W) on the frame's own grid; all False where the segmenter was not called.
        p_present: probability that what is sought is in the frame; None of a network without a gate.
        present: whether the frame passed the gate; None of a network without one.
        seg_ran: whether the segmenter was called.
        milliseconds: of each step that was taken.
    """

    mask: np.ndarray
    p_present: float | None = None
    present: bool | None = None
    seg_ran: bool = True
    milliseconds: Mapping[str, float] = field(default_factory=dict)


class FramePipeline:
    """Network, weights, preprocessing and threshold of a bundle, applied to one frame after another.

    A network with ``gate`` and ``segment_where`` is one of two stages (:class:`common.networks.TwoStage`): the second
    is called on frames that pass the first.

    Args:
        bundle: the bundle's folder.
        ids: what its ``configs/inference.json`` is to be changed to, by id; for instance ``checkpoint``, ``device``,
            ``precision``, ``gate_threshold``.
        use_ifa: see :class:`common.inferers.FrameStream`.
        compile_network: compile the network with ``torch.compile``; the first frames then take long.
        files: further configuration files, laid over inference.json.
        cuda_graphs: replay the network's parts as CUDA graphs.

    Attributes:
        times: of the steps ``preprocess``, ``network`` (of two stages: ``classifier`` and ``segmenter``) and
            ``postprocess``.
        steps: these names, in their order.
        two_stages: whether the network has a gate.
        device: where the network runs.

    Raises:
        InputError: the folder is no bundle for video, a configuration file or an id is not as it should be, the weights
            are missing or do not fit, or CUDA graphs are asked for without CUDA.
    """

    def __init__(
        self,
        bundle: str | Path,
        ids: Mapping[str, Any] | None = None,
        use_ifa: bool = True,
        compile_network: bool = False,
        files: Sequence[str] = (),
        cuda_graphs: bool = False,
    ) -> None:
        parser = read_bundle(Path(bundle), ids or {}, files)
        with refusals():
            parser.get_parsed_content("checked")
            arithmetic, weights = (parser.get_parsed_content(name) for name in ("arithmetic", "weights"))
            self.device = torch.device(parser.get_parsed_content("device"))
            network = parser.get_parsed_content("network")
        load_weights(network, weights.path, self.device, weights.complete)
        accelerate(network, self.device, compile_network, cuda_graphs)
        self._stages = stages_of(network, self.device, arithmetic.dtype, use_ifa)
        self._preprocess = frame_preprocessing(parser.get_parsed_content("preprocessing"), self.device)
        self._lowest_logit = lowest_logit(float(parser.get_parsed_content("threshold")))
        self.times = StepTimes(self.device)
        self.two_stages = isinstance(self._stages, TwoStages)
        self.steps = ("preprocess", *self._stages.steps, "postprocess")

    def reset(self) -> None:
        """Forget the frames so far: the next one does not follow them."""
        self._stages.reset()

    def __call__(self, frame: Frame) -> SegmentedFrame:
        """Segment the next frame.

        Raises:
            InputError: it could not be segmented.
        """
        self.times.latest.clear()
        try:
            mask, p_present = self._segment(frame.image)
        except InputError:
            raise
        except Exception as error:
            logger.debug("frame %s", frame.name, exc_info=True)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            problem = f"could not be segmented ({reason})"
            raise InputError(f"frame {frame.name}", problem, "pass --debug to see where it happened") from error
        seg_ran = mask is not None
        return SegmentedFrame(
            mask if seg_ran else np.zeros(frame.image.shape[:2], bool),
            p_present,
            seg_ran if self.two_stages else None,
            seg_ran,
            {name: 1000 * seconds for name, seconds in self.times.latest.items()},
        )

    @torch.no_grad()
    def _segment(self, image: np.ndarray) -> tuple[np.ndarray | None, float | None]:
        """Return the mask, None where the segmenter was not called, and what the gate said."""
        with self.times.step("preprocess"):
            ready = self._preprocess(image)
        logits, p_present = self._stages(ready, self.times)
        if logits is None:
            return None, p_present
        with self.times.step("postprocess"):
            size = image.shape[:2]
            if logits.shape[1:] != size:
                logits = torch.nn.functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
            return (logits[0] >= self._lowest_logit).cpu().numpy(), p_present


def lowest_logit(threshold: float) -> float:
    """Return the smallest float32 whose sigmoid reaches a threshold, so that no sigmoid of a whole picture is needed.

    It differs from the threshold's logit by rounding: in float32 the sigmoid of -1e-8 is 0.5.
    """
    below, reached = -200.0, 200.0
    if torch.tensor(below).sigmoid() >= threshold:
        return -float("inf")
    while True:
        middle = float(torch.tensor((below + reached) / 2))
        if middle in (below, reached):
            return reached
        if torch.tensor(middle).sigmoid() >= threshold:
            reached = middle
        else:
            below = middle
