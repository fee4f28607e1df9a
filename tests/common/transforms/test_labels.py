from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.data.label_scheme import LabelScheme
from common.errors import InputError
from common.transforms import ChannelsToValuesd, DrawnStructuresd, KeepStructuresd, ValuesToChannelsd

SCHEMES = ("mrspineseg17", "mrspineseg19")


def label_map(values, name: str = "/data/labels/Case1.nii.gz", dtype=torch.float32) -> MetaTensor:
    """A label map (1, n, 1, 1) as LoadImaged and EnsureChannelFirstd give it."""
    voxels = torch.as_tensor(list(values), dtype=dtype).reshape(1, -1, 1, 1)
    return MetaTensor(voxels, affine=torch.diag(torch.tensor([4.0, 2, 3, 1])), meta={"filename_or_obj": name})


class TestValuesToChannels:
    @pytest.mark.parametrize("scheme", SCHEMES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int16, torch.int64])
    def test_then_back_is_the_same_but_for_what_the_scheme_does_not_know(self, scheme, dtype):
        unknown = {10, 19} if scheme == "mrspineseg17" else set()
        item = ValuesToChannelsd("label", scheme)({"label": label_map(range(20), dtype=dtype)})
        assert len(torch.unique(item["label"])) == 20 - len(unknown)
        values = ChannelsToValuesd("label", scheme)(item)["label"]
        assert values.flatten().tolist() == [0 if value in unknown else value for value in range(20)]
        assert values.dtype == torch.uint8

    def test_t9_and_t9_t10_are_background_in_the_papers_scheme(self):
        item = ValuesToChannelsd("label", "mrspineseg17")({"label": label_map([9, 10, 11, 18, 19])})
        assert item["label"].flatten().tolist() == [9, 0, 10, 17, 0]

    @pytest.mark.parametrize(
        ("values", "shown"),
        [
            ([0, 20, 3], "20"),
            ([-1, 1], "-1"),
            ([0, 1.5, 2], "1.5"),
            ([0, float("nan"), float("nan"), float("inf")], "inf, nan"),
            ([100, 200, 300], "100, 200, 300"),
            (range(0, 30), "20, 21, 22, 23, 24, ..."),
        ],
    )
    def test_strange_values_are_refused(self, values, shown):
        with pytest.raises(InputError) as error:
            ValuesToChannelsd("label", "mrspineseg17")({"label": label_map(values)})
        assert str(error.value) == (
            f"/data/labels/Case1.nii.gz: carries label values outside 0..19 ({shown}); renumber it as MRSpineSeg does"
        )

    def test_plain_tensors_are_taken_too(self):
        item = ValuesToChannelsd("label", "mrspineseg17")({"label": torch.tensor([[11, 0]])})
        assert type(item["label"]) is torch.Tensor and item["label"].tolist() == [[10, 0]]
        with pytest.raises(InputError, match=r"^label map: carries label values outside 0\.\.19 \(77\);"):
            ValuesToChannelsd("label", "mrspineseg17")({"label": torch.tensor([77])})


@pytest.mark.parametrize("transform", [ValuesToChannelsd, ChannelsToValuesd])
def test_geometry_and_history_stay(transform):
    label = label_map([0, 5, 11])
    label.push_applied_operation({"class": "Crop", "id": 1})
    found = transform("label", "mrspineseg17")({"label": label})["label"]
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, label.affine) and found.meta["filename_or_obj"] == "/data/labels/Case1.nii.gz"
    assert found.applied_operations == label.applied_operations != []
    assert label.flatten().tolist() == [0, 5, 11]  # the input is left alone


@pytest.mark.parametrize("transform", [ValuesToChannelsd, ChannelsToValuesd, KeepStructuresd])
def test_missing_key(transform):
    assert transform("label", "mrspineseg17", allow_missing_keys=True)({"image": 1}) == {"image": 1}
    if transform is not KeepStructuresd:  # with everything kept there is nothing to do
        with pytest.raises(KeyError, match="label"):
            transform("label", "mrspineseg17")({"image": 1})


class TestChannelsToValues:
    @pytest.mark.parametrize(("channels", "span"), [([0, 18], "0..18"), ([-1, 4], "-1..4"), ([17, 40], "17..40")])
    def test_strange_channels_are_refused(self, channels, span):
        message = f"expected channels 0..17 for label scheme mrspineseg17, got {span}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            ChannelsToValuesd("pred", "mrspineseg17")({"pred": label_map(channels, dtype=torch.int64)})

    def test_l5_s_is_written_as_11_in_both_schemes(self):
        for scheme, channel in (("mrspineseg17", 10), ("mrspineseg19", 11)):
            item = ChannelsToValuesd("pred", scheme)({"pred": torch.full((1, 2, 2, 2), channel)})
            assert torch.equal(item["pred"], torch.full((1, 2, 2, 2), 11, dtype=torch.uint8))


class TestDrawnStructures:
    @staticmethod
    def drawn(item: dict, **options) -> tuple[dict, list[int]]:
        scheme = LabelScheme.load("mrspineseg17")
        out = DrawnStructuresd("label", "mrspineseg17", **options)(item)
        flags = out["drawn"] if "drawn" in out else out["which"]
        assert flags.dtype == torch.bool and flags.shape == (18,) and flags[0]
        return out, [int(scheme.channel_to_value[c]) for c in torch.nonzero(flags).flatten().tolist() if c]

    CHANNELS = (0, 3, 3, 10, 17)  # values 0, 3, 3, 11, 18

    @pytest.mark.parametrize("labelled", ["all", "present"])
    @pytest.mark.parametrize(
        ("listed", "expected"), [([2, 3, 11], [2, 3, 11]), ([19, 10, 4], [4]), ([0, 1], [1]), ([], []), ((5, 5), [5])]
    )
    def test_what_a_case_lists_counts(self, labelled, listed, expected):
        out, values = self.drawn({"label": label_map(self.CHANNELS), "labelled": listed}, labelled=labelled)
        assert values == expected
        assert "labelled" not in out  # lists of different length cannot be collated

    @pytest.mark.parametrize("extra", [{}, {"labelled": None}])
    def test_a_case_that_lists_nothing(self, extra):
        item = {"label": label_map(self.CHANNELS)} | extra
        assert self.drawn(item)[1] == self.drawn(item, labelled="all")[1] == [*range(1, 10), *range(11, 19)]
        assert self.drawn(item, labelled="present")[1] == [3, 11, 18]

    def test_present_in_a_blank_label_map_is_nothing(self):
        assert self.drawn({"label": label_map([0, 0])}, labelled="present")[1] == []

    def test_result_may_go_elsewhere_and_the_item_is_left_alone(self):
        item = {"label": label_map(self.CHANNELS), "labelled": [1]}
        out, values = self.drawn(item, drawn_key="which")
        assert values == [1] and set(item) == {"label", "labelled"}
        assert out["label"] is item["label"]

    def test_errors(self):
        with pytest.raises(ValueError, match=r"^labelled must be 'all' or 'present', got 'some'$"):
            DrawnStructuresd("label", "mrspineseg17", labelled="some")
        with pytest.raises(InputError) as error:
            self.drawn({"label": label_map([0]), "labelled": [3, 25, 20]})
        assert str(error.value) == "labelled: [20, 25] are not label values; use values from 1 to 19"


class TestKeepStructures:
    def probabilities(self) -> MetaTensor:
        scores = torch.rand(18, 3, 4, 5, generator=torch.Generator().manual_seed(0)).softmax(0)
        return MetaTensor(scores, meta={"filename_or_obj": "x"})

    def test_the_rest_goes_to_the_background(self):
        before = self.probabilities()
        kept = [1, 2, 10]  # S, L5 and L5/S: values 1, 2, 11
        after = KeepStructuresd("pred", "mrspineseg17", values=[1, 2, 11])({"pred": before.clone()})["pred"]
        dropped = [c for c in range(1, 18) if c not in kept]
        assert torch.equal(after[kept], before[kept])
        assert not after[dropped].any()
        assert torch.allclose(after[0], before[0] + before[dropped].sum(0))
        assert torch.allclose(after.sum(0), torch.ones(3, 4, 5))
        assert isinstance(after, MetaTensor) and after.meta["filename_or_obj"] == "x"

    @pytest.mark.parametrize("values", [None, [*range(1, 20)]])
    def test_everything_kept(self, values):
        before = self.probabilities()
        after = KeepStructuresd("pred", "mrspineseg17", values=values)({"pred": before.clone()})["pred"]
        assert torch.equal(after, before)

    def test_nothing_kept(self):
        after = KeepStructuresd("pred", "mrspineseg17", values=[])({"pred": self.probabilities()})["pred"]
        assert torch.allclose(after[0], torch.ones(3, 4, 5)) and not after[1:].any()

    def test_input_is_left_alone(self):
        before = self.probabilities()
        copy = before.clone()
        KeepStructuresd("pred", "mrspineseg17", values=[4])({"pred": before})
        assert torch.equal(before, copy)

    def test_unknown_value(self):
        with pytest.raises(InputError) as error:
            KeepStructuresd("pred", "mrspineseg17", values=[30])
        assert str(error.value) == "labelled: [30] are not label values; use values from 1 to 19"

    def test_is_what_the_marginal_loss_takes_for_granted(self):
        from common.losses import merge_undrawn

        logits = torch.randn(1, 18, 3, 4, 5, generator=torch.Generator().manual_seed(1))
        drawn = torch.from_numpy(LabelScheme.load("mrspineseg17").drawn_channels([2, 3, 12]))
        merged = merge_undrawn(logits, drawn[None]).softmax(1)[0]
        kept = KeepStructuresd("pred", "mrspineseg17", values=[2, 3, 12])({"pred": logits.softmax(1)[0]})["pred"]
        assert np.allclose(merged, kept, atol=1e-6)
