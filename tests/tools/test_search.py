from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from common.engines import packages
from tests.bundles.runs import ROOT
from tests.common.data.video.dataset_files import drawn, write_picture
from tools.bundle_process import TrainingError, wait_for
from tools.folder_lock import undisturbed
from tools.search.__main__ import main
from tools.search.configuration import Configuration
from tools.search.results import best_value
from tools.search.space import Space

CONFIGURATION = {
    "output_dir": "output",
    "dataset_dir": "data",
    "fold": 0,
    "num_folds": 3,
    "resume": False,
    "lr": 0.001,
    "batch_size": 8,
    "dropout": 0.0,
    "frames": "@clip_length",
    "augment": True,
    "schedule": "step",
    "spatial_size": [256, 256],
    "num_workers": 0,
    "optimizer": {"betas": [0.9, 0.99]},
}
SPACE = {"lr": {"low": 1e-4, "high": 3e-3, "log": True}, "batch_size": [4, 8, 16]}


def ids_of(words: Sequence[str]) -> dict[str, str]:
    """The ids of a training's command."""
    assert words[:4] == ["-m", "monai.bundle", "run", "--config_file"]
    return {name.removeprefix("--"): text for name, text in zip(words[5::2], words[6::2], strict=True)}


class StandIn:
    """Stands for the process that trains: it leaves what a training leaves, and its score is lr + fold / 10.

    Attributes:
        cases: what a fold is validated with.
        seen: the ids of each training so far.
        before: called with the ids before anything is written; may raise.
        after: the same when the training has begun and left its state, but no score.
    """

    def __init__(self) -> None:
        self.cases: Callable[[str], list[str]] = lambda fold: [f"case {fold}"]
        self.seen: list[dict[str, str]] = []
        self.before: Callable[[Mapping[str, str]], None] = lambda ids: None
        self.after: Callable[[Mapping[str, str]], None] = lambda ids: None

    def __call__(self, words: Sequence[str], log: Path, lock: int | None) -> None:
        ids = ids_of(words)
        self.seen.append(ids)
        self.before(ids)
        folder = Path(ids["output_dir"])
        folder.mkdir(parents=True, exist_ok=True)
        split = json.dumps({"train": ["another"], "validation": self.cases(ids["fold"])})
        for name in ("split.json", "training_state.pt"):
            (folder / name).write_text(split, encoding="utf-8")
        score = float(ids["lr"]) + int(ids["fold"]) / 10
        rows = ["epoch,loss,val_dice,val_loss", f"1,1.0,{score},nan", f"2,0.9,{score - 1},{score}", "3,0.8,,"]
        (folder / "history.csv").write_text("\n".join([rows[0], "1,1.0,,"]), encoding="utf-8")
        self.after(ids)
        (folder / "history.csv").write_text("\n".join(rows), encoding="utf-8")

    @property
    def trained(self) -> list[tuple[str, str, str]]:
        """Trial, fold, and whether it was resumed."""
        places = [(*Path(ids["output_dir"]).parts[-2:], ids.get("resume", "false")) for ids in self.seen]
        return [(trial.removeprefix("trial_"), fold.removeprefix("fold_"), resume) for trial, fold, resume in places]


def at(trial: str, fold: str, raised: BaseException) -> Callable[[Mapping[str, str]], None]:
    """Raise in one training."""

    def hook(ids: Mapping[str, str]) -> None:
        if ids["output_dir"].endswith(os.path.join(f"trial_{trial}", f"fold_{fold}")):
            raise raised

    return hook


@pytest.fixture
def place(tmp_path, capsys) -> SimpleNamespace:
    """A configuration, a space, and what searches with them."""
    (tmp_path / "train.json").write_text(json.dumps(CONFIGURATION), encoding="utf-8")
    (tmp_path / "space.json").write_text(json.dumps(SPACE), encoding="utf-8")
    made = SimpleNamespace(
        config=str(tmp_path / "train.json"), space=tmp_path / "space.json", output=tmp_path / "out", train=StandIn()
    )

    def search(**options: Any) -> tuple[int, str, str]:
        """Exit status and what is said; an option that is a list is repeated."""
        given = {
            "config_file": made.config,
            "space": made.space,
            "output": made.output,
            "score": "val_dice",
            "mode": "max",
            "trials": 3,
        } | options
        words = []
        for name, values in given.items():
            for value in values if isinstance(values, list) else [values]:
                words += [f"--{name}", str(value)]
        capsys.readouterr()
        status = main(words, made.train)
        return status, *capsys.readouterr()

    made.search = search
    return made


def read_table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("trials.csv", "trials.md", "best.json")}


class TestSearch:
    def test_trials_are_ranked_by_the_mean_over_the_folds(self, place):
        status, out, err = place.search(set=["augment=false", "num_workers=1"])
        assert (status, err) == (0, "")
        assert place.train.trained == [(f"00{trial}", fold, "false") for trial in range(3) for fold in "012"]
        assert {ids["augment"] for ids in place.train.seen} == {"false"}
        rates = {f"{trial}": float(place.train.seen[3 * trial]["lr"]) for trial in range(3)}
        table = read_table(place.output)
        assert [row["trial"] for row in table] == sorted(rates, key=lambda trial: -rates[trial])
        for row in table:
            rate = rates[row["trial"]]
            assert float(row["lr"]) == rate and row["batch_size"] in ("4", "8", "16")
            assert float(row["mean"]) == pytest.approx(rate + 0.1)
            assert float(row["sd"]) == pytest.approx(0.1)  # of 0, 0.1, 0.2: n - 1 in the denominator
            assert [float(row[f"fold_{fold}"]) for fold in range(3)] == pytest.approx([rate, rate + 0.1, rate + 0.2])
        best = json.loads((place.output / "best.json").read_text(encoding="utf-8"))
        assert best == {"lr": float(table[0]["lr"]), "batch_size": int(table[0]["batch_size"])}
        assert (place.output / "trials.md").read_text(encoding="utf-8") in out
        command = out.splitlines()[-1]
        assert command.startswith(
            f"""python -m monai.bundle run --config_file "['{place.config}','{place.output}/best"""
        )
        assert "--augment false" in command and "--fold" not in command
        assert not list(place.output.rglob("training_state.pt"))

    def test_the_least_score_can_be_the_best(self, place):
        assert place.search(score="val_loss", mode="min")[0] == 0
        rates = [float(row["lr"]) for row in read_table(place.output)]
        assert rates == sorted(rates)

    def test_the_study_opens_in_optuna(self, place):
        place.search(folds="2,0")
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{place.output / 'study.db'}")
        (first, *_) = read_table(place.output)
        assert study.best_params == {"lr": float(first["lr"]), "batch_size": int(first["batch_size"])}
        assert study.best_value == float(first["mean"]) and list(study.best_trial.user_attrs["scores"]) == ["2", "0"]

    def test_a_folder_of_any_name(self, place):
        for index, name in enumerate(("what? 50% #1", "a'b")):
            assert place.search(output=place.output.with_name(name), trials=index + 1)[0] == 0
        assert len(read_table(place.output.with_name("a'b"))) == 2
        assert (place.output.with_name("what? 50% #1") / "study.db").is_file()

    def test_one_fold_has_no_standard_deviation(self, place):
        assert place.search(folds="1", trials=1)[0] == 0
        assert place.train.trained == [("000", "1", "false")]
        assert read_table(place.output)[0]["sd"] == ""

    def test_more_trials_later(self, place):
        place.search(trials=2)
        place.search(trials=4)
        assert [trial for trial, fold, _ in place.train.trained if fold == "0"] == ["000", "001", "002", "003"]
        grown = results(place.output)
        place.search(trials=4, output=place.output.with_name("at once"))
        assert results(place.output.with_name("at once"))["trials.csv"] == grown["trials.csv"]

    def test_a_small_space_has_no_more_trials(self, place):
        place.space.write_text('{"lr": [1e-3, 1e-4], "batch_size": [4]}', encoding="utf-8")
        status, out, _ = place.search(trials=10)
        assert status == 0 and "no more than 2 different trials" in out
        assert sorted(row["lr"] for row in read_table(place.output)) == ["0.0001", "0.001"]


class TestInterruption:
    def test_it_goes_on_where_it_stopped(self, place):
        """Cut in the midst of a training, before one, and not at all: the same trials and the same table."""
        whole = place.output.with_name("whole")
        place.search(output=whole)
        place.train.seen.clear()

        place.train.after = at("000", "1", KeyboardInterrupt())
        status, _, err = place.search()
        assert (status, err) == (130, "interrupted; the same command goes on with it\n")
        place.train.after, place.train.before = (lambda ids: None), at("001", "0", KeyboardInterrupt())
        assert place.search()[0] == 130
        place.train.before = lambda ids: None
        assert place.search()[0] == 0
        assert place.train.trained == [
            ("000", "0", "false"), ("000", "1", "false"),
            ("000", "1", "true"), ("000", "2", "false"), ("001", "0", "false"),
            *(("001", fold, "false") for fold in "012"), *(("002", fold, "false") for fold in "012"),
        ]  # fmt: skip
        assert results(place.output) == results(whole)

        place.train.seen.clear()
        status, out, _ = place.search()
        assert status == 0 and not place.train.seen and "best values" in out

    def test_the_values_are_kept_before_the_first_training(self, place):
        place.train.before = at("000", "0", KeyboardInterrupt())
        place.search()
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{place.output / 'study.db'}")
        assert [set(trial.params) for trial in study.trials] == [{"lr", "batch_size"}] * 3

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("seed", 1),
            ("mode", "min"),
            ("score", "val_loss"),
            ("folds", "0,1"),
            ("set", "augment=false"),
            ("space", {"lr": [0.1]}),
        ],
    )
    def test_another_search_in_the_folder_is_refused(self, place, option, value):
        place.search(folds="0,1,2")
        kept = results(place.output)
        if option == "space":
            place.space.write_text(json.dumps(value), encoding="utf-8")
            value = place.space
        status, _, err = place.search(**{option: value})
        assert status == 1
        assert err == (
            f"error: {place.output}: holds a search with another --{option}; "
            "pass what it began with, or another --output\n"
        )
        assert results(place.output) == kept

    def test_a_configuration_that_was_changed_is_another(self, place):
        place.search()
        Path(place.config).write_text(json.dumps(CONFIGURATION | {"schedule": "cosine"}), encoding="utf-8")
        assert "holds a search with another --config_file" in place.search()[2]

    def test_workers_and_device_may_be_others(self, place):
        place.search()
        assert place.search(set="num_workers=2", trials=4)[0] == 0

    def test_trainings_of_an_unknown_search_are_not_gone_on_with(self, place):
        place.search()
        (place.output / "study.db").unlink()
        assert place.search()[2] == f"error: {place.output}: holds trials, but no study.db; pass another --output\n"

    def test_a_broken_study(self, place):
        place.output.mkdir()
        (place.output / "study.db").write_bytes(b"no database" * 100)
        status, _, err = place.search()
        assert status == 1 and err.startswith(f"error: {place.output / 'study.db'}: cannot be used (")
        assert len(err.splitlines()) == 1


class TestFailures:
    def test_a_failed_trial_is_recorded_and_the_next_follows(self, place):
        place.train.after = at("000", "1", TrainingError("loss: became nan in epoch 1; pass a lower --lr"))
        status, _, err = place.search()
        assert status == 0
        assert err == "error: trial 0, fold 1: loss: became nan in epoch 1; pass a lower --lr\n"
        assert ("000", "2", "false") not in place.train.trained
        *good, failed = read_table(place.output)
        assert len(good) == 2 and failed["trial"] == "0" and failed["mean"] == failed["sd"] == ""
        assert failed["fold_0"] and failed["error"] == "loss: became nan in epoch 1; pass a lower --lr"
        place.train.seen.clear()
        assert place.search()[0] == 0 and not place.train.seen

    def test_a_later_training_that_does_not_begin_fails_its_trial(self, place):
        place.train.before = at("001", "0", TrainingError("does not fit"))
        assert place.search()[0] == 0
        assert read_table(place.output)[-1]["error"] == "does not fit"

    def test_the_first_training_that_does_not_begin_ends_the_search(self, place):
        """Data that are not there; and once they are, the same folder goes on, though an id is another."""
        place.train.before = at("000", "0", TrainingError("nowhere: is not a folder; pass --dataset_dir"))
        status, _, err = place.search(set="dataset_dir=nowhere")
        assert (status, err) == (1, "error: nowhere: is not a folder; pass --dataset_dir\n")
        assert len(place.train.seen) == 1
        place.train.before = lambda ids: None
        assert place.search(set="dataset_dir=there")[0] == 0
        assert len(read_table(place.output)) == 3

    def test_data_that_are_gone_do_not_fail_the_trials_that_are_left(self, place):
        place.train.after = at("001", "0", KeyboardInterrupt())
        place.search()
        place.train.before = at("001", "0", TrainingError("data: is not a folder; pass --dataset_dir"))
        assert place.search()[2] == "error: data: is not a folder; pass --dataset_dir\n"
        place.train.before = place.train.after = lambda ids: None
        assert place.search()[0] == 0
        assert all(row["mean"] for row in read_table(place.output))

    def test_all_trials_fail(self, place):
        def diverge(ids: Mapping[str, str]) -> None:
            raise TrainingError("loss: became nan")

        place.train.after = diverge
        status, _, err = place.search()
        assert status == 1 and len(err.splitlines()) == 4
        assert err.splitlines()[-1].startswith(f"error: {place.output}: all 3 trials failed; see trials.csv")

    def test_an_unknown_score_names_those_that_there_are(self, place):
        """It is found out after the first training, which counts when the score is mended."""
        status, _, err = place.search(score="dice")
        assert status == 1 and err.startswith("error: --score dice: is no column of the history.csv in ")
        assert err.endswith("; choose epoch, loss, val_dice, val_loss\n")
        assert place.search()[0] == 0
        assert place.train.trained[:3] == [("000", "0", "false"), ("000", "0", "true"), ("000", "1", "false")]

    def test_folds_that_are_the_same_are_refused(self, place):
        """As of data that state their parts; the fold that was trained counts when it is the only one."""
        place.train.cases = lambda fold: ["case 1", "case 2"]
        status, _, err = place.search()
        assert (status, err) == (
            1,
            "error: --folds: fold 1 has the same validation cases as fold 0, as data have that state them; "
            "pass --folds 0\n",
        )
        assert place.search(folds="0")[0] == 0
        assert [trained[:2] for trained in place.train.trained] == [
            ("000", "0"), ("000", "1"), ("001", "0"), ("002", "0"),
        ]  # fmt: skip
        assert [row["mean"] for row in read_table(place.output)] == [row["fold_0"] for row in read_table(place.output)]
        assert list(read_table(place.output)[0]) == ["trial", "mean", "sd", "fold_0", "lr", "batch_size"]


MISTAKES = {
    "no JSON": ("{", "cannot be read"),
    "no space": ([1], "is no space"),
    "nothing in it": ({}, "is no space"),
    "unknown id": ({"lrr": [1]}, "--lrr: is not an id of this configuration; did you mean --lr?"),
    "an id of the search": ({"fold": [0, 1]}, "--fold: is what the search itself sets"),
    "the number of folds": ({"num_folds": [3, 5]}, "num_folds: is the same in all trials"),
    "low above high": ({"lr": {"low": 0.1, "high": 0.01}}, "lr: low 0.1 is above high 0.01; exchange them"),
    "empty list": ({"lr": []}, "lr: has neither a list of values nor low and high"),
    "a single value": ({"lr": 0.1}, "lr: has neither a list of values nor low and high"),
    "low alone": ({"lr": {"low": 0.1}}, "lr: has neither a list of values nor low and high"),
    "misspelt": ({"lr": {"low": 0.1, "high": 1, "lgo": True}}, "lr: has an unknown 'lgo'; state of low, high, log"),
    "another kind": ({"batch_size": [4, "many"]}, "--batch_size many: is not a whole number"),
    "not whole": ({"batch_size": [4, 8.5]}, "--batch_size 8.5: is not a whole number"),
    "not whole within": (
        {"batch_size": {"low": 2, "high": 8, "step": 0.5}},
        "batch_size: step 0.5 is not a whole number",
    ),
    "out of range": ({"batch_size": {"low": 0, "high": 8}}, "--batch_size 0: is out of range; it has to be 1 or more"),
    "a word as bound": ({"lr": {"low": "1e-4", "high": 1}}, 'lr: low "1e-4" is no number'),
    "no logarithm": ({"dropout": {"low": 0, "high": 0.5, "log": True}}, "dropout: low 0 has no logarithm"),
    "log and step": ({"lr": {"low": 0.1, "high": 1, "log": True, "step": 0.1}}, "lr: has both log and step"),
    "a word for log": ({"lr": {"low": 0.1, "high": 1, "log": "yes"}}, 'lr: log "yes" is neither true nor false'),
    "no step": ({"lr": {"low": 0.1, "high": 1, "step": 0}}, "lr: step 0 is not above 0"),
    "a range of words": ({"schedule": {"low": 0, "high": 1}}, 'schedule: is "step" by itself, no number; list its'),
    "a range of switches": ({"augment": {"low": 0, "high": 1}}, "augment: is true by itself, no number; list its"),
    "twice": ({"batch_size": [4, 8, 4]}, "batch_size: has 4 twice"),
    "null": ({"schedule": ["step", None]}, "schedule: cannot be null"),
}


class TestMistakes:
    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_a_wrong_space_is_one_line(self, place, mistake):
        content, expected = MISTAKES[mistake]
        place.space.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        status, _, err = place.search()
        assert status == 1 and err.startswith(f"error: {place.space}") and expected in err
        assert len(err.splitlines()) == 1 and not place.output.exists()

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"folds": "0,7"}, "--folds 0,7: there is no fold 7; the folds are 0 to 2"),
            ({"folds": "0,0"}, "--folds 0,0: has one twice; pass each once"),
            ({"folds": "first"}, "--folds first: are no numbers with commas; pass some such as --folds 0,1,2"),
            ({"folds": "3", "set": "num_folds=2"}, "--folds 3: there is no fold 3; the folds are 0 to 1"),
            ({"set": "num_folds=many"}, "--num_folds many: is not a whole number; pass one such as --num_folds 3"),
            ({"set": "lr"}, "--set lr: is not of the form ID=VALUE; pass one such as --set max_epochs=20"),
            ({"set": "lrr=1"}, "--lrr: is not an id of this configuration; did you mean --lr?"),
            ({"set": "output_dir=x"}, "--output_dir: is what the search itself sets; leave it out"),
            ({"set": "lr=0.1"}, "--set lr: is searched in {space}; leave it out of one of them"),
            ({"trials": 0}, "--trials 0: is out of range; it has to be 1 or more"),
            ({"seed": -1}, "--seed -1: is out of range; it has to be from 0 to 4294967295"),
            ({"space": "none.json"}, "none.json: cannot be read ([Errno 2] No such file or directory: 'none.json'); "
                                     "pass --space with a file in JSON"),
            ({"config_file": "{config},none.json"}, "none.json: cannot be read ([Errno 2] No such file or directory: "
                                                    "'none.json'); pass a configuration in JSON"),
            ({"config_file": "{space}"}, "{space}: has no id 'fold', so it does not cross-validate; pass a train.json"),
            ({"config_file": "train.py"}, "train.py: is no configuration; pass --config_file with a file in JSON"),
            ({"output": "{config}"}, "{config}: cannot be written (File exists); pass another --output"),
        ],
    )  # fmt: skip
    def test_a_wrong_option_is_one_line(self, place, options, expected):
        names = {"space": place.space, "config": place.config}
        options = {name: value.format(**names) if isinstance(value, str) else value for name, value in options.items()}
        status, _, err = place.search(**options)
        assert (status, err) == (1, f"error: {expected.format(**names)}\n")
        assert not place.train.seen

    def test_without_optuna(self, place, monkeypatch):
        monkeypatch.setattr(packages, "find_spec", lambda name: None)
        assert place.search()[2] == (
            "error: python -m tools.search: needs the package optuna; pip install -r tools/requirements-extra.txt\n"
        )


class TestSpace:
    @pytest.fixture
    def draw(self, place):
        def draw(content: Mapping[str, Any], trials: int = 60, seed: int = 0) -> list[dict[str, Any]]:
            place.space.write_text(json.dumps(content), encoding="utf-8")
            return Space(place.space, Configuration([place.config])).draw(trials, seed)

        return draw

    def test_a_seed_draws_the_same_again_and_more(self, draw):
        assert draw(SPACE, 20) == draw(SPACE, 20) == draw(SPACE, 60)[:20]
        assert draw(SPACE, 20) != draw(SPACE, 20, seed=1)

    def test_the_logarithm_is_uniform(self, draw):
        rates = [values["lr"] for values in draw(SPACE, 400)]
        assert all(1e-4 <= rate <= 3e-3 for rate in rates)
        below = sum(rate < (1e-4 * 3e-3) ** 0.5 for rate in rates)
        assert 160 <= below <= 240  # 200 expected, standard deviation 10; of a uniform draw 62

    @pytest.mark.parametrize(
        ("name", "values", "expected"),
        [
            ("batch_size", {"low": 2, "high": 8, "step": 2}, {2, 4, 6, 8}),
            ("batch_size", {"low": 2, "high": 4}, {2, 3, 4}),
            ("dropout", {"low": 0, "high": 0.3, "step": 0.1}, {0.0, 0.1, 0.2, 0.3}),
            ("dropout", {"low": 0, "high": 0.25, "step": 0.1}, {0.0, 0.1, 0.2}),
            ("dropout", {"low": 0, "high": 1, "step": 1}, {0.0, 1.0}),
            ("dropout", {"low": 0.2, "high": 0.2}, {0.2}),
            ("frames", {"low": 3, "high": 5}, {3, 4, 5}),
            ("augment", [True, False], {True, False}),
            ("schedule", ["step", "cosine"], {"step", "cosine"}),
        ],
    )
    def test_each_value_once_and_of_its_kind(self, draw, name, values, expected):
        drawn = [values[name] for values in draw({name: values})]
        assert len(drawn) == len(expected) and set(drawn) == expected
        assert {type(value) for value in drawn} == {type(value) for value in expected}

    def test_lists_and_ids_within_others(self, place):
        """They are passed as the command line takes them, and best.json has them as they are."""
        sizes = [[64, 64], [32, 96]]
        content = {"spatial_size": sizes, "optimizer#betas": [[0.9, 0.99]], "lr": [0.1]}
        place.space.write_text(json.dumps(content), encoding="utf-8")
        assert place.search(folds="0")[0] == 0
        assert {ids["spatial_size"] for ids in place.train.seen} == {"[64, 64]", "[32, 96]"}
        best = json.loads((place.output / "best.json").read_text(encoding="utf-8"))
        assert best["spatial_size"] in sizes and best["optimizer#betas"] == [0.9, 0.99]

    @pytest.mark.parametrize("stage", ["segmenter", "classifier"])
    def test_the_spaces_of_bess(self, stage):
        configs = ROOT / "bundles" / "bess" / "configs"
        configuration = Configuration([str(configs / "train.json"), str(configs / f"train_{stage}.json")])
        space = Space(ROOT / "tools" / "search" / f"bess_{stage}.json", configuration)
        assert len(space.draw(10, 0)) == 10


class TestTraining:
    """The process of a training, with other programs in its place."""

    def run(self, tmp_path: Path, program: str) -> str:
        wait_for(["-c", program], tmp_path / "log" / "fold.log")
        return (tmp_path / "log" / "fold.log").read_text(encoding="utf-8")

    def test_what_it_says_is_kept(self, tmp_path):
        self.run(tmp_path, "print('first')")
        assert "second" in (text := self.run(tmp_path, "import sys; print('second', file=sys.stderr)"))
        assert text.index("first") < text.index("second")

    @pytest.mark.parametrize(
        ("program", "expected"),
        [
            ("print('error: data: none; mend'); print('later'); raise SystemExit(1)", "data: none; mend"),
            ("raise ValueError('so')", "ValueError: so"),
            ("raise SystemExit(3)", "it ended without a word; see "),
            ("import os; os.kill(os.getpid(), 9)", "it was ended by SIGKILL; is there enough memory? See "),
        ],
    )
    def test_a_failure_is_its_line(self, tmp_path, program, expected):
        self.run(tmp_path, "print('error: an earlier one')")
        with pytest.raises(TrainingError) as raised:
            self.run(tmp_path, program)
        assert str(raised.value).startswith(expected)

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_one_that_is_told_to_stop_does_not_fail(self, tmp_path, number):
        program = f"import os, signal; signal.signal({number}, signal.SIG_DFL); os.kill(os.getpid(), {number})"
        with pytest.raises(KeyboardInterrupt):
            self.run(tmp_path, program)

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no locks that a process inherits")
    def test_one_that_outlives_its_search_is_waited_for(self, tmp_path, capsys):
        """A search is killed, its training goes on; the next search begins when that has ended."""
        training = f"import time; time.sleep(2); open({str(tmp_path / 'done')!r}, 'w').close()"
        killed = (
            "import os, sys, threading, time\nfrom pathlib import Path\n"
            "from tools.folder_lock import undisturbed\nfrom tools.bundle_process import wait_for\n"
            f"folder = Path({str(tmp_path)!r})\n"
            "with undisturbed(folder) as lock:\n"
            f"    words = ['-c', {training!r}]\n"
            "    threading.Thread(target=wait_for, args=(words, folder / 'log', lock), daemon=True).start()\n"
            "    while not (folder / 'log').is_file() or not (folder / 'log').stat().st_size:\n"
            "        time.sleep(0.01)\n"
            "    time.sleep(0.5)\n"
            "    os.kill(os.getpid(), 9)\n"
        )
        assert subprocess.run([sys.executable, "-c", killed], cwd=ROOT).returncode == -9
        assert not (tmp_path / "done").exists()
        with undisturbed(tmp_path):
            assert (tmp_path / "done").exists()
        assert "waiting for its end" in capsys.readouterr().out

    def test_the_best_value(self, tmp_path):
        (tmp_path / "stage").mkdir()
        (tmp_path / "stage" / "history.csv").write_text(
            "epoch,dice,none\n1,,\n2,0.5,nan\n3,0.7,inf\n4,nan,\n", encoding="utf-8"
        )
        assert (best_value(tmp_path, "dice", "max"), best_value(tmp_path, "dice", "min")) == (0.7, 0.5)
        with pytest.raises(TrainingError, match="has no number in the column none"):
            best_value(tmp_path, "none", "max")
        with pytest.raises(TrainingError, match="has no history"):
            best_value(tmp_path / "other", "dice", "max")


def test_trainings_of_a_bundle_go_on(place):
    """FUnet on two folds; the search ends when the second one's first epoch is done, and goes on."""
    place.space.write_text('{"lr": {"low": 0.01, "high": 0.02}}', encoding="utf-8")
    dataset, noise = place.output.with_name("data"), np.random.default_rng(0)
    for name in "abcd":
        for index in range(3):
            write_picture(dataset / name / "frames" / f"{index}.png", noise.integers(0, 255, (32, 48, 3), np.uint8))
            write_picture(dataset / name / "masks" / f"{index}.png", drawn(12, (32, 48)))
    ids = {"dataset_dir": dataset, "num_folds": 2, "num_validation": 1, "training_starts": "all", "crop_pixels": 2}
    ids |= {"frames": 3, "spatial_size": [32, 48], "unet_features": [8, 16], "max_epochs": 3, "batch_size": 2}
    ids |= {"bundle_root": ROOT / "bundles" / "funet", "device": "cpu"}
    options = {"config_file": ROOT / "bundles" / "funet" / "configs" / "train.json", "trials": 1}
    options |= {"score": "val_mean_dice", "set": [f"{name}={value}" for name, value in ids.items()]}

    def one_epoch_of_the_second(words: Sequence[str], log: Path, lock: int | None) -> None:
        if ids_of(words)["fold"] == "0":
            return wait_for(words, log, lock)
        wait_for([*words, "--max_epochs", "1"], log, lock)
        raise KeyboardInterrupt

    place.train = one_epoch_of_the_second
    status, out, _ = place.search(**options)
    assert status == 130 and "fold 0: val_mean_dice" in out
    place.train = wait_for
    status, out, err = place.search(**options)
    assert (status, err) == (0, "") and "fold 0:" not in out and "fold 1: val_mean_dice" in out
    (row,) = read_table(place.output)
    for fold in range(2):
        with open(place.output / "trial_000" / f"fold_{fold}" / "history.csv", encoding="utf-8") as file:
            epochs = list(csv.DictReader(file))
        assert [epoch["epoch"] for epoch in epochs] == ["1", "2", "3"]
        assert {float(epoch["lr"]) for epoch in epochs} == {float(row["lr"])}
        assert max(float(epoch["val_mean_dice"]) for epoch in epochs) == float(row[f"fold_{fold}"])
    assert "Resuming behind epoch 1" in (place.output / "trial_000" / "fold_1.log").read_text(encoding="utf-8")
