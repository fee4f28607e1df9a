"""What networks that segment the frames of a clip have in common."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ClipNetwork"]


class ClipNetwork(nn.Module):
    """A network over clips in two steps, so that a stream computes each frame only once.

    Sub-classes write :meth:`encode_frame`, for everything that concerns one frame, and :meth:`decode`, for everything
    that couples frames; :meth:`forward` is made of these two. A stream keeps the memories of the last ``frames``
    frames and calls both for each new one (:class:`common.inferers.FrameStream`).

    Args:
        name: the network's name, for messages.
        frames: length T of the clips.
        min_size: smallest height and width of a frame, in pixels.
    """

    def __init__(self, name: str, frames: int, min_size: int) -> None:
        super().__init__()
        if frames < 1:
            raise ValueError(f"{name} expects clips of at least one frame, got `frames` {frames}")
        self.name = name
        self.frames = frames
        self.min_size = min_size

    def encode_frame(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what concerns frames one by one.

        Args:
            x: frames ``(N, 3, H, W)``.

        Returns:
            Two maps ``(N, ...)``: the memory, which later frames need too, and the current, which only the frame's own
            output needs.

        Raises:
            ValueError: the input has another rank or number of channels, or is too small.
        """
        raise NotImplementedError

    def decode(
        self, memories: torch.Tensor, currents: torch.Tensor, height: int, width: int, frame_weights: bool = True
    ) -> torch.Tensor:
        """Compute the logits of the last S frames of clips.

        Args:
            memories: memories of T frames ``(B, T, ...)``, oldest first.
            currents: currents of the last S of these frames ``(B, S, ...)``.
            height: height H of the output.
            width: width W of the output.
            frame_weights: see :meth:`forward`.

        Returns:
            Logits ``(B, S, 1, H, W)``.
        """
        raise NotImplementedError

    def forward(self, x: torch.Tensor, frame_weights: bool = True) -> torch.Tensor:
        """Segment clips.

        A batch of frames ``(B, 3, H, W)`` stands for clips of T times the same frame; the result is that of a clip's
        last frame. Each frame is encoded once. In training mode too that is what the whole clip would give, since
        repeating all entries of a batch changes neither its mean nor its variance; but for dropout, and for batch
        normalization of what frame weights have multiplied (FUnet's ``ifa_target="feature"``).

        Args:
            x: clips ``(B, T, 3, H, W)``, oldest frame first, or frames ``(B, 3, H, W)``; normalized per channel.
            frame_weights: ``False`` leaves out all that couples frames, for pre-training on single images: any T will
                do then, and the rank makes no difference.

        Returns:
            Logits ``(B, T, 1, H, W)`` or ``(B, 1, H, W)``; the sigmoid makes them probabilities.

        Raises:
            ValueError: the input has another rank, number of channels or frames, is too small, or is a single frame in
                training mode where batch normalization cannot do with one.
        """
        if x.dim() != 4 and x.dim() != 5:
            raise ValueError(
                f"{self.name} expects clips of shape (batch, frames, 3, H, W) or frames of shape (batch, 3, H, W), "
                f"got shape {list(x.shape)}"
            )
        height, width = x.shape[-2], x.shape[-1]
        if x.dim() == 4:
            memory, current = self.encode_frame(x)
            memories = memory.unsqueeze(1).expand([-1, self.frames, -1, -1, -1])
            return self.decode(memories, current.unsqueeze(1), height, width, frame_weights).squeeze(1)
        clips = [x.shape[0], x.shape[1]]
        memory, current = self.encode_frame(x.flatten(0, 1))
        return self.decode(memory.unflatten(0, clips), current.unflatten(0, clips), height, width, frame_weights)

    def _check_frames(self, x: torch.Tensor) -> None:
        if x.dim() != 4 or x.shape[1] != 3 or min(x.shape[2], x.shape[3]) < self.min_size:
            raise ValueError(
                f"{self.name} expects frames with 3 channels and at least {self.min_size} x {self.min_size} pixels, "
                f"got shape {list(x.shape)}"
            )
