from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from common.errors import InputError
from common.metrics import SCORES, SequenceCurves, VideoSegmentationMetric


def made(count: int = 2) -> SequenceCurves:
    rng = np.random.default_rng(0)
    names = [f"s{number}" for number in range(count)]
    return SequenceCurves(names, [name.upper() for name in names], rng.random((count, 4, 256)), rng.random((count, 2)))


def saved(folder: Path, **changes: np.ndarray) -> Path:
    np.savez_compressed(folder / "curves.npz", **(made().arrays() | changes))
    return folder / "curves.npz"


def test_what_is_written_is_read(tmp_path):
    back = SequenceCurves.load(saved(tmp_path))
    assert (back.ids, back.subjects) == (["s0", "s1"], ["S0", "S1"])
    np.testing.assert_array_equal(back.curves, made().curves)
    np.testing.assert_array_equal(back.means, made().means)
    assert np.load(tmp_path / "curves.npz")["thresholds"][[0, 51, 255]].tolist() == [0.0, 0.2, 1.0]


def test_no_sequence_at_all(tmp_path):
    np.savez_compressed(tmp_path / "curves.npz", **made(0).arrays())
    assert SequenceCurves.load(tmp_path / "curves.npz").scores() == []


def test_scores_are_those_of_the_metric():
    metric = VideoSegmentationMetric(drop_ends=False)
    torch.manual_seed(0)
    probabilities, reference = torch.rand(2, 3, 1, 6, 8), (torch.rand(2, 3, 1, 6, 8) > 0.6).float()
    metric(probabilities, reference, sequence=[0, 1], frames=[range(3), range(3)])
    parts = [[values.numpy() for values in part] for part in zip(*metric.curves().values(), strict=True)]
    found = SequenceCurves(["a", "b"], ["a", "b"], *map(np.stack, parts))
    for own, wanted in zip(found.scores(), metric.scores().sequences.values(), strict=True):
        assert tuple(own) == SCORES and own == pytest.approx(dict(wanted))
    mean = found.curve("Dice").mean(axis=0)
    assert mean.max() == pytest.approx(metric.scores().overall["maxDice"])


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"curves\.npz: does not exist; delete that folder and evaluate again"):
        SequenceCurves.load(tmp_path / "curves.npz")


@pytest.mark.parametrize("changes", [{"ids": np.array(["one"])}, {"mae": np.zeros(3)}, {"Dice": np.zeros((2, 9))}])
def test_arrays_that_do_not_fit(tmp_path, changes):
    with pytest.raises(InputError, match=r"curves\.npz: holds no curves of sequences \(ValueError\); delete"):
        SequenceCurves.load(saved(tmp_path, **changes))


def test_a_damaged_file(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"curves\.npz: holds no curves of sequences \(BadZipFile\)"):
        SequenceCurves.load(path)
