from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine

from common.handlers import Progress
from common.handlers import progress as progress_module
from common.handlers.progress import format_duration


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-3, "0 s"),
        (0.4, "0 s"),
        (42, "42 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_format_duration(seconds, expected):
    assert format_duration(seconds) == expected


@pytest.fixture
def lines(monkeypatch, caplog):
    """Run an engine whose steps take as long as told, by a clock of our own, and return the lines."""

    def run(seconds, epochs=1, length=None, output=None, start=0, restarted=False, loading=0.0, **options) -> list[str]:
        clock, durations = [1000.0], list(seconds)
        length = length or len(durations) // epochs

        class Loader:
            def __len__(self):
                return length

            def __iter__(self):
                for number in range(length):
                    clock[0] += loading
                    yield number

        def step(engine, batch):
            clock[0] += durations.pop(0)
            return output(engine) if output else None

        monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        engine = Engine(step)
        Progress("testing", **options).attach(engine)
        if start:
            engine.load_state_dict({"epoch": start, "max_epochs": epochs, "epoch_length": length})
        if restarted:
            engine.state.iteration = 0
        caplog.clear()
        with caplog.at_level(logging.INFO, logger=progress_module.__name__):
            engine.run(Loader(), max_epochs=epochs)
        return [record.getMessage() for record in caplog.records if record.name == progress_module.__name__]

    return run


FIRST = "testing on cpu with 3 threads: {}; the first steps tell how long it will take"


def test_one_short_epoch(lines):
    assert lines([2, 4, 3, 3]) == [
        FIRST.format("4 steps"),
        "testing will take about 6 s",  # two steps took 6 s, two are left
        "testing: step 2/4 | elapsed 6 s | remaining about 6 s",
        "testing: 4 steps in 12 s, 0.0 % of it waiting for data",
    ]


def test_one_step_alone(lines):
    assert lines([5], epochs=1) == [
        FIRST.format("1 steps"),
        "testing will take about 0 s",
        "testing: step 1/1 | elapsed 5 s | remaining about 0 s",
        "testing: 1 steps in 5 s, 0.0 % of it waiting for data",
    ]


def test_the_share_of_loading(lines):
    assert lines([3] * 8, epochs=2, loading=1)[-1] == "testing: 8 steps in 32 s, 25.0 % of it waiting for data"


def test_a_line_every_interval_and_at_the_end_of_each_epoch(lines):
    found = lines(
        [4] * 12, epochs=2, interval=10, output=lambda engine: {"loss": torch.tensor(1 / engine.state.iteration)}
    )
    assert found == [
        FIRST.format("2 epochs of 6 steps"),
        "testing will take about 40 s",
        "testing: epoch 1/2 step 2/6 | loss 0.5000 | elapsed 8 s | remaining about 40 s",
        "testing: epoch 1/2 step 5/6 | loss 0.2000 | elapsed 20 s | remaining about 28 s",
        "testing: epoch 1/2 step 6/6 | loss 0.1667 | elapsed 24 s | remaining about 24 s",
        "testing: epoch 2/2 step 3/6 | loss 0.1111 | elapsed 36 s | remaining about 12 s",
        "testing: epoch 2/2 step 6/6 | loss 0.0833 | elapsed 48 s | remaining about 0 s",
        "testing: 12 steps in 48 s, 0.0 % of it waiting for data",
    ]


@pytest.mark.parametrize("output", [None, lambda engine: {"pred": 1}, lambda engine: [torch.zeros(1)]])
def test_without_a_loss(lines, output):
    assert "loss" not in "".join(lines([1, 1], output=output))


def test_resumed_run_counts_its_own_steps(lines):
    found = lines([10] * 4, epochs=4, length=2, start=2)
    assert found[:3] == [
        FIRST.format("4 epochs of 2 steps, 2 epochs done"),
        "testing will take about 30 s",
        "testing: epoch 3/4 step 1/2 | elapsed 10 s | remaining about 30 s",
    ]
    assert found[-2:] == [
        "testing: epoch 4/4 step 2/2 | elapsed 40 s | remaining about 0 s",
        "testing: 4 steps in 40 s, 0.0 % of it waiting for data",
    ]


def test_an_evaluator_that_counts_epochs_with_its_trainer(lines):
    """As MONAI's does: the epoch is the trainer's, the steps are its own."""

    def at_epoch_5(engine):
        return {"loss": 0.25} if engine.state.epoch == 5 else None

    found = lines([10] * 2, epochs=5, length=2, start=4, restarted=True, output=at_epoch_5)
    assert found[1:3] == [
        "testing will take about 10 s",
        "testing: epoch 5/5 step 1/2 | loss 0.2500 | elapsed 10 s | remaining about 10 s",
    ]


def test_the_loss_of_decollated_output(lines):
    found = lines([1, 1], output=lambda engine: [{"loss": 0.125}, {"loss": 0.125}])
    assert found[-2].startswith("testing: step 2/2 | loss 0.1250 |")


class TestAdvice:
    ADVICE = "use a smaller model"

    def test_on_a_slow_cpu(self, lines):
        found = lines([60] * 100, advice=self.ADVICE)
        assert found[0] == FIRST.format("100 steps; at full size a CPU needs hours")
        assert found[1:3] == ["testing will take about 1 h 39 min", self.ADVICE]
        assert found.count(self.ADVICE) == 1

    @pytest.mark.parametrize(
        ("duration", "options"),
        [(30, {}), (60, {"patience": 10_000}), (60, {"device": "cuda:0"}), (60, {"advice": ""})],
        ids=["fast", "patient", "gpu", "none"],
    )
    def test_not_otherwise(self, lines, duration, options):
        found = lines([duration] * 100, **{"advice": self.ADVICE} | options)
        assert self.ADVICE not in found and len(found) > 3

    def test_patience_counts_what_remains(self, lines):
        assert self.ADVICE in lines([1] * 100, advice=self.ADVICE, patience=97)
        assert self.ADVICE not in lines([1] * 100, advice=self.ADVICE, patience=98)


def test_a_gpu_names_no_threads(lines):
    assert lines([1], device=torch.device("cuda", 0))[0] == (
        "testing on cuda:0: 1 steps; the first steps tell how long it will take"
    )
