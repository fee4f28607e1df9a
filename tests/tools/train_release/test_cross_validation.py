"""Cross-validation by subject: the table, and a whole one with small networks on small phantoms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from common.data.phantom import make_spine_phantom
from common.errors import InputError
from tests.bundles.runs import read_csv, read_json
from tests.helpers import noise, write_nifti
from tools.bundle_process import TrainingError
from tools.train_release import __main__ as program
from tools.train_release.cross_validation import cross_validated, write_cross_validation
from tools.train_release.recipe import Candidate, Recipe

# Six exams of four subjects.
SUBJECTS = ("a", "a", "b", "c", "c", "d")


def case(name: str, dice: float | None, named_right: float | None = 1.0, group: str = "T1") -> dict[str, Any]:
    return {"case": name, "subject": name[0], "group": group, "dice": dice, "named_right": named_right}


class TestTable:
    def test_subjects_count_once(self, tmp_path):
        folds = {
            0: [case("a1", 0.9), case("a2", 0.7, 0.8, "T2"), case("b1", 0.6, None)],
            3: [case("c1", 0.4, 0.0, "T2"), case("d1", 0.2)],
        }
        found = cross_validated(folds, {"recipe": 1})
        # Of the subjects' 0.8, 0.6, 0.4 and 0.2; two of the four cases with names have all of them right.
        assert (found["mean"], found["sd"], found["subjects"], found["cases"]) == (0.5, 0.2582, 4, 5)
        assert found["wholly_named_right"] == 0.5
        first = {"mean": 0.7, "sd": 0.1414, "subjects": 2, "cases": 3, "wholly_named_right": 0.5}
        assert found["folds"] == {"0": first, "3": {**first, "mean": 0.3, "cases": 2}}
        assert found["groups"]["T2"] == {"mean": 0.55, "sd": 0.2121, "subjects": 2, "cases": 2, "wholly_named_right": 0}
        table, cases, trained = write_cross_validation(found, tmp_path)
        assert read_json(trained) == {"recipe": 1}
        assert table.read_text(encoding="utf-8").splitlines() == [
            "part,subjects,cases,mean,sd,wholly_named_right",
            "fold 0,2,3,0.7,0.1414,0.5",
            "fold 3,2,2,0.3,0.1414,0.5",
            "T1,3,3,0.5667,0.3512,1.0",
            "T2,2,2,0.55,0.2121,0.0",
            "all,4,5,0.5,0.2582,0.5",
        ]
        assert read_csv(cases)[2] == {
            "case": "b1", "subject": "b", "group": "T1", "fold": "0", "dice": "0.6", "named_right": ""
        }  # fmt: skip

    def test_too_few(self, tmp_path):
        found = cross_validated({0: [case("a", 0.5), case("b", None, None)], 1: []}, {})
        assert (found["mean"], found["sd"], found["cases"]) == (0.5, None, 1)
        table, *_ = write_cross_validation(found, tmp_path)
        assert table.read_text(encoding="utf-8").splitlines()[1:] == [
            "fold 0,1,1,0.5,,1.0", "fold 1,0,0,,,", "T1,1,1,0.5,,1.0", "all,1,1,0.5,,1.0",
        ]  # fmt: skip

    def test_a_subject_in_two_folds(self):
        with pytest.raises(InputError, match=r"^subject a: is held out in fold 0 and in fold 2; train all folds on"):
            cross_validated({2: [case("a1", 0.5)], 0: [case("b", 0.5), case("a2", 0.5)]}, {})


class TestWholeRun:
    """The first stage of SAFNet's recipe, with two folds, one phantom, and networks and trainings that take no time."""

    IDS = (
        "precision=fp32", "max_epochs=1", "batch_size=2", "epoch_length=4", "num_validation=1", "crop_slices=4",
        "spatial_size=[4,32,16]", "distances=false",
    )  # fmt: skip

    @pytest.fixture(scope="class")
    def data(self, tmp_path_factory) -> Path:
        folder, cases = tmp_path_factory.mktemp("exams"), []
        phantom = make_spine_phantom(0, shape=(64, 64, 8))
        for number, subject in enumerate(SUBJECTS):
            case = {"id": f"exam{number}", "subject": subject, "sequence": "T1"}
            image = phantom.image + 20 * noise(phantom.image.shape, number)
            for key, array in (("image", image), ("label", phantom.label)):
                case[key] = f"{key}s/exam{number}.nii"
                write_nifti(folder / case[key], array, phantom.affine)
            cases.append(case)
        (folder / "index.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
        return folder

    def test_it_is_interrupted_and_goes_on(self, data, launch, tmp_path, capsys, monkeypatch):
        recipe = Recipe.load("safnet")
        few = {"folds": (0, 1), "fold": 1, "phantoms": {"count": 1, "seed": 7}}
        weights = (Candidate("coarse/model_last.pt", {"level_order": True}),)
        recipe = replace(recipe, **few, stages=recipe.stages[:1], weights=weights)
        monkeypatch.setattr(program.Recipe, "load", lambda name: recipe)
        begun: list[str] = []
        breaks = "fold_1/coarse"

        def run_bundle(words: Sequence[str], log: Path) -> None:
            begun.append(str(log.relative_to(tmp_path / "run").with_suffix("")))
            if begun[-1] == breaks:
                raise KeyboardInterrupt
            done = launch(*words[2:], cwd=tmp_path)
            if done.status:
                raise TrainingError(done.err)

        words = ["safnet", "--dataset_dir", str(data), "--output", str(tmp_path / "run"), "--folds", "all"]
        words += [word for pair in self.IDS for word in ("--set", pair)]
        assert program.main(words, run_bundle) == 130
        assert capsys.readouterr().err == "interrupted; the same command goes on from there\n"
        fold_0 = [f"fold_0/{step}" for step in ("coarse", "evaluation_coarse", "evaluation_half")]
        assert begun == [*fold_0, "fold_1/coarse"]
        before = (tmp_path / "run" / "fold_0" / "half" / "model.pt").read_bytes()

        begun.clear()
        breaks = ""
        assert program.main(words, run_bundle) == 0, capsys.readouterr().err
        assert begun == [step.replace("0", "1") for step in fold_0]  # of fold 0 nothing is done again
        assert (tmp_path / "run" / "fold_0" / "half" / "model.pt").read_bytes() == before

        parts = [read_json(tmp_path / "run" / f"fold_{fold}" / "coarse" / "split.json") for fold in (0, 1)]
        subject_of = {f"exam{number}": subject for number, subject in enumerate(SUBJECTS)}
        held_out = [{subject_of[case] for case in part["validation"] + part["test"]} for part in parts]
        assert held_out[0] | held_out[1] == set(SUBJECTS) and not held_out[0] & held_out[1]
        for part, held in zip(parts, held_out, strict=True):
            assert {subject_of.get(case, "phantom") for case in part["train"]} == {*SUBJECTS, "phantom"} - held

        *folds, group, whole = read_csv(tmp_path / "run" / "cross_validation.csv")
        assert [row["part"] for row in (*folds, group, whole)] == ["fold 0", "fold 1", "T1", "all"]
        assert list(group.values())[1:] == list(whole.values())[1:]
        assert (whole["subjects"], whole["cases"]) == ("4", "6")
        assert [int(row["subjects"]) for row in folds] == [len(held) for held in held_out]
        each = read_csv(tmp_path / "run" / "cross_validation_cases.csv")
        assert {row["case"]: row["subject"] for row in each} == subject_of
        for fold in (0, 1):
            evaluated = read_json(tmp_path / "run" / f"fold_{fold}" / "evaluation_half" / "summary.json")["cases"]
            dice = {row["case"]: float(row["dice"]) for row in each if row["fold"] == str(fold)}
            assert dice == pytest.approx(evaluated, abs=1e-6)
        out = capsys.readouterr().out
        assert f"all folds: {float(whole['mean']):.4f} ± {float(whole['sd']):.4f} over 4 subjects (6 cases)" in out
