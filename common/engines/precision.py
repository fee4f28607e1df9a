"""Which arithmetic a network runs in."""

from __future__ import annotations

import torch

from common.errors import InputError

__all__ = ["Precision"]


class Precision:
    """Automatic mixed precision, by one word.

    Args:
        name: ``fp32``; ``bf16``; ``fp16`` (CUDA only); ``auto``: on CUDA bf16 where there is hardware for it (since
            Ampere), else fp16; on a CPU fp32. bf16 halves the time on CPUs with AMX, but there PyTorch 2.13's
            convolutions do not give the same numbers twice, and on very small maps they gave NaN.
        device: where the network runs.

    Attributes:
        name: what was chosen.
        dtype: the type that autocast uses; float32 where it is off.
        scaled: whether gradients need a scaler (fp16 alone).

    Raises:
        InputError: another word, or fp16 on a CPU.
    """

    NAMES = ("auto", "fp32", "bf16", "fp16")

    def __init__(self, name: str = "auto", device: str | torch.device = "cpu") -> None:
        device = torch.device(device)
        if name not in self.NAMES:
            raise InputError(f"--precision {name}", "is not known", f"choose one of {', '.join(self.NAMES)}")
        if name == "fp16" and device.type != "cuda":
            raise InputError("--precision fp16", f"does not run on {device.type}", "choose bf16 or fp32")
        if name == "auto":
            name = self._best(device)
        self.name = name
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
        self.scaled = name == "fp16"

    @staticmethod
    def _best(device: torch.device) -> str:
        if device.type == "cuda":
            return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
        return "fp32"
