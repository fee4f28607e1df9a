from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from common.data.video import VideoSequence
from common.handlers import VideoReport, frame_overlays
from common.handlers.frame_overlays import overlays_in
from common.handlers.video_report import _frame_name
from common.metrics import SCORES, SequenceCurves, VideoSegmentationMetric
from tests.common.data.video.dataset_files import write_picture
from tests.common.handlers.video_runs import (
    GRID,
    evaluator,
    labelled_clips,
    mask_of,
    probabilities_of,
    scene,
    write_bundle,
)  # fmt: skip

LENGTHS = {"one": 8, "two": 5, "short": 2, "still": 1}
CLIPS = {name: scene(12)[-length:] for name, length in LENGTHS.items()}
MASKS = {name: [np.roll(mask_of(picture), 2, axis=0) for picture in pictures] for name, pictures in CLIPS.items()}

FILES = {"frames": CLIPS, "masks": MASKS}


def report(folder: Path, earlier: bool = True, **kwargs) -> tuple[list[dict[str, str]], dict]:
    """Evaluate and return the table and the summary."""
    bundle = write_bundle(folder / "bundle")
    sequences = [
        VideoSequence(
            name, folder, *([str(folder / kind / name / f"{at}.png") for at in range(length)] for kind in FILES),
            f"subject {name}",
        )
        for name, length in LENGTHS.items()
    ]  # fmt: skip
    handler = VideoReport(folder / "out", sequences, bundle, bundle / "model.pt", {"fold": 3}, **kwargs)
    clips = labelled_clips([(CLIPS[name], MASKS[name]) for name in LENGTHS], 3)
    for clip in clips:  # what does not count may be anything
        clip["image"] = [
            image if keep else np.full_like(image, 255) for image, keep in zip(clip["image"], clip["keep"], strict=True)
        ]
    longer = labelled_clips([(CLIPS[name] + scene(4), MASKS[name] + [MASKS["one"][0]] * 4) for name in LENGTHS], 3)
    for data in [longer, clips][not earlier :]:  # the second run begins anew
        evaluator(data, [handler]).run()
    with open(folder / "out" / "sequences.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return rows, json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))


def scores_of(*names: str, drop_ends: bool = True) -> dict[str, float]:
    metric = VideoSegmentationMetric(drop_ends=drop_ends)
    for number, name in enumerate(names):
        metric(
            [torch.cat([probabilities_of(picture) for picture in CLIPS[name]])],
            [torch.from_numpy(np.stack(MASKS[name]))[:, None] / 255],
            sequence=[number],
            frames=[range(LENGTHS[name])],
        )
    return dict(metric.scores().overall)


def change(masks: list[np.ndarray]) -> float:
    """The mean of 1 - IoU of consecutive masks."""
    changes = []
    for before, after in pairwise(masks):
        either = (before | after).sum()
        changes.append(1 - (before & after).sum() / either if either else 0)
    return float(np.mean(changes))


def flicker_of(name: str) -> tuple[float, float]:
    """Flicker of what is predicted and of what is drawn, on the network's grid."""
    predicted = [probabilities_of(picture)[0, 0].numpy() >= 0.5 for picture in CLIPS[name]]
    drawn = [F.interpolate(torch.from_numpy(mask)[None, None].float(), GRID)[0, 0].numpy() > 0 for mask in MASKS[name]]
    return change(predicted), change(drawn)


def test_the_table(tmp_path):
    rows, _ = report(tmp_path)
    assert [(row["sequence"], row["subject"]) for row in rows] == [(name, f"subject {name}") for name in LENGTHS]
    assert [(row["frames"], row["scored_frames"]) for row in rows] == [("8", "6"), ("5", "3"), ("2", "0"), ("1", "0")]
    for row in rows[:2]:
        for name, value in scores_of(row["sequence"]).items():
            assert float(row[name]) == pytest.approx(value, abs=1e-4)
    for row in rows[:3]:
        found = (float(row["flicker"]), float(row["reference_flicker"]))
        assert found == pytest.approx(flicker_of(row["sequence"]), abs=1e-4)
    assert float(rows[0]["flicker"]) > 0.1


def test_sequences_that_are_too_short(tmp_path):
    rows, summary = report(tmp_path)
    assert all(row[name] == "" for row in rows[2:] for name in SCORES)
    assert rows[3]["flicker"] == rows[3]["reference_flicker"] == ""  # of a single frame
    assert summary["sequences_too_short"] == ["short", "still"]


def test_the_summary(tmp_path):
    _, summary = report(tmp_path)
    scored = ("one", "two")
    for name, value in scores_of(*scored).items():
        assert summary[name] == pytest.approx(value, abs=1e-5)
    wanted = np.mean([flicker_of(name) for name in scored], axis=0)
    assert (summary["flicker"], summary["reference_flicker"]) == pytest.approx(tuple(wanted), abs=1e-5)
    assert (summary["sequences"], summary["frames"]) == (2, 9)
    for name in scored:
        assert summary["by_sequence"][name] == pytest.approx(scores_of(name), abs=1e-5)
    source = summary["provenance"]
    assert (source["bundle"], source["version"], source["settings"]) == ("some_net", "1.2.3", {"fold": 3})
    assert len(source["weights"]["sha256"]) == 64 and source["libraries"]["torch"] == torch.__version__


def test_with_the_ends(tmp_path):
    rows, summary = report(tmp_path, drop_ends=False)
    assert [row["scored_frames"] for row in rows] == ["8", "5", "2", "1"]
    assert summary["sequences_too_short"] == [] and summary["frames"] == 16
    for row in rows:
        for name, value in scores_of(row["sequence"], drop_ends=False).items():
            assert (row[name] == "") == np.isnan(value)
            assert np.isnan(value) or float(row[name]) == pytest.approx(value, abs=1e-4)


@pytest.mark.parametrize("drop_ends", [True, False])
def test_the_curves(tmp_path, drop_ends):
    """Those of the sequences that were scored; the set's maximum is that of their mean."""
    _, summary = report(tmp_path, drop_ends=drop_ends)
    found = SequenceCurves.load(tmp_path / "out" / "curves.npz")
    assert found.ids == [name for name in LENGTHS if not (drop_ends and name in ("short", "still"))]
    assert found.subjects == [f"subject {name}" for name in found.ids]
    for name, scores in zip(found.ids, found.scores(), strict=True):
        assert scores == pytest.approx(scores_of(name, drop_ends=drop_ends), nan_ok=True)
    for name, curve in (("maxDice", "Dice"), ("maxIoU", "IoU"), ("maxSpe", "specificity")):
        assert found.curve(curve).mean(axis=0).max() == pytest.approx(summary[name])


@pytest.fixture
def data_set(tmp_path) -> Path:
    """The pictures and masks as files."""
    for kind, content in FILES.items():
        for name, pictures in content.items():
            for at, picture in enumerate(pictures):
                write_picture(tmp_path / kind / name / f"{at}.png", picture)
    return tmp_path


@pytest.mark.parametrize("drop_ends", [True, False])
def test_overlays_of_the_frame_with_the_median_dice(data_set, drop_ends, monkeypatch):
    drawn = {}
    monkeypatch.setattr(frame_overlays, "save_outlined", lambda path, *what: drawn.update({path.name: what}))
    report(data_set, earlier=False, overlays=True, drop_ends=drop_ends)
    ends = slice(1, -1) if drop_ends else slice(None)
    wanted = ["one", "two"] if drop_ends else list(LENGTHS)
    assert list(drawn) == [f"{name}.jpg" for name in wanted]
    for name in wanted:
        numbers = range(LENGTHS[name])[ends]
        dices = {}
        for at in numbers:
            mask, reference = mask_of(CLIPS[name][at]) > 0, MASKS[name][at] > 0
            if reference.any():
                dices[at] = 2 * (mask & reference).sum() / (mask.sum() + reference.sum())
        order = sorted(dices, key=lambda at: (np.float32(dices[at]), at)) or list(numbers)
        frame = order[(len(order) - 1) // 2]
        picture, reference, mask, caption = drawn[f"{name}.jpg"]
        np.testing.assert_array_equal(picture, CLIPS[name][frame])
        np.testing.assert_array_equal(reference, MASKS[name][frame] > 0)
        np.testing.assert_array_equal(mask, probabilities_of(CLIPS[name][frame])[0, 0].numpy() >= 0.5)
        found = f"Dice {dices[frame]:.2f}" if dices else "nothing is drawn"
        assert caption.startswith(f"frame {frame} · {found} · marks ")


def test_overlays_are_off_by_default(data_set):
    report(data_set)
    assert overlays_in(data_set / "out") == {}


def test_overlays_of_videos(tmp_path):
    """A frame of a video goes by its number."""
    assert [_frame_name(reference) for reference in ("a/b/007.png", ("a/b.mp4", 12))] == ["007", "12"]
