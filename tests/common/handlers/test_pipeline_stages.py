from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from common.errors import InputError
from common.handlers import EarlierStage, LaterStage, load_weights
from common.networks import TwoStage


def pipeline(value: float, threshold: float = 0.5) -> TwoStage:
    """Two stages of one convolution each whose weights all have one value."""
    classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))
    network = TwoStage(classifier, nn.Conv2d(3, 1, 1), threshold)
    for parameter in network.parameters():
        nn.init.constant_(parameter, value)
    return network


def values(state: dict[str, torch.Tensor], stage: str) -> set[float]:
    return {float(number) for name, part in state.items() if name.startswith(stage) for number in part.flatten()}


def saved(network: nn.Module, folder: Path, name: str = "model.pt", **plan: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / name)
    (folder / Path(name).with_suffix(".json")).write_text(json.dumps(plan), encoding="utf-8")
    return folder / name


def begin(handler: object) -> None:
    engine = Engine(lambda engine, batch: None)
    handler.attach(engine)
    engine.run([0])


def test_a_training_begins_with_the_earlier_stages_weights(tmp_path):
    saved(pipeline(3.0).classifier, tmp_path / "classifier")
    network = pipeline(1.0)
    begin(EarlierStage(network, "classifier", "segmenter", tmp_path / "classifier"))
    assert values(network.state_dict(), "classifier") == {3.0} and values(network.state_dict(), "segmenter") == {1.0}
    assert network.untrained() == []


def test_the_earlier_stage_may_be_trained_while_the_later_waits(tmp_path):
    network = pipeline(1.0)
    handler = EarlierStage(network, "classifier", "segmenter", tmp_path / "classifier")
    saved(pipeline(3.0).classifier, tmp_path / "classifier")
    begin(handler)
    assert values(network.state_dict(), "classifier") == {3.0}


def test_without_an_earlier_stage_the_pipeline_knows_it(tmp_path, caplog):
    network = pipeline(1.0)
    with caplog.at_level(logging.WARNING):
        begin(EarlierStage(network, "classifier", "segmenter", tmp_path / "classifier"))
    assert "There is no trained classifier" in caplog.text
    assert network.untrained() == ["classifier"]
    assert pipeline(1.0, threshold=0).untrained() == ["segmenter"]  # a gate that is always open needs no classifier


def test_an_earlier_stage_of_other_inputs_is_refused(tmp_path):
    saved(pipeline(3.0).classifier, tmp_path / "classifier", classifier_size=[24, 32])
    with pytest.raises(InputError) as error:
        EarlierStage(pipeline(1.0), "classifier", "segmenter", tmp_path / "classifier", {"classifier_size": [224, 224]})
    assert str(error.value) == (
        f"{tmp_path}/classifier/model.pt: was trained with classifier_size [24,32], not [224,224]; "
        "pass --classifier_size '[24,32]'"
    )


def test_a_new_classifier_gets_into_the_pipelines(tmp_path):
    whole = pipeline(1.0)
    whole.mark_trained("segmenter")
    for name in ("model.pt", "model_last.pt"):
        saved(whole, tmp_path, name)
    saved(pipeline(3.0).classifier, tmp_path / "classifier")
    handler = LaterStage(tmp_path, "classifier", tmp_path / "classifier")
    begin(handler)
    for name in ("model.pt", "model_last.pt"):
        state = torch.load(tmp_path / name, weights_only=True)
        assert values(state, "classifier") == {3.0} and values(state, "segmenter") == {1.0}
        network = pipeline(0.0)
        load_weights(network, tmp_path / name, complete=True)
        assert network.untrained() == []
    written = (tmp_path / "model.pt").stat().st_mtime_ns
    begin(handler)  # there is nothing new
    assert (tmp_path / "model.pt").stat().st_mtime_ns == written


def test_without_pipelines_there_is_nothing_to_do(tmp_path):
    saved(pipeline(3.0).classifier, tmp_path / "classifier")
    begin(LaterStage(tmp_path, "classifier", tmp_path / "classifier"))
    begin(LaterStage(tmp_path, "classifier", tmp_path / "none"))
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    ("trained", "threshold", "problem"),
    [
        ([], 0.5, "its classifier was never trained; train it into the same --output_dir, or pass --gate_threshold 0"),
        (["segmenter"], 0.5, "its classifier was never trained"),
        (["classifier"], 0.5, "its segmenter was never trained; train it into the same --output_dir"),
        (["segmenter"], 0.0, None),
        (["classifier", "segmenter"], 0.5, None),
    ],
)
def test_weights_of_a_stage_that_was_never_trained_are_refused(trained, threshold, problem, tmp_path):
    network = pipeline(1.0)
    for stage in trained:
        network.mark_trained(stage)
    path = saved(network, tmp_path)
    load_weights(pipeline(0.0, threshold), path)
    if problem is None:
        load_weights(pipeline(0.0, threshold), path, complete=True)
        return
    with pytest.raises(InputError) as error:
        load_weights(pipeline(0.0, threshold), path, complete=True)
    assert str(error.value).startswith(f"{path}: {problem}")


def test_the_pipeline_knows_that_its_earlier_stage_was_trained(tmp_path):
    network = pipeline(1.0)
    handler = LaterStage(tmp_path / "run", "classifier", tmp_path / "classifier", network)
    begin(handler)  # nothing has been trained
    assert "classifier" in network.untrained()
    saved(network.classifier, tmp_path / "classifier")
    begin(handler)
    assert network.untrained() == ["segmenter"]
