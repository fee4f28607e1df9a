"""Datalists, plans and weights that are damaged at random: each is used, or refused in one line."""

from __future__ import annotations

import io
import itertools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import list_data_collate
from torch import nn

from common.data import LabelScheme, SpineCases, learned_values
from common.data.atomic import write_json
from common.errors import InputError
from common.handlers import StrictCheckpointLoader, TrainingRecorder, load_weights
from common.transforms import KeepStructuresd
from tests.fuzzing import all_survive, damaged, damaged_values, json_text

CASES = 400  # of each kind
SCHEME = "mrspineseg17"
VALUES = [structure.value for structure in LabelScheme.load(SCHEME).structures]
PLAN = {"label_scheme": SCHEME, "spatial_size": [4, 32, 16], "crop_fraction": 0.5, "aspp": True, "learned": [1, 2, 11]}


def used_or_refused(use: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the call returns, None where it refuses the file as a user can read it."""
    try:
        return use(*arguments)
    except InputError as error:
        assert "\n" not in str(error)
        return None


def write_damaged(path: Path, content: bytes, rng: np.random.Generator) -> None:
    path.write_bytes(damaged(content, rng, len(content)))


def write_damaged_json(path: Path, content: Any, rng: np.random.Generator) -> None:
    if rng.random() < 0.8:
        path.write_text(json_text(damaged_values(content, rng)), encoding="utf-8")
    else:
        write_damaged(path, json.dumps(content).encode(), rng)


# ------------------------------------------------------------------------------------------------------------ datalists


def damaged_datalist(seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(5):
        case = {"id": f"c{number}", "image": f"c{number}.nii", "label": f"c{number}_seg.nii", "subject": f"s{number}"}
        case |= {"fold": number % 2, "labelled": [1, 2, 11 + number], "sequence": "T2"}
        for key in ("image", "label"):
            (folder / case[key]).touch()
        cases.append(case)
    write_damaged_json(folder / "index.json", {"cases": cases}, rng)
    used_or_refused(use_datalist, folder)


def use_datalist(folder: Path) -> None:
    """Do with a datalist what a training does."""
    cases = SpineCases(folder, num_folds=2, num_validation=1)
    assert set(learned_values(cases.train, SCHEME)) <= set(VALUES)
    for case in cases.all:
        assert case["id"] == Path(case["id"]).name != ".."  # files are called after it
        assert isinstance(case.get("labelled"), (list, type(None)))  # a text would be taken letter by letter
        drawn = LabelScheme.load(SCHEME).drawn_channels(case.get("labelled"))
        assert drawn.shape == (len(VALUES) + 1,)
    write_json(folder / "split.json", cases.train.split)
    items = [{key: value for key, value in case.items() if key != "labelled"} for case in cases.train]
    for pair in itertools.pairwise(items):
        assert set(list_data_collate(list(pair))) >= {"id", "image", "label"}


def test_datalists(tmp_path):
    all_survive(damaged_datalist, tmp_path, range(CASES))


# ---------------------------------------------------------------------------------------------------------------- plans


def damaged_plan(seed: int, folder: Path) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), folder / "model.pt")
    write_damaged_json(folder / "model.json", PLAN, np.random.default_rng(seed))
    used_or_refused(use_plan, folder / "model.pt")


def use_plan(weights: Path) -> None:
    """Do with a plan what an inference does."""
    settings = {name: value for name, value in PLAN.items() if name != "learned"}
    loader = StrictCheckpointLoader(weights, nn.Linear(2, 3), plan=settings)
    assert isinstance(loader.learned, (list, type(None)))
    scores = KeepStructuresd("pred", SCHEME, loader.learned)({"pred": torch.ones(len(VALUES) + 1, 2, 2, 2)})["pred"]
    assert torch.allclose(scores.sum(dim=0), torch.tensor(len(VALUES) + 1.0))


def test_plans(tmp_path):
    all_survive(damaged_plan, tmp_path, range(CASES))


# -------------------------------------------------------------------------------------------------------------- weights


def damaged_weights(seed: int, folder: Path) -> None:
    rng, network = np.random.default_rng(seed), nn.Linear(2, 3)
    state = network.state_dict()
    if rng.random() < 0.1:
        content = pickle.dumps({"weight": list(range(9))}, protocol=int(rng.integers(5)))
    else:  # torch.save's present or its former format
        file = io.BytesIO()
        wrapped = {"model": state} if rng.random() < 0.3 else state
        torch.save(wrapped, file, _use_new_zipfile_serialization=bool(rng.random() < 0.6))
        content = file.getvalue()
    write_damaged(folder / "model.pt", content, rng)
    with torch.no_grad():
        network.weight.fill_(7)
        network.bias.fill_(7)
    try:
        load_weights(network, folder / "model.pt")
    except InputError as error:
        assert "\n" not in str(error) and str(folder / "model.pt") in str(error)
        assert bool((network.weight == 7).all()) and bool((network.bias == 7).all())


def test_weights(tmp_path):
    all_survive(damaged_weights, tmp_path, range(CASES))


def damaged_state(seed: int, folder: Path) -> None:
    network = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {"network": network.state_dict(), "objects": {"optimizer": optimizer.state_dict()}, "epoch": 2}
    state |= {"iteration": 8, "history": [{"epoch": 1, "loss": 0.5}], "best": 0.5, "best_epoch": 1, "scaler": {}}
    file = io.BytesIO()
    torch.save(state, file)
    write_damaged(folder / "training_state.pt", file.getvalue(), np.random.default_rng(seed))
    engine = Engine(lambda engine, batch: None)
    engine.state.max_epochs = 3
    recorder = TrainingRecorder(folder, network, {"optimizer": optimizer}, resume=True)
    used_or_refused(recorder.attach, engine)


def test_training_states(tmp_path):
    all_survive(damaged_state, tmp_path, range(CASES))
