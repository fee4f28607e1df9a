"""Evaluations of a two-stage pipeline on small frames, written to folders as an evaluator would make them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from common.data.frames import LabelledFrame
from common.handlers.frame_report import FrameReport

SIZE = (20, 30)
# Frames of a data set, of which those in EVALUATED are evaluated: by patient, whether positive.
PATIENTS = "aabbccddee"
PRESENT = (1, 1, 0, 1, 0, 1, 0, 0, 1, 1)
EVALUATED = (8, 1, 2, 3, 4, 5, 6)  # not in order


@cache
def reference(number: int) -> np.ndarray:
    """What is drawn on a frame, (H, W) booleans."""
    mask = np.zeros(SIZE, bool)
    if PRESENT[number]:
        mask[4 : 10 + number % 3, 5 : 14 + number] = True
    return mask


def stages(model: int, number: int) -> tuple[float, np.ndarray]:
    """What the two stages of a model say of a frame: p_present, and probabilities (H, W)."""
    rng = np.random.default_rng([model, number])
    p_present = float(np.float32(1 / (1 + np.exp(-rng.normal(1.2 * PRESENT[number] - 0.6)))))
    # Model 3 is sure that there is nothing; the others mark something else, too.
    logits = rng.normal(-2.5, 1, SIZE) + 4 * np.roll(reference(number), int(rng.integers(-3, 4)), 1)
    return p_present, (1 / (1 + np.exp(-logits + 8 * (model == 3)))).astype(np.float32)


def write_frames(folder: Path) -> list[LabelledFrame]:
    """Write the data set's pictures and masks."""
    frames = []
    for number, patient in enumerate(PATIENTS):
        name = f"{patient}/{number}"
        image, mask = (folder / "data" / kind / f"{name}.png" for kind in ("images", "masks"))
        for path, values in (
            (image, np.full((*SIZE, 3), 20 * number, np.uint8)),
            (mask, reference(number) * np.uint8(255)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
        drawn = str(mask) if PRESENT[number] else None
        frames.append(LabelledFrame(name, str(image), drawn, bool(PRESENT[number]), patient))
    return frames


def report(folder: Path, frames: Sequence[LabelledFrame], output: str = "one", **kwargs: Any) -> FrameReport:
    """Make a report that writes to ``folder / output``; the bundle lies in ``folder / "bundle"``."""
    bundle = folder / "bundle"
    return FrameReport(folder / output, frames, bundle, bundle / "model.pt", {"fold": 3}, **({"samples": 50} | kwargs))


def run(handler: FrameReport, model: int = 1, numbers: Sequence[int] = EVALUATED, batch_size: int = 2) -> None:
    """Evaluate as MONAI's evaluator does: the handlers see decollated batches and outputs."""

    def step(engine: Engine, batch: Sequence[int]) -> list[dict[str, Any]]:
        said = [stages(model, number) for number in batch]
        engine.state.batch = [{"number": number, "present": torch.tensor([float(PRESENT[number])])} for number in batch]
        return [
            {
                "prob": MetaTensor(torch.from_numpy(probabilities)[None]),
                "p_present": p_present if number % 2 else torch.tensor(p_present),  # a plain number once decollated
                "label": torch.from_numpy(reference(number)[None]).float(),
            }
            for number, (p_present, probabilities) in zip(batch, said, strict=True)
        ]

    engine = Engine(step)
    handler.attach(engine)
    engine.run([numbers[at : at + batch_size] for at in range(0, len(numbers), batch_size)])
