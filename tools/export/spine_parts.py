"""The parts of networks that see volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from common.networks import SAFNet, SSHSNet
from tools.export.part import Axis, ExportPlan, Part, Port, integers, normal
from tools.export.patch_stage import PatchStage, WholeWindow, WindowStage

__all__ = ["hybrid_plan", "volume_plan"]

_BATCH = Axis("batch")
_LOGITS = "logits of the classes; softmax over axis 1 makes them probabilities"
_VALUES = "The label of a voxel is the channel with the largest probability; the values that are written: 'channels'."
_STRIDE = 16


def volume_plan(network: SAFNet, settings: Mapping[str, Any]) -> ExportPlan:
    """Return a network that takes whole volumes, as one part.

    Args:
        network: in evaluation mode.
        settings: ``spatial_size`` and ``crop_fraction``.
    """
    depth, height, width = settings["spatial_size"]
    shape = (Axis.around("slices", depth), Axis.around("height", height, _STRIDE), Axis.around("width", width, _STRIDE))
    part = Part(
        "network",
        "Segments whole volumes.",
        network,
        (Port("image", (_BATCH, network.in_channels, *shape), "normalized; to the patient's right, feet and back"),),
        (Port("logits", (_BATCH, network.out_channels, *shape), _LOGITS),),
        network,
    )
    preprocessing = (
        "A scan with its voxel-to-world matrix.",
        f"Keep the central {settings['crop_fraction']:g} of the front-to-back extent.",
        "Subtract the mean of what is left, divide by its standard deviation.",
        f"Resample to {depth} x {height} x {width} voxels whose axes run to the patient's right, feet and back, in "
        "whichever order and sense they are stored (common.transforms.FitToGridd).",
        "Float32. Other sizes run, but the weights were trained at this one.",
    )
    use = ("One call a scan; nothing to carry.", _VALUES, "Bring the probabilities back to the scan's grid first.")
    return ExportPlan((part,), preprocessing, use, {"spatial_size": [depth, height, width]})


def _probabilities(shape: Any, generator: torch.Generator) -> torch.Tensor:
    return normal(shape, generator).softmax(dim=1)


def hybrid_plan(network: SSHSNet, settings: Mapping[str, Any]) -> ExportPlan:
    """Return the two stages, for windows and the patches in them, and both as one.

    Args:
        network: in evaluation mode.
        settings: ``spacing`` and the inferer's ``window_size``, ``window_strides``, ``patch_size``,
            ``patch_strides``.
    """
    height, width, _ = settings["window_size"]
    patch = h, w, d = tuple(settings["patch_size"])
    classes, channels = network.stage2.num_classes, network.stage2.map_channels
    slices, patches = Axis("slices", (3, 2)), Axis("patches")
    context_slices = Axis("context_slices", (d + 1, d + 2))
    intensities = "normalized intensities; front to back, head to foot, slices"
    said, seen = "stage 1's probabilities of the classes", "stage 1's feature maps"

    def segment(
        some: torch.Tensor, probabilities: torch.Tensor, maps: torch.Tensor, starts: torch.Tensor
    ) -> torch.Tensor:
        logits = []
        for one, (x, y, z) in zip(some.split(1), starts.tolist(), strict=True):
            context = (probabilities[..., z : z + d], maps[..., z : z + d])
            logits.append(network.segment(one, context, torch.tensor([[x, x + h, y, y + w]], device=some.device)))
        return torch.cat(logits)

    parts = (
        Part(
            "context",
            "Stage 1 on the slices of a window, all at once; each is seen with its two neighbours.",
            WindowStage(network),
            (
                Port("window", (_BATCH, 1, height, width, slices), intensities),
                Port("before", (_BATCH, 1, height, width, 1), "the slice before; at the volume's end the first itself"),
                Port("after", (_BATCH, 1, height, width, 1), "the slice after; at the volume's end the last itself"),
            ),
            (
                Port("probabilities", (_BATCH, classes, height // 2, width // 2, slices), said),
                Port("maps", (_BATCH, channels, height // 8, width // 8, slices), seen),
            ),
            lambda window, before, after: network.context(window, before, after, False),
        ),
        Part(
            "segment",
            "Stage 2 on patches of one window; it cuts what it needs out of the window's context itself.",
            PatchStage(network, patch),
            (
                Port("patches", (patches, 1, *patch), intensities),
                Port("probabilities", (1, classes, height // 2, width // 2, context_slices), said, _probabilities),
                Port("maps", (1, channels, height // 8, width // 8, context_slices), seen),
                Port(
                    "starts", (patches, 3), "first row, column and slice of each patch within the window",
                    integers(height - h + 1, width - w + 1, 2),
                ),
            ),
            (Port("logits", (patches, classes, *patch), _LOGITS),),
            segment,
        ),
        Part(
            "network",
            "Both stages on windows that are their own patch, of a patch's size: for tools that know one input only. "
            "The results of the paper come of windows and patches.",
            WholeWindow(network),
            (Port("image", (_BATCH, 1, *patch), intensities),),
            (Port("logits", (_BATCH, classes, *patch), _LOGITS),),
            network,
            network,
        ),
    )  # fmt: skip
    preprocessing = (
        "A scan with its voxel-to-world matrix.",
        "Resample to axes front to back, head to foot and sagittal slices, with a spacing of "
        f"{list(settings['spacing'])} mm, linearly (common.transforms.ResampleSagittald).",
        "Cut away what is 0 all around (common.transforms.CropToSignald).",
        "Of the voxels that are not 0: clip to percentiles, subtract the mean, divide by the standard deviation; 0 "
        "stays 0 (common.transforms.NormalizeSignald).",
    )
    constants = {
        name: list(settings[name]) for name in ("window_size", "window_strides", "patch_size", "patch_strides")
    }
    use = (
        "State to carry: the sums of the probabilities of all patches, and how many there were, for each voxel of the "
        "volume; and the context of the window that is being gone through.",
        "Pad the volume to a window: with 0 in the plane, with copies of the outermost slices, both sides alike.",
        "For each place of a window in the plane (window_strides, the last moved back to the border): run context on "
        "all slices of the volume there (or on some at a time, with their neighbours as before and after).",
        "For each first slice (window_strides) and each place of a patch in the window (patch_strides): run segment; "
        "starts count from the context's first row, column and slice. Add softmax(logits) to the sums.",
        "The probabilities are the sums divided by the counts; crop the padding away.",
        _VALUES,
    )
    return ExportPlan(parts, preprocessing, use, constants)
