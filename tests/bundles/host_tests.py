"""What the applications that run a bundle have to be able to do: federated learning, and tracking of experiments."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from common.errors import InputError
from common.handlers import load_weights
from tests.bundles.runs import content_of, read_csv, read_json, run, undone, workflow

Weights = dict[str, np.ndarray]


def arrays(state: Mapping[str, torch.Tensor]) -> Weights:
    """Weights as a federated server has them, apart from the network that they are of."""
    return {name: tensor.numpy().copy() for name, tensor in state.items()}


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(np.asarray(one[k]), np.asarray(other[k])) for k in one)


class Tracked:
    """What MLflow's database has of an experiment's runs, the oldest first."""

    def __init__(self, database: Path, experiment: str = "monai_experiment") -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        found = self.client.get_experiment_by_name(experiment)
        self.runs = self.client.search_runs(found.experiment_id, order_by=["attributes.start_time ASC"])

    def history(self, run: Any, metric: str) -> list[tuple[int, float]]:
        """Steps and values of a metric."""
        return [(entry.step, entry.value) for entry in self.client.get_metric_history(run.info.run_id, metric)]


class HostTests:
    """A part of :class:`tests.bundles.bundle_test_base.BundleTests`, whose attributes and fixtures it uses."""

    # The folder that the training of an earlier stage leaves; "": there is no such stage.
    first_stage = ""
    # Ids that make an evaluation quick.
    quick: Mapping[str, Any] = {}

    # ---------------------------------------------------------------------------------------------- federated learning

    def client(self, dataset: Path, folder: Path, evaluate: bool = True, **ids: Any) -> MonaiAlgo:
        """A client of a federated training that was initialized. Use it within :func:`undone`."""
        shared = {**self.tiny, "dataset_dir": str(dataset), "device": torch.device("cpu")}
        algo = MonaiAlgo(
            bundle_root=str(self.root),
            train_kwargs={**shared, **self.training, "output_dir": str(folder), **ids},
            eval_kwargs={**shared, **self.split, **self.quick, "output_dir": str(folder / "eval")},
            send_weight_diff=ids.get("seed", 0) > 0,
            best_model_filepath=str(folder / "model.pt"),
            final_model_filepath=str(folder / "model_last.pt"),
            **({} if evaluate else {"config_evaluate_filename": None}),
        )
        algo.initialize({ExtraItems.CLIENT_NAME: folder.name})
        return algo

    @pytest.fixture
    def elsewhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Not in the repository nor in the bundle; what a run does to the process is taken back."""
        monkeypatch.chdir(tmp_path)
        with undone():
            yield

    def test_federated_learning(self, trained, dataset, scratch, elsewhere):
        models = content_of(self.root / "models")
        start = arrays(torch.load(trained / "model.pt", weights_only=True))
        clients = [self.client(dataset, scratch / f"site{seed}", seed=seed) for seed in range(2)]

        # The weights that are evaluated are the server's, and no file's.
        found = clients[0].evaluate(ExchangeObject(weights=start)).metrics
        ids = {
            **self.tiny,
            **self.split,
            **self.quick,
            "dataset_dir": str(dataset),
            "checkpoint": str(trained / "model.pt"),
        }
        run(self.root, "evaluate", **ids, output_dir=str(scratch / "usual" / "eval"))
        summaries = [read_json(scratch / place / "eval" / "summary.json") for place in ("site0", "usual")]
        origins = [summary.pop("provenance") for summary in summaries]
        assert summaries[0] == summaries[1] and found[clients[0].evaluator.state.key_metric_name] >= 0
        assert origins[0]["weights"] is None and origins[1]["weights"]["file"] == str(trained / "model.pt")

        # A round: one client sends its weights, the other what it changed.
        for client in clients:
            client.train(ExchangeObject(weights=start))
        own = [arrays(client.trainer.network.state_dict()) for client in clients]
        sent = [client.get_weights() for client in clients]
        assert [one.weight_type for one in sent] == [WeightType.WEIGHTS, WeightType.WEIGHT_DIFF]
        assert same(sent[0].weights, own[0]) and not same(own[0], start) and not same(own[0], own[1])
        assert same(sent[1].weights, {name: own[1][name] - start[name] for name in start})

        # The mean goes to all.
        mean = {name: (own[0][name] + start[name] + sent[1].weights[name].numpy()) / 2 for name in start}
        scores = clients[1].evaluate(ExchangeObject(weights=mean)).metrics
        assert scores != found and all(np.isfinite(value) for value in scores.values())
        state = clients[1].evaluator.network.state_dict()
        kept = {name: torch.as_tensor(mean[name]).to(state[name].dtype) for name in mean}
        assert same(state, kept)

        # A second round goes on in the same folder.
        clients[0].train(ExchangeObject(weights=mean))
        assert clients[0].get_weights().statistics["num_executed_iterations"] == clients[0].trainer.state.epoch_length
        history = read_csv(scratch / "site0" / "history.csv")
        assert [row["epoch"] for row in history] == ["1", "2"]
        assert all(np.isfinite(float(row["loss"])) for row in history)
        best = clients[0].get_weights({ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL}).weights
        final = clients[0].get_weights({ExtraItems.MODEL_TYPE: ModelType.FINAL_MODEL}).weights
        assert best.keys() == start.keys() and same(final, clients[0].trainer.network.state_dict())
        for client in clients:
            client.finalize()

        # What the server has is a bundle's model.
        torch.save({name: torch.as_tensor(value) for name, value in mean.items()}, scratch / "model.pt")
        load_weights(clients[0].evaluator.network, scratch / "model.pt", complete=True)
        assert content_of(self.root / "models") == models

    def test_a_federated_client_that_was_started_anew_and_aborted(self, trained, dataset, scratch, elsewhere):
        folder = shutil.copytree(trained, scratch / "site")
        with pytest.raises(RuntimeError) as error:
            self.client(dataset, folder, evaluate=False)
        assert isinstance(error.value.__cause__, InputError) and "holds a training already" in str(
            error.value.__cause__
        )

        client = self.client(dataset, folder, evaluate=False, resume=True)
        assert same(client.get_weights().weights, torch.load(folder / "model_last.pt", weights_only=True))
        weights = ExchangeObject(weights=arrays(torch.load(trained / "model.pt", weights_only=True)))
        length = client.trainer.state.epoch_length
        client.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3 * length + 1), lambda engine: client.abort())
        client.train(weights)
        assert client.trainer.state.iteration == 3 * length + 1 and len(read_csv(folder / "history.csv")) == 3
        client.train(weights)  # ends the epoch, and has another
        assert [row["epoch"] for row in read_csv(folder / "history.csv")] == ["1", "2", "3", "4", "5"]

    # ------------------------------------------------------------------------------------------------------- tracking

    def test_tracking(self, dataset, scratch):
        """All epochs of a training that was interrupted and resumed are one run's; each stage has a run of its own."""
        pytest.importorskip("mlflow", reason="tracking needs mlflow: pip install -r tests/requirements.txt")
        folder = scratch / "run"
        ids = {**self.tiny, **self.training, "dataset_dir": str(dataset), "output_dir": str(folder), "max_epochs": 2}
        ids["device"] = "cpu"  # what is tracked is written to a file

        def interrupt(engine):
            raise KeyboardInterrupt

        with undone():
            made = workflow(self.root, "train", **ids, tracking="mlflow")
            trainer = made.parser.get_parsed_content("train#trainer")
            trainer.add_event_handler(Events.EPOCH_STARTED(once=2), interrupt)
            with pytest.raises(KeyboardInterrupt):
                made.run()
        stages = [self.first_stage] if self.first_stage else []
        states = [run.info.status for run in Tracked(folder / "mlruns.db").runs]
        assert states == ["FINISHED"] * len(stages) + ["RUNNING"]
        run(self.root, "train", **ids, resume=True, tracking="mlflow")

        tracked = Tracked(folder / "mlruns.db")
        assert [found.info.status for found in tracked.runs] == ["FINISHED"] * (len(stages) + 1)
        for found, place in zip(tracked.runs, [*(folder / stage for stage in stages), folder], strict=True):
            history = read_csv(place / "history.csv")
            steps = tracked.history(found, "train_loss")
            length = int(found.data.params["epoch_length"])
            assert [step for step, _ in steps] == list(range(1, length * len(history) + 1))
            means = [np.mean([loss for _, loss in steps[at : at + length]]) for at in range(0, len(steps), length)]
            np.testing.assert_allclose(means, [float(row["loss"]) for row in history], rtol=1e-4)
            metrics = [name for name in history[0] if name.startswith("val_")]
            assert metrics
            for name in metrics:
                wanted = [(int(row["epoch"]), float(row[name])) for row in history if row[name]]
                assert [step for step, _ in tracked.history(found, name)] == [epoch for epoch, _ in wanted]
                np.testing.assert_allclose(
                    [value for _, value in tracked.history(found, name)], [value for _, value in wanted], rtol=1e-4
                )
        assert tracked.runs[-1].data.params["max_epochs"] == "2"
        assert read_json(next(folder.glob("config_*.json")))["max_epochs"] == 2

        # Evaluation and inference into the same database, each as a run that is finished.
        weights = {**self.tiny, "dataset_dir": str(dataset), "checkpoint": str(folder / "model.pt"), "device": "cpu"}
        for config, more in (("evaluate", self.split | self.quick), ("inference", {"overlay": False})):
            place = {"tracking_uri": f"sqlite:///{folder}/mlruns.db", "experiment_name": config, "run_name": "first"}
            run(self.root, config, **weights, **more, output_dir=str(scratch / config), tracking="mlflow", **place)
            (found,) = Tracked(folder / "mlruns.db", config).runs
            assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
            if config == "evaluate":
                assert all(np.isfinite(value) for value in found.data.metrics.values()) and found.data.metrics
