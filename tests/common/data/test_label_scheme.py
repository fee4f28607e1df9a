from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from common.data.label_scheme import BACKGROUND, LabelScheme, label_values, whole_number
from common.errors import InputError

# MRSpineSeg's own table
NAMES = (
    *("S", "L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10", "T9"),
    *("L5/S", "L4/L5", "L3/L4", "L2/L3", "L1/L2", "T12/L1", "T11/T12", "T10/T11", "T9/T10"),
)


@pytest.mark.parametrize(("name", "missing"), [("mrspineseg17", {10, 19}), ("mrspineseg19", set())])
class TestBothSchemes:
    def test_tables_are_inverse(self, name, missing):
        scheme = LabelScheme(name)
        to_channel, to_value = scheme.value_to_channel, scheme.channel_to_value
        assert scheme.num_channels == len(to_value) == 20 - len(missing)
        assert to_channel[to_value].tolist() == list(range(scheme.num_channels))
        assert to_value[to_channel].tolist() == [0 if value in missing else value for value in range(20)]
        assert to_channel.dtype == to_value.dtype == np.uint8

    def test_structures_are_in_the_order_of_the_channels(self, name, missing):
        scheme = LabelScheme(name)
        assert [s.channel for s in scheme.structures] == list(range(1, scheme.num_channels))
        assert {s.value for s in scheme.structures} == set(range(1, 20)) - missing
        assert {s.value for s in scheme.all_structures if s.channel < 0} == missing

    def test_values_names_and_colours(self, name, missing):
        scheme = LabelScheme(name)
        assert scheme.values == tuple(range(1, 20))
        assert [s.name for s in sorted(scheme.all_structures, key=lambda s: s.value)] == list(NAMES)
        assert (
            len({s.color for s in scheme.all_structures}) == len({s.description for s in scheme.all_structures}) == 19
        )
        assert all(len(s.color) == 3 and all(0 <= c <= 255 for c in s.color) for s in scheme.all_structures)

    def test_channel_def_names_the_written_values(self, name, missing):
        expected = {"0": BACKGROUND} | {str(v): NAMES[v - 1] for v in range(1, 20) if v not in missing}
        assert list(LabelScheme(name).channel_def().items()) == list(expected.items())

    @pytest.mark.parametrize("labelled", [[1, 2, 11], (19,), [], range(20), np.array([3, 3, 12])])
    def test_drawn_channels(self, name, missing, labelled):
        scheme = LabelScheme(name)
        drawn = scheme.drawn_channels(labelled)
        assert drawn.dtype == bool and drawn.shape == (scheme.num_channels,) and drawn[0]
        assert set(scheme.channel_to_value[drawn].tolist()) == {0, *map(int, labelled)} - missing
        assert scheme.drawn_channels(None).all()

    def test_unknown_values_are_refused(self, name, missing):
        with pytest.raises(InputError) as error:
            LabelScheme(name).drawn_channels([1, 40, -2])
        assert str(error.value) == "labelled: [-2, 40] are not label values; use values from 1 to 19"


@pytest.mark.parametrize("listed", ["12", b"12", 5, None, {1: 2}, ["L5"], [[1]], [None], [True], [1.5], [np.inf]])
def test_lists_that_are_none_of_whole_numbers(listed):
    with pytest.raises(InputError, match=r"^labelled: is not a list of whole numbers; use values from 1 to 19$"):
        label_values(listed)


def test_list_of_label_values():
    assert label_values([2, "1", 0, 11.0, np.int16(2)]) == [1, 2, 11]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, 3), ("-3", -3), (2.0, 2), (np.uint8(7), 7), (10**30, 10**30), (True, None), ("", None), ("1e3", None),
     ("9" * 5000, None), (float("nan"), None), (None, None)],
)  # fmt: skip
def test_whole_number(value, expected):
    assert whole_number(value) == expected


def test_l5_s_is_11_in_files_whatever_the_channel():
    for name, channel in (("mrspineseg17", 10), ("mrspineseg19", 11)):
        (structure,) = [s for s in LabelScheme(name).structures if s.name == "L5/S"]
        assert (structure.value, structure.channel) == (11, channel)


def test_unknown_scheme():
    with pytest.raises(ValueError, match=r"^unknown label scheme 'spider'; choose one of mrspineseg17, mrspineseg19$"):
        LabelScheme("spider")


def test_load_gives_the_same_object_for_the_same_name():
    assert LabelScheme.load("mrspineseg17") is LabelScheme.load("mrspineseg17")
    assert LabelScheme.load("mrspineseg17") is not LabelScheme.load("mrspineseg19")


def test_structures_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LabelScheme().structures[0].value = 3
