from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from common.data.frames import LabelledFrame
from common.errors import InputError
from common.handlers import PresenceReport
from common.handlers.frame_overlays import overlays_in
from common.visualize.outline import OUTLINE_COLOR
from tests.common.handlers.frame_runs import PRESENT, stages, write_frames
from tests.common.handlers.video_runs import write_bundle


@pytest.fixture
def frames(tmp_path) -> list[LabelledFrame]:
    write_bundle(tmp_path / "bundle")
    return write_frames(tmp_path)


def evaluate(folder: Path, frames: Sequence[LabelledFrame], **kwargs: Any) -> Path:
    """Evaluate all frames with stage 1 of model 1; return the output folder."""

    def step(engine: Engine, batch: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        engine.state.batch = [{"number": number} for number in batch]
        return [
            {"prob": torch.tensor([stages(1, number)[0]]), "label": torch.tensor([float(PRESENT[number])])}
            for number in batch
        ]

    bundle = folder / "bundle"
    engine = Engine(step)
    PresenceReport(folder / "out", frames, bundle, bundle / "model.pt", {"fold": 3}, **kwargs).attach(engine)
    engine.run([[number] for number in range(len(frames))])
    return folder / "out"


def test_table_and_summary(tmp_path, frames):
    folder = evaluate(tmp_path, frames, threshold=0.4)
    with open(folder / "frames.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["present"]) for row in rows] == [
        (frame.id, str(present)) for frame, present in zip(frames, PRESENT, strict=True)
    ]
    assert [float(row["p_present"]) for row in rows] == pytest.approx([stages(1, at)[0] for at in range(10)], abs=1e-6)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["frames"], summary["positives"], summary["patients"], summary["threshold"]) == (10, 6, 5, 0.4)
    said = [int(stages(1, at)[0] >= 0.4) for at in range(10)]
    assert summary["scores"]["accuracy"]["value"] == pytest.approx(np.mean(np.array(said) == PRESENT))
    assert summary["provenance"]["settings"] == {"fold": 3} and overlays_in(folder) == {}


def test_overlays_of_the_frames_that_stand_for_all(tmp_path, frames):
    """Nine of ten: the surest right and the surest wrong are there; what is drawn is outlined."""
    found = overlays_in(evaluate(tmp_path, frames, overlays=True))
    off = {frame.id: abs(PRESENT[at] - stages(1, at)[0]) for at, frame in enumerate(frames)}
    order = sorted(off, key=off.__getitem__)
    assert len(found) == 9 and found.keys() < off.keys() and {order[0], order[4], order[-1]} <= found.keys()
    for at, frame in enumerate(frames):
        if frame.id in found:
            with Image.open(found[frame.id]) as image:
                near = np.abs(np.asarray(image).astype(int) - OUTLINE_COLOR).max(axis=-1) < 40
            assert near.any() == bool(PRESENT[at])
    evaluate(tmp_path, frames)
    assert overlays_in(tmp_path / "out") == {}


def test_ids_that_lead_out_of_the_folder(tmp_path, frames):
    frames[3] = replace(frames[3], id="../outside")
    with pytest.raises(InputError, match=r"frame id '\.\./outside': cannot be a file's name; mend the datalist"):
        evaluate(tmp_path, frames, overlays=True)
    evaluate(tmp_path, frames)
