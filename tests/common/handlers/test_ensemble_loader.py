from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.inferers import SimpleInferer
from torch import nn

from common.errors import InputError
from common.handlers.ensemble_loader import EnsembleCheckpointLoader
from common.inferers.ensemble import EnsembleInferer

PLAN = {"num_classes": 20}
IMAGE = torch.rand(1, 1, 4, 4, 4)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 3, 1), nn.Dropout(0.5), nn.Softmax(dim=1))


@pytest.fixture
def folds(tmp_path) -> list[Path]:
    """Weights of three folds, each with its plan."""
    paths = [tmp_path / f"fold{number}.pt" for number in range(3)]
    for number, path in enumerate(paths):
        torch.manual_seed(number)
        torch.save(network().state_dict(), path)
        path.with_suffix(".json").write_text(json.dumps(PLAN | {"learned": [1, 2 + number, 19]}), encoding="utf-8")
    return paths


def members(paths: list[Path]) -> list[nn.Module]:
    """The networks of these files, loaded by other means."""
    found = [network().eval() for _ in paths]
    for one, path in zip(found, paths, strict=True):
        one.load_state_dict(torch.load(path))
    return found


def started(loader: EnsembleCheckpointLoader) -> EnsembleCheckpointLoader:
    engine = Engine(lambda engine, batch: None)
    loader.attach(engine)
    engine.run([0])
    return loader


@pytest.mark.parametrize("keep", [False, True])
def test_an_engines_result_is_the_mean_over_the_files(folds, keep):
    own, seen = network().train(), []
    loader = EnsembleCheckpointLoader(folds, own, plan=PLAN, keep=keep)
    inferer = EnsembleInferer(SimpleInferer(), loader)
    engine = Engine(lambda engine, image: seen.append(inferer(image, own)))
    loader.attach(engine)
    engine.run([IMAGE, 2 * IMAGE])
    for found, image in zip(seen, (IMAGE, 2 * IMAGE), strict=True):
        wanted = torch.stack([member(image) for member in members(folds)]).mean(dim=0)
        assert torch.allclose(found, wanted, atol=1e-6)


def test_one_network_or_one_for_each_file(folds):
    own = network()
    assert {id(one) for one in started(EnsembleCheckpointLoader(folds, own))} == {id(own)}
    assert len({id(one) for one in [*started(EnsembleCheckpointLoader(folds, own, keep=True))]} - {id(own)}) == 3


def test_a_run_that_is_started_again_has_no_more_members(folds):
    loader = EnsembleCheckpointLoader(folds, network(), keep=True)
    assert len([*started(started(loader))]) == 3


def test_what_all_were_taught(folds):
    assert EnsembleCheckpointLoader(folds, network()).learned == [1, 19]
    assert EnsembleCheckpointLoader(folds[:1], network()).learned == [1, 2, 19]
    folds[1].with_suffix(".json").unlink()  # taught everything, for all that is known
    assert EnsembleCheckpointLoader(folds[:2], network()).learned == [1, 2, 19]
    folds[0].with_suffix(".json").unlink()
    assert EnsembleCheckpointLoader(folds[:2], network()).learned is None


def test_a_missing_file_and_another_plan_are_refused_before_any_data_is_read(folds, tmp_path):
    with pytest.raises(InputError, match=r"fold3\.pt: there are no weights"):
        EnsembleCheckpointLoader([*folds, tmp_path / "fold3.pt"], network())
    folds[2].with_suffix(".json").write_text('{"num_classes": 18}', encoding="utf-8")
    with pytest.raises(InputError, match=r"fold2\.pt: was trained with num_classes 18, not 20"):
        EnsembleCheckpointLoader(folds, network(), plan=PLAN)


@pytest.mark.parametrize("keep", [False, True])
def test_weights_of_another_network_are_refused_at_the_start(folds, keep):
    torch.save({"0.weight": torch.ones(2)}, folds[2])
    with pytest.raises(InputError, match=r"fold2\.pt: does not fit this network"):
        started(EnsembleCheckpointLoader(folds, network(), keep=keep))


def test_weights_that_are_not_complete_are_refused(folds):
    class Stages(nn.Sequential):
        def untrained(self) -> list[str]:
            return ["stage2"]

    with pytest.raises(InputError, match=r"fold0\.pt: its stage2 was never trained"):
        started(EnsembleCheckpointLoader(folds, Stages(*network()), complete=True))


@pytest.mark.parametrize("paths", ["fold0.pt", [], None, 3])
def test_something_else_than_a_list(paths):
    with pytest.raises(InputError, match=r"^--checkpoints .*: is not a list of files; pass \"\['fold0\.pt'"):
        EnsembleCheckpointLoader(paths, network())


def test_a_file_given_twice(folds):
    with pytest.raises(InputError, match=r"fold0\.pt.*: names a file twice; pass each file once"):
        EnsembleCheckpointLoader([folds[0], folds[1], folds[0].parent / "." / "fold0.pt"], network())
