from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from ignite.engine import Engine, Events
from monai.handlers import LrScheduleHandler

from common.engines import make_schedule
from common.errors import InputError

RATE = 0.1


def rates(name: str, scores, interval: int = 1, **options) -> list[float]:
    """The rate in each epoch of a training whose validations, every ``interval`` epochs, find the scores in turn.

    A score of None is a validation without cases.
    """
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    schedule = make_schedule(name, optimizer, max_epochs=len(scores) * interval, **options)
    trainer, validator, found = Engine(lambda engine, batch: optimizer.step()), Engine(lambda engine, batch: None), []
    validator.state.key_metric_name = "val_mean_dice"
    left = list(scores)

    @trainer.on(Events.EPOCH_STARTED)
    def note(engine):
        found.append(optimizer.param_groups[0]["lr"])

    @trainer.on(Events.EPOCH_COMPLETED(every=interval))
    def validate(engine):
        validator.state.epoch = engine.state.epoch
        score = left.pop(0)
        validator.state.metrics = {} if score is None else {"val_mean_dice": score}

    LrScheduleHandler(schedule, print_lr=False, step_transform=schedule.score_of(validator)).attach(trainer)
    trainer.run([0], max_epochs=len(scores) * interval)
    return found


class TestPlateau:
    def test_halves_when_the_metric_has_not_risen_for_more_than_patience_epochs(self):
        found = rates("plateau", [0.1, 0.2, 0.3] + [0.3] * 9, patience=3)
        # the best is epoch 3; epochs 4 to 6 are borne, epoch 7 is one too many, and so on
        assert found == pytest.approx([RATE] * 7 + [RATE / 2] * 4 + [RATE / 4])

    def test_a_rising_metric_keeps_the_rate(self):
        assert rates("plateau", [0.05 * i for i in range(1, 15)], patience=1) == [RATE] * 14

    def test_a_falling_metric_is_not_a_rising_one(self):
        assert rates("plateau", [0.9, 0.5, 0.4, 0.3], patience=1)[-1] == pytest.approx(RATE / 2)

    def test_factor_and_the_papers_patience(self):
        # the first epoch sets the mark, ten are borne, the rate of the thirteenth is lower
        assert rates("plateau", [0.5] * 13, factor=0.1) == pytest.approx([RATE] * 12 + [RATE / 10])

    def test_words_from_the_command_line(self):
        assert rates("plateau", [0.5] * 4, patience="1", factor="0.5")[-1] == pytest.approx(RATE / 2)

    def test_without_validation_cases_the_rate_stays(self):
        assert rates("plateau", [None] * 30, patience=2) == [RATE] * 30

    def test_epochs_before_the_first_validation_set_no_mark(self):
        # a score is below 1, the number of an epoch is not
        found = rates("plateau", [0.1, 0.2, 0.3, 0.4, 0.5], interval=3, patience=1)
        assert found == [RATE] * 15

    def test_resumes_where_it_stood(self):
        def parts():
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
            return optimizer, make_schedule("plateau", optimizer, 20, patience=3)

        optimizer, schedule = parts()
        for _ in range(4):  # the first sets the mark, three are borne
            schedule.step(0.5)
        assert optimizer.param_groups[0]["lr"] == RATE
        other, resumed = parts()
        resumed.load_state_dict(schedule.state_dict())
        resumed.step(0.5)
        assert other.param_groups[0]["lr"] == pytest.approx(RATE / 2)


class TestCosine:
    @pytest.mark.parametrize("epochs", [10, 50, 7])
    def test_shape(self, epochs):
        found = rates("cosine", [0.5] * epochs)
        warm = max(1, round(epochs / 10))
        assert all(a < b for a, b in pairwise(found[: warm + 1]))  # rises first
        assert found[warm] == pytest.approx(RATE) == max(found)
        assert all(a > b for a, b in pairwise(found[warm:]))  # then falls
        assert RATE / 100 < found[-1] < RATE / 5

    def test_values(self):
        found = rates("cosine", [0.5] * 20)
        assert found[:2] == pytest.approx([RATE / 3, RATE * 2 / 3])
        assert found[11] == pytest.approx(RATE * (0.01 + 0.99 / 2))  # half-way between epochs 2 and 20
        assert found[19] == pytest.approx(RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 17 / 18))))

    def test_does_not_ask_the_metric(self):
        assert rates("cosine", [0.1] * 12) == rates("cosine", [None] * 12)

    def test_one_epoch(self):
        assert rates("cosine", [0.5])[0] > 0


class TestStep:
    def test_shape(self):
        assert rates("step", [0.5] * 7, patience=3, factor=0.1) == pytest.approx(
            [RATE] * 3 + [RATE / 10] * 3 + [RATE / 100]
        )

    def test_does_not_ask_the_metric(self):
        assert rates("step", [0.1] * 5, patience="2", factor="0.5") == rates("step", [None] * 5, patience=2, factor=0.5)


class TestMultistep:
    def test_shape(self):
        found = rates("multistep", [0.5] * 6, milestones=[2, "5"], factor="0.1")  # in any form the command line gives
        assert found == pytest.approx([RATE] * 2 + [RATE / 10] * 3 + [RATE / 100])

    def test_does_not_ask_the_metric(self):
        options = {"milestones": [1, 3], "factor": 0.5}
        assert rates("multistep", [0.5] * 5, **options) == rates("multistep", [None] * 5, **options)

    def test_without_milestones(self):
        with pytest.raises(InputError, match=r"^--schedule multistep: has no milestones; pass --lr_milestones, or"):
            rates("multistep", [0.5])


def test_unknown_name():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    with pytest.raises(InputError) as error:
        make_schedule("linear", optimizer, 10)
    assert str(error.value) == "--schedule linear: is not known; choose multistep, plateau, step or cosine"
