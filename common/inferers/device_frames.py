"""Pictures made ready for a network on the device that it runs on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

__all__ = ["DeviceFrames"]


class DeviceFrames:
    """Bring frames to the device as bytes, and resize and normalise them there.

    The numbers are those of a chain of transforms that loads a frame, resizes it bilinearly (``align_corners=False``,
    no anti-aliasing) and normalises its colours; the order is theirs too. A quarter of the bytes cross to the device,
    and on a CPU nothing is converted that the resizing leaves out.

    On CUDA the bytes go through a page-locked buffer and the copy is not waited for; the buffer is filled anew only
    when its last copy is done.

    Args:
        size: height and width to resize to; None leaves frames as they are.
        mean: of red, green and blue, of values in 0..1; it is subtracted.
        std: standard deviation of the same; what is left is divided by it.
        device: where the result is to be.

    Raises:
        ValueError: not two sides, not three numbers of each kind, or a standard deviation that is not positive.
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        device: torch.device | str = "cpu",
    ) -> None:
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"a size is a height and a width, got {size}")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"expected three means and three positive standard deviations, got {mean} and {std}")
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.device = torch.device(device)
        self._mean, self._std = (
            255 * torch.tensor(part, dtype=torch.float32, device=self.device).reshape(3, 1, 1) for part in (mean, std)
        )
        self._buffer: torch.Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """Make a frame ready.

        Args:
            image: uint8 RGB, (H, W, 3).

        Returns:
            float32, (3, H, W) or (3, *size), contiguous, on ``device``; memory of its own.

        Raises:
            ValueError: the picture has another shape or type.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a frame is uint8 (H, W, 3), not {image.dtype} {image.shape}")
        pixels = self._on_device(image).permute(2, 0, 1)
        if self.size is None or self.size == image.shape[:2]:
            frame = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        else:
            # Colours side by side, as they come: the interpolation is faster than on separate planes.
            frame = torch.nn.functional.interpolate(
                pixels.float()[None], self.size, mode="bilinear", align_corners=False
            )[0].contiguous()
        return frame.sub_(self._mean).div_(self._std)

    def _on_device(self, image: np.ndarray) -> torch.Tensor:
        # A copy where PyTorch would warn that it cannot protect what is read-only.
        pixels = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        if self.device.type != "cuda":
            return pixels.to(self.device)
        if self._buffer is None or self._buffer.shape != pixels.shape:
            self._buffer = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=True)
            self._copied = torch.cuda.Event()
        self._copied.synchronize()  # at once where nothing has been copied yet
        self._buffer.copy_(pixels)
        moved = self._buffer.to(self.device, non_blocking=True)
        self._copied.record(torch.cuda.current_stream(self.device))
        return moved
