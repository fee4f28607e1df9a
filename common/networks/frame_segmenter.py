"""The eight segmentation networks of the second stage by one name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from common.networks.segformer import SegFormer
from common.networks.unet_family import UNetFamily

__all__ = ["make_frame_segmenter"]

_SEGFORMERS = ("segformer_b0", "segformer_b1")


def make_frame_segmenter(
    name: str = "unet", profile: str = "table5", features: Sequence[int] | None = None, dropout: float = 0.0
) -> nn.Module:
    """Make one of the networks that say where neural tissue is.

    Source: Rhee et al., "Comparison of deep learning models for real-time neural tissue segmentation in spinal
    endoscopy", table 5.

    Args:
        name: one of :class:`common.networks.UNetFamily`'s six, or ``segformer_b0``, ``segformer_b1``.
        profile: see :class:`common.networks.UNetFamily`; of no effect on the SegFormers, as all that follows.
        features: widths of the U-Nets' levels; None for the paper's.
        dropout: in the U-Nets' training.

    Raises:
        ValueError: there is no such network.
        ImportError: a SegFormer is asked for and the package transformers is missing.
    """
    if name in _SEGFORMERS:
        return SegFormer(name.removeprefix("segformer_"))
    return UNetFamily(name, profile, features=None if features is None else list(features), dropout=float(dropout))
