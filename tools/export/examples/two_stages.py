"""Run BESS' exported stages, the second where the first lets it: ``two_stages.py EXPORT_DIR FRAMES.npy LOGITS.npy``.

Needs numpy and onnxruntime only. FRAMES.npy: float32 (N, 3, H, W), preprocessed as export.json says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def open_part(folder: Path, name: str) -> onnxruntime.InferenceSession:
    """Open the ONNX file of a part that export.json describes."""
    description = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    part = next(part for part in description["parts"] if part["name"] == name)
    file = next(file["file"] for file in part["files"] if file["format"] == "onnx")
    return onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])


class TwoStages:
    """Says whether there is anything in a frame, and where.

    Args:
        folder: with the exported files and export.json.
    """

    def __init__(self, folder: Path) -> None:
        self.classifier, self.segmenter = (open_part(folder, name) for name in ("classifier", "segmenter"))
        constants = json.loads((folder / "export.json").read_text(encoding="utf-8"))["constants"]
        self.gate_threshold, self.closed_logit = constants["gate_threshold"], constants["closed_logit"]

    def segment(self, frame: np.ndarray) -> tuple[float, np.ndarray]:
        """Map a frame (3, H, W) to the probability that something is there, and to the mask's logits (H, W)."""
        (logits,) = self.classifier.run(None, {"frames": frame[None]})
        probability = float(1 / (1 + np.exp(-logits[0])))
        if probability < self.gate_threshold:
            return probability, np.full(frame.shape[1:], self.closed_logit, np.float32)
        (logits,) = self.segmenter.run(None, {"frames": frame[None]})
        return probability, logits[0, 0]


def main(folder: str, frames: str, output: str) -> None:
    """Segment the frames of a file, and print what the gate says of each."""
    stages, masks = TwoStages(Path(folder)), []
    for frame in np.load(frames):
        probability, logits = stages.segment(frame)
        print(f"{probability:.6f}")
        masks.append(logits)
    np.save(output, np.stack(masks))


if __name__ == "__main__":
    main(*sys.argv[1:])
