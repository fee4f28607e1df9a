from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.data.weight_parts import split_into_parts
from common.errors import InputError
from common.handlers import StrictCheckpointLoader

PLAN = {"spatial_size": [4, 32, 16], "aspp": True}


@pytest.fixture
def weights(tmp_path) -> Path:
    """Weights, all 1, with a plan beside them."""
    torch.save({"weight": torch.ones(3, 2), "bias": torch.ones(3)}, tmp_path / "model.pt")
    (tmp_path / "model.json").write_text(json.dumps(PLAN | {"learned": [1, 2, 11]}), encoding="utf-8")
    return tmp_path / "model.pt"


def test_loads_when_it_is_attached_and_never_again(weights):
    network, seen = nn.Linear(2, 3), []
    loader = StrictCheckpointLoader(weights, network, plan=PLAN)
    assert not torch.equal(network.weight, torch.ones(3, 2))  # not before
    engine = Engine(lambda engine, batch: seen.append(network.weight.detach().clone()))
    loader.attach(engine)
    assert torch.equal(network.weight, torch.ones(3, 2))
    nn.init.constant_(network.weight, 2.0)  # what an application puts into the network stays there
    engine.run([0])
    assert torch.equal(seen[0], torch.full((3, 2), 2.0))


def test_no_path_is_nothing_to_load():
    network = nn.Linear(2, 3)
    before = network.weight.detach().clone()
    loader = StrictCheckpointLoader(None, network, plan=PLAN)
    engine = Engine(lambda engine, batch: None)
    loader.attach(engine)
    engine.run([0])
    assert torch.equal(network.weight, before) and loader.learned is None


def test_missing_weights_are_refused_before_any_data_is_read(tmp_path):
    with pytest.raises(InputError, match=r"model\.pt: there are no weights; train first, or pass --checkpoint"):
        StrictCheckpointLoader(tmp_path / "model.pt", nn.Linear(2, 3))


def test_another_plan_is_refused_before_any_data_is_read(weights):
    with pytest.raises(InputError, match=r"was trained with spatial_size \[4,32,16\], not \[8,32,16\]; pass --spatial"):
        StrictCheckpointLoader(weights, nn.Linear(2, 3), plan=PLAN | {"spatial_size": [8, 32, 16]})


@pytest.mark.parametrize("plan", [None, {}, {"batch_size": 2}])
def test_settings_that_the_plan_does_not_hold(weights, plan):
    StrictCheckpointLoader(weights, nn.Linear(2, 3), plan=plan)


def test_learned(weights):
    assert StrictCheckpointLoader(weights, nn.Linear(2, 3)).learned == [1, 2, 11]
    (weights.parent / "model.json").unlink()
    assert StrictCheckpointLoader(weights, nn.Linear(2, 3), plan=PLAN).learned is None


def test_weights_of_another_network_are_refused_before_the_engine_runs(weights):
    loader = StrictCheckpointLoader(weights, nn.Linear(5, 3), plan=PLAN)
    with pytest.raises(InputError, match=r"model\.pt: does not fit this network \(1 of 2 tensors"):
        loader.attach(Engine(lambda engine, batch: None))


def test_weights_in_parts_are_joined(tmp_path):
    network = nn.Linear(2, 3)
    torch.save(network.state_dict(), tmp_path / "whole")
    split_into_parts(tmp_path / "whole", tmp_path / "model.pt", 500)
    loaded = nn.Linear(2, 3)
    StrictCheckpointLoader(tmp_path / "model.pt", loaded).attach(Engine(lambda engine, batch: None))
    assert torch.equal(loaded.weight, network.weight)
    (tmp_path / "model.pt").unlink()
    (tmp_path / "model.pt.part00").unlink()
    with pytest.raises(InputError, match=r"model\.pt\.part00: is not there, though model\.pt\.parts\.json lists it"):
        StrictCheckpointLoader(tmp_path / "model.pt", loaded)
    assert not (tmp_path / "model.pt").exists()
