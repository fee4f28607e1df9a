from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.metrics import StructureDiceMetric, VoxelAccuracyMetric, dice_per_structure, joint_histogram, named_right
from common.metrics.structure_dice import merged_dice

CHANNELS = 6
EVERYTHING = torch.ones(CHANNELS, dtype=torch.bool)
DRAWN = torch.tensor([True, True, False, True, True, False])


def pair(seed: int, size=(4, 5, 6), missing=()) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and reference (1, X, Y, Z) that agree in two thirds; the reference lacks some channels."""
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, CHANNELS, (1, *size))
    pred = np.where(rng.random(reference.shape) < 0.66, reference, rng.integers(0, CHANNELS, reference.shape))
    reference[np.isin(reference, missing)] = 0
    return torch.from_numpy(pred), torch.from_numpy(reference)


def brute_dice(pred: torch.Tensor, reference: torch.Tensor, drawn: torch.Tensor, absent: str = "blank") -> list[float]:
    scores = []
    for channel in range(1, CHANNELS):
        a, b = pred.numpy() == channel, reference.numpy() == channel
        unscored = not drawn[channel] or not (a | b).any() or (absent == "blank" and not b.any())
        scores.append(math.nan if unscored else 2 * (a & b).sum() / (a.sum() + b.sum()))
    return scores


def dice(pred, reference, drawn=EVERYTHING, **options) -> list[float]:
    return dice_per_structure(joint_histogram(pred, reference, CHANNELS), drawn, **options).tolist()


class TestJointHistogram:
    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
    @pytest.mark.parametrize("kind", [torch.Tensor, MetaTensor])
    def test_counts_pairs(self, dtype, kind):
        pred, reference = pair(0)
        found = joint_histogram(pred.to(dtype).as_subclass(kind), reference.to(dtype).as_subclass(kind), CHANNELS)
        wanted = np.zeros((CHANNELS, CHANNELS), int)
        np.add.at(wanted, (reference.numpy().ravel(), pred.numpy().ravel()), 1)
        assert type(found) is torch.Tensor and found.dtype == torch.int64
        assert found.tolist() == wanted.tolist()

    def test_many_channels_do_not_overflow_small_types(self):
        channel = torch.full((1, 3, 3, 3), 19, dtype=torch.uint8)
        assert joint_histogram(channel, channel, 20)[19, 19] == 27

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match=r"^prediction and reference differ in shape: \(1, 2\) and \(1, 3\)$"):
            joint_histogram(torch.zeros(1, 2), torch.zeros(1, 3), CHANNELS)


class TestDicePerStructure:
    @pytest.mark.parametrize("absent", ["blank", "zero"])
    @pytest.mark.parametrize("missing", [(), (1,), (2, 3, 5), range(1, 6)])
    @pytest.mark.parametrize("drawn", [EVERYTHING, DRAWN], ids=["all", "some"])
    def test_is_brute_force(self, drawn, missing, absent):
        pred, reference = pair(1, missing=tuple(missing))
        wanted = brute_dice(pred, reference, drawn, absent)
        assert dice(pred, reference, drawn, absent=absent) == pytest.approx(wanted, nan_ok=True)

    def test_what_a_structure_gets(self):
        reference = torch.tensor([[1, 1, 1, 1, 2, 2, 0, 0, 0, 0]])
        pred = torch.tensor([[1, 1, 1, 2, 0, 0, 3, 0, 0, 0]])
        nan = math.nan
        # 1 found in part; 2 drawn, there, missed; 3 predicted but not there; 4 and 5 in neither
        assert dice(pred, reference) == pytest.approx([6 / 7, 0, nan, nan, nan], nan_ok=True)
        assert dice(pred, reference, absent="zero") == pytest.approx([6 / 7, 0, 0, nan, nan], nan_ok=True)
        some = torch.tensor([True, False, True, False, True, True])
        assert dice(pred, reference, some, absent="zero") == pytest.approx([nan, 0, nan, nan, nan], nan_ok=True)

    def test_flags_may_be_numbers(self):
        pred, reference = pair(2)
        assert dice(pred, reference, DRAWN.int()) == pytest.approx(dice(pred, reference, DRAWN), nan_ok=True)

    def test_absent_is_one_of_two_words(self):
        with pytest.raises(ValueError, match=r"^absent must be 'blank' or 'zero', got 'one'$"):
            dice(*pair(0), absent="one")


class TestMergedDice:
    @pytest.mark.parametrize("channels", [(1, 2, 3), (4, 5), (2,), (5,)])
    @pytest.mark.parametrize("missing", [(), (1,), (2, 3, 5), range(1, 6)])
    @pytest.mark.parametrize("drawn", [EVERYTHING, DRAWN], ids=["all", "some"])
    def test_is_brute_force(self, drawn, missing, channels):
        pred, reference = pair(1, missing=(*missing, *(~drawn).nonzero().flatten().tolist()))
        names = [channel for channel in channels if drawn[channel]]
        a, b = np.isin(pred, channels), np.isin(reference, names)
        a &= ~(np.isin(pred, (~drawn).nonzero()) & (reference.numpy() == 0))  # nobody knows
        unscored = not names or not (a | b).any()
        wanted = math.nan if unscored else 2 * (a & b).sum() / (a.sum() + b.sum())
        found = merged_dice(joint_histogram(pred, reference, CHANNELS), drawn, channels)
        assert found == pytest.approx(wanted, nan_ok=True)

    @staticmethod
    def merged(pred, reference, channels, drawn=EVERYTHING) -> float:
        histogram = joint_histogram(torch.tensor([pred]), torch.tensor([reference]), CHANNELS)
        return merged_dice(histogram, drawn, channels)

    def test_names_do_not_matter(self):
        assert self.merged([1, 2, 3, 0, 4], [3, 1, 1, 0, 5], (1, 2, 3)) == 1
        assert self.merged([1, 2, 3, 0, 4], [3, 1, 1, 0, 5], (4, 5)) == 1
        assert self.merged([1, 4, 0], [1, 1, 1], (1, 2, 3)) == pytest.approx(2 / 4)  # a disc is no vertebra
        assert self.merged([1, 4, 0], [1, 1, 1], (4, 5)) == 0

    def test_what_nobody_drew(self):
        some = torch.tensor([True, True, False, True, True, False])
        # 2, which was not drawn: on background it may be right, on a vertebra it is one, on a disc it is wrong
        assert self.merged([1, 2, 2], [1, 0, 1], (1, 2, 3), some) == 1
        assert self.merged([1, 2, 2], [1, 0, 4], (1, 2, 3), some) == pytest.approx(2 / 3)
        assert math.isnan(self.merged([5, 2], [0, 0], (2, 5), some))

    def test_is_dice_where_there_is_but_one(self):
        pred, reference = pair(3)
        histogram = joint_histogram(pred, reference, CHANNELS)
        wanted = dice(pred, reference, absent="zero")
        assert [merged_dice(histogram, EVERYTHING, (c,)) for c in range(1, CHANNELS)] == pytest.approx(wanted)


class TestNamedRight:
    @staticmethod
    def named(pred, reference, drawn=EVERYTHING) -> list[float]:
        return named_right(joint_histogram(torch.tensor([pred]), torch.tensor([reference]), CHANNELS), drawn).tolist()

    def test_commonest_name_counts(self):
        reference = [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 0, 0]
        pred = [1, 1, 2, 3, 3, 2, 0, 0, 0, 0, 5, 1]
        # 1 mostly itself; 2 mostly taken for 3; 3 and 4 not found at all; 5 not there
        assert self.named(pred, reference) == pytest.approx([1, 0, 0, 0, math.nan], nan_ok=True)

    def test_background_does_not_outvote_a_name(self):
        # nine tenths of the body are missed, but what was found bears the right name
        assert self.named([0] * 9 + [3], [3] * 10)[2] == 1

    def test_a_structure_that_was_not_found_bears_no_name(self):
        for channel in range(1, CHANNELS):
            assert self.named([0, 0], [channel, channel])[channel - 1] == 0

    def test_undrawn_is_not_scored(self):
        assert self.named([1, 2, 5], [1, 2, 5], DRAWN) == pytest.approx([1] + [math.nan] * 4, nan_ok=True)


class TestStructureDiceMetric:
    def test_mean_over_structures_then_over_cases(self):
        cases = [(*pair(3), EVERYTHING), (*pair(4, (3, 4, 9), missing=(3,)), DRAWN), (*pair(5, (7, 2, 2)), DRAWN)]
        metric = StructureDiceMetric(CHANNELS)
        for pred, reference, drawn in cases:  # lists of different sizes, as decollated batches are
            metric([pred], [reference], drawn=[drawn])
        wanted = np.mean([np.nanmean(brute_dice(*case)) for case in cases])
        assert metric.aggregate().numel() == 1
        assert float(metric.aggregate()) == pytest.approx(wanted)
        together = StructureDiceMetric(CHANNELS)
        together([case[0] for case in cases], [case[1] for case in cases], drawn=[case[2] for case in cases])
        assert float(together.aggregate()) == pytest.approx(wanted)

    def test_batches_are_taken_too(self):
        pairs = [pair(seed) for seed in range(3)]
        metric = StructureDiceMetric(CHANNELS)
        metric(
            torch.stack([p for p, _ in pairs]), torch.stack([r for _, r in pairs]), drawn=torch.stack([EVERYTHING] * 3)
        )
        wanted = np.mean([np.nanmean(brute_dice(p, r, EVERYTHING)) for p, r in pairs])
        assert float(metric.aggregate()) == pytest.approx(wanted)

    def test_a_case_without_anything_to_score_does_not_count(self):
        blank = torch.zeros(1, 4, 4, 4, dtype=torch.long)
        pred, reference = pair(6)
        metric = StructureDiceMetric(CHANNELS)
        metric([pred, pred[:, :, :4, :4]], [reference, blank], drawn=[EVERYTHING, EVERYTHING])
        assert float(metric.aggregate()) == pytest.approx(np.nanmean(brute_dice(pred, reference, EVERYTHING)))

    def test_nothing_to_score_at_all_is_zero(self):
        blank = torch.zeros(1, 4, 4, 4, dtype=torch.long)
        metric = StructureDiceMetric(CHANNELS)
        metric([blank], [blank], drawn=[EVERYTHING])
        assert float(metric.aggregate()) == 0

    def test_reset_and_other_reductions(self):
        pred, reference = pair(7)
        metric = StructureDiceMetric(CHANNELS)
        metric([reference], [reference], drawn=[EVERYTHING])
        assert float(metric.aggregate()) == 1
        metric.reset()
        metric([pred, reference], [reference, reference], drawn=[DRAWN, DRAWN])
        rows = metric.aggregate("none")
        assert rows.shape == (2, CHANNELS - 1)
        assert rows[0].tolist() == pytest.approx(brute_dice(pred, reference, DRAWN), nan_ok=True)
        by_structure = metric.aggregate("mean_batch")
        wanted = (np.array(brute_dice(pred, reference, DRAWN)) + 1) / 2
        assert by_structure[[0, 2, 3]].tolist() == pytest.approx(wanted[[0, 2, 3]].tolist())

    @pytest.mark.parametrize("kind", [StructureDiceMetric, VoxelAccuracyMetric])
    def test_errors(self, kind):
        pred, reference = pair(0)
        with pytest.raises(ValueError, match=r"^a reference is needed$"):
            kind(CHANNELS)(pred[None], drawn=EVERYTHING[None])
        with pytest.raises(ValueError, match=r"^a reference is needed$"):
            kind(CHANNELS)([pred], drawn=[EVERYTHING])
        with pytest.raises(ValueError, match="shorter"):
            kind(CHANNELS)([pred, pred], [reference, reference], drawn=[EVERYTHING])
        with pytest.raises(ValueError, match="shorter"):
            kind(CHANNELS)(torch.stack([pred] * 2), torch.stack([reference] * 2), drawn=EVERYTHING[None])


class TestVoxelAccuracy:
    @staticmethod
    def accuracy(*cases) -> float:
        metric = VoxelAccuracyMetric(CHANNELS)
        for pred, reference, drawn in cases:
            metric([pred], [reference], drawn=[drawn])
        return float(metric.aggregate())

    def test_everything_drawn_is_the_share_of_equal_voxels(self):
        pred, reference = pair(8)
        assert self.accuracy((pred, reference, EVERYTHING)) == pytest.approx((pred == reference).float().mean().item())

    def test_an_undrawn_structure_on_background_is_right(self):
        reference = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 3, 3, 3]])
        pred = torch.tensor([[0, 2, 5, 1, 1, 2, 0, 3, 3, 5]])
        # right: 0; 2 and 5 on background; 1; 3, 3. Wrong: 1 on background, 2 and 0 on 1, 5 on 3.
        assert self.accuracy((pred, reference, DRAWN)) == pytest.approx(0.6)
        assert self.accuracy((pred, reference, EVERYTHING)) == pytest.approx(0.4)

    def test_background_counts_although_nobody_draws_it(self):
        blank = torch.zeros(1, 10, dtype=torch.long)
        assert self.accuracy((blank, blank, torch.zeros(CHANNELS, dtype=torch.bool))) == 1
        assert self.accuracy((blank, blank + 1, torch.zeros(CHANNELS, dtype=torch.bool))) == 0

    def test_cases_of_different_size_count_alike(self):
        cases = [(*pair(9), EVERYTHING), (*pair(10, (9, 9, 9)), EVERYTHING)]
        wanted = np.mean([(pred == reference).float().mean().item() for pred, reference, _ in cases])
        assert self.accuracy(*cases) == pytest.approx(wanted)
