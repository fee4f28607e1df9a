"""Cross-validation by subject: the table, and a whole one with small networks on small phantoms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from common.data.phantom import make_spine_phantom
from tests.bundles.runs import read_csv, read_json
from tests.helpers import noise, write_nifti
from tools.bundle_process import TrainingError
from tools.train_release import __main__ as program
from tools.train_release.cross_validation import cross_validated, write_cross_validation
from tools.train_release.recipe import Candidate, Recipe

# Six exams of four subjects.
SUBJECTS = ("a", "a", "b", "c", "c", "d")


class TestTable:
    def test_subjects_count_once(self, tmp_path):
        scores = {0: {"a1": 0.9, "a2": 0.7, "b1": 0.6}, 3: {"c1": 0.4, "d1": 0.2}}
        subjects = {"a1": "a", "a2": "a", "b1": "b", "c1": "c"}
        found = cross_validated(scores, subjects)
        # Of the subjects' 0.8, 0.6, 0.4 and 0.2.
        assert (found["mean"], found["sd"], found["subjects"], found["cases"]) == (0.5, 0.2582, 4, 5)
        assert found["folds"] == [
            {"fold": 0, "mean": 0.7, "sd": 0.1414, "subjects": 2, "cases": 3},
            {"fold": 3, "mean": 0.3, "sd": 0.1414, "subjects": 2, "cases": 2},
        ]
        assert found["each"]["a2"] == {"score": 0.7, "fold": 0, "subject": "a"}
        assert found["each"]["d1"] == {"score": 0.2, "fold": 3, "subject": "d1"}
        files = write_cross_validation(found, tmp_path)
        assert read_json(files[0]) == json.loads(json.dumps(found))
        assert files[1].read_text(encoding="utf-8").splitlines() == [
            "fold,subjects,cases,mean,sd", "0,2,3,0.7,0.1414", "3,2,2,0.3,0.1414", "all,4,5,0.5,0.2582",
        ]  # fmt: skip

    def test_too_few(self, tmp_path):
        found = cross_validated({0: {"a": 0.5}, 1: {}}, {})
        assert (found["mean"], found["sd"], found["cases"]) == (0.5, None, 1)
        _, table = write_cross_validation(found, tmp_path)
        assert table.read_text(encoding="utf-8").splitlines()[1:] == ["0,1,1,0.5,", "1,0,0,,", "all,1,1,0.5,"]


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
        assert begun == [fold_0[0], *(step.replace("0", "1") for step in fold_0)]  # fold 0 is not evaluated again
        assert (tmp_path / "run" / "fold_0" / "half" / "model.pt").read_bytes() == before

        parts = [read_json(tmp_path / "run" / f"fold_{fold}" / "coarse" / "split.json") for fold in (0, 1)]
        subject_of = {f"exam{number}": subject for number, subject in enumerate(SUBJECTS)}
        held_out = [{subject_of[case] for case in part["validation"] + part["test"]} for part in parts]
        assert held_out[0] | held_out[1] == set(SUBJECTS) and not held_out[0] & held_out[1]
        for part, held in zip(parts, held_out, strict=True):
            assert {subject_of.get(case, "phantom") for case in part["train"]} == {*SUBJECTS, "phantom"} - held

        *folds, whole = read_csv(tmp_path / "run" / "cross_validation.csv")
        assert [row["fold"] for row in (*folds, whole)] == ["0", "1", "all"]
        assert (whole["subjects"], whole["cases"]) == ("4", "6")
        assert [int(row["subjects"]) for row in folds] == [len(held) for held in held_out]
        each = read_json(tmp_path / "run" / "cross_validation.json")["each"]
        assert {case: row["subject"] for case, row in each.items()} == subject_of
        for fold in (0, 1):
            evaluated = read_json(tmp_path / "run" / f"fold_{fold}" / "evaluation_half" / "summary.json")["cases"]
            assert {case: row["score"] for case, row in each.items() if row["fold"] == fold} == evaluated
        out = capsys.readouterr().out
        assert f"all folds: {float(whole['mean']):.4f} ± {float(whole['sd']):.4f} over 4 subjects (6 cases)" in out
