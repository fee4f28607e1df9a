from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image
from scipy.stats import binomtest

from common.metrics import Bootstrap, FrameCounts, FramePresence, FrameResults
from common.metrics.frame_evaluation import FrameEvaluator
from tools.gate.__main__ import main
from tools.gate.picture import gate_figure
from tools.gate.proposal import Proposals, Proposer, short_threshold
from tools.gate.trade_off import MEASURES, TradeOff

# Six positives and five negatives, of 100 pixels each, some with the same probability. The segmenter finds nothing on
# one positive and something on two negatives.
PROBABILITIES = [0.9, 0.8, 0.8, 0.7, 0.4, 0.2, 0.8, 0.6, 0.4, 0.1, 0.1]
CONFUSION = [
    (20, 5, 70, 5), (30, 0, 70, 0), (0, 0, 90, 10), (8, 0, 80, 12), (10, 10, 80, 0), (5, 5, 85, 5),
    (0, 10, 90, 0), (0, 0, 100, 0), (0, 4, 96, 0), (0, 0, 100, 0), (0, 0, 100, 0),
]  # fmt: skip


def frames(probabilities=PROBABILITIES, confusion=CONFUSION, per_patient: int = 2) -> FrameResults:
    counts = np.array(confusion)
    numbers, (tp, fp, tn, fn) = np.arange(len(counts)), counts.T
    histograms = np.zeros((len(counts), 2, 512), np.int32)
    histograms[:, :, 100], histograms[:, :, 300] = np.stack([tn, fn], 1), np.stack([fp, tp], 1)
    return FrameResults(
        [f"frame {at}" for at in numbers],
        [f"patient {at // per_patient}" for at in numbers],
        FramePresence(numbers, np.array(probabilities, float), tp + fn > 0),
        FrameCounts(numbers, counts, histograms),
    )


def made(positives: int = 60, negatives: int = 40, skill: float = 2.0, seed: int = 0) -> FrameResults:
    """Frames as of real networks: probabilities of float32, the segmenter marks something on half of the negatives."""
    rng = np.random.default_rng(seed)
    count = positives + negatives
    inside = np.where(rng.permutation(count) < positives, 30, 0)
    logit = rng.normal(size=count) * 2 + np.where(inside > 0, skill, -skill)
    tp = rng.binomial(inside, 0.8)
    fp = np.where(rng.random(count) < 0.5, rng.integers(1, 20, count), 0)
    confusion = np.stack([tp, fp, 100 - inside - fp, inside - tp], 1)
    return frames((1 / (1 + np.exp(-logit))).astype(np.float32), confusion, per_patient=5)


def proposer(results: FrameResults, samples: int = 200, groups=None) -> Proposer:
    return Proposer(TradeOff(results), Bootstrap(len(results), groups, samples))


def sensitivity(results: FrameResults, threshold: float) -> float:
    passing = [
        p >= threshold for p, y in zip(results.presence.probabilities, results.presence.present, strict=True) if y
    ]
    return sum(passing) / len(passing)


# -------------------------------------------------------------------------------------------------------------- trade


def by_hand(results: FrameResults, threshold: float) -> dict[str, float]:
    """Go through the frames one by one."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for p, (tp, fp, _, fn) in zip(results.presence.probabilities, results.counts.confusion.tolist(), strict=True):
        opened, positive = p >= threshold, tp + fn > 0
        if not opened:
            tp, fp, fn = 0, 0, tp + fn
        found["passed"].append(opened)
        found["DSC"].append(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0)
        if positive:
            found["sensitivity"].append(opened)
            found["frame_FNR"].append(tp + fp == 0)
            found["DSC_positives"].append(found["DSC"][-1])
        else:
            found["specificity"].append(not opened)
            found["frame_FPR"].append(tp + fp > 0)
    return {name: sum(values) / len(values) for name, values in found.items()}


@pytest.mark.parametrize("results", [frames(), made(), made(5, 3)], ids=["ties", "many", "few"])
def test_every_threshold_by_hand(results):
    trade_off = TradeOff(results)
    curve = trade_off.curve()
    assert list(trade_off.thresholds) == sorted({0.0, 1.0, *results.presence.probabilities})
    for at, threshold in enumerate(trade_off.thresholds):
        expected = pytest.approx(by_hand(results, threshold))
        assert {name: values[at] for name, values in curve.items()} == expected
        assert trade_off.at(threshold).values == expected


def test_agrees_with_the_evaluation():
    """Values and intervals are the evaluation's own; of shares, the intervals are at least as wide."""
    results = replace(made(), gate_threshold=0.3)
    evaluations = FrameEvaluator("patients", 150, seed=3).evaluations(results)
    found = Proposer(TradeOff(results), Bootstrap(len(results), results.patients, 150, 3)).at(0.3).intervals
    whole = evaluations["end_to_end"].scores["DSC"]
    assert (found["DSC"].low, found["DSC"].high) == pytest.approx((whole.low, whole.high))
    stages = {"sensitivity": "classifier", "specificity": "classifier"} | dict.fromkeys(
        ["frame_FPR", "frame_FNR"], "end_to_end"
    )
    for name, stage in stages.items():
        ours, theirs = found[name], evaluations[stage].scores[name]
        assert ours.value == pytest.approx(theirs.value) and ours.low <= theirs.low and theirs.high <= ours.high


def test_interval_of_a_share_is_never_narrower_than_the_exact_one():
    found = proposer(frames()).at(0.0).intervals["sensitivity"]
    assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(0.025 ** (1 / 6))


def test_frames_of_which_something_else_is_stated():
    """Stage 1 is scored by what is stated, the masks by what is drawn."""
    results = frames()
    results.presence.present[10] = True
    found = TradeOff(results).at(0.3)
    assert found.counts["sensitivity"] == (5, 7) and found.counts["specificity"] == (1, 4)
    assert found.counts["frame_FPR"] == (2, 5) and found.counts["frame_FNR"] == (2, 6)
    assert found.counts["passed"] == (8, 11)


# ---------------------------------------------------------------------------------------------------------- proposals


@pytest.mark.parametrize(
    ("wanted", "threshold"), [(1.0, 0.2), (0.95, 0.2), (5 / 6, 0.4), (0.8, 0.4), (0.5, 0.8), (0.3, 0.8), (0.01, 0.9)]
)
def test_wanted(wanted, threshold):
    assert proposer(frames()).wanted(wanted).threshold == threshold


@pytest.mark.parametrize("wanted", [0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_wanted_by_hand(wanted, seed):
    results = made(seed=seed)
    found = proposer(results, samples=5).wanted(wanted)
    probabilities = results.presence.probabilities
    enough = [p for p in probabilities if sensitivity(results, p) >= wanted]
    assert found.largest == max(enough) and found.gate.values["sensitivity"] >= wanted
    # Rounding changes no decision, in the networks' arithmetic neither.
    for kind in (np.float64, np.float32):
        opened = probabilities.astype(kind) >= kind(found.threshold)
        assert (opened == (probabilities >= found.largest)).all()
    assert len(f"{found.threshold:f}".strip("0.")) <= 4


@pytest.mark.parametrize("resample", ["images", "patients"])
def test_conservative_by_hand(resample):
    results = made()
    groups = results.patients if resample == "patients" else None
    bootstrap = Bootstrap(len(results), groups, 300)
    present = results.presence.present

    def low(threshold: float) -> float:
        opened = results.presence.probabilities >= threshold
        shares = [row[opened & present].sum() / row[present].sum() for block in bootstrap.weights() for row in block]
        exact = binomtest(int((opened & present).sum()), int(present.sum())).proportion_ci(0.95).low
        return min(np.quantile(shares, 0.025), exact)

    expected = max(p for p in set(results.presence.probabilities) if low(p) >= 0.8)
    found = Proposer(TradeOff(results), bootstrap)
    assert found.conservative(0.8).largest == expected < found.wanted(0.8).largest


def test_too_few_to_be_sure():
    """All of 20 frames pass in every resample, which does not show that 95 % of others will."""
    few = [0.9] * 20 + [0.1] * 20
    results = frames(few, [(30, 0, 70, 0)] * 20 + [(0, 0, 100, 0)] * 20)
    assert proposer(results).conservative(0.95) is None and proposer(results).conservative(1.0) is None
    assert proposer(results).conservative(0.8).threshold == 0.9


def test_perfect_classifier():
    results = frames([0.9, 0.95, 0.99, 0.97, 0.3, 0.2, 0.1], [(30, 0, 70, 0)] * 4 + [(0, 9, 91, 0)] * 3)
    found = proposer(results).wanted(1.0)
    assert found.threshold == 0.9 and found.gate.values == dict.fromkeys(MEASURES, 1.0) | {
        "frame_FPR": 0.0, "frame_FNR": 0.0, "passed": 4 / 7
    }  # fmt: skip


def test_without_further_alarms():
    """What the wanted sensitivity gives away for nothing."""
    found = proposer(frames())
    half, all_pass = found.wanted(0.5), found.wanted(1.0)
    assert half.threshold == 0.8 and found.without_further_alarms(half).threshold == 0.7
    assert all_pass.threshold == 0.2 and found.without_further_alarms(all_pass) is None


def test_one_probability():
    """A network that has no gate: every threshold opens it for all frames."""
    found = proposer(frames([1.0] * 11)).wanted(0.95)
    assert found.threshold == 1.0 and found.gate.values["passed"] == 1.0


@pytest.mark.parametrize(
    ("largest", "below", "short"),
    [
        (0.43728, 0.1, 0.437), (0.43728, 0.4371, 0.4372), (0.5, 0.1, 0.5), (0.0, -np.inf, 0.0), (1.0, 0.99999994, 1.0),
        (0.7, 0.6, 0.7), (1.2345e-7, 1e-8, 1.23e-7), (0.99996, 0.2, 0.999), (float(np.float32(0.9999999)), 0.5, 0.999),
    ],
)  # fmt: skip
def test_short_threshold(largest, below, short):
    assert short_threshold(largest, below) == short


def test_neighbours_in_float32():
    """Between these two lies no other number of the networks' arithmetic."""
    below, largest = np.nextafter(np.float32(0.3), np.float32(0)), np.float32(0.3)
    short = short_threshold(float(largest), float(below))
    assert np.float32(short) == largest and short <= float(largest)


# ------------------------------------------------------------------------------------------------------------ command


@pytest.fixture
def evaluation(tmp_path) -> Path:
    return written(tmp_path / "evaluation", made())


def written(folder: Path, results: FrameResults, part: str | None = "validation") -> Path:
    folder.mkdir()
    np.savez_compressed(folder / "frames.npz", **results.arrays())
    if part is not None:
        summary = {"provenance": {"bundle": "bess", "settings": {"part": part}}}
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def run(folder: Path, *words: str) -> int:
    return main(["--evaluation", str(folder), "--samples", "40", *words])


def test_files(evaluation, capsys):
    assert run(evaluation, "--sensitivity", "0.9") == 0
    report = json.loads((evaluation / "gate" / "gate.json").read_text(encoding="utf-8"))
    results, gates = made(), report["gates"]
    assert list(gates) == ["always_open", "0.5", "proposal", "conservative", "no_further_alarms"]
    threshold = gates["proposal"]["threshold"]
    assert report["option"] == f"--gate_threshold {threshold}" and report["option"] in capsys.readouterr().out
    measures = gates["proposal"]["measures"]
    assert {name: at["value"] for name, at in measures.items()} == pytest.approx(by_hand(results, threshold))
    assert all(at["low"] <= at["value"] <= at["high"] for at in measures.values())
    assert measures["sensitivity"]["frames"] / measures["sensitivity"]["of"] == measures["sensitivity"]["value"] >= 0.9
    assert gates["conservative"]["measures"]["sensitivity"]["low"] >= 0.9
    assert (report["frames"], report["positives"], report["patients"], report["notes"]) == (100, 60, 20, [])
    assert report["evaluation"]["part"] == "validation" and report["evaluation"]["provenance"]["bundle"] == "bess"
    assert set(MEASURES) < set(report["conventions"])

    with open(evaluation / "gate" / "gate.csv", newline="", encoding="utf-8") as file:
        rows = [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    assert [row["threshold"] for row in rows] == sorted({0.0, 1.0, *results.presence.probabilities})
    for row in rows:
        opened, present = results.presence.probabilities >= row["threshold"], results.presence.present
        assert (row["passed_frames"], row["lost_frames"]) == (opened.sum(), (present & ~opened).sum())
        assert {name: row[name] for name in MEASURES} == pytest.approx(by_hand(results, row["threshold"]), abs=1e-6)


def test_summary(evaluation, capsys):
    assert run(evaluation, "--sensitivity", "0.9") == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.strip().startswith("always open"))
    assert head.split("  ")[-1] == "conservative" and max(map(len, lines)) <= 120
    passed = next(line for line in lines if line.startswith("frames passed"))
    assert passed[head.index("always open") :].startswith("1.000 (")
    assert not any(line.startswith("warning") for line in lines)


def test_same_seed_same_files(evaluation, tmp_path):
    for name in ("one", "same"):
        assert run(evaluation, "--output", str(tmp_path / name), "--resample", "patients", "--seed", "4") == 0
    for file in ("gate.csv", "gate.json", "gate.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "same" / file).read_bytes()
    assert not (evaluation / "gate").exists()


def test_what_is_drawn_is_asked_for(evaluation, tmp_path):
    found = []
    for resample in ("images", "patients"):
        assert run(evaluation, "--output", str(tmp_path / resample), "--resample", resample) == 0
        report = json.loads((tmp_path / resample / "gate.json").read_text(encoding="utf-8"))
        assert report["bootstrap"] == {"resample": resample, "samples": 40, "seed": 0, "level": 0.95}
        found.append(report["gates"]["proposal"]["measures"]["DSC"])
    assert found[0]["value"] == found[1]["value"] and found[0]["low"] != found[1]["low"]


def test_nothing_is_sure(tmp_path, capsys):
    folder = written(tmp_path / "few", frames())
    assert run(folder) == 0
    assert "There is no conservative threshold: 6 positives cannot show 95 %." in capsys.readouterr().out
    assert json.loads((folder / "gate" / "gate.json").read_text(encoding="utf-8"))["gates"]["conservative"] is None


@pytest.mark.parametrize(
    ("part", "warned"),
    [("validation", False), (None, False), ("test", True), ("heldout", True), ("all", True), ("train", True)],
)
def test_frames_that_are_not_for_choosing(tmp_path, capsys, part, warned):
    assert run(written(tmp_path / "evaluation", made(), part)) == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == warned and all(
        f"part '{part}'" in line and "--part validation" in line for line in warnings
    )


def stated_otherwise() -> FrameResults:
    results = frames()
    results.presence.present[10] = True
    return results


@pytest.mark.parametrize(
    ("results", "warning"),
    [
        (frames([0.7] * 11), "all frames have the same probability"),
        (frames(per_patient=11), "all frames are of one patient"),
        (stated_otherwise(), "nothing drawn on them, or the other way: 1"),
    ],
)
def test_doubts(tmp_path, capsys, results, warning):
    assert run(written(tmp_path / "evaluation", results), "--resample", "patients") == 0
    assert any(line.startswith("warning: ") and warning in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("summary", ["{", "[]", '{"provenance": 3}', '{"provenance": {"settings": []}}'])
def test_summary_that_says_nothing(evaluation, summary):
    (evaluation / "summary.json").write_text(summary, encoding="utf-8")
    assert run(evaluation) == 0
    assert json.loads((evaluation / "gate" / "gate.json").read_text(encoding="utf-8"))["evaluation"]["part"] is None


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        (frames(PROBABILITIES[:6], CONFUSION[:6]), "has no negatives; evaluate frames of both kinds"),
        (frames(PROBABILITIES[6:], CONFUSION[6:]), "has no positives; evaluate frames of both kinds"),
        (frames([np.nan, *PROBABILITIES[1:]]), "has numbers that are no probabilities"),
        (frames([2.0, *PROBABILITIES[1:]]), "has numbers that are no probabilities"),
    ],
)
def test_frames_that_do_not_serve(tmp_path, capsys, results, problem):
    folder = written(tmp_path / "evaluation", results)
    assert run(folder) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder / 'frames.npz'}: {problem}") and error.count("\n") == 1
    assert not (folder / "gate").exists()


@pytest.mark.parametrize("file", [None, "summary.json"])
def test_no_evaluation(tmp_path, capsys, file):
    folder = tmp_path / "evaluation"
    if file:
        folder.mkdir()
        (folder / file).write_text("{}", encoding="utf-8")
    assert run(folder) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder}") and "pass " in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [*(("--sensitivity", value) for value in ("0", "1.01", "-1", "nan")), ("--samples", "0"), ("--seed", "-1")],
    ids=" ".join,
)
def test_settings(evaluation, capsys, words):
    assert run(evaluation, *words) == 1
    assert capsys.readouterr().err.startswith(f"error: {' '.join(words)}: is out of range; it has to be")


def test_not_to_be_written(evaluation, capsys):
    (evaluation / "gate").write_text("not a folder", encoding="utf-8")
    assert run(evaluation) == 1
    assert "cannot be written" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ picture


def figure(results: FrameResults, wanted: float = 0.9):
    trade_off = TradeOff(results)
    proposals = Proposals.of(Proposer(trade_off, Bootstrap(len(results), None, 40)), wanted)
    return gate_figure(trade_off, proposals), proposals


def test_what_is_marked():
    drawn, proposals = figure(made())
    losses, over = drawn.axes
    points = {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in losses.lines}
    gate = proposals.proposal.gate.values
    assert points[f"proposal: {proposals.proposal.threshold:g}"] == (gate["frame_FPR"], 1 - gate["sensitivity"])
    assert {"always open: 0", "0.5", f"conservative: {proposals.conservative.threshold:g}"} < points.keys()
    lines = {line.get_label(): line for line in over.lines}
    assert list(lines[f"proposal: {proposals.proposal.threshold:g}"].get_xdata()) == [proposals.proposal.threshold] * 2


def test_curves_follow_the_thresholds():
    results = made()
    drawn, _ = figure(results)
    at = list(TradeOff(results).thresholds).index(np.median(results.presence.probabilities[:-1]))
    expected = by_hand(results, np.median(results.presence.probabilities[:-1]))
    losses, over = drawn.axes
    curve = losses.lines[0]
    assert (curve.get_xdata()[at], curve.get_ydata()[at]) == pytest.approx(
        (expected["frame_FPR"], 1 - expected["sensitivity"])
    )
    lines = {line.get_label().split(" ")[0]: line for line in over.lines}
    assert lines["sensitivity"].get_ydata()[at] == pytest.approx(expected["sensitivity"])
    assert lines["frames"].get_ydata()[at] == pytest.approx(expected["passed"])
    assert all(line.get_drawstyle() == "steps-pre" for name, line in lines.items() if name in ("sensitivity", "DSC"))


EXTREMES = {
    "few": (frames(), 0.95),
    "many": (made(600, 300), 0.95),
    "pressed against 0 and 1": (made(60, 40, skill=60.0), 1.0),
    "wrong": (made(60, 40, skill=-60.0), 0.95),
    "one probability": (frames([0.0] * 11), 0.95),
    "little wanted": (made(), 0.05),
}


@pytest.mark.parametrize("case", EXTREMES)
def test_everything_is_on_the_page(case):
    drawn, proposals = figure(*EXTREMES[case])
    drawn.canvas.draw()
    page = drawn.bbox
    for axes in drawn.axes:
        for box in (axes.get_tightbbox(), axes.get_legend().get_window_extent()):
            assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
        labels = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        assert len(labels) > 2 and all(one.x1 < other.x0 for one, other in pairwise(labels))
    assert drawn.axes[0].get_tightbbox().x1 < drawn.axes[1].get_tightbbox().x0
    (left, right), (_, top) = drawn.axes[0].get_xlim(), drawn.axes[0].get_ylim()
    for one in filter(None, proposals.named.values()):
        assert left <= one.gate.values["frame_FPR"] <= right and 1 - one.gate.values["sensitivity"] <= top


def test_picture_in_a_file(evaluation):
    assert run(evaluation) == 0
    with Image.open(evaluation / "gate" / "gate.png") as image:
        assert image.format == "PNG" and image.width > image.height > 600
    assert pyplot.get_fignums() == []
