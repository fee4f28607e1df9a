from __future__ import annotations

import csv
import json
import logging
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from common.data.frames import LabelledFrame
from common.errors import InputError
from common.handlers import frame_overlays, frame_report
from common.handlers.frame_overlays import overlays_in
from common.metrics import EVALUATIONS, FrameResults
from common.metrics.frame_evaluation import EVALUATED_SCORES, FrameEvaluator
from common.visualize.comparison_panel import PanelRow
from tests.common.handlers.frame_runs import (
    EVALUATED,
    PATIENTS,
    PRESENT,
    SIZE,
    reference,
    report,
    run,
    stages,
    write_frames,
)
from tests.common.handlers.video_runs import write_bundle

ALWAYS = {"frames.npz", "frames.csv", "scores.csv", "scores.md", "summary.json", "roc.png", "pr.png"}
PANELS = {"panel_random.png", "panel_worst.png"}


@pytest.fixture
def frames(tmp_path) -> list[LabelledFrame]:
    write_bundle(tmp_path / "bundle")
    return write_frames(tmp_path)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Have empty files for pictures, where they do not matter."""

    def curves(folder: Path, models: object) -> None:
        for name in ("roc.png", "pr.png"):
            (folder / name).write_bytes(b"")

    monkeypatch.setattr(frame_report, "save_curves", curves)
    monkeypatch.setattr(frame_report, "save_panel", lambda path, *args: path.write_bytes(b""))


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def dice(model: int, number: int, gate: float = 0.5, threshold: float = 0.5) -> float:
    """The end-to-end DSC of a frame, pixel after pixel."""
    p_present, probabilities = stages(model, number)
    mask = (probabilities >= threshold) if p_present >= gate else np.zeros(SIZE, bool)
    drawn = reference(number)
    return 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) if (mask | drawn).any() else 1.0


def mean_dice(model: int, evaluation: str, numbers=EVALUATED, gate: float = 0.5, threshold: float = 0.5) -> float:
    if evaluation == "segmenter_positives":
        numbers = [number for number in numbers if PRESENT[number]]
    gate = gate if evaluation == "end_to_end" else 0
    return float(np.mean([dice(model, number, gate, threshold) for number in numbers]))


def auroc(model: int) -> float:
    """The share of pairs of a positive and a negative that are in order."""
    p = {number: stages(model, number)[0] for number in EVALUATED}
    pairs = [p[a] > p[b] for a in EVALUATED if PRESENT[a] for b in EVALUATED if not PRESENT[b]]
    return sum(pairs) / len(pairs)


class TestScores:
    @pytest.mark.parametrize("settings", [{}, {"gate_threshold": 0.3, "threshold": 0.2}])
    def test_by_hand(self, quick, tmp_path, frames, settings):
        run(report(tmp_path, frames, **settings))
        by_hand = {"gate": settings.get("gate_threshold", 0.5), "threshold": settings.get("threshold", 0.5)}
        found = summary(tmp_path / "one")
        assert tuple(found["evaluations"]) == EVALUATIONS
        for name, scores in found["evaluations"].items():
            assert tuple(scores["scores"]) == EVALUATED_SCORES[name]
            if name not in ("classifier", "both_stages"):
                assert scores["scores"]["DSC"]["value"] == pytest.approx(mean_dice(1, name, **by_hand))
        assert found["evaluations"]["classifier"]["scores"]["AUROC"]["value"] == pytest.approx(auroc(1))
        assert (found["gate_threshold"], found["threshold"]) == (by_hand["gate"], by_hand["threshold"])

    @pytest.mark.parametrize("resample", ["images", "patients"])
    def test_intervals(self, quick, tmp_path, frames, resample):
        settings = {"resample": resample, "samples": 70, "level": 0.8, "seed": 4}
        run(report(tmp_path, frames, **settings))
        results = FrameResults.load(tmp_path / "one" / "frames.npz")
        found = FrameEvaluator(**settings).evaluations(results)
        rows = table(tmp_path / "one" / "scores.csv")
        assert [(row["evaluation"], row["score"]) for row in rows] == [
            (name, score) for name in EVALUATIONS for score in EVALUATED_SCORES[name]
        ]
        for row in rows:
            interval = found[row["evaluation"]].scores[row["score"]]
            assert [float(row[name]) for name in ("value", "low", "high")] == pytest.approx(
                [interval.value, interval.low, interval.high], abs=1e-6, nan_ok=True
            )
            assert int(row["undefined_resamples"]) == interval.undefined
        assert summary(tmp_path / "one")["bootstrap"] == settings
        text = (tmp_path / "one" / "scores.md").read_text(encoding="utf-8")
        dsc = found["end_to_end"].scores["DSC"]
        assert f"{dsc.value:.3f} ({dsc.low:.3f} to {dsc.high:.3f}) |" in text
        assert f"80 % confidence interval (70 resamples of {resample})" in text
        assert "7 frames of 5 patients, 4 positive. Frames pass the gate from p = 0.5 on" in text

    def test_conventions_and_provenance(self, quick, tmp_path, frames):
        run(report(tmp_path, frames))
        found = summary(tmp_path / "one")
        assert found["model"] == "one" and found["notes"] == [] and found["comparisons"] == {}
        assert "DSC and IoU are 1 where reference and mask are both empty" in found["conventions"]["empty"]
        source = found["provenance"]
        assert (source["bundle"], source["version"], source["settings"]) == ("some_net", "1.2.3", {"fold": 3})
        assert len(source["weights"]["sha256"]) == 64

    @pytest.mark.parametrize(
        ("present", "missing", "pictures"),
        [(1, "there are no negatives", {"pr.png"}), (0, "there are no positives", set())],
    )
    def test_one_class_only(self, tmp_path, frames, present, missing, pictures, caplog):
        run(report(tmp_path, frames))  # what it has left is not to stay
        numbers = [number for number in EVALUATED if PRESENT[number] == present]
        with caplog.at_level(logging.WARNING, frame_report.__name__):
            run(report(tmp_path, frames), numbers=numbers)
        found = summary(tmp_path / "one")
        assert found["notes"][0] == missing and missing in caplog.messages
        assert f"- {missing}" in (tmp_path / "one" / "scores.md").read_text(encoding="utf-8")
        assert found["evaluations"]["classifier"]["scores"]["AUROC"]["value"] is None
        assert ("segmenter_positives" in found["evaluations"]) == bool(present)
        scores = found["evaluations"]["end_to_end"]["scores"]
        assert scores["DSC"]["value"] == pytest.approx(mean_dice(1, "end_to_end", numbers))
        assert files(tmp_path / "one") == ALWAYS - {"roc.png", "pr.png"} | pictures | PANELS

    def test_what_is_odd_in_the_data(self, quick, tmp_path, frames):
        handler = report(tmp_path, frames, resample="patients")
        run(handler, numbers=(0, 1))
        note = "all frames are of one patient: resampling patients gives no interval"
        assert summary(tmp_path / "one")["notes"][-1] == note


class TestFrames:
    def test_table(self, quick, tmp_path, frames):
        run(report(tmp_path, frames))
        rows = table(tmp_path / "one" / "frames.csv")
        assert [row["id"] for row in rows] == [frames[number].id for number in sorted(EVALUATED)]
        for number, row in zip(sorted(EVALUATED), rows, strict=True):
            p_present, probabilities = stages(1, number)
            assert (row["patient"], row["present"]) == (PATIENTS[number], str(PRESENT[number]))
            assert float(row["p_present"]) == pytest.approx(p_present, abs=1e-6)
            assert row["passes_gate"] == str(int(p_present >= 0.5))
            assert row["mask_pixels"] == str((probabilities >= 0.5).sum())
            assert float(row["segmenter_DSC"]) == pytest.approx(dice(1, number, gate=0), abs=1e-6)
            assert float(row["end_to_end_DSC"]) == pytest.approx(dice(1, number), abs=1e-6)
            assert (row["segmenter_sensitivity"] == "") == (not PRESENT[number])

    def test_masks(self, quick, tmp_path, frames):
        run(report(tmp_path, frames, threshold=0.3))
        masks = tmp_path / "one" / "masks"
        found = {path.relative_to(masks).as_posix() for path in masks.rglob("*.png")}
        assert found == {f"{frames[number].id}.png" for number in EVALUATED}
        for number in EVALUATED:
            with Image.open(masks / f"{frames[number].id}.png") as image:
                assert (np.asarray(image) == np.where(stages(1, number)[1] >= 0.3, 255, 0)).all()

    def test_no_masks(self, tmp_path, frames):
        run(report(tmp_path, frames, save_masks=False))
        assert not (tmp_path / "one" / "masks").exists()
        assert files(tmp_path / "one") == ALWAYS | PANELS

    def test_a_second_run_begins_anew(self, tmp_path, frames):
        handler = report(tmp_path, frames)
        run(handler, model=2, numbers=range(10))
        run(handler)
        assert summary(tmp_path / "one")["evaluations"]["end_to_end"]["frames"] == len(EVALUATED)
        first = {name: (tmp_path / "one" / name).read_bytes() for name in (ALWAYS | PANELS) - {"summary.json"}}
        run(report(tmp_path, frames, "again", name="one"))
        for name, content in first.items():
            assert (tmp_path / "again" / name).read_bytes() == content, name

    @pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../b", "nul\0", "."])
    def test_ids_that_lead_out_of_the_folder(self, tmp_path, frames, name):
        frames[3] = replace(frames[3], id=name)
        with pytest.raises(InputError, match="cannot be a file's name; mend the datalist"):
            report(tmp_path, frames)
        with pytest.raises(InputError, match="cannot be a file's name; mend the datalist"):
            report(tmp_path, frames, save_masks=False, overlays=True)
        report(tmp_path, frames, save_masks=False)


class TestOverlays:
    @pytest.fixture
    def drawn(self, quick, monkeypatch) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
        """Record what is drawn, by file."""
        found = {}
        monkeypatch.setattr(frame_overlays, "save_outlined", lambda path, *what: found.update({path.name: what}))
        return found

    @pytest.mark.parametrize("gate", [0.0, 0.5])
    def test_what_they_show(self, tmp_path, frames, drawn, gate):
        run(report(tmp_path, frames, overlays=True, panel_frames=0, save_masks=False, gate_threshold=gate))
        assert drawn.keys() == {f"{number}.jpg" for number in EVALUATED}
        for number in EVALUATED:
            picture, drawn_reference, mask, caption = drawn[f"{number}.jpg"]
            p_present, probabilities = stages(1, number)
            assert (picture == 20 * number).all() and (drawn_reference == reference(number)).all()
            assert ((mask > 0) == (probabilities >= 0.5)).all()
            alone = f"DSC {dice(1, number, gate=0):.2f}"  # whether or not the gate lets it
            assert caption.startswith(f"p {p_present:.2f} · {alone} · marks " if gate else f"{alone} · marks ")

    def test_they_stand_for_all(self, tmp_path, frames, drawn, monkeypatch):
        """Three of each ranking, so that best, median and worst of stage 2 and of both stages are there."""
        monkeypatch.setattr(frame_overlays, "_COUNT", 3)
        run(report(tmp_path, frames, overlays=True))
        wanted = set()
        for gate, numbers in ((0, [n for n in EVALUATED if PRESENT[n]]), (0, EVALUATED), (0.5, EVALUATED)):
            order = sorted(numbers, key=lambda number: (-dice(1, number, gate), frames[number].id))
            wanted |= {order[0], order[(len(order) - 1) // 2], order[-1]}
        assert drawn.keys() == {f"{number}.jpg" for number in wanted} and len(wanted) < len(EVALUATED)

    def test_one_class_only(self, tmp_path, frames, drawn):
        run(report(tmp_path, frames, overlays=True), numbers=(2, 4))
        assert drawn.keys() == {"2.jpg", "4.jpg"}

    def test_they_are_off_by_default_and_do_not_outlive_their_evaluation(self, quick, tmp_path, frames):
        run(report(tmp_path, frames, overlays=True))
        assert len(overlays_in(tmp_path / "one")) == len(EVALUATED)
        run(report(tmp_path, frames))
        assert overlays_in(tmp_path / "one") == {}


class TestPanels:
    @pytest.fixture
    def panels(self, monkeypatch) -> dict[str, tuple[list[str], list[PanelRow]]]:
        """Record what is drawn."""
        found: dict[str, tuple[list[str], list[PanelRow]]] = {}

        def save(path, models, rows, title=""):
            found[path.name] = (list(models), list(rows))

        monkeypatch.setattr(frame_report, "save_panel", save)
        monkeypatch.setattr(frame_report, "save_curves", lambda *args: None)
        return found

    def test_the_worst_first(self, tmp_path, frames, panels):
        run(report(tmp_path, frames, panel_frames=5))
        _, rows = panels["panel_worst.png"]
        shown = [row.models[0].dice for row in rows]
        assert shown == pytest.approx(sorted(dice(1, number) for number in EVALUATED)[:5])
        for row in rows:
            number = [frame.id for frame in frames].index(row.name)
            p_present, probabilities = stages(1, number)
            assert (row.picture == 20 * number).all() and (row.reference == reference(number)).all()
            assert ((row.models[0].mask > 0) == (probabilities >= 0.5)).all()
            assert row.models[0].opened == (p_present >= 0.5)
            assert row.models[0].p_present == pytest.approx(p_present)
            assert row.models[0].dice == pytest.approx(dice(1, number))

    def test_false_alarms_are_among_the_worst(self, tmp_path, frames, panels):
        run(report(tmp_path, frames, gate_threshold=0, panel_frames=3))
        _, rows = panels["panel_worst.png"]
        assert all(row.models[0].dice == 0 and not row.reference.any() for row in rows)
        marked = [np.count_nonzero(row.models[0].mask) for row in rows]
        assert marked == sorted(marked, reverse=True)

    def test_chance_is_fair(self, tmp_path, frames, panels):
        chosen = set()
        for seed in (1, 1, 2, 3):
            run(report(tmp_path, frames, panel_frames=4, seed=seed))
            _, rows = panels["panel_random.png"]
            assert [bool(row.reference.any()) for row in rows] == [True, True, False, False]
            chosen.add(tuple(row.name for row in rows))
        assert 2 <= len(chosen) <= 3

    @pytest.mark.parametrize(("numbers", "count"), [(EVALUATED, 7), ((0, 1, 2, 3), 4), ((0, 1, 3), 3), ((2,), 1)])
    def test_fewer_frames_than_wanted(self, tmp_path, frames, panels, numbers, count):
        run(report(tmp_path, frames, panel_frames=20), numbers=numbers)
        assert [len(rows) for _, rows in panels.values()] == [count, count]

    def test_models_beside_each_other(self, tmp_path, frames, panels):
        run(report(tmp_path, frames, "two", gate_threshold=0.7, panel_frames=0), model=2)
        run(report(tmp_path, frames, "bare", save_masks=False, name="net (no masks)"), model=3)
        run(report(tmp_path, frames, compare_with=[tmp_path / "two", tmp_path / "bare"], panel_frames=7))
        models, rows = panels["panel_random.png"]
        assert models == ["one", "two", "net (no masks)"]
        for row in rows:
            number = [frame.id for frame in frames].index(row.name)
            p_present, probabilities = stages(2, number)
            assert (row.models[1].mask == (probabilities >= 0.5)).all()
            assert row.models[1].opened == (p_present >= 0.7)
            assert row.models[1].dice == pytest.approx(dice(2, number, gate=0.7))
            assert row.models[2].mask is None and row.models[2].dice == pytest.approx(dice(3, number))

    def test_none(self, tmp_path, frames):
        run(report(tmp_path, frames))
        run(report(tmp_path, frames, panel_frames=0))
        assert files(tmp_path / "one") == ALWAYS


@pytest.mark.usefixtures("quick")
class TestComparisons:
    def test_numbers(self, tmp_path, frames):
        run(report(tmp_path, frames, "two"), model=2)
        run(report(tmp_path, frames, compare_with=[tmp_path / "two"]))
        rows = table(tmp_path / "one" / "comparisons.csv")
        assert {row["model"] for row in rows} == {"two"}
        assert [(row["evaluation"], row["score"]) for row in rows] == [
            (name, score) for name in EVALUATIONS for score in EVALUATED_SCORES[name]
        ]
        results = [FrameResults.load(tmp_path / name / "frames.npz") for name in ("one", "two")]
        wanted = FrameEvaluator(samples=50).comparisons(*results)
        for row in rows:
            if row["score"] == "DSC":
                assert float(row["value"]) == pytest.approx(mean_dice(1, row["evaluation"]), abs=1e-6)
                assert float(row["other"]) == pytest.approx(mean_dice(2, row["evaluation"]), abs=1e-6)
            found = wanted[row["evaluation"]][row["score"]]
            if row["p_value"]:
                assert float(row["p_value"]) == pytest.approx(found.p_value, abs=1e-6)
        stated = summary(tmp_path / "one")["comparisons"]["two"]
        assert stated["folder"] == str(tmp_path / "two")
        assert stated["evaluations"]["end_to_end"]["DSC"]["other"] == pytest.approx(mean_dice(2, "end_to_end"))
        assert "## Compared with two" in (tmp_path / "one" / "scores.md").read_text(encoding="utf-8")

    def test_other_order_of_frames(self, tmp_path, frames):
        """Frames are told by their ids, not by their numbers."""
        run(report(tmp_path, frames, "two"), model=2)
        path = tmp_path / "two" / "frames.npz"
        results = FrameResults.load(path)
        np.savez_compressed(path, **results.ordered(results.ids[::-1]).arrays())
        run(report(tmp_path, frames, compare_with=tmp_path / "two"))
        stated = summary(tmp_path / "one")["comparisons"]["two"]["evaluations"]
        for name in EVALUATIONS[2:]:
            assert stated[name]["DSC"]["other"] == pytest.approx(mean_dice(2, name))
            assert stated[name]["DSC"]["value"] == pytest.approx(mean_dice(1, name))

    def test_left_over_of_an_earlier_run(self, tmp_path, frames):
        run(report(tmp_path, frames, "two"), model=2)
        run(report(tmp_path, frames, compare_with=[tmp_path / "two"]))
        assert files(tmp_path / "one") == ALWAYS | PANELS | {"comparisons.csv"}
        run(report(tmp_path, frames))
        assert files(tmp_path / "one") == ALWAYS | PANELS

    def test_names_of_models_differ(self, tmp_path, frames):
        for run_name in ("first", "second"):
            run(report(tmp_path, frames, f"{run_name}/evaluate"), model=2)
        (tmp_path / "second" / "evaluate" / "summary.json").write_text("{}", encoding="utf-8")
        folders = [tmp_path / run_name / "evaluate" for run_name in ("first", "second")]
        handler = report(tmp_path, frames, "evaluate", compare_with=folders)
        assert [model.name for model in handler.compared] == ["first/evaluate", "second/evaluate"]


@pytest.mark.usefixtures("quick")
class TestMistakes:
    """Each is found before anything is computed, where it can be."""

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"resample": "frames"}, "resample=frames: is unknown; choose images or patients"),
            ({"samples": 0}, "samples=0: is not a number"),
            ({"level": 95}, "level=95: is not the level"),
            ({"gate_threshold": 1.5}, r"gate_threshold=1\.5: is not a probability"),
            ({"threshold": -1}, "threshold=-1: is not a probability"),
            ({"panel_frames": -1}, "panel_frames=-1: is not a number of frames"),
        ],
    )
    def test_settings(self, tmp_path, frames, settings, message):
        with pytest.raises(InputError, match=message):
            report(tmp_path, frames, **settings)

    def test_folders(self, tmp_path, frames):
        run(report(tmp_path, frames, "two"), model=2)
        two = tmp_path / "two"
        with pytest.raises(InputError, match=r"missing/frames\.npz: does not exist; pass the output folder"):
            report(tmp_path, frames, compare_with=[tmp_path / "missing"])
        with pytest.raises(InputError, match=r"two: is compared with itself.*choose another output_dir"):
            report(tmp_path, frames, "two", compare_with=[two])
        with pytest.raises(InputError, match=r"two: is in compare_with twice"):
            report(tmp_path, frames, compare_with=[two, tmp_path / "bundle" / ".." / "two"])
        (two / "frames.npz").write_bytes(b"not an archive")
        with pytest.raises(InputError, match=r"two/frames\.npz: holds no results of an evaluation"):
            report(tmp_path, frames, compare_with=[two])

    def test_frames_of_another_data_set(self, tmp_path, frames):
        run(report(tmp_path, frames, "two"), model=2)
        others = [replace(frame, id=f"x{frame.id}") for frame in frames]
        with pytest.raises(InputError, match=r"two: is of other frames than this evaluation: has 7 frames \('a/1', "):
            report(tmp_path, others, compare_with=[tmp_path / "two"])

    def test_frames_of_another_part(self, tmp_path, frames):
        run(report(tmp_path, frames, "two"), model=2)
        message = r"two: .*: has 1 frame \('e/8'\), and lacks 1 frame \('a/0'\); evaluate that model on the same part"
        part = [{"number": number} for number in (0, *EVALUATED[1:])]
        with pytest.raises(InputError, match=message):
            report(tmp_path, frames, compare_with=[tmp_path / "two"], evaluated=part)
        # Where the part is not known beforehand it is found at the end, and this model's own scores are kept.
        handler = report(tmp_path, frames, compare_with=[tmp_path / "two"])
        with pytest.raises(InputError, match=message):
            run(handler, numbers=(0, *EVALUATED[1:]))
        assert files(tmp_path / "one") == ALWAYS | PANELS and summary(tmp_path / "one")["comparisons"] == {}

    def test_other_masks(self, tmp_path, frames):
        run(report(tmp_path, frames, "two"), model=2)
        arrays = FrameResults.load(tmp_path / "two" / "frames.npz").arrays()
        arrays["confusion"][2] += (1, 0, 0, 0)
        np.savez_compressed(tmp_path / "two" / "frames.npz", **arrays)
        with pytest.raises(InputError, match=r"two: has another reference for 1 frame \('b/3'\); evaluate that model"):
            run(report(tmp_path, frames, compare_with=[tmp_path / "two"]))


def run_a_share(rank: int, folder: Path, frames: list[LabelledFrame]) -> None:
    """Be one of two processes, of which both have one of the frames; each has a folder of its own to write to."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    shares = (EVALUATED[:4], EVALUATED[3:])
    run(report(folder, frames, f"rank{rank}", name="one"), numbers=shares[rank])
    dist.barrier()
    dist.destroy_process_group()


def test_processes_that_share_the_frames(tmp_path, frames):
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(["common.handlers.frame_report", "torch.distributed", "pytest"])
    processes = [context.Process(target=run_a_share, args=(rank, tmp_path, frames)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    run(report(tmp_path, frames))
    alone, first, second = (tmp_path / name for name in ("one", "rank0", "rank1"))
    assert files(first) == files(alone) == ALWAYS | PANELS and files(second) == set()
    for name in files(alone) - {"summary.json"}:  # which states the time
        assert (first / name).read_bytes() == (alone / name).read_bytes(), name
    masks = {path.relative_to(alone): path.read_bytes() for path in alone.rglob("masks/*/*.png")}
    written = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("masks/*/*.png")}
        for folder in (first, second)
    ]
    assert [len(found) for found in written] == [4, 4] and written[0] | written[1] == masks
