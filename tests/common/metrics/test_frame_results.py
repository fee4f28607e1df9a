from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from common.metrics import EVALUATIONS, FrameCounts, FramePresence, FrameResults

# Pixels that are true and false positives, true and false negatives, of frames of 100 pixels.
CONFUSION = np.array([[20, 5, 70, 5], [0, 10, 90, 0], [0, 0, 100, 0], [8, 0, 80, 12], [30, 10, 60, 0]])
PRESENT = np.array([True, False, False, True, True])
PROBABILITIES = np.array([0.9, 0.8, 0.1, 0.3, 0.5])


def results(**changes) -> FrameResults:
    numbers = np.array([2, 3, 5, 7, 11])
    histograms = np.random.default_rng(0).integers(0, 9, (5, 2, 512)).astype(np.int32)
    made = FrameResults(
        list("abcde"),
        ["one", "one", "two", "two", "three"],
        FramePresence(numbers, PROBABILITIES, PRESENT),
        FrameCounts(numbers, CONFUSION, histograms),
    )
    return replace(made, **changes)


def dice(confusion: np.ndarray) -> float:
    """The mean over frames; 1 where both are empty."""
    values = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0 for tp, fp, _, fn in confusion]
    return float(np.mean(values))


def written(folder: Path, **changes) -> Path:
    path = folder / "frames.npz"
    np.savez_compressed(path, **(results().arrays() | changes))
    return path


class TestEvaluations:
    def test_frames_that_count(self):
        found = [list(results().frames_of(name)) for name in EVALUATIONS]
        assert found == [[True] * 5, [True] * 5, list(PRESENT), [True] * 5, [True] * 5]

    @pytest.mark.parametrize(
        ("threshold", "opened"), [(None, [0, 1, 4]), (0.3, [0, 1, 3, 4]), (0.95, []), (0, range(5))]
    )
    def test_gate(self, threshold, opened):
        made = results()
        assert list(np.flatnonzero(made.opened(threshold))) == list(opened)
        behind = CONFUSION.copy()
        for at in set(range(5)) - set(opened):
            tp, fp, tn, fn = CONFUSION[at]
            behind[at] = 0, 0, tn + fp, fn + tp
        scores = made.statistic("end_to_end", threshold).values()
        assert scores["DSC"] == pytest.approx(dice(behind))
        sensitivity = made.statistic("classifier", threshold)(np.ones((1, 5)))["sensitivity"][0]
        assert sensitivity == np.isin([0, 3, 4], opened).mean()

    def test_gate_threshold_of_its_own(self):
        assert list(results(gate_threshold=0.85).opened()) == [True, False, False, False, False]

    @pytest.mark.parametrize(("threshold", "called"), [(None, [0, 1, 4]), (0.85, [0]), (0, [0, 1, 3, 4])])
    def test_presence_by_both_stages(self, threshold, called):
        """Called present where the gate is open and something is marked; ranked by the product of probabilities."""
        histograms = np.zeros((5, 2, 512), np.int32)
        histograms[:, 0, 40] = 90  # most pixels, outside, are improbable
        for frame, step in enumerate((300, 100, 260, 400, 450)):
            histograms[frame, frame % 2, step] = 10
        numbers = results().counts.numbers
        made = results(counts=FrameCounts(numbers, CONFUSION, histograms))
        largest = 1 / (1 + np.exp(-(np.array([300, 100, 260, 400, 450]) - 255.5) / 16))
        assert made.counts.largest_probabilities == pytest.approx(largest)
        scores = made.statistic("both_stages", threshold).values()
        ranks = PROBABILITIES * largest
        pairs = [ranks[one] > ranks[other] for one in (0, 3, 4) for other in (1, 2)]
        assert scores["AUROC"] == pytest.approx(np.mean(pairs))
        assert scores["sensitivity"] == np.isin([0, 3, 4], called).mean()
        assert scores["FPR"] == np.isin([1, 2], called).mean()

    def test_the_segmenter_by_itself(self):
        assert results().statistic("segmenter_all", 0.95).values()["DSC"] == pytest.approx(dice(CONFUSION))
        positives = results().statistic("segmenter_positives").values()["DSC"]
        assert positives == pytest.approx(dice(CONFUSION[PRESENT]))

    def test_unknown(self):
        with pytest.raises(ValueError, match="one of classifier, both_stages, segmenter_positives"):
            results().statistic("everything")


class TestFrames:
    def test_order(self):
        ordered = results().ordered(list("dbeac"))
        assert ordered.patients == ["two", "one", "three", "one", "two"]
        assert list(ordered.presence.probabilities) == [0.3, 0.8, 0.5, 0.9, 0.1]
        assert list(ordered.counts.numbers) == list(ordered.presence.numbers) == [7, 3, 11, 2, 5]
        assert (ordered.counts.confusion == CONFUSION[[3, 1, 4, 0, 2]]).all()
        assert (ordered.counts.histograms == results().counts.histograms[[3, 1, 4, 0, 2]]).all()
        assert (ordered.presence.present == PRESENT[[3, 1, 4, 0, 2]]).all()

    @pytest.mark.parametrize("ids", ["abcd", "abcdf", "abcdee", "aabcd"])
    def test_order_of_other_frames(self, ids):
        with pytest.raises(ValueError, match=r"other frames|comes twice"):
            results().ordered(list(ids))

    @pytest.mark.parametrize(
        "changes",
        [
            {"ids": list("abcd")},
            {"ids": list("abcda")},
            {"patients": ["one"]},
            {"presence": FramePresence(np.arange(5), PROBABILITIES, PRESENT)},
        ],
    )
    def test_parts_that_do_not_belong_together(self, changes):
        with pytest.raises(ValueError, match=r"not of the same frames|comes twice"):
            results(**changes)


class TestFile:
    def test_comes_back(self, tmp_path):
        made, found = results(gate_threshold=0.3), FrameResults.load(written(tmp_path, gate_threshold=np.array(0.3)))
        assert found.ids == made.ids and found.patients == made.patients and found.gate_threshold == 0.3
        for name, values in made.arrays().items():
            assert (found.arrays()[name] == values).all() and found.arrays()[name].dtype == values.dtype

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match=r"frames\.npz: does not exist; pass the output folder of an evaluation"):
            FrameResults.load(tmp_path / "frames.npz")

    @pytest.mark.parametrize(
        "changes",
        [
            {"ids": np.array(["a", "b"])},
            {"ids": np.array(list("abcda"))},
            {"ids": np.array([{}] * 5)},  # needs pickle, which may run anything
            {"confusion": CONFUSION[:, :3]},
            {"histograms": np.zeros((5, 512), np.int32)},
            {"present": PRESENT[:, None]},
            {"gate_threshold": np.array("high")},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_not_valid(self, tmp_path, changes):
        with pytest.raises(InputError, match="holds no results of an evaluation"):
            FrameResults.load(written(tmp_path, **changes))

    def test_damaged(self, tmp_path):
        whole = written(tmp_path).read_bytes()
        damaged = [b"", b"words", whole[: len(whole) // 2], whole[:1500] + b"\xff" * 60 + whole[1560:]]
        for content in damaged:
            (tmp_path / "frames.npz").write_bytes(content)
            with pytest.raises(InputError, match="holds no results of an evaluation"):
                FrameResults.load(tmp_path / "frames.npz")

    def test_an_entry_is_missing(self, tmp_path):
        np.savez(tmp_path / "frames.npz", ids=np.array(["a"]))
        with pytest.raises(InputError, match=r"no results of an evaluation \(KeyError\)"):
            FrameResults.load(tmp_path / "frames.npz")
