"""Two networks as one: is neural tissue in the frame, and where."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from common.networks.feature_fusion import resize

__all__ = ["CLOSED_LOGIT", "STAGES", "TwoStage"]

STAGES = ("classifier", "segmenter")

# Of every pixel of a frame that does not pass: a probability of 2e-9, below any threshold in use. It is finite, so that
# losses and interpolation stay so, and exact in half precision.
CLOSED_LOGIT = -20.0


class TwoStage(nn.Module):
    """A classifier as the gate of a segmenter.

    A frame passes if the classifier gives it a probability of at least ``threshold``; the segmenter is called on the
    frames of a batch that pass, and not at all if there are none. All pixels of the others get ``CLOSED_LOGIT``.

    Each stage sees the frames at its own size, interpolated bilinearly without regard to their aspect ratio, as MONAI's
    ``Resized(mode="bilinear")`` does it in training. The segmenter's logits are interpolated back. A size that fits is
    left as it is.

    In evaluation mode no frame's result depends on the others of its batch. The gate has no gradient: train the stages
    by :meth:`classify` and :meth:`segment`, or each network by itself. :meth:`forward` is :meth:`segment_where` at the
    frames where :meth:`gate` reaches the threshold. Which stages have been trained is kept with the weights (buffer
    ``stages_trained``), so that a gate of random weights is not taken for one.

    Source: Rhee et al., "Comparison of deep learning models for real-time neural tissue segmentation in spinal
    endoscopy", figure 1; the threshold is not in the paper.

    Args:
        classifier: maps frames ``(N, 3, h, w)`` to one logit each, ``(N, 1)``.
        segmenter: maps frames ``(N, 3, h, w)`` to logits ``(N, 1, h, w)``.
        threshold: smallest probability of neural tissue with which a frame passes; with 0 all do.
        classifier_size: height and width of the classifier's input.
        segmenter_size: height and width of the segmenter's input.
        always_segment: call the segmenter on all frames and blot out what does not pass. The result is the same; there
            is no control flow then, which ONNX and ``torch.export`` cannot take.

    Raises:
        ValueError: the threshold is not in [0, 1].

    Shapes:
        input ``(B, 3, H, W)``, output logits ``(B, 1, H, W)`` in the input's dtype; any size.
    """

    def __init__(
        self,
        classifier: nn.Module,
        segmenter: nn.Module,
        threshold: float = 0.5,
        classifier_size: Sequence[int] = (224, 224),
        segmenter_size: Sequence[int] = (256, 256),
        always_segment: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"TwoStage expects a `threshold` in [0, 1], got {threshold}")
        self.classifier = classifier
        self.segmenter = segmenter
        self.threshold = float(threshold)
        self.classifier_size = (int(classifier_size[0]), int(classifier_size[1]))
        self.segmenter_size = (int(segmenter_size[0]), int(segmenter_size[1]))
        self.always_segment = always_segment
        # 1 or 0: no booleans, as federated learning takes differences and means of all that a network holds.
        self.register_buffer("stages_trained", torch.zeros(len(STAGES)))
        # TorchScript sees attributes, but no constants of the module.
        self.closed_logit = CLOSED_LOGIT

    def mark_trained(self, stage: str) -> None:
        """Note that a stage (one of ``STAGES``) has been trained."""
        self.stages_trained[STAGES.index(stage)] = 1

    def untrained(self) -> list[str]:
        """Return the stages that the network needs and that have not been trained; with a threshold of 0, no gate."""
        needed = STAGES if self.threshold > 0 else STAGES[1:]
        return [stage for stage in needed if self.stages_trained[STAGES.index(stage)] < 0.5]

    @torch.jit.export
    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the logits of neural tissue being in sight, ``(B,)``, of frames ``(B, 3, H, W)``.

        Raises:
            ValueError: see :meth:`forward`.
        """
        _check_frames(x)
        logits = self.classifier(_fit(x, self.classifier_size))
        return logits.reshape([x.shape[0]]).to(x.dtype)

    @torch.jit.export
    def gate(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the probabilities of neural tissue being in sight, ``(B,)``, of frames ``(B, 3, H, W)``.

        Raises:
            ValueError: see :meth:`forward`.
        """
        return self.classify(x).sigmoid()

    @torch.jit.export
    def segment(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the mask's logits ``(B, 1, H, W)`` of frames ``(B, 3, H, W)``, whatever the classifier says.

        Raises:
            ValueError: see :meth:`forward`.
        """
        _check_frames(x)
        return _fit(self.segmenter(_fit(x, self.segmenter_size)), (x.shape[2], x.shape[3])).to(x.dtype)

    @torch.jit.export
    def segment_where(self, x: torch.Tensor, passes: torch.Tensor) -> torch.Tensor:
        """Compute the mask's logits of the frames that pass; the segmenter is not called where there are none.

        Args:
            x: frames ``(B, 3, H, W)``.
            passes: boolean ``(B,)``.

        Returns:
            Logits ``(B, 1, H, W)``, ``CLOSED_LOGIT`` on frames that do not pass.

        Raises:
            ValueError: ``passes`` is no boolean for each frame; see also :meth:`forward`.
        """
        _check_frames(x)
        if passes.dim() != 1 or passes.shape[0] != x.shape[0] or passes.dtype != torch.bool:
            raise ValueError(
                f"TwoStage expects a boolean for each of {x.shape[0]} frames, "
                f"got shape {list(passes.shape)} and {passes.dtype}"
            )
        if self.always_segment:
            return self.segment(x).masked_fill(~passes[:, None, None, None], self.closed_logit)
        logits = x.new_full([x.shape[0], 1, x.shape[2], x.shape[3]], self.closed_logit)
        chosen = passes.nonzero().squeeze(1)
        if len(chosen) == 0:
            return logits
        return logits.index_copy(0, chosen, self.segment(x.index_select(0, chosen)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment the frames that pass.

        Args:
            x: frames ``(B, 3, H, W)``, floating point, intensities as both networks take them ([0, 1] for those here).

        Returns:
            Logits ``(B, 1, H, W)``, ``CLOSED_LOGIT`` on frames that do not pass; the sigmoid makes them probabilities.

        Raises:
            ValueError: the input has another rank or number of channels, or holds integers.
        """
        return self.segment_where(x, self.gate(x) >= self.threshold)


def _check_frames(x: torch.Tensor) -> None:
    if x.dim() != 4 or x.shape[1] != 3 or not x.is_floating_point():
        raise ValueError(
            "TwoStage expects frames of shape (batch, 3, H, W) in floating point, "
            f"got shape {list(x.shape)} and {x.dtype}"
        )


def _fit(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    height, width = size
    return x if x.shape[2] == height and x.shape[3] == width else resize(x, height, width)
