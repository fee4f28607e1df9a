"""The classifiers and segmenters of single frames that the BESS paper compares, with its own figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from common.networks import FrameClassifier, SegFormer, UNetFamily

__all__ = ["CLASSIFIERS", "MODELS", "SEGMENTERS", "FrameModel"]


@dataclass(frozen=True)
class FrameModel:
    """A row of table 5.

    Source of the figures: Rhee et al., "Comparison of deep learning models for real-time neural tissue segmentation in
    spinal endoscopy", table 5; the times were taken on an RTX 4090.

    Attributes:
        title: what it is called.
        make: builds the network with new weights.
        kind: ``classifier``, ``unet`` or ``segformer``.
        size: height and width of its input.
        counted_size: those at which the paper's operations come out.
        million: the paper's parameters.
        gflops: the paper's operations, 1e9.
        milliseconds: the paper's time per frame.
    """

    title: str
    make: Callable[..., nn.Module]
    kind: str
    size: tuple[int, int]
    counted_size: tuple[int, int]
    million: float
    gflops: float
    milliseconds: float

    @property
    def elementwise(self) -> bool:
        """Whether the paper's operations contain biases and ReLUs."""
        return self.kind == "unet"

    def build(self, features: Sequence[int] | None = None, countable: bool = False) -> nn.Module:
        """Build the network.

        Args:
            features: widths of a U-Net in the place of the paper's.
            countable: compute attention by products of matrices, which can be counted.

        Raises:
            ImportError: a SegFormer without the package transformers.
        """
        if self.kind == "unet":
            return self.make(features=features)
        if self.kind == "segformer":
            return self.make(attention="eager" if countable else None)
        return self.make()


def _classifier(title: str, name: str, *figures: float) -> FrameModel:
    return FrameModel(title, partial(FrameClassifier, name), "classifier", (224, 224), (224, 224), *figures)


def _unet(title: str, name: str, *figures: float) -> FrameModel:
    return FrameModel(title, partial(UNetFamily, name), "unet", (256, 256), (256, 256), *figures)


def _segformer(title: str, name: str, *figures: float) -> FrameModel:
    return FrameModel(title, partial(SegFormer, name), "segformer", (512, 512), (224, 224), *figures)


CLASSIFIERS = {
    "resnet18": _classifier("ResNet-18", "resnet18", 11.2, 3.6, 1.2),
    "resnet34": _classifier("ResNet-34", "resnet34", 21.3, 7.3, 1.6),
    "mobilenetv3": _classifier("MobileNetV3-Large", "mobilenetv3", 4.2, 0.4, 2.1),
}
SEGMENTERS = {
    "unet": _unet("U-Net", "unet", 3.3, 46.6, 27),
    "resunet": _unet("ResU-Net", "resunet", 3.7, 50.7, 35),
    "r2unet": _unet("R2U-Net", "r2unet", 6.4, 59.1, 43),
    "aunet": _unet("AU-Net", "aunet", 2.0, 22.5, 25),
    "aresunet": _unet("AResU-Net", "aresunet", 2.5, 28.1, 33),
    "ar2unet": _unet("AR2U-Net", "ar2unet", 2.7, 45.7, 41),
    "segformer_b0": _segformer("SegFormer-B0", "b0", 3.7, 2.7, 14),
    "segformer_b1": _segformer("SegFormer-B1", "b1", 13.7, 5.2, 15),
}
MODELS = CLASSIFIERS | SEGMENTERS
