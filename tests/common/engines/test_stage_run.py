from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from common.engines import StageRun

TRAINER = """
NOTES = []

class Trainer:
    def __init__(self, name):
        self.name = name
        NOTES.append(f"{name} is made")

    def run(self):
        NOTES.append(f"{self.name} runs")
"""


@pytest.fixture
def files(tmp_path) -> list[str]:
    train = {"name": "first", "train": {"trainer": {"_target_": "trainer_with_notes.Trainer", "name": "@name"}}}
    for file, content in (("train.json", train), ("second.json", {"name": "second"})):
        (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    return [str(tmp_path / file) for file in ("train.json", "second.json")]


@pytest.fixture
def notes(tmp_path, monkeypatch) -> list[str]:
    """What was done with the trainers that configurations make."""
    (tmp_path / "trainer_with_notes.py").write_text(TRAINER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("trainer_with_notes")
    module.NOTES.clear()
    return module.NOTES


def test_the_trainer_is_made_first_and_once(files, notes):
    stage = StageRun(files, {})
    stage.prepare()
    assert notes == ["second is made"]
    stage.run()
    assert notes == ["second is made", "second runs"]


def test_ids_go_before_the_files(files, notes):
    StageRun(files, {"name": "mine"}).run()
    assert notes == ["mine is made", "mine runs"]


def test_what_is_not_active_is_not_even_made(files):
    stage = StageRun([str(Path(files[0]).with_name("missing.json"))], {}, active=False)
    stage.prepare()
    stage.run()
