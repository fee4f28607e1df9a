from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.data import LabelScheme
from common.transforms import OrderLevelsd

SCHEME = LabelScheme.load("mrspineseg17")
CHANNEL = {structure.name: structure.channel for structure in SCHEME.structures}
NAMES = ["L5", "L4", "L3", "L2", "L1", "T12", "T11", "T10"]
DISCS = ["L5/S", "L4/L5", "L3/L4", "L2/L3", "L1/L2", "T12/L1", "T11/T12", "T10/T11"]
SHAPE = (3, 100, 16)


def spine(levels: list[dict[str, float]], discs: list[str], gap: int = 2) -> torch.Tensor:
    """Probabilities of a spine whose vertebrae, 8 x 10 voxels, stand on a sacrum at the feet.

    Args:
        levels: for each vertebra from below the names that the network gives it, with their probabilities; the rest is
            background.
        discs: the name that it gives to the disc below each.
        gap: height of the discs.
    """
    scores = torch.zeros(SCHEME.num_channels, *SHAPE)
    foot = SHAPE[1] - 8
    scores[CHANNEL["S"], :, foot:, 3:13] = 1
    for names, disc in zip(levels, discs, strict=True):
        scores[CHANNEL[disc], :, foot - gap : foot, 3:13] = 1
        foot -= gap + 8
        for name, probability in names.items():
            scores[CHANNEL[name], :, foot : foot + 8, 3:13] = probability
    scores[0] = 1 - scores[1:].sum(dim=0)
    return scores


def test_the_sacrums_first_segment_is_no_vertebra():
    """Where the network takes S1 for another L5, it is given to the sacrum, and what lies below it has no name."""
    levels = [{"L5": 1.0}, *right(4)]
    scores = without_sacrum(spine(levels, ["L5/S", "L5/S", *DISCS[1:4]]))
    found = OrderLevelsd("pred", "mrspineseg17")({"pred": scores})["pred"]
    wanted = without_sacrum(spine([{"S": 1.0}, *right(4)], ["L5/S", *DISCS[:4]]), below=92)
    wanted[0, :, 90:92, 3:13], wanted[CHANNEL["L5/S"], :, 90:92] = 1, 0
    torch.testing.assert_close(found, wanted)


def without_sacrum(scores: torch.Tensor, below: int = 0) -> torch.Tensor:
    scores = scores.clone()
    scores[0, :, below:] += scores[CHANNEL["S"], :, below:]
    scores[CHANNEL["S"], :, below:] = 0
    return scores


def ordered(scores: torch.Tensor) -> torch.Tensor:
    found = OrderLevelsd("pred", "mrspineseg17")({"pred": scores})["pred"]
    torch.testing.assert_close(found.sum(dim=0), scores.sum(dim=0))
    torch.testing.assert_close(found[CHANNEL["S"]], scores[CHANNEL["S"]])
    return found


def right(count: int) -> list[dict[str, float]]:
    return [{name: 1.0} for name in NAMES[:count]]


def test_a_spine_in_order_stays_as_it_is():
    scores = spine(right(8), DISCS)
    torch.testing.assert_close(ordered(scores), scores)


def test_one_vertebra_with_another_name_gets_its_own():
    levels = right(5)
    levels[2] = {"L4": 0.6, "L3": 0.4}
    found = ordered(spine(levels, ["L5/S", "L4/L5", "L4/L5", "L2/L3", "L1/L2"]))
    torch.testing.assert_close(found, spine(right(5), DISCS[:5]))


def test_two_names_in_one_vertebra():
    scores = spine(right(4), DISCS[:4])
    half = scores[CHANNEL["L4"], :, :, :8].clone()
    scores[CHANNEL["L4"], :, :, :8] = 0
    scores[CHANNEL["L3"], :, :, :8] += half
    torch.testing.assert_close(ordered(scores), spine(right(4), DISCS[:4]))


def test_a_stray_speck_is_no_vertebra():
    """It becomes background."""
    scores = spine(right(4), DISCS[:4])
    scores[0, 1, 30, 14], scores[CHANNEL["S"], 1, 30, 14], scores[CHANNEL["T10"], 1, 30, 14] = 0, 0, 1
    found = ordered(scores)
    torch.testing.assert_close(found, spine(right(4), DISCS[:4]))


def test_the_edge_cuts_a_vertebra():
    """What is left of it, small as it is, has a name of its own, and not that of the one below."""
    scores = spine(right(6), DISCS[:6])[:, :, 39:]  # of T12's eight rows the lowest
    assert scores[CHANNEL["T12"], :, 0].any() and not scores[CHANNEL["T12"], :, 1:].any()
    unsure = scores.clone()
    unsure[CHANNEL["T12"]] *= 0.45
    unsure[CHANNEL["L1"]] += scores[CHANNEL["T12"]] * 0.55
    torch.testing.assert_close(ordered(unsure), scores)


def test_a_small_piece_near_the_edge_is_what_the_edge_leaves():
    """The network has not seen the rows at the edge; a piece as small elsewhere is a speck."""
    scores = spine(right(6), DISCS[:6])[:, :, 38:]
    scores[0, :, 0] += scores[CHANNEL["T12"], :, 0]
    scores[CHANNEL["T12"], :, 0] = 0
    wrong = scores.clone()
    wrong[CHANNEL["L1"]] += wrong[CHANNEL["T12"]]
    wrong[CHANNEL["T12"]] = 0
    torch.testing.assert_close(ordered(wrong), scores)


@pytest.mark.parametrize(("unsure", "names"), [(4, {"T12": 0.3, "L1": 0.4}), (2, {"L4": 0.3, "L2": 0.3})])
def test_a_vertebra_that_is_nowhere_sure_has_its_name_in_the_series(unsure, names):
    levels, wanted = right(5), right(5)
    levels[unsure], wanted[unsure] = names, {NAMES[unsure]: sum(names.values())}
    torch.testing.assert_close(ordered(spine(levels, DISCS[:5])), spine(wanted, DISCS[:5]))


def test_what_is_unsure_and_does_not_fit_becomes_background():
    """A third of a vertebra behind the uppermost one, and too little higher to be the next."""
    scores = spine(right(4), DISCS[:4])
    wrong = scores.clone()
    wrong[CHANNEL["L1"], :, 46:58, 14:], wrong[0, :, 46:58, 14:] = 0.6, 0.4
    torch.testing.assert_close(ordered(wrong), scores)


def test_what_is_unsure_below_all_others_is_no_vertebra():
    """It may be the sacrum."""
    wrong = without_sacrum(spine([{"L5": 0.6}, *right(4)], ["L5/S", *DISCS[:4]]))
    found = ordered(wrong)
    wanted = without_sacrum(spine([{}, *right(4)], ["L5/S", *DISCS[:4]]))
    assert torch.equal(found[1:, :, :80], wanted[1:, :, :80])
    assert not found[CHANNEL["L5"], :, 82:].any()


def beside_the_sacrum(scores: torch.Tensor, row: int) -> torch.Tensor:
    """Something as large as a vertebra, in front of the sacrum or below it, that the network takes for an L5."""
    scores = torch.nn.functional.pad(scores, (0, 10, 0, 30))
    scores[CHANNEL["S"], :, 100:116, 3:13] = 1
    scores[CHANNEL["L5"], :, row : row + 8, 16:24] = 1
    scores[0] = 1 - scores[1:].sum(dim=0)
    return scores


@pytest.mark.parametrize("row", [104, 110, 120])
def test_what_lies_lower_than_the_sacrums_middle_is_no_vertebra(row):
    """Such as a bladder. The others are named as without it, and it becomes background."""
    levels = right(5)
    levels[2] = {"L4": 0.6, "L3": 0.4}
    found = ordered(beside_the_sacrum(spine(levels, DISCS[:5], gap=4), row))
    wanted = beside_the_sacrum(spine(right(5), DISCS[:5], gap=4), row)
    wanted[0, :, row : row + 8, 16:24], wanted[CHANNEL["L5"], :, row : row + 8, 16:24] = 1, 0
    torch.testing.assert_close(found, wanted)


def test_of_a_sacrum_that_is_hardly_seen_nothing_is_told():
    """Then what lies lower may be a vertebra, with one missing between, and all stay as they were."""
    scores = beside_the_sacrum(spine(right(5), DISCS[:5], gap=4), 120)
    scores[CHANNEL["S"], :, 95:] = 0
    scores[0] = 1 - scores[1:].sum(dim=0)
    torch.testing.assert_close(ordered(scores), scores)


def test_one_vertebra_that_is_taller_than_deep_does_not_stop_the_naming():
    scores, wanted = (spine(levels, DISCS[:4]) for levels in ([{"L4": 1}, {"L4": 1}, {"L3": 1}, {"L2": 1}], right(4)))
    for one in (scores, wanted):
        for name in ("L5", "L4"):
            one[0, :, 82:90, 8:13] += one[CHANNEL[name], :, 82:90, 8:13]
            one[CHANNEL[name], :, 82:90, 8:13] = 0  # of ten columns five stay
    torch.testing.assert_close(ordered(scores), wanted)


@pytest.mark.parametrize("bridge", [0.85, 0.93, 0.97])
def test_vertebrae_that_touch_are_parted_where_bone_is_less_sure(bridge):
    scores, wanted = (spine(levels, DISCS[:4]) for levels in ([{"L5": 1}, {"L3": 1}, {"L3": 1}, {"L2": 1}], right(4)))
    joint = (slice(None), slice(70, 72), slice(5, 7))  # a bridge through the disc L3/L4
    for one in (scores, wanted):
        one[:, *joint] = 0
        one[CHANNEL["L3"], *joint], one[0, *joint] = bridge, 1 - bridge
    names, right_names = ordered(scores).argmax(dim=0), wanted.argmax(dim=0)
    assert set(names[joint].unique().tolist()) <= {CHANNEL["L4"], CHANNEL["L3"]}
    names[joint], right_names[joint] = 0, 0
    assert torch.equal(names, right_names)


def test_the_series_that_is_far_more_probable():
    """Four of five vertebrae say that the lowest one in the picture is L4."""
    levels = [{"L5": 1.0}, {"L3": 0.9, "L4": 0.1}, {"L2": 1.0}, {"L1": 1.0}, {"T12": 1.0}]
    found = ordered(without_sacrum(spine(levels, DISCS[:5])))
    wanted = without_sacrum(spine([{name: 1.0} for name in NAMES[1:6]], DISCS[1:6]))
    torch.testing.assert_close(found, wanted)


def test_the_lowest_is_l5_where_the_network_contradicts_itself():
    """Two vertebrae took a name together, and those above have the next one's: more names speak for L4 than for L5."""
    levels = [{"L5": 0.4, "L4": 0.6}, {"L3": 1.0}, {"L2": 1.0}, {"L1": 0.7, "L2": 0.3}, {"L1": 0.7, "T12": 0.3}]
    found = ordered(without_sacrum(spine(levels, DISCS[:5])))
    torch.testing.assert_close(found, without_sacrum(spine(right(5), DISCS[:5])))


@pytest.mark.parametrize(("last", "first"), [(90, "S"), (96, "L5")])
def test_what_the_lower_edge_cuts_may_be_the_sacrum(last, first):
    """The same doubt as above; at the edge the sacrum's first segment is the likelier reason."""
    levels = [{"L5": 1.0}, {"L4": 0.9, "L5": 0.1}, {"L4": 0.8, "L3": 0.2}, {"L3": 1.0}, {"L2": 1.0}, {"L1": 1.0}]
    scores = without_sacrum(spine(levels, DISCS[:6]))[:, :, :last]
    column = OrderLevelsd("pred", "mrspineseg17")({"pred": scores})["pred"].argmax(dim=0)[0, :, 5]
    names = ["S", *NAMES]
    for number, name in enumerate(names[names.index(first) :][:6]):
        foot = 90 - 10 * number
        assert column[foot - 8 : foot].unique().tolist() == [CHANNEL[name]]


def test_two_parts_of_one_vertebra_side_by_side():
    """As in a scoliosis, whose slices cut a vertebra twice."""
    levels = [{"L5": 1.0}, {"L3": 1.0}, {"L3": 1.0}, {"L2": 1.0}]
    scores, wanted = spine(levels, DISCS[:4]), spine(right(4), DISCS[:4])
    for one, name in ((scores, "L3"), (wanted, "L4")):
        for seam in ((0, slice(72, 80), 6), (1, slice(72, 80), slice(6, 13))):  # the third slice has no seam
            one[CHANNEL[name], *seam], one[0, *seam] = 0.6, 0.4
    assert torch.equal(ordered(scores).argmax(dim=0), wanted.argmax(dim=0))


@pytest.mark.parametrize(("gap", "names"), [(2, NAMES), (6, NAMES[1:])])
def test_what_stands_on_the_sacrum_is_l5(gap, names):
    """Whatever the network says; unless a vertebra may be missing between."""
    levels, discs = [{"L4": 1.0}, {"L3": 1.0}, {"L2": 1.0}], DISCS[1:4]
    right_ones = spine([{name: 1.0} for name in names[:3]], DISCS[:3] if gap == 2 else discs)
    scores = spine(levels, discs)
    for one in (scores, right_ones):
        one[0] += one[CHANNEL["S"]]
        one[0, :, -8 : gap - 10] = 1  # between the sacrum and the lowest disc
        one[CHANNEL["S"]] = 0
        one[CHANNEL["S"], :, gap - 10 :, 3:13] = 1
        one[0, :, gap - 10 :, 3:13] = 0
    torch.testing.assert_close(ordered(scores), right_ones)


def test_more_vertebrae_than_there_are_names():
    levels = [*right(8), {"T10": 1.0}]
    found = ordered(spine(levels, [*DISCS, "T10/T11"], gap=1))
    wanted = spine([*right(8), {}], [*DISCS, "T10/T11"], gap=1)
    above = wanted[CHANNEL["T10/T11"]].clone()
    above[:, : SHAPE[1] - 8 - 8 * 9] = 0  # the disc below the ninth has no name
    wanted[0] += wanted[CHANNEL["T10/T11"]] - above
    wanted[CHANNEL["T10/T11"]] = above
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    "scores",
    [
        spine([{"L3": 1.0}], ["L5/S"]),  # one vertebra alone
        spine([{"L5": 1.0}, {"L3": 0.3}, {"L4": 1.0}], DISCS[:3]),  # one that the network does not see
        spine([{"L5": 1.0}, {"L3": 1.0}], DISCS[:2], gap=0),  # two that touch
        torch.eye(SCHEME.num_channels)[0][:, None, None, None].expand(-1, *SHAPE),  # nothing at all
    ],
    ids=["one", "a hole", "touching", "nothing"],
)
def test_what_is_no_series_stays_as_it_is(scores):
    assert torch.equal(ordered(scores), scores)


def test_other_axes():
    """SSHSNet's: front to back, to the feet, slices; vertebrae are deeper here than they are tall or wide."""
    levels = right(5)
    levels[2] = {"L4": 0.6, "L3": 0.4}
    scores = spine(levels, ["L5/S", "L4/L5", "L4/L5", "L2/L3", "L1/L2"]).permute(0, 3, 2, 1)
    found = OrderLevelsd("pred", "mrspineseg17", front_back=0)({"pred": scores})["pred"]
    torch.testing.assert_close(found, spine(right(5), DISCS[:5]).permute(0, 3, 2, 1))


def test_type_and_geometry_stay():
    affine = np.diag([4.0, 1.0, 1.0, 1.0])
    scores = MetaTensor(spine(right(3), DISCS[:3]).half(), affine=affine)
    found = OrderLevelsd("pred", "mrspineseg17")({"pred": scores})["pred"]
    assert isinstance(found, MetaTensor) and found.dtype == torch.float16
    assert np.array_equal(found.affine, affine)
