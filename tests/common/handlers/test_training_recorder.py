from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events

from common.data import CaseList
from common.errors import InputError
from common.handlers import TrainingRecorder

FILES = {"history.csv", "model.pt", "model_last.pt", "training_state.pt"}


class Training:
    """A network of one weight, which the engine sets to the number of the epoch; losses and scores as prescribed.

    Args:
        folder: the output folder.
        scores: of each epoch; None: there is no validation in it.
        losses: of each step; 2 steps an epoch.
        epochs: how many.
        kwargs: for the recorder.
    """

    def __init__(self, folder: Path, scores=(0.1, 0.3, 0.2), losses=None, epochs=None, **kwargs) -> None:
        epochs = epochs or len(scores)
        losses = losses or [float(i) for i in range(1, 2 * epochs + 1)]
        self.folder, self.network = folder, torch.nn.Linear(1, 1, bias=False)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.5, momentum=0.9)

        def step(engine: Engine, batch: int) -> dict[str, torch.Tensor]:
            with torch.no_grad():
                self.network.weight.fill_(engine.state.epoch)
            loss = torch.tensor(losses[engine.state.iteration - 1])
            return {"loss": loss, "half": loss / 2, "square": loss**2}

        self.trainer = Engine(step)
        self.trainer.state.max_epochs = epochs
        self.validator = Engine(lambda engine, batch: None)
        self.validator.data_loader = kwargs.pop("validation", [0])
        self.validator.state.key_metric_name = "val_mean_dice"

        @self.trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine: Engine) -> None:
            score = scores[engine.state.epoch - 1]
            if score is not None and len(self.validator.data_loader):
                self.validator.state.epoch = engine.state.epoch
                self.validator.state.metrics = {"val_mean_dice": score, "val_accuracy": 1 - score}

        self.recorder = TrainingRecorder(
            folder, self.network, {"optimizer": self.optimizer}, kwargs.pop("validator", self.validator), **kwargs
        )
        self.recorder.attach(self.trainer)

    def run(self, stop_after: int | None = None) -> Training:
        if stop_after is not None:
            self.trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), self.trainer.terminate)
        self.trainer.run([0, 1], max_epochs=self.trainer.state.max_epochs)
        return self

    def history(self) -> list[dict[str, str]]:
        with open(self.folder / "history.csv", newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def epoch_of(path: Path) -> int:
    """The epoch whose weights a file holds."""
    state = torch.load(path, weights_only=True)
    assert set(state) == {"weight"}
    return int(state["weight"])


def test_what_is_there_in_the_end(tmp_path):
    training = Training(tmp_path / "new" / "run").run()
    assert {path.name for path in training.folder.iterdir()} == FILES
    assert [list(row.values()) for row in training.history()] == [
        ["1", "1.5", "0.5", "0.1", "0.9"],
        ["2", "3.5", "0.5", "0.3", "0.7"],
        ["3", "5.5", "0.5", "0.2", "0.8"],
    ]
    assert list(training.history()[0]) == ["epoch", "loss", "lr", "val_mean_dice", "val_accuracy"]


def test_parts_of_the_loss(tmp_path):
    rows = Training(tmp_path, parts=["square", "half"]).run().history()
    assert list(rows[0])[:5] == ["epoch", "loss", "square", "half", "lr"]
    assert [[row[name] for name in ("loss", "square", "half")] for row in rows] == [
        ["1.5", "2.5", "0.75"],
        ["3.5", "12.5", "1.75"],
        ["5.5", "30.5", "2.75"],
    ]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ((0.1, 0.3, 0.2), 2),
        ((0.1, 0.2, 0.3), 3),
        ((0.3, 0.3, 0.3), 1),  # a tie goes to the earlier
        ((0.0, 0.0), 1),
        ((None, 0.2, None, 0.1), 2),  # epochs without a validation are never the best
        ((0.4, None, None), 1),
    ],
)
def test_the_best_and_the_last_weights(tmp_path, scores, best):
    Training(tmp_path, scores).run()
    assert epoch_of(tmp_path / "model.pt") == best
    assert epoch_of(tmp_path / "model_last.pt") == len(scores)


def test_epochs_without_validation_have_blank_metrics(tmp_path):
    rows = Training(tmp_path, (None, 0.2, None)).run().history()
    assert [row["val_mean_dice"] for row in rows] == ["", "0.2", ""]


@pytest.mark.parametrize("kwargs", [{"validator": None}, {"validation": []}], ids=["no validator", "no cases"])
def test_without_validation_the_newest_is_the_best(tmp_path, kwargs):
    Training(tmp_path, (0.9, 0.1, 0.1), **kwargs).run()
    assert epoch_of(tmp_path / "model.pt") == 3


@pytest.mark.parametrize("score", [None, math.nan])
def test_without_a_score_there_are_the_last_weights_only(tmp_path, score):
    bundle, published = Path(__file__).parents[3] / "bundles" / "safnet", tmp_path / "models" / "model.pt"
    Training(tmp_path / "run", (score,) * 3, bundle_root=bundle, publish_to=published).run()
    assert not (tmp_path / "run" / "model.pt").exists()
    assert epoch_of(tmp_path / "run" / "model_last.pt") == epoch_of(published) == 3
    origin = json.loads((tmp_path / "run" / "provenance.json").read_text(encoding="utf-8"))
    assert origin["weights"]["file"].endswith("model_last.pt") and origin["settings"]["best_epoch"] == 0


def test_plan_lies_beside_all_weights(tmp_path):
    Training(tmp_path / "run", plan={"size": (1, 2)}, publish_to=tmp_path / "models" / "model.pt").run()
    for path in ("run/model.json", "run/model_last.json", "models/model.json"):
        assert json.loads((tmp_path / path).read_text(encoding="utf-8")) == {"size": [1, 2]}


def test_publishing_the_best(tmp_path):
    published = tmp_path / "models" / "model.pt"
    Training(tmp_path / "run", publish_to=published).run()
    assert epoch_of(published) == 2
    # A host application trains again into the same folder, without a word.
    Training(tmp_path / "run", (0.1, 0.2, 0.3, 0.4), publish_to=published).run()
    assert epoch_of(published) == 4


def test_split(tmp_path):
    train = CaseList([{"id": "b", "image": "1.nii"}], {"fold": 2, "test": ["z"]})
    Training(tmp_path, data={"train": train, "validation": [{"image": "/x/2.nii"}]}).run()
    split = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert split == {"fold": 2, "test": ["z"], "train": ["b"], "validation": ["/x/2.nii"]}


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_it(tmp_path, loss):
    training = Training(tmp_path, losses=[1.0, 1.0, 1.0, loss, 1.0, 1.0])
    with pytest.raises(InputError, match=rf"loss: became {loss} in epoch 2; .*--lr"):
        training.run()
    assert epoch_of(tmp_path / "model_last.pt") == 1  # what was finished is kept
    assert len(training.history()) == 1


class TestResume:
    def test_equals_no_break(self, tmp_path):
        scores = (0.1, 0.3, 0.2, 0.4)
        whole = Training(tmp_path / "whole", scores).run()
        Training(tmp_path / "parts", scores).run(stop_after=2)
        parts = Training(tmp_path / "parts", scores, resume=True)
        assert float(parts.network.weight.detach()) == 2
        parts.run()
        assert parts.history() == whole.history()
        for name in ("model.pt", "model_last.pt"):
            assert epoch_of(tmp_path / "parts" / name) == 4
        states = [torch.load(tmp_path / name / "training_state.pt", weights_only=True) for name in ("whole", "parts")]
        for key in ("epoch", "iteration", "history", "best", "best_epoch"):
            assert states[0][key] == states[1][key]

    def test_the_best_of_before_stays_the_best(self, tmp_path):
        scores = (0.1, 0.9, 0.2, 0.4)
        Training(tmp_path, scores).run(stop_after=2)
        Training(tmp_path, scores, resume=True).run()
        assert epoch_of(tmp_path / "model.pt") == 2
        assert epoch_of(tmp_path / "model_last.pt") == 4

    def test_the_optimizers_state_is_there_again(self, tmp_path):
        first = Training(tmp_path)
        first.network.weight.grad = torch.ones(1, 1)
        first.optimizer.step()
        first.optimizer.param_groups[0]["lr"] = 0.125
        first.run(stop_after=1)
        second = Training(tmp_path, resume=True)
        assert second.optimizer.param_groups[0]["lr"] == 0.125
        assert second.optimizer.state_dict()["state"][0]["momentum_buffer"].item() == 1

    def test_a_finished_training_is_left_alone(self, tmp_path):
        Training(tmp_path).run()
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        Training(tmp_path, resume=True).run()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_more_epochs_go_on(self, tmp_path):
        Training(tmp_path).run()
        training = Training(tmp_path, (0.1, 0.3, 0.2, 0.1, 0.5), resume=True).run()
        assert [row["epoch"] for row in training.history()] == ["1", "2", "3", "4", "5"]
        assert epoch_of(tmp_path / "model.pt") == 5

    @pytest.mark.parametrize("configured", [1, 3])
    def test_rounds_of_a_federated_training(self, tmp_path, configured):
        """How many epochs there are to be is known only when the engine starts, and it starts for each round."""
        Training(tmp_path, epochs=2).run()
        scores = (0.1, 0.3, 0.2, 0.4)
        training = Training(tmp_path, scores, losses=[1.0] * 8, epochs=configured, resume=True)
        for epochs in (3, 4):
            training.trainer.state.max_epochs = training.trainer.state.epoch + 1
            training.run()
            assert [row["epoch"] for row in training.history()] == [str(n + 1) for n in range(epochs)]
        assert epoch_of(tmp_path / "model.pt") == 4

    def test_fewer_epochs_than_there_were(self, tmp_path):
        Training(tmp_path).run()
        before = (tmp_path / "history.csv").read_text(encoding="utf-8")
        Training(tmp_path, epochs=1, resume=True).run()
        assert (tmp_path / "history.csv").read_text(encoding="utf-8") == before

    def test_a_folder_with_a_training_is_refused_without_it(self, tmp_path):
        Training(tmp_path).run()
        with pytest.raises(InputError, match="holds a training already; pass --resume true"):
            Training(tmp_path)

    def test_a_folder_without_one_is_refused_with_it(self, tmp_path):
        with pytest.raises(InputError, match="to go on from; leave --resume out"):
            Training(tmp_path, resume=True)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
    def test_a_state_that_does_not_fit(self, tmp_path, content):
        Training(tmp_path).run(stop_after=1)
        state = tmp_path / "training_state.pt"
        if content is None:
            saved = torch.load(state, weights_only=True)
            torch.save(saved | {"network": {"weight": torch.zeros(3, 3)}}, state)
        else:
            state.write_bytes(content)
        with pytest.raises(InputError, match=r"training_state\.pt: does not fit this training"):
            Training(tmp_path, resume=True)

    def test_another_plan(self, tmp_path):
        Training(tmp_path, plan={"size": 1}).run(stop_after=1)
        with pytest.raises(InputError, match="was trained with size 1, not 2; pass --size '1'"):
            Training(tmp_path, plan={"size": 2}, resume=True)


def test_what_a_killed_run_left_half_written_is_gone(tmp_path):
    (tmp_path / ".tmp-123-4-training_state.pt").write_bytes(b"half")
    Training(tmp_path).run()
    assert {path.name for path in tmp_path.iterdir()} == FILES


PATIENT = (0.1, 0.4, 0.3, None, 0.2, 0.9)


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (1, 3), (2, 4), (3, 5), (4, 6)])
def test_patience_ends_a_training(patience, epochs, tmp_path):
    training = Training(tmp_path, PATIENT, patience=patience).run()
    assert len(training.history()) == epochs
    assert epoch_of(tmp_path / "model.pt") == (6 if epochs == 6 else 2)


def test_patience_goes_on_where_it_was(tmp_path):
    Training(tmp_path / "whole", PATIENT, patience=3).run()
    Training(tmp_path / "parts", PATIENT, patience=3).run(stop_after=3)
    Training(tmp_path / "parts", PATIENT, patience=3, resume=True).run()
    files = [(tmp_path / name / "history.csv").read_text(encoding="utf-8") for name in ("whole", "parts")]
    assert files[0] == files[1]
    # It is over: to resume it is to do nothing, unless there is more patience.
    Training(tmp_path / "parts", PATIENT, patience=3, resume=True).run()
    assert (tmp_path / "parts" / "history.csv").read_text(encoding="utf-8") == files[0]
    assert len(Training(tmp_path / "parts", PATIENT, patience=4, resume=True).run().history()) == 6
