from __future__ import annotations

import math
import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from monai.data import MetaTensor
from monai.metrics import DiceMetric

from common.metrics.video_segmentation import SCORES, VideoSegmentationMetric, flicker

THRESHOLDS = [k / 255 for k in range(256)]


def measures(p: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, float]:
    """Dice, IoU, specificity and sensitivity of one frame at each threshold, and MAE, pixel by pixel."""
    if p.max() != p.min():
        p = (p - p.min()) / (p.max() - p.min())
    curves = np.zeros((4, 256))
    for k, threshold in enumerate(THRESHOLDS):
        tp = fp = fn = tn = 0
        for probability, drawn in zip(p.ravel(), g.ravel(), strict=True):
            positive = probability >= threshold
            tp += bool(positive and drawn)
            fp += bool(positive and not drawn)
            fn += bool(not positive and drawn)
            tn += bool(not positive and not drawn)
        if tp:
            curves[:, k] = 2 * tp / (2 * tp + fp + fn), tp / (tp + fp + fn), tn / (tn + fp), tp / (tp + fn)
    return curves, float(np.abs(p - g).mean())


def by_definition(sequences: dict[int, list[tuple[np.ndarray, np.ndarray]]]) -> dict[str, float]:
    """The scores of frames (8-bit values and reference), frame after frame and sequence after sequence."""
    curves, errors = [], []
    for frames in sequences.values():
        scored = [measures(values / 255, g) for values, g in frames[1:-1]]
        if scored:
            curves.append(np.mean([c for c, _ in scored], axis=0))
            errors.append(np.mean([e for _, e in scored]))
    dice, iou, specificity, sensitivity = np.mean(curves, axis=0)
    return {
        "maxDice": dice.max(),
        "maxIoU": iou.max(),
        "meanSpe": specificity.mean(),
        "maxSpe": specificity.max(),
        "meanSen": sensitivity.mean(),
        "MAE": np.mean(errors),
    }


def clip(frames) -> torch.Tensor:
    return torch.from_numpy(np.stack(frames)[:, None].astype(np.float32))


def drawn_sequences(seed: int = 0) -> dict[int, list[tuple[np.ndarray, np.ndarray]]]:
    """Sequences of different length, by number: 8-bit values that agree with the reference somewhat."""
    rng, sequences = np.random.default_rng(seed), {}
    for number, length in ((4, 7), (0, 3), (2, 5)):
        frames = []
        for i in range(length):
            g = np.zeros((6, 7), bool)
            g[i % 4 : i % 4 + 3, 2:5] = i % 5 != 2  # every fifth reference is empty
            values = np.clip(rng.normal(90, 50, g.shape) + 80 * g, 0, 255).astype(np.uint8)
            frames.append((values, g))
        sequences[number] = frames
    return sequences


def feed(metric: VideoSegmentationMetric, sequences, length: int = 2) -> list[tuple]:
    """Hand sequences over as clips of up to ``length`` frames, shuffled."""
    clips = [
        (number, list(range(start, min(start + length, len(frames)))))
        for number, frames in sequences.items()
        for start in range(0, len(frames), length)
    ]
    for at in np.random.default_rng(1).permutation(len(clips)):
        number, chosen = clips[at]
        values, g = zip(*(sequences[number][i] for i in chosen), strict=True)
        # Halves between two levels of 8 bit must not matter: they are truncated.
        metric([(clip(values) + 0.5).clamp(max=255) / 255], [clip(g)], sequence=[number], frames=[chosen])
    return clips


class TestAgainstTheDefinition:
    def test_scores(self):
        sequences, metric = drawn_sequences(), VideoSegmentationMetric()
        feed(metric, sequences)
        found = metric.scores()
        expected = by_definition(sequences)
        assert {name: found.overall[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        for number, frames in sequences.items():
            one = by_definition({number: frames})
            assert {name: found.sequences[number][name] for name in one} == pytest.approx(one, abs=1e-6)
        assert list(found.sequences) == [0, 2, 4] and not found.unscored
        assert tuple(found.overall) == SCORES

    @pytest.mark.parametrize("length", [1, 3, 5])
    def test_the_division_into_clips_does_not_matter(self, length):
        sequences = drawn_sequences(seed=3)
        metrics = [VideoSegmentationMetric(), VideoSegmentationMetric()]
        feed(metrics[0], sequences, 2)
        feed(metrics[1], sequences, length)
        assert metrics[1].scores() == metrics[0].scores()

    def test_ends_kept(self):
        sequences = drawn_sequences()
        metric = VideoSegmentationMetric(drop_ends=False)
        feed(metric, sequences)
        padded = {number: [frames[0], *frames, frames[0]] for number, frames in sequences.items()}
        expected = by_definition(padded)
        assert {name: metric.scores().overall[name] for name in expected} == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize("score", SCORES)
    def test_aggregate(self, score):
        metric = VideoSegmentationMetric(score)
        feed(metric, drawn_sequences())
        assert metric.aggregate().ndim == 0
        assert float(metric.aggregate()) == pytest.approx(metric.scores().overall[score])

    def test_a_reset_forgets(self):
        metric, sequences = VideoSegmentationMetric(), drawn_sequences()
        feed(metric, sequences)
        metric.reset()
        assert metric.scores().sequences == {}
        feed(metric, {0: sequences[4]})
        assert metric.scores().overall["maxDice"] == pytest.approx(by_definition({0: sequences[4]})["maxDice"])


def scored(values, reference, sequence=0, drop_ends=False, **more) -> dict[str, float]:
    metric = VideoSegmentationMetric(drop_ends=drop_ends)
    metric([values], [reference], sequence=[sequence], frames=[list(range(len(values)))], **more)
    return metric.scores().overall


def test_two_frames_by_hand():
    """One frame found exactly; one missed, where the object has the lowest probability of all."""
    g = torch.zeros(2, 1, 2, 2)
    g[:, :, 0, 0] = 1
    p = torch.zeros(2, 1, 2, 2)
    p[0, :, 0, 0] = 1
    p[1, :, 1, 1] = 1
    found = scored(p, g)
    # Frame 1: 0 at threshold 0 for Spe, else 1, of 256. Frame 2: a true positive at threshold 0 only, where Spe is 0.
    assert found["meanSpe"] == pytest.approx((255 / 256 + 0) / 2)
    assert found["maxSpe"] == pytest.approx(0.5)  # the usual specificity of frame 2 would be 2/3
    assert found["meanSen"] == pytest.approx((1 + 1 / 256) / 2)
    assert found["maxDice"] == pytest.approx((1 + 0) / 2)  # at threshold 0: (2/5 + 2/5) / 2
    assert found["maxIoU"] == pytest.approx((1 + 0) / 2)
    assert found["MAE"] == pytest.approx((0 + 2 / 4) / 2)
    assert found["Dice"] == pytest.approx(0.5)


def test_the_maximum_is_taken_of_the_mean():
    """Two frames that are found exactly, at thresholds that exclude each other."""
    g = torch.zeros(2, 1, 1, 4)
    g[..., 0] = 1
    p = torch.tensor([[0.2, 0.1, 0.0, 1.0], [1.0, 0.9, 0.9, 0.0]]).reshape(2, 1, 1, 4)
    found = scored(p, g)
    # Frame 1 has its object below a false positive: Dice 2/3 for thresholds up to 0.2, above that 0.
    # Frame 2 is right above 0.9, and 1/2 for thresholds from above 0 to 0.9.
    assert found["maxDice"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_frames_without_an_object_count_zero():
    p = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = scored(p, torch.zeros(1, 1, 4, 4))
    assert [found[name] for name in ("maxDice", "maxIoU", "meanSpe", "maxSpe", "meanSen")] == [0] * 5
    assert found["MAE"] > 0 and math.isnan(found["Dice"])


@pytest.mark.parametrize("level", [0, 51, 255])
def test_constant_maps_are_not_stretched(level):
    g = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    found = scored(torch.full((1, 1, 1, 3), level / 255), g)
    assert found["MAE"] == pytest.approx((abs(level / 255 - 1) + 2 * level / 255) / 3)
    assert found["meanSen"] == pytest.approx((level + 1) / 256)  # positive at thresholds 0/255 to level/255


def test_stretching():
    """The lowest value becomes 0 and the highest 1, whatever they are."""
    g = torch.tensor([0.0, 1.0, 1.0, 0.0]).reshape(1, 1, 1, 4)
    full = scored(torch.tensor([0, 255, 204, 51]).reshape(g.shape) / 255, g)
    weak = scored(torch.tensor([10, 15, 14, 11]).reshape(g.shape) / 255, g)
    assert weak == full | {"Dice": weak["Dice"]}
    assert weak["Dice"] == 0 and full["Dice"] == 1  # MONAI's, of plain probabilities


def test_every_threshold_is_met_exactly():
    """p >= k/255 in floating point is what the whole numbers of the histogram give, for all spans of values."""
    for span in (1, 2, 3, 51, 100, 128, 254, 255):
        levels = np.arange(span + 1)
        g = np.zeros(span + 1, bool)
        g[span // 2 :] = True
        p = (levels + (255 - span) // 2).astype(np.float32)
        metric = VideoSegmentationMetric(drop_ends=False)
        metric([clip([(p[None] + 0.25) / 255])], [clip([g[None]])], sequence=[0], frames=[[0]])
        positive = (levels / span)[:, None] >= np.array(THRESHOLDS)
        sensitivity = positive[g].mean(axis=0)
        assert np.allclose(metric.curves()[0][0][3], sensitivity, atol=0, rtol=1e-12), span


def test_probabilities_are_truncated_to_eight_bit():
    g = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 1, 1, 3)
    # 101.9 and 101.1 of 255 are the same level, so no threshold tells them apart.
    found = scored(torch.tensor([101.9, 101.1, 0.0]).reshape(g.shape) / 255, g)
    assert found["maxDice"] == pytest.approx(2 / 3)


class TestSizes:
    def test_predictions_are_brought_to_the_size_of_the_reference(self):
        coarse = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).reshape(1, 1, 2, 2)
        g = torch.zeros(1, 1, 4, 4)
        g[..., 2:] = 1
        found = scored(coarse, g)
        # Bilinear, pixel centres at halves: columns 0, 64 (63.75), 191 (191.25) and 255.
        assert found["maxDice"] == 1
        assert found["MAE"] == pytest.approx((0 + 64 + (255 - 191) + 0) / 4 / 255)

    def test_references_of_different_size(self):
        metric = VideoSegmentationMetric(drop_ends=False)
        predictions = [torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8)]
        references = [torch.ones(2, 1, 5, 9), torch.ones(1, 1, 16, 3)]
        metric(predictions, references, sequence=[0, 1], frames=[[0, 1], [0]])
        assert metric.get_buffer()[1].sum(dim=(1, 2)).tolist() == [45, 45, 48]

    @pytest.mark.parametrize("shape", [(3, 1, 4, 4), (2, 4, 4)])
    def test_mismatches(self, shape):
        with pytest.raises(ValueError, match="expected clips"):
            scored(torch.rand(2, 1, 4, 4), torch.ones(shape))

    def test_batches_and_meta_tensors(self):
        p, g = torch.rand(2, 3, 1, 4, 4), (torch.rand(2, 3, 1, 4, 4) > 0.5).float()
        plain, batch = VideoSegmentationMetric(), VideoSegmentationMetric()
        numbers = {"sequence": torch.tensor([5, 6]), "frames": torch.tensor([[0, 1, 2], [0, 1, 2]])}
        batch(MetaTensor(p), MetaTensor(g), **numbers)
        plain(list(p), list(g), **numbers)
        assert batch.scores() == plain.scores() and list(batch.scores().sequences) == [5, 6]


class TestWhatCounts:
    frames = torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    reference = (torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(2)) > 0.5).float()

    def whole(self):
        return scored(self.frames, self.reference, drop_ends=True)

    def test_only_what_is_kept(self):
        metric = VideoSegmentationMetric()
        spoiled = self.frames.clone()
        spoiled[1] = 0.0
        metric(
            [spoiled[:3], self.frames[1:]],
            [self.reference[:3], self.reference[1:]],
            sequence=[0, 0],
            frames=torch.tensor([[0, 1, 2], [1, 2, 3]]),
            keep=torch.tensor([[True, False, False], [True] * 3]),
        )
        assert metric.scores().overall == self.whole()

    def test_a_frame_that_comes_twice(self):
        metric = VideoSegmentationMetric()
        for _ in range(2):
            metric([self.frames], [self.reference], sequence=[0], frames=[[0, 1, 2, 3]])
        metric([self.frames[2:3]], [self.reference[2:3]], sequence=[0], frames=[[2]])
        assert metric.scores().overall == self.whole()

    @pytest.mark.parametrize("length", [1, 2])
    def test_sequences_of_ends_only(self, length):
        metric = VideoSegmentationMetric()
        metric([self.frames], [self.reference], sequence=[7], frames=[[0, 1, 2, 3]])
        metric([self.frames[:length]], [self.reference[:length]], sequence=[3], frames=[list(range(length))])
        found = metric.scores()
        assert found.overall == self.whole() and found.unscored == [3] and list(found.sequences) == [7]

    def test_nothing_to_score(self):
        metric = VideoSegmentationMetric()
        assert all(math.isnan(score) for score in metric.scores().overall.values())
        metric([self.frames[:2]], [self.reference[:2]], sequence=[3], frames=[[0, 1]])
        found = metric.scores()
        assert found.unscored == [3] and all(math.isnan(score) for score in found.overall.values())
        assert torch.isnan(metric.aggregate())

    def test_a_reference_without_background_is_not_specific(self):
        found = scored(self.frames, torch.ones_like(self.reference))
        assert found["meanSpe"] == found["maxSpe"] == 0 and found["maxDice"] == 1

    def test_dice_is_that_of_monai(self):
        metric = DiceMetric(reduction="mean")
        metric(self.frames >= 0.5, self.reference)
        assert scored(self.frames, self.reference)["Dice"] == pytest.approx(float(metric.aggregate()))


def score_a_share(rank: int, folder: Path) -> None:
    """Be one of two processes, which share the sequences unevenly; both see one of the clips."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    sequences, metric = drawn_sequences(), VideoSegmentationMetric()
    shares = ({2: sequences[2]}, {number: sequences[number] for number in (0, 2, 4)})
    feed(metric, shares[rank], 2 + rank)
    torch.save((metric.scores().overall, float(metric.aggregate())), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_that_share_the_sequences(tmp_path):
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(["common.metrics.video_segmentation", "torch.distributed", "pytest"])
    processes = [context.Process(target=score_a_share, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    alone = VideoSegmentationMetric()
    feed(alone, drawn_sequences())
    for rank in range(2):
        overall, chosen = torch.load(tmp_path / f"{rank}.pt")
        assert overall == alone.scores().overall and chosen == pytest.approx(overall["maxDice"])


@pytest.mark.parametrize("name", ["maxdice", "F1"])
def test_unknown_score(name):
    with pytest.raises(ValueError, match="score must be one of maxDice, maxIoU"):
        VideoSegmentationMetric(name)


def test_a_reference_is_needed():
    with pytest.raises(ValueError, match="reference"):
        VideoSegmentationMetric()([torch.rand(1, 1, 2, 2)], sequence=[0], frames=[[0]])


class TestFlicker:
    @pytest.mark.parametrize("extra", [(), (1,)])
    def test_by_hand(self, extra):
        masks = torch.zeros(4, *extra, 2, 2)
        masks[0, ..., 0, 0] = 1
        masks[1, ..., 0, :] = 1  # IoU 1/2; then gone: 0; then both empty: no change
        assert flicker(masks) == pytest.approx((0.5 + 1 + 0) / 3)

    def test_still_and_jumping(self):
        still = torch.ones(5, 3, 3, dtype=torch.bool)
        assert flicker(still) == 0
        jumping = still.clone()
        jumping[::2] = False
        assert flicker(jumping) == 1

    def test_one_frame(self):
        assert math.isnan(flicker(torch.ones(1, 2, 2)))
