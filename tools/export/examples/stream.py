"""Run FUnet's exported parts on a stream, frame by frame: ``stream.py EXPORT_DIR FRAMES.npy PROBABILITIES.npy``.

Needs numpy and onnxruntime only. FRAMES.npy: float32 (N, 3, H, W), preprocessed as export.json says.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from pathlib import Path

import numpy as np
import onnxruntime


def open_part(folder: Path, name: str) -> onnxruntime.InferenceSession:
    """Open the ONNX file of a part that export.json describes."""
    description = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    part = next(part for part in description["parts"] if part["name"] == name)
    file = next(file["file"] for file in part["files"] if file["format"] == "onnx")
    return onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])


class Stream:
    """Segments each frame of a running video.

    Args:
        folder: with the exported files and export.json.
    """

    def __init__(self, folder: Path) -> None:
        self.encoder, self.decoder = (open_part(folder, name) for name in ("frame_encoder", "frame_decoder"))
        frames = json.loads((folder / "export.json").read_text(encoding="utf-8"))["constants"]["frames"]
        # The state: what the last T frames have left, oldest first.
        self.memories: deque[np.ndarray] = deque(maxlen=frames)

    def reset(self) -> None:
        """Forget all frames; to be called at a cut."""
        self.memories.clear()

    def push(self, frame: np.ndarray) -> np.ndarray:
        """Map the next frame (3, H, W) to the probabilities of the foreground (H, W)."""
        memory, current = self.encoder.run(None, {"frames": frame[None]})
        # The first frame stands for those before it.
        self.memories.extend([memory] * (1 if self.memories else self.memories.maxlen))
        memories = np.stack(list(self.memories), axis=1)
        (logits,) = self.decoder.run(None, {"memories": memories, "current": current})
        return 1 / (1 + np.exp(-logits[0, 0]))


def main(folder: str, frames: str, output: str) -> None:
    """Segment the frames of a file in their order."""
    stream = Stream(Path(folder))
    np.save(output, np.stack([stream.push(frame) for frame in np.load(frames)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
