"""The parts of networks that see frames: clips and streams, and the two stages of a gated segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from common.networks import PerFrame, TwoStage
from common.networks.clip_network import ClipNetwork
from common.networks.feature_fusion import resize
from common.networks.two_stage import CLOSED_LOGIT
from common.transforms import NormalizeFramesd
from tools.export.part import Axis, ExportPlan, Part, Port, uniform

__all__ = ["clip_plan", "frame_plan", "two_stage_plan"]

_BATCH = Axis("batch")
_LOGIT = "logit of the foreground; the sigmoid makes it the probability"
_RGB = "red, green, blue"


class _Clip(nn.Module):
    """A clip network with its second argument set."""

    def __init__(self, network: ClipNetwork, frame_weights: bool) -> None:
        super().__init__()
        self.network, self.frame_weights = network, frame_weights

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.network(clips, self.frame_weights)


class _FrameEncoder(nn.Module):
    def __init__(self, network: ClipNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network.encode_frame(frames)


class _FrameDecoder(nn.Module):
    """What a stream does with the memories of T frames and the current of the last one."""

    def __init__(self, network: ClipNetwork, height: int, width: int, frame_weights: bool) -> None:
        super().__init__()
        self.network, self.height, self.width, self.frame_weights = network, height, width, frame_weights

    def forward(self, memories: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        currents = current.unsqueeze(1)
        return self.network.decode(memories, currents, self.height, self.width, self.frame_weights).squeeze(1)


def _frame_preprocessing(settings: Mapping[str, Any]) -> list[str]:
    """Return the steps from a frame to the input."""
    steps = ["A frame in RGB, 8 bits a channel."]
    if "spatial_size" in settings:
        height, width = settings["spatial_size"]
        steps.append(f"Resize to {height} x {width} (height x width), bilinear, align_corners false, no anti-aliasing.")
    statistics = NormalizeFramesd("image", settings["normalize"])
    mean, deviation = ([round(value, 4) for value in (part.flatten() / 255).tolist()] for part in
                       (statistics.mean, statistics.std))  # fmt: skip
    steps.append(f"Divide by 255, subtract {mean} and divide by {deviation} (red, green, blue).")
    return [*steps, "Channels first, float32."]


def clip_plan(network: ClipNetwork, settings: Mapping[str, Any]) -> ExportPlan:
    """Return the whole network over clips, and its two halves for streams.

    Args:
        network: in evaluation mode.
        settings: ``spatial_size``, ``normalize``, ``threshold`` and ``frame_weights``.
    """
    (height, width), weights, frames = settings["spatial_size"], settings["frame_weights"], network.frames
    with torch.no_grad():
        device = next(network.parameters()).device
        memory, current = network.encode_frame(torch.zeros(1, 3, height, width, device=device))
    memory_shape, current_shape = memory.shape[1:], current.shape[1:]
    frame = f"{_RGB}; normalized"
    parts = (
        Part(
            "clip",
            f"Segments clips of {frames} frames, all frames of a clip at once.",
            _Clip(network, weights),
            (Port("clips", (_BATCH, frames, 3, height, width), f"{frame}; oldest frame first"),),
            (Port("logits", (_BATCH, frames, 1, height, width), _LOGIT),),
            lambda clips: network(clips, weights),
        ),
        Part(
            "frame_encoder",
            "Computes what concerns one frame; called once for each frame of a stream.",
            _FrameEncoder(network),
            (Port("frames", (_BATCH, 3, height, width), frame),),
            (
                Port("memory", (_BATCH, *memory_shape), "what later frames need of this one: to be kept"),
                Port("current", (_BATCH, *current_shape), "what only the frame's own output needs"),
            ),
            network.encode_frame,
        ),
        Part(
            "frame_decoder",
            f"Segments the last of {frames} frames.",
            _FrameDecoder(network, height, width, weights),
            (
                Port("memories", (_BATCH, frames, *memory_shape), f"the memories of {frames} frames, oldest first"),
                Port("current", (_BATCH, *current_shape), "the last frame's current"),
            ),
            (Port("logits", (_BATCH, 1, height, width), _LOGIT),),
            lambda memories, current: network.decode(memories, current[:, None], height, width, weights)[:, 0],
        ),
    )
    use = (
        f"State to carry: a ring buffer of the memories of the last {frames} frames, each {list(memory_shape)} float32 "
        f"({memory.numel() * 4} bytes); nothing else. Currents and outputs of earlier frames are not needed.",
        "For each new frame: run frame_encoder once; put its memory into the ring buffer, in the place of the oldest.",
        f"The first frame of a stream fills all {frames} places of the ring buffer with its memory.",
        "Run frame_decoder on the memories, stacked oldest first, and the new frame's current.",
        "Empty the ring buffer where frames do not follow each other: a cut, a jump, a gap in the time stamps.",
        f"Mask: sigmoid(logits) >= {settings['threshold']:g}, after resizing the logits to the frame's own size.",
        "Recorded clips: run clip; its last frame's logits are those of the stream.",
    )
    constants = {"frames": frames, "threshold": settings["threshold"]}
    return ExportPlan(parts, _frame_preprocessing(settings), use, constants)


def frame_plan(network: PerFrame, settings: Mapping[str, Any]) -> ExportPlan:
    """Return a network that sees each frame by itself.

    Args:
        network: in evaluation mode.
        settings: ``spatial_size``, ``normalize`` and ``threshold``.
    """
    height, width = settings["spatial_size"]
    part = Part(
        "frame",
        "Segments frames, each by itself.",
        network,
        (Port("frames", (_BATCH, 3, height, width), f"{_RGB}; normalized"),),
        (Port("logits", (_BATCH, 1, height, width), _LOGIT),),
        # Of clips, which the bundle runs.
        lambda frames: network(frames.unsqueeze(0)).squeeze(0),
    )
    use = (
        "There is no state to carry: each frame is segmented by itself.",
        f"Mask: sigmoid(logits) >= {settings['threshold']:g}, after resizing the logits to the frame's own size.",
    )
    return ExportPlan((part,), _frame_preprocessing(settings), use, {"threshold": settings["threshold"]})


class _Classifier(nn.Module):
    """A classifier with the interpolation before it.

    :class:`common.networks.TwoStage` leaves frames alone that have the right size; interpolation to a size that fits
    changes no number, and needs no decision that would fix the size in an exported graph.
    """

    def __init__(self, network: TwoStage) -> None:
        super().__init__()
        self.classifier = network.classifier
        self.height, self.width = network.classifier_size

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.classifier(resize(frames, self.height, self.width)).reshape([frames.shape[0]])


class _Segmenter(nn.Module):
    """A segmenter with the interpolation before and behind it; see :class:`_Classifier`."""

    def __init__(self, network: TwoStage) -> None:
        super().__init__()
        self.segmenter = network.segmenter
        self.height, self.width = network.segmenter_size

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        logits = self.segmenter(resize(frames, self.height, self.width))
        return resize(logits, frames.shape[2], frames.shape[3])


class _Pipeline(nn.Module):
    """Both stages without control flow: as :class:`common.networks.TwoStage` with ``always_segment``."""

    def __init__(self, network: TwoStage) -> None:
        super().__init__()
        self.classifier, self.segmenter = _Classifier(network), _Segmenter(network)
        self.threshold, self.closed_logit = network.threshold, CLOSED_LOGIT

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        passes = self.classifier(frames).sigmoid() >= self.threshold
        return self.segmenter(frames).masked_fill(~passes[:, None, None, None], self.closed_logit)


def two_stage_plan(network: TwoStage, settings: Mapping[str, Any]) -> ExportPlan:
    """Return the two stages apart, and both as one.

    Args:
        network: in evaluation mode.
        settings: ``normalize`` and ``threshold``.
    """
    height, width = network.segmenter_size
    # One comparison at a size that has to be interpolated, one at the segmenter's own.
    shape = (_BATCH, Axis("height", (height + 8, height)), Axis("width", (width + 24, width)))
    frames = Port("frames", (shape[0], 3, *shape[1:]), f"{_RGB}, from 0 to 1; of any size", uniform)
    mask = Port("logits", (shape[0], 1, *shape[1:]), f"{_LOGIT}; of the frames' size")
    parts = (
        Part(
            "classifier",
            "Says whether anything is in sight; interpolates to its own size itself.",
            _Classifier(network),
            (frames,),
            (Port("logits", (_BATCH,), "logit of neural tissue in sight; the sigmoid makes it the probability"),),
            network.classify,
        ),
        Part(
            "segmenter",
            "Says where it is, whatever the classifier says; interpolates to its own size and back itself.",
            _Segmenter(network),
            (frames,),
            (mask,),
            network.segment,
        ),
        Part(
            "pipeline",
            "Both as one. In ONNX and torch.export the segmenter runs on every frame and its result is blotted out "
            "where the gate is closed: use the two parts where time counts. TorchScript skips it, and has the methods "
            "classify, gate, segment and segment_where.",
            _Pipeline(network),
            (frames,),
            (Port("logits", mask.shape, f"{_LOGIT}; {CLOSED_LOGIT:g} all over frames that do not pass"),),
            network,
            network,
        ),
    )
    threshold = settings["threshold"]
    use = (
        "There is no state to carry between frames.",
        "Run classifier; a frame passes if sigmoid(logit) >= gate_threshold; with a gate_threshold of 0 all pass.",
        "Run segmenter on the frames that pass, and not at all where there are none; other frames have no foreground.",
        f"Mask: sigmoid(logits) >= {threshold:g}; in the frame's own size already.",
    )
    constants = {
        "gate_threshold": network.threshold,
        "threshold": threshold,
        "classifier_size": list(network.classifier_size),
        "segmenter_size": list(network.segmenter_size),
        "closed_logit": CLOSED_LOGIT,
    }
    return ExportPlan(parts, _frame_preprocessing(settings), use, constants)
