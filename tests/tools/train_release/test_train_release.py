from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from common.data.cases import find_cases
from common.data.phantom import write_spine_phantoms
from common.data.provenance import sha256_of
from common.data.weight_parts import join_parts
from common.errors import InputError
from tests.bundles.runs import ROOT, read_csv, read_json
from tools.bundle_process import TrainingError
from tools.train_release import __main__ as program
from tools.train_release import publish as publishing
from tools.train_release.cross_validation import cross_validated, what_was_trained
from tools.train_release.publish import chosen_figures, publish
from tools.train_release.recipe import Candidate, Recipe, Stage, recipe_names
from tools.train_release.release import run_recipe
from tools.train_release.spine_data import write_datalist
from tools.train_release.weights import halved

PLAN = {"spatial_size": [4, 32, 16], "learned": [2, 3]}
SHIPPED = PLAN | {"level_order": True}
SUMMARY = {
    "dice": {"mean": 0.91237, "sd": 0.02, "cases": 2},
    "cases": {"phantom_000": 0.9, "phantom_001": 0.8},
    "groups": {"T1": {"dice": {"mean": 0.9, "sd": None, "cases": 1}, "discs": 1}},
}


def ids_of(words: Sequence[str]) -> dict[str, str]:
    """The ids of a bundle's command."""
    assert words[:4] == ["-m", "monai.bundle", "run", "--config_file"]
    return {name.removeprefix("--"): text for name, text in zip(words[3::2], words[4::2], strict=True)}


class StandIn:
    """Stands for the processes that train and evaluate, and leaves what they leave.

    Attributes:
        score: of an evaluation, by the weights that it was given.
        fails: the folder of the output at which it fails.
        calls: the ids of each.
    """

    def __init__(self, weights: torch.Tensor | None = None) -> None:
        self.weights = torch.tensor([[1.0, 0.1]]) if weights is None else weights
        self.score = {"coarse": 0.8, "fine": 0.91237, "finest": 0.91237, "half": 0.91237}
        self.fails: str | None = None
        self.calls: list[dict[str, str]] = []

    def __call__(self, words: Sequence[str], log: Path) -> None:
        ids = ids_of(words)
        self.calls.append(ids)
        output = Path(ids["output_dir"])
        output.mkdir(parents=True, exist_ok=True)
        if output.name == self.fails:
            raise TrainingError("loss: became nan in epoch 3; pass a lower --lr")
        if "checkpoint" in ids:
            score = self.score[Path(ids["checkpoint"]).parent.name]
            summary = SUMMARY | {"dice": SUMMARY["dice"] | {"mean": score}}
            (output / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
            (output / "dice.csv").write_text("case,dice\na,0.9\n", encoding="utf-8")
            case = f"exam{ids['fold']}"
            rows = f"case,subject,group,dice,named_right\n{case},{case},T1,0.{8 + int(ids['fold']) % 2},1.0\n"
            (output / "cases.csv").write_text(rows, encoding="utf-8")
            (output / "frames.csv").write_text("case\na\n", encoding="utf-8")
            return
        (output / "training_state.pt").write_bytes(b"")
        torch.save({"w": self.weights, "steps": torch.tensor(7)}, output / "model_last.pt")
        (output / "model_last.json").write_text(json.dumps(PLAN), encoding="utf-8")
        rows = "epoch,loss,val_mean_dice\n1,1.5,\n2,1.0,0.5\n"
        (output / "history.csv").write_text(rows, encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exams") / "data"
    write_spine_phantoms(folder, 5)
    return folder


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle of which only the configurations are there."""
    root = tmp_path / "bundle"
    shutil.copytree(ROOT / "bundles" / "safnet" / "configs", root / "configs")
    metadata = read_json(root / "configs" / "metadata.json")
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata | {"eval_metrics": {}}), encoding="utf-8")
    return root


@pytest.fixture
def recipe(bundle) -> Recipe:
    """Two stages, without phantoms."""
    return Recipe(
        root=bundle,
        configs=("train", "release"),
        stages=(
            Stage("coarse", ("half_size",), {"lr": 0.1}),
            Stage("fine", (), {"init_checkpoint": "{run}/coarse/model_last.pt"}),
        ),
        weights=(Candidate("fine/model_last.pt", {"level_order": True}),),
        evaluation=Recipe.load("safnet").evaluation,
        score=("dice", "mean"),
        figures=("dice", "groups/*/dice", "nothing"),
        tables=("dice.csv",),
        ids={"precision": "bf16"},
        folds=(0, 1, 2, 3, 4),
        fold=4,
    )


class TestRun:
    def test_the_commands(self, recipe, data, tmp_path):
        bundles = StandIn()
        done = run_recipe(recipe, data, tmp_path / "run", 4, {"device": "cpu"}, lambda line: None, bundles)
        coarse, fine, full, half = bundles.calls
        files = [recipe.root / "configs" / f"{name}.json" for name in ("train", "release", "half_size")]
        assert coarse["config_file"] == "[" + ",".join(f"'{file}'" for file in files) + "]"
        shared = {"precision": "bf16", "device": "cpu", "dataset_dir": str(data), "fold": "4", "num_folds": "5"}
        for ids in (coarse, fine):
            assert shared.items() <= ids.items() and "resume" not in ids
        assert coarse["lr"] == "0.1" and "lr" not in fine
        assert fine["init_checkpoint"] == str(tmp_path / "run" / "coarse" / "model_last.pt")
        assert full["part"] == "heldout" and "evaluate.json" in full["config_file"]
        assert full["checkpoint"].endswith("fine/model_last.pt") and half["checkpoint"].endswith("half/model.pt")
        assert full["bundle_root"] == str(recipe.root)
        assert full["level_order"] == half["level_order"] == "true" and "level_order" not in fine
        assert done.half and done.weights == tmp_path / "run" / "half" / "model.pt"
        assert read_json(done.weights.with_suffix(".json")) == SHIPPED

    def test_half_precision_only_where_the_score_stays(self, recipe, data, tmp_path):
        bundles = StandIn()
        bundles.score["half"] = 0.9111
        lines = []
        done = run_recipe(recipe, data, tmp_path, 4, None, lines.append, bundles)
        assert not done.half and done.weights.parent.name == "full"
        assert torch.load(done.weights, weights_only=True)["w"].dtype == torch.float32
        assert lines[-1] == "score in full precision 0.9124, in half 0.9111: full is used"

    def test_it_goes_on_where_it_was_interrupted(self, recipe, data, tmp_path):
        bundles = StandIn()
        bundles.fails = "fine"
        with pytest.raises(Exception, match=r"fine\.log: loss: became nan in epoch 3; pass a lower --lr"):
            run_recipe(recipe, data, tmp_path, 4, None, lambda line: None, bundles)
        assert not (tmp_path / "half").exists()
        bundles.fails, bundles.calls = None, []
        run_recipe(recipe, data, tmp_path, 4, None, lambda line: None, bundles)
        fine, *evaluations = bundles.calls  # what is finished is not started again
        assert Path(fine["output_dir"]).name == "fine" and "resume" not in fine and len(evaluations) == 2
        bundles.calls = []
        run_recipe(recipe, data, tmp_path, 4, {"max_epochs": "9"}, lambda line: None, bundles)
        assert [call["resume"] for call in bundles.calls[:2]] == ["true", "true"]  # another command goes on

    def test_weights_are_evaluated_once(self, recipe, data, tmp_path):
        """Unless they, or what is asked for, have changed; an evaluation that failed is none."""
        bundles = StandIn()

        def evaluations(**ids: str) -> list[str]:
            bundles.calls = []
            run_recipe(recipe, data, tmp_path, 4, ids, lambda line: None, bundles)
            return [Path(call["output_dir"]).name for call in bundles.calls if "checkpoint" in call]

        both = ["evaluation_fine", "evaluation_half"]
        assert evaluations() == both and evaluations() == []
        assert evaluations(precision="fp32") == both
        bundles.weights = bundles.weights + 1
        (tmp_path / "fine" / "done_1.json").unlink()
        assert evaluations(precision="fp32") == both
        bundles.fails = "evaluation_half"
        with pytest.raises(InputError):
            evaluations()
        bundles.fails = None
        assert evaluations(precision="fp32") == both

    @pytest.mark.parametrize(
        ("scores", "origin"),
        [
            ({"coarse": 0.9, "fine": 0.8}, "coarse"),
            ({"coarse": 0.8, "fine": 0.9}, "fine"),
            ({"coarse": 0.9, "fine": 0.9}, "coarse"),
            ({"coarse": None, "fine": 0.1}, "fine"),
        ],
    )
    def test_the_best_of_several_weights_is_chosen(self, recipe, data, tmp_path, scores, origin):
        """Each is evaluated with its own settings, which travel with the one that is chosen."""
        bundles = StandIn()
        bundles.score |= scores | {"half": scores[origin]}
        coarse, fine = Candidate("coarse/model_last.pt", {"level_order": False}), *recipe.weights
        lines = []
        several = replace(recipe, weights=(coarse, fine))
        done = run_recipe(several, data, tmp_path / "run", 4, None, lines.append, bundles)
        evaluations = [call for call in bundles.calls if "checkpoint" in call]
        assert [call["level_order"] for call in evaluations] == ["false", "true", str(origin == "fine").lower()]
        assert read_json(done.weights.with_suffix(".json")) == PLAN | {"level_order": origin == "fine"}
        file = f"{origin}/model_last.pt"
        assert done.origin == file and done.evaluation.folder.name == "evaluation_half"
        assert lines[-3].endswith(f": {file} is used") and f"fine/model_last.pt {scores['fine']:.4f}" in lines[-3]
        publish(several, done, results=tmp_path / "results")
        chosen = read_json(recipe.root / "models" / "provenance.json")["settings"]["chosen"]
        assert (chosen["from"], chosen["score"], chosen["part"]) == (file, "dice/mean", "heldout")
        assert chosen["scores"] == {f"{stage}/model_last.pt": score for stage, score in scores.items()}

    def test_ids_that_are_its_own(self, recipe, data, tmp_path):
        with pytest.raises(Exception, match="--set fold: is what this program itself sets; leave it out"):
            run_recipe(recipe, data, tmp_path, 4, {"fold": "1"}, lambda line: None, StandIn())


class TestWeights:
    def test_halved(self):
        """What there is one number of for each channel stays as it is."""
        numbers = torch.tensor([[1.0, 0.1]])
        found = halved({"w": numbers, "variance": numbers[0], "steps": torch.tensor(70000)})
        assert found["w"].dtype == torch.float16 and found["steps"].dtype == torch.int64
        assert found["steps"] == 70000 and torch.equal(found["w"], numbers.half())
        assert found["variance"].dtype == torch.float32 and torch.equal(found["variance"], numbers[0])

    def test_a_number_that_is_too_large(self):
        with pytest.raises(Exception, match="w: holds numbers that half precision does not have; lower the learning"):
            halved({"w": torch.tensor([[70000.0]])})


class TestData:
    @pytest.mark.parametrize("fold", [0, 4])
    def test_exams_keep_their_folds_and_phantoms_are_never_held_out(self, data, tmp_path, fold):
        listing = write_datalist(data, {"count": 2, "seed": 5}, tmp_path, fold, 5)
        rows = {row["id"]: row for row in find_cases(data, listing)}
        own = {case["id"]: case for case in find_cases(data)}
        mixed = rows.keys() - own.keys()
        assert mixed == {"phantom_mixed_000", "phantom_mixed_001"} and len(rows) == 7
        for name, case in own.items():
            assert rows[name] == case
        assert {(rows[name]["fold"], rows[name]["sequence"]) for name in mixed} == {((fold + 1) % 5, "phantom")}
        assert all(rows[name]["labelled"] == list(range(1, 20)) for name in mixed)

    def test_exams_without_folds_and_sequences(self, data, tmp_path):
        rows = read_json(data / "index.json")["cases"]
        plain = [{key: str(data / row[key]) for key in ("image", "label")} for row in rows]
        (tmp_path / "index.json").write_text(json.dumps({"cases": plain}), encoding="utf-8")
        found = find_cases(tmp_path, write_datalist(tmp_path, {"count": 1, "seed": 5}, tmp_path / "run", 1, 5))
        exams = [row for row in found if "mixed" not in row["id"]]
        assert sorted(row["fold"] for row in exams) == [0, 1, 2, 3, 4]
        assert {row["sequence"] for row in exams} == {"unknown"}


class TestPublish:
    @pytest.fixture
    def published(self, recipe, data, tmp_path):
        done = run_recipe(recipe, data, tmp_path / "run", 4, None, lambda line: None, StandIn())
        return publish(recipe, done, results=tmp_path / "results"), recipe.root

    def test_weights_with_their_hash_and_settings(self, published):
        _, root = published
        weights = torch.load(root / "models" / "model.pt", weights_only=True)
        assert weights["w"].dtype == torch.float16
        origin = read_json(root / "models" / "provenance.json")
        assert origin["weights"] == {"file": "models/model.pt", "sha256": sha256_of(root / "models" / "model.pt")}
        assert origin["settings"]["half_precision"] is True
        assert read_json(root / "models" / "model.json") == SHIPPED

    def test_figures_with_their_counts(self, published):
        metadata = read_json(published[1] / "configs" / "metadata.json")
        assert metadata["eval_metrics"] == {
            "dice": {"mean": 0.9124, "sd": 0.02, "cases": 2},
            "groups": {"T1": {"dice": {"mean": 0.9, "cases": 1}}},
        }
        text = (published[1] / "configs" / "metadata.json").read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"  # as tools.verify wants it

    def test_logs_and_curves(self, published, tmp_path):
        names = {path.name for path in (tmp_path / "results" / "bundle").iterdir()}
        assert names == {
            "coarse_history.csv", "coarse_history.png", "fine_history.csv", "fine_history.png", "dice.csv",
        }  # fmt: skip
        assert all(file.is_file() for file in published[0])

    def test_a_cross_validation_goes_with_the_weights_that_it_is_of(self, recipe, data, tmp_path):
        done = run_recipe(recipe, data, tmp_path / "run", 4, None, lambda line: None, StandIn())
        row = {"subject": "a", "group": "T1", "dice": 0.9, "named_right": 1.0}
        folds = {0: [row | {"case": "a1"}], 1: [row | {"case": "b1", "subject": "b", "dice": 0.8}]}
        found = cross_validated(folds, what_was_trained(recipe, {}))
        names = [f"cross_validation{end}" for end in (".csv", "_cases.csv", "_recipe.json")]
        tables = {tmp_path / "results" / "bundle" / name for name in names}
        assert tables <= set(publish(recipe, done, found, tmp_path / "results"))
        assert all(table.is_file() for table in tables)
        whole = {"subjects": 2, "cases": 2, "mean": 0.85, "sd": 0.0707, "wholly_named_right": 1.0}
        metrics = read_json(recipe.root / "configs" / "metadata.json")["eval_metrics"]
        assert metrics["cross_validation"] == {"folds": 2, "groups": {"T1": whole}} | whole
        files = [recipe.root / "models" / name for name in ("model.pt", "model.json", "provenance.json")]
        before = [file.read_bytes() for file in files]
        more = cross_validated(folds | {2: [row | {"case": "c1", "subject": "c"}]}, what_was_trained(recipe, {}))
        metadata = recipe.root / "configs" / "metadata.json"
        assert set(publish(recipe, None, more, tmp_path / "results")) == tables | {metadata}
        after = read_json(metadata)["eval_metrics"]
        assert after.pop("cross_validation")["folds"] == 3 and metrics.pop("cross_validation") and after == metrics
        assert [file.read_bytes() for file in files] == before  # of the weights nothing is changed
        publish(recipe, done, results=tmp_path / "results")  # other weights, perhaps
        assert not any(table.exists() for table in tables)
        assert "cross_validation" not in read_json(recipe.root / "configs" / "metadata.json")["eval_metrics"]

    def test_weights_that_the_repository_takes_in_parts_only(self, recipe, data, tmp_path, monkeypatch):
        monkeypatch.setattr(publishing, "LARGEST", 1000)
        done = run_recipe(recipe, data, tmp_path / "run", 4, None, lambda line: None, StandIn())
        written = publish(recipe, done, results=tmp_path / "results")
        weights = recipe.root / "models" / "model.pt"
        parts = [path for path in written if ".part" in path.name]
        assert len(parts) > 2 and weights not in written
        weights.unlink()
        assert join_parts(weights) and weights.read_bytes() == done.weights.read_bytes()
        assert sha256_of(weights) == read_json(weights.with_name("provenance.json"))["weights"]["sha256"]

    def test_figures_that_are_asked_for(self):
        summary = {"a": {"x": {"dice": 1.23456, "n": 2}, "y": {"n": 3}}, "b": [0.123456, None], "c": 5}
        assert chosen_figures(summary, ["a/*/dice", "b", "none/x", "c/x"]) == {
            "a": {"x": {"dice": 1.2346}, "y": {}}, "b": [0.1235, None],
        }  # fmt: skip


class TestProgram:
    @pytest.fixture
    def start(self, data, tmp_path, capsys, monkeypatch):
        """Run the program for SAFNet with stand-ins; return its status, what it printed, and the bundle's calls."""
        load = Recipe.load
        few = {"count": 1, "seed": 7}
        monkeypatch.setattr(program.Recipe, "load", lambda name: replace(load(name), phantoms=few))

        def start(*arguments: str, bundles: StandIn | None = None, name: str = "safnet", folder: Path = data):
            bundles = bundles or StandIn()
            words = [name, "--dataset_dir", str(folder), "--output", str(tmp_path / "run"), *arguments]
            status = program.main(words, bundles)
            return status, *capsys.readouterr(), bundles.calls

        return start

    def test_a_release(self, start, tmp_path):
        status, out, err, calls = start("--set", "max_epochs=2")
        assert (status, err) == (0, "")
        assert f"weights: {tmp_path / 'run' / 'half' / 'model.pt'}" in out
        assert {ids["fold"] for ids in calls} == {"4"} and {ids["max_epochs"] for ids in calls} == {"2"}
        assert calls[0]["datalist"] == str(tmp_path / "run" / "datalist_4.json")

    def test_ids_go_where_they_are(self, start):
        """To the trainings, to the evaluations, or to both."""
        status, _, err, calls = start("--set", "epoch_length=3", "--set", "flips=true", "--set", "seed=5")
        assert (status, err) == (0, "")
        for ids in calls:
            evaluation = "checkpoint" in ids
            assert ("flips" in ids) is evaluation and ("epoch_length" in ids) is not evaluation and ids["seed"] == "5"

    def test_a_cross_validation(self, start, tmp_path):
        status, out, _, calls = start("--folds", "0,1")
        assert status == 0 and [ids["fold"] for ids in calls if "checkpoint" not in ids] == [*"000111"]
        assert "all folds: 0.8500 ± 0.0707 over 2 subjects (2 cases)" in out
        assert "T1: 0.8500 ± 0.0707" in out and "fold 0: 0.8000 ± - over 1 subjects" in out
        assert (tmp_path / "run" / "cross_validation.csv").is_file()

    def test_weights_of_the_recipes_own_fold_go_with_a_cross_validation(self, start, tmp_path, monkeypatch):
        handed_on = []
        monkeypatch.setattr(program, "publish", lambda *what: handed_on.append(what) or [])
        status, *_ = start("--folds", "4,0", "--publish")
        ((_, trained, found),) = handed_on
        assert status == 0 and trained.folder == tmp_path / "run" / "fold_4" and found["subjects"] == 2

    def test_folds_that_were_trained_elsewhere(self, start, tmp_path, monkeypatch):
        handed_on = []
        monkeypatch.setattr(program, "publish", lambda *what: handed_on.append(what) or [])
        run, there = tmp_path / "run", tmp_path / "there"
        assert start("--folds", "4,1", "--set", "device=cpu")[0] == 0
        run.rename(there)
        table = str(there / "cross_validation_cases.csv")
        shutil.copy(there / "fold_4" / "half" / "model.pt", there / "weights.pt")
        status, out, err, calls = start("--folds", "0", "--other_folds", table, "--publish")
        assert (status, err) == (0, "") and {ids["fold"] for ids in calls} == {"0"}
        assert "all folds: 0.8333 ± 0.0577 over 3 subjects (3 cases)" in out
        ((_, trained, found),) = handed_on
        assert trained is None and list(found["folds"]) == ["0", "1", "4"]
        parts = [row["part"] for row in read_csv(run / "cross_validation.csv")]
        assert parts == ["fold 0", "fold 1", "fold 4", "T1", "all"]
        (tmp_path / "merged").mkdir()
        for file in run.glob("cross_validation*"):
            file.rename(tmp_path / "merged" / file.name)
        shutil.rmtree(run)
        merged = str(tmp_path / "merged" / "cross_validation_cases.csv")
        for arguments, line in [
            (["--folds", "1", "--other_folds", table], f"{table}: fold 1 is trained here, too; have every fold once"),
            (["--folds", "2", "--other_folds", table, merged],
             f"{merged}: fold 1 stands in {table}, too; have every fold once"),
            (["--folds", "0", "--other_folds", table, "--set", "max_epochs=3"],
             f"{there / 'cross_validation_recipe.json'}: is of another training: set/max_epochs is None, not 3; train "
             "these folds with the same recipe"),
            (["--other_folds", table], "--other_folds: are of a cross-validation; pass --folds with those to train"),
            (["--folds", "0", "--other_folds", str(there / "none.csv")],
             f"{there / 'none.csv'}: is not there; pass the cross_validation_cases.csv of a run, with"),
            (["--folds", "0", "--other_folds", str(there / "cross_validation.csv")],
             f"{there / 'cross_validation.csv'}: has not the columns case, subject, group, fold, dice, named_right;"),
            (["--folds", "0", "--other_folds", str(there / "fold_4" / "half" / "model.pt")],
             f"{there / 'fold_4' / 'half' / 'cross_validation_recipe.json'}: is not there;"),
            (["--folds", "0", "--other_folds", str(there / "weights.pt")],
             f"{there / 'weights.pt'}: has not the columns case,"),
        ]:  # fmt: skip
            status, _, err, calls = start(*arguments)
            assert status == 1 and err.startswith(f"error: {line}") and err.count("\n") == 1, err
            assert not calls and not run.exists()
        rows = Path(table).read_text(encoding="utf-8")
        for text, line in [
            (rows.replace(",T1,4,", ",T1,7,"), "fold 7: there is none; the folds are 0, 1, 2, 3, 4"),
            (rows.replace(",T1,4,", ",T1,four,"),
             "line 3 is no row of such a table (invalid literal for int() with base 10: 'four'); pass the "
             "cross_validation_cases.csv of a run"),
        ]:  # fmt: skip
            Path(table).write_text(text, encoding="utf-8")
            assert start("--folds", "0", "--other_folds", table)[2] == f"error: {table}: {line}\n"
        trained = there / "cross_validation_recipe.json"
        trained.write_text("{", encoding="utf-8")
        _, _, err, _ = start("--folds", "0", "--other_folds", table)
        assert err.startswith(f"error: {trained}: is not JSON (Expecting property name") and err.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (["--folds", "a"], "error: --folds a: are no numbers with commas; pass some such as 0,1,2, or all"),
            (["--fold", "7"], "error: fold 7: there is none; the folds are 0, 1, 2, 3, 4"),
            (["--fold", "1", "--folds", "all"], "error: --fold: says the same as --folds; leave one of them out"),
            (["--folds", "0,1", "--publish"],
             "error: --publish: hands on the weights of fold 4; have it among --folds, or in --other_folds"),
            (["--set", "lr"], "error: --set lr: is not of the form ID=VALUE; pass one such as --set device=cpu"),
            (["--set", "flips=perhaps"], "error: --flips perhaps: is neither true nor false; pass --flips true or"),
            (["--set", "lr=x"], "error: --lr x: is not a number; pass one such as --lr 0.001"),
            (["--set", "resmue=1"], "error: --resmue: "),
        ],
    )  # fmt: skip
    def test_mistakes(self, start, arguments, line, tmp_path):
        status, _, err, calls = start(*arguments)
        assert status == 1 and err.startswith(line) and err.count("\n") == 1
        assert not calls and not (tmp_path / "run").exists()

    def test_no_such_bundle(self, start):
        _, _, err, _ = start(name="safnett")
        assert err == f"error: safnett: is no bundle that there is a recipe for; choose {', '.join(recipe_names())}\n"

    def test_no_such_data(self, start, tmp_path):
        status, _, err, _ = start(folder=tmp_path / "none")
        assert (status, err) == (1, f"error: {tmp_path / 'none'}: is not a folder; pass --dataset_dir with the data\n")

    def test_a_training_that_fails(self, start, tmp_path):
        bundles = StandIn()
        bundles.fails = "coarse"
        status, _, err, _ = start(bundles=bundles)
        assert status == 1 and err.startswith(f"error: {tmp_path / 'run' / 'coarse.log'}: loss: became nan")
        assert err.count("\n") == 1

    def test_an_interruption(self, start):
        class Interrupted(StandIn):
            def __call__(self, words, log):
                raise KeyboardInterrupt

        status, _, err, _ = start(bundles=Interrupted())
        assert (status, err) == (130, "interrupted; the same command goes on from there\n")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_name_what_there_is(name):
    recipe = Recipe.load(name)
    for stage in (*recipe.stages, recipe.evaluation):
        content: dict = {}
        for file in recipe.files(stage):
            content |= read_json(Path(file))
        unknown = recipe.set_for(stage, Path("run")).keys() - content.keys()
        assert not unknown, f"{stage.name}: {unknown}"


@pytest.mark.parametrize(
    ("name", "files", "average", "evaluate", "network"),
    [
        *((name, ("train", "release"), "", "evaluate", "@network") for name in ("funet", "safnet")),
        ("bess", ("train", "train_classifier", "release_classifier"), "", "evaluate_classifier", "@trained_part"),
        ("bess", ("train", "train_segmenter", "release_segmenter"), ".segmenter", "evaluate", "@network"),
    ],
)
def test_an_evaluation_is_of_the_weights_that_it_loads(name, files, average, evaluate, network):
    """Not of the running mean that the overlay for a release makes, which nobody has trained then."""
    parser = ConfigParser()
    configs = ROOT / "bundles" / name / "configs"
    parser.read_config([str(configs / f"{file}.json") for file in files])
    assert parser["validate#evaluator#network"] == f"$@average.ema_model{average}"
    parser.read_config([str(configs / f"{file}.json") for file in (*files, evaluate)])
    assert parser["validate#evaluator#network"] == network
