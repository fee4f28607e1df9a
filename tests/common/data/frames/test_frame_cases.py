from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from common.data import CaseList
from common.data.frames import frame_cases as cases_module
from common.data.frames.frame_cases import FrameCases
from common.data.parts import PARTS
from common.errors import InputError
from tests.common.data.video.dataset_files import drawn, picture, write_json, write_picture, write_sequences

BUSI = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "busi"


@pytest.fixture
def root(tmp_path) -> Path:
    """Eight patients with two positives and a negative each."""
    root = tmp_path / "set"
    for patient in range(8):
        for i in range(3):
            write_picture(root / f"images/P{patient}/{i}.png", picture(i, (2, 2)))
            if i < 2:
                write_picture(root / f"masks/P{patient}/{i}.png", drawn(i, (2, 2)))
    return root


def message(call, *arguments, **settings) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def ids(items) -> set[str]:
    return {item["id"] for item in items}


def patients(items) -> set[str]:
    return {item["patient"] for item in items}


class TestStages:
    def test_items(self, root):
        cases = FrameCases(root)
        for item in (item for name in ("train", "validation", "test") for item in cases.part(name)):
            frame = cases.frames[item["number"]]
            assert item == {
                "id": frame.id, "number": item["number"], "image": f"{root}/images/{frame.id}.png",
                "label": f"{root}/masks/{frame.id}.png" if frame.present else None,
                "present": not frame.id.endswith("2"), "patient": frame.id.split("/")[0],
            }  # fmt: skip
        assert json.loads(json.dumps(cases.train)) == cases.train

    def test_stages_agree_on_who_is_tested(self, root):
        both, classifier, segmenter = (FrameCases(root, stage, fold=1) for stage in ("both", "classifier", "segmenter"))
        for name in PARTS:
            assert both.part(name) == classifier.part(name)
            assert segmenter.part(name) == [item for item in both.part(name) if item["present"]]
        assert len(both.part("all")) == len(both.frames) == len(segmenter.frames) == 24
        assert [len(both.part(name)) for name in ("train", "validation", "test")] == [12, 6, 6]

    def test_expansion(self, root):
        once, thrice = (FrameCases(root, "segmenter", expansion=n) for n in (1, "3"))
        assert thrice.train == [*once.train] * 3 and thrice.validation == once.validation
        assert thrice.part("train") == once.train  # to be scored, each counts once

    def test_negatives_of_the_segmenter(self, root):
        positives, every = (FrameCases(root, "segmenter", negatives=negatives) for negatives in (False, True))
        assert [item for item in every.train if item["present"]] == list(positives.train)
        assert every.train == FrameCases(root).train and len(every.train) > len(positives.train)
        assert set(every.train.split["train"]) == ids(every.train)
        assert every.validation == positives.validation and every.test == positives.test

    def test_folds(self, root):
        folds = [FrameCases(root, fold=fold, num_folds="3", test_share="0.25") for fold in ("0", 1, 2)]
        assert len({frozenset(patients(cases.test)) for cases in folds}) == 1
        assert sum(len(patients(cases.validation)) for cases in folds) == 6
        everything = FrameCases(root, fold="all", test_share=0.25)
        assert ids(everything.train) == ids(folds[0].train) | ids(folds[0].validation)
        assert not everything.validation and everything.train.split["fold"] == "all"
        assert "has no frames in this split" in message(everything.part, "validation")

    def test_split_and_log(self, root, caplog):
        with caplog.at_level(logging.INFO):
            cases = FrameCases(root, seed=2)
        split = cases.train.split
        assert cases.validation.split == split and type(cases.part("heldout")) is CaseList
        assert (split["dataset_dir"], split["stage"], split["fold"], split["num_folds"]) == (str(root), "both", 0, 3)
        assert set(split["train"]) == ids(cases.train) and set(split["patients"]["test"]) == patients(cases.test)
        assert caplog.messages[-1] == (
            f"{root}: 24 frames, 16 positive, of 8 patients; fold 0 of 3: train 12 (8 positive), "
            "validation 6 (4 positive), test 6 (4 positive); each training frame 1 x"
        )

    def test_errors(self, root):
        assert message(FrameCases, root, "third") == "stage=third: is unknown; choose classifier, segmenter, both"
        assert "expansion=0: is not a number of repetitions" in message(FrameCases, root, expansion=0)
        assert "part=exam: is not a part of the data" in message(FrameCases(root).part, "exam")


class TestWhatAStageNeeds:
    def test_negatives(self, root):
        write_json(root / "index.json", [{"id": f"P{i}/0"} for i in range(8)])
        assert message(FrameCases, root, "classifier") == (
            f"{root}: has no frame without what is to be segmented, so that stage 1 cannot be trained; "
            "add negatives, or train stage 2 alone (train_segmenter.json)"
        )
        for stage in ("segmenter", "both"):  # to evaluate is possible
            assert len(FrameCases(root, stage).frames) == 8

    @pytest.mark.parametrize("stage", ["classifier", "segmenter"])
    def test_positives(self, root, stage):
        write_json(root / "index.json", [{"id": f"P{i}/2", "present": False} for i in range(8)])
        assert message(FrameCases, root, stage) == (
            f"{root}: has no frame with what is to be segmented, so that neither stage can be trained; add positives"
        )
        assert len(FrameCases(root, "both").frames) == 8

    def test_masks_of_positives(self, root):
        rows = [{"id": f"P{i}/{j}"} for i in range(8) for j in (0, 2)] + [{"id": "P3/1", "mask": None, "present": True}]
        write_json(root / "index.json", rows)
        assert len(FrameCases(root, "classifier").frames) == 17
        for stage in ("segmenter", "both"):
            assert message(FrameCases, root, stage) == (
                f"{root}/images/P3/1.png: is a positive without a mask, which stage 2 needs; "
                "draw it, or train stage 1 alone (train_classifier.json)"
            )

    def test_in_the_training_part(self, root):
        rows = [{"id": f"P{i}/0", "part": "train"} for i in range(6)]
        rows += [{"id": f"P{i}/2", "part": part} for i, part in ((6, "val"), (7, "test"))]
        write_json(root / "index.json", rows)
        assert message(FrameCases, root, "classifier").startswith(f"{root} (its train part): has no frame without")
        rows += [{"id": "P0/2", "part": "train"}]
        write_json(root / "index.json", rows)
        assert [len(FrameCases(root).part(name)) for name in ("train", "validation", "test")] == [7, 1, 1]
        assert message(FrameCases, root, "segmenter") == (
            "fold=0: has no positives to validate with; choose another fold"
        )


class TestPhantoms:
    @pytest.fixture(autouse=True)
    def calls(self, monkeypatch) -> list[tuple]:
        """Replace the phantoms by ones of a few pixels, and record how they were asked for."""
        calls = []

        def write(folder, count, seed, length, size, report) -> None:
            calls.append((str(folder), count, seed, length, size))
            write_sequences(Path(folder), {f"phantom_{i}": length for i in range(count)}, size=(2, 2))
            for i in range(count):
                write_picture(Path(folder) / f"phantom_{i}/masks/000.png", drawn(2, (2, 2)))
            rows = [{"id": f"phantom_{i}", "part": ("train", "validation", "test")[i % 3]} for i in range(count)]
            write_json(Path(folder) / "index.json", {"sequences": rows})

        monkeypatch.setattr(cases_module, "write_video_phantoms", write)
        return calls

    def test_made_where_the_user_names_no_folder(self, tmp_path, calls, caplog):
        folder = tmp_path / "phantom"
        with caplog.at_level(logging.INFO):
            cases = FrameCases(
                f"{folder}/", phantom_dir=folder, phantom_sequences="6", phantom_length="4", phantom_size=[64, 48]
            )
        assert calls == [(str(folder), 6, 0, 4, (64, 48))]
        assert caplog.messages[0] == f"No dataset_dir given: making 6 video phantoms in {folder}"
        assert [len(part) for part in (cases.train, cases.validation, cases.test)] == [8, 8, 8]
        assert [len(FrameCases(folder, frame_step=3).train), len(FrameCases(folder, "segmenter").train)] == [4, 6]
        assert "; parts as stated: train 8 (6 positive), " in caplog.messages[1]

    def test_a_folder_that_the_user_names_is_never_filled(self, root, tmp_path, calls):
        FrameCases(root, phantom_dir=tmp_path / "phantom")
        empty = tmp_path / "empty"
        empty.mkdir()
        message(FrameCases, empty, phantom_dir=tmp_path / "phantom")
        assert not calls and not list(empty.iterdir()) and not (tmp_path / "phantom").exists()


def test_real_phantoms(tmp_path):
    folder = tmp_path / "phantom"
    cases = FrameCases(folder, phantom_dir=folder, phantom_sequences=10, phantom_length=8, phantom_size=(32, 32))
    assert [len(part) for part in (cases.train, cases.validation, cases.test)] == [48, 16, 16]
    assert 0 < sum(item["present"] for item in cases.train) < 48


@pytest.mark.skipif(not BUSI.is_dir(), reason="the real images are not there (shared/data/busi)")
def test_real_images():
    cases = FrameCases(BUSI, "classifier")
    whole = sum(frame.present for frame in cases.frames) / len(cases.frames)
    for name in ("train", "validation", "test"):
        part = cases.part(name)
        assert sum(item["present"] for item in part) / len(part) == pytest.approx(whole, abs=0.01)
