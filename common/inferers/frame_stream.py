"""Segmentation of a running video, frame by frame."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch

__all__ = ["FrameStream", "StreamableNetwork"]


class StreamableNetwork(Protocol):
    """What a network over clips offers so that a stream computes each frame only once.

    ``encode_frame`` maps frames ``(N, C, H, W)`` to two maps ``(N, ...)``: the memory, which later frames need too, and
    the current, which only the frame's own output needs. ``decode`` maps the memories ``(B, T, ...)`` of ``frames``
    frames, oldest first, and the currents ``(B, S, ...)`` of the last S of them to their logits ``(B, S, K, H, W)``;
    without ``frame_weights`` it leaves out what couples frames.
    """

    frames: int

    def encode_frame(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what concerns frames one by one."""

    def decode(
        self, memories: torch.Tensor, currents: torch.Tensor, height: int, width: int, frame_weights: bool = True
    ) -> torch.Tensor:
        """Compute the logits of the last frames of clips."""


class FrameStream:
    """Segments each frame of a running video as the last one of the clip that ends there.

    A frame is encoded once, and its memory kept for the ``T - 1`` frames that follow, so a frame costs about a T-th of
    a clip. The result is that of the whole clip of the last T frames for its last frame; no later frame is waited for.
    Before there are T frames, the first one stands for those that are missing. Call :meth:`reset` where frames do not
    follow each other: at a cut, a jump, a gap in the time stamps.

    Networks that know nothing of other frames work too: each frame is then segmented on its own.

    Source: FUnet paper, https://arxiv.org/abs/2307.10955, for the clips; the stream is ours.

    Args:
        network: a :class:`StreamableNetwork`, in plain PyTorch or TorchScript, or any network that maps
            ``(1, C, H, W)`` to ``(1, K, H, W)``, or to a list of these of which the last counts. It is moved to
            ``device`` and put into evaluation mode.
        device: where to compute.
        use_ifa: ``False`` leaves out what couples frames. For FUnet, whose frame weights change no mask at 0.5 (but
            with ``ifa_target="feature"``), this gives the same masks a little faster, with other probabilities; PNSNet
            loses its attention.
        dtype: the type of autocast; float32 switches it off.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        device: torch.device | str = "cpu",
        use_ifa: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).eval()
        self.use_ifa = use_ifa
        self.dtype = dtype
        # By attribute, which TorchScript modules have as well.
        self._streamable = all(hasattr(network, name) for name in ("frames", "encode_frame", "decode"))
        self._memories: deque[torch.Tensor] = deque(maxlen=network.frames if self._streamable else 0)
        self._frame_shape: torch.Size | None = None

    def reset(self) -> None:
        """Forget all frames: the next one is the first."""
        self._memories.clear()
        self._frame_shape = None

    @torch.no_grad()
    def push(self, frame: torch.Tensor, logits: bool = False) -> torch.Tensor:
        """Segment the next frame.

        Args:
            frame: ``(C, H, W)``, preprocessed as in training, of the same shape as those before.
            logits: return these in the place of probabilities, to be resized before the sigmoid.

        Returns:
            Probabilities or logits ``(K, H, W)`` in float32, on ``device``.

        Raises:
            ValueError: the frame has another rank, or another shape than those before it.
        """
        if frame.dim() != 3:
            raise ValueError(f"a stream takes frames of shape (channels, H, W), got shape {list(frame.shape)}")
        if self._frame_shape is not None and frame.shape != self._frame_shape:
            raise ValueError(
                f"a stream's frames have one shape, got {list(frame.shape)} after {list(self._frame_shape)}; "
                "call reset() where another video starts"
            )
        x = frame.unsqueeze(0).to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            output = self._remember_and_decode(x) if self._streamable else self._segment(x)
        self._frame_shape = frame.shape
        output = output.squeeze(0).float()
        return output if logits else output.sigmoid()

    def _segment(self, x: torch.Tensor) -> torch.Tensor:
        output = self.network(x)
        return output if isinstance(output, torch.Tensor) else output[-1]

    def _remember_and_decode(self, x: torch.Tensor) -> torch.Tensor:
        memory, current = self.network.encode_frame(x)
        self._memories.extend([memory] * (1 if self._memories else self.network.frames))
        # Chronological: the networks tell the frames apart by their place.
        memories = torch.stack(list(self._memories), dim=1)
        return self.network.decode(memories, current.unsqueeze(1), x.shape[2], x.shape[3], self.use_ifa).squeeze(1)
