from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.data import LabelScheme, learned_values
from common.data.plan import check_plan, plan_file, read_plan
from common.errors import InputError

PLAN = {"spatial_size": [12, 96, 48], "crop_fraction": 0.5, "aspp": True, "label_scheme": "mrspineseg17"}


@pytest.fixture
def weights(tmp_path) -> Path:
    """Weights with a plan beside them."""
    (tmp_path / "model.json").write_text(json.dumps(PLAN), encoding="utf-8")
    return tmp_path / "model.pt"


def test_where_the_plan_lies():
    assert plan_file("some/folder/model.pt") == Path("some/folder/model.json")
    assert plan_file(Path("v1.2/model_last.pt")) == Path("v1.2/model_last.json")


class TestRead:
    def test_what_was_written(self, weights):
        assert read_plan(weights) == PLAN

    def test_none(self, tmp_path):
        assert read_plan(tmp_path / "model.pt") == {}

    def test_something_else_than_settings(self, weights):
        plan_file(weights).write_text("[1, 2]", encoding="utf-8")
        assert read_plan(weights) == {}

    def test_not_json(self, weights):
        plan_file(weights).write_text('{"spatial_size": [12,', encoding="utf-8")
        with pytest.raises(InputError, match=r"model\.json: is not valid JSON .*; restore it, or delete it"):
            read_plan(weights)

    def test_nested_too_deep(self, weights):
        plan_file(weights).write_text("[" * 5000 + "]" * 5000, encoding="utf-8")
        with pytest.raises(InputError, match=r"model\.json: is not valid JSON \(nested too deep\); restore it"):
            read_plan(weights)

    @pytest.mark.parametrize(
        ("learned", "problem"),
        [
            ("12", "is not a list of whole numbers"),
            ([1, "L5"], "is not a list of whole numbers"),
            ([1, 99], "[99] are not label values"),
        ],
    )
    def test_what_was_learned_is_no_list_of_label_values(self, weights, learned, problem):
        plan_file(weights).write_text(json.dumps(PLAN | {"learned": learned}), encoding="utf-8")
        with pytest.raises(InputError) as raised:
            read_plan(weights)
        assert str(raised.value) == (
            f"{plan_file(weights)}: its entry 'learned' {problem}; restore it, or delete it to go on unchecked"
        )

    def test_what_was_learned(self, weights):
        for learned in ([2, 11], None):
            plan_file(weights).write_text(json.dumps(PLAN | {"learned": learned}), encoding="utf-8")
            assert read_plan(weights)["learned"] == learned


class TestCheck:
    @pytest.mark.parametrize(
        "settings",
        [
            PLAN,
            {"aspp": True},
            {},
            {"spatial_size": (12, 96, 48)},  # a tuple is what a list is in a file
            {"batch_size": 3},  # weights do not depend on it, so the plan does not hold it
        ],
    )
    def test_the_same(self, weights, settings):
        check_plan(weights, settings)

    @pytest.mark.parametrize(
        ("name", "value", "remedy"),
        [
            ("spatial_size", [18, 256, 128], "--spatial_size '[12,96,48]'"),
            ("crop_fraction", 0.6, "--crop_fraction '0.5'"),
            ("aspp", False, "--aspp 'true'"),
            ("label_scheme", "mrspineseg19", "--label_scheme '\"mrspineseg17\"'"),
        ],
    )
    def test_another_setting(self, weights, name, value, remedy):
        with pytest.raises(InputError) as raised:
            check_plan(weights, PLAN | {name: value})
        message = str(raised.value)
        assert message.startswith(f"{weights}: was trained with {name} ")
        assert json.dumps(value, separators=(",", ":")) in message
        assert message.endswith(f"pass {remedy}")

    def test_weights_without_a_plan_are_not_checked(self, tmp_path):
        check_plan(tmp_path / "model.pt", PLAN)


class TestLearned:
    EVERY = sorted(s.value for s in LabelScheme.load("mrspineseg17").structures)

    def test_cases_without_a_list_teach_everything(self):
        assert learned_values([{"image": "a"}, {"labelled": [1, 2]}], "mrspineseg17") == self.EVERY

    def test_the_union_of_the_lists(self):
        items = [{"labelled": [2, 1]}, {"labelled": [12, 2]}, {"labelled": ["3"]}]
        assert learned_values(items, "mrspineseg17") == [1, 2, 3, 12]

    def test_only_what_the_network_knows(self):
        # T9 (10) and T9/T10 (19) are classes of the other scheme alone; 0 is the background.
        assert learned_values([{"labelled": [0, 1, 10, 19]}], "mrspineseg17") == [1]
        assert learned_values([{"labelled": [0, 1, 10, 19]}], "mrspineseg19") == [1, 10, 19]

    def test_text_is_not_taken_letter_by_letter(self):
        with pytest.raises(InputError, match=r"^labelled: is not a list of whole numbers; use values from 1 to 19$"):
            learned_values([{"labelled": "12"}], "mrspineseg17")

    def test_nothing_drawn(self):
        assert learned_values([{"labelled": []}], "mrspineseg17") == []
