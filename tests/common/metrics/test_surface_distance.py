from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

from common.metrics import surface_distances

CHANNELS = 4
SPACING = np.array([0.7, 1.1, 4.0])
ROTATION = np.linalg.qr(np.array([[1.0, 0.3, -0.2], [-0.4, 1.0, 0.5], [0.1, -0.6, 1.0]]))[0]
SHEARED = np.array([[0.7, 0.9, 3.0], [0.0, 1.1, -2.0], [0.2, 0.0, 4.0]])
NOTHING = np.zeros((4, 4, 4), np.uint8)


def blobs(seed: int, shape=(7, 6, 5)) -> np.ndarray:
    """All channels, in pieces that touch each other and the image's edges."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, CHANNELS, [-(-size // 2) for size in shape])
    labels = np.kron(coarse, np.ones((2, 2, 2), int))[tuple(slice(size) for size in shape)]
    return np.where(rng.random(shape) < 0.1, 0, labels).astype(np.uint8)


def surface(mask: np.ndarray) -> np.ndarray:
    """Indices of the voxels with a face neighbour outside of the mask, by looking at each neighbour."""
    padded = np.pad(mask, 1)
    steps = np.concatenate((np.eye(3, dtype=int), -np.eye(3, dtype=int)))
    return np.array([v for v in np.argwhere(mask) if not all(padded[tuple(v + 1 + step)] for step in steps)])


def brute(pred: np.ndarray, reference: np.ndarray, matrix: np.ndarray) -> list[list[float]]:
    """HD95, one-sided and symmetric mean of each channel, from the distances of all pairs of surface voxels."""
    rows = []
    for channel in range(1, CHANNELS):
        a, b = surface(pred == channel), surface(reference == channel)
        pairs = np.linalg.norm((a[:, None] - b[None]) @ matrix.T, axis=-1)
        there, back = pairs.min(axis=1), pairs.min(axis=0)
        hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
        rows.append([hd95, there.mean(), (there.sum() + back.sum()) / (len(there) + len(back))])
    return np.transpose(rows).tolist()


def measured(pred, reference, geometry=SPACING, channels=CHANNELS) -> np.ndarray:
    """The three measures as rows, a column for each channel."""
    return np.array(surface_distances(pred, reference, geometry, channels))


def line(*where: int) -> np.ndarray:
    labels = np.zeros((12, 1, 1), np.uint8)
    labels[list(where)] = 1
    return labels


def cube(start: tuple[int, int, int]) -> np.ndarray:
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[tuple(slice(first, first + 5) for first in start)] = 1
    return labels


class TestByHand:
    @pytest.mark.parametrize("way", [1, -1])
    def test_a_cube_moved_by_one_4_mm_slice_is_4_mm_away(self, way):
        found = surface_distances(cube((3, 3, 3 + way)), cube((3, 3, 3)), np.array([1.0, 1.0, 4.0]), 2)
        # Of 5^3 - 3^3 surface voxels, the 25 ahead are 4 mm away. At the rear the rim touches the other's side; of the
        # 9 inside it, 8 are 1 mm and one is 2 mm from that side. All others lie on the other's surface.
        mean = (25 * 4 + 8 * 1 + 1 * 2) / 98
        assert found.hd95 == pytest.approx([4])
        assert found.msd_one_sided == pytest.approx([mean]) and found.msd_symmetric == pytest.approx([mean])

    def test_one_side_looks_from_the_prediction(self):
        long, short = line(*range(10)), line(*range(5))
        found = surface_distances(long, short, np.array([2.0, 1.0, 1.0]), 2)
        # 0 five times, then 2, 4, 6, 8, 10 mm; the 95th percentile is at place 8.55 of 0..9; the way back is 0
        assert found.hd95 == pytest.approx([8 + 0.55 * 2])
        assert found.msd_one_sided == pytest.approx([30 / 10]) and found.msd_symmetric == pytest.approx([30 / 15])
        turned = surface_distances(short, long, np.array([2.0, 1.0, 1.0]), 2)
        assert turned.hd95 == pytest.approx(found.hd95) and turned.msd_symmetric == pytest.approx(found.msd_symmetric)
        assert turned.msd_one_sided == pytest.approx([0])

    def test_hd95_is_the_larger_of_two_percentiles_not_that_of_the_pool(self):
        # 4 of 10 predicted voxels are far, but of all 110 surface voxels less than 5 %
        reference = np.zeros((120, 1, 1), np.uint8)
        reference[:100] = 1
        pred = np.zeros_like(reference)
        pred[[*range(0, 60, 10), 109, 109 + 3, 109 + 6, 109 + 9]] = 1
        there, back = [0] * 6 + [10, 13, 16, 19], np.abs(np.subtract.outer(range(100), np.flatnonzero(pred))).min(1)
        found = surface_distances(pred, reference, np.ones(3), 2).hd95
        assert found == pytest.approx([max(np.percentile(there, 95), np.percentile(back, 95))])
        assert found != pytest.approx([np.percentile(np.concatenate((there, back)), 95)])

    @pytest.mark.parametrize(
        "geometry", [SPACING, np.diag([*SPACING, 1.0]), SHEARED], ids=["spacing", "box", "sheared"]
    )
    @pytest.mark.parametrize("axis", range(3))
    def test_a_step_is_as_long_as_its_axis(self, axis, geometry):
        pred = NOTHING.copy()
        pred[1, 1, 1] = 1
        step = np.linalg.norm(geometry[:, axis]) if geometry.ndim == 2 else geometry[axis]
        assert measured(pred, np.roll(pred, 1, axis), geometry, 2) == pytest.approx(np.full((3, 1), step))

    def test_identical_maps_are_0_apart(self):
        assert (measured(blobs(0), blobs(0)) == 0).all()


class TestAgainstOthers:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        "matrix", [np.diag(SPACING), ROTATION @ np.diag(SPACING), SHEARED], ids=["box", "oblique", "sheared"]
    )
    def test_all_pairs_of_surface_voxels(self, matrix, seed):
        pred, reference = blobs(seed), blobs(seed + 10)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = matrix, (-80, 12, 5)
        wanted = brute(pred, reference, matrix)
        for geometry in (matrix, affine):
            assert measured(pred, reference, geometry) == pytest.approx(np.array(wanted))

    @pytest.mark.parametrize("seed", range(3))
    def test_monai(self, seed):
        pred, reference = blobs(seed, (16, 15, 9)), blobs(seed + 10, (16, 15, 9))

        def one_hot(labels):
            return torch.from_numpy(np.stack([labels == channel for channel in range(CHANNELS)])[None])

        pair, spacing = (one_hot(pred), one_hot(reference)), SPACING.tolist()
        wanted = [
            compute_hausdorff_distance(*pair, percentile=95, spacing=spacing),
            compute_average_surface_distance(*pair, spacing=spacing),
            compute_average_surface_distance(*pair, spacing=spacing, symmetric=True),
        ]
        assert measured(pred, reference) == pytest.approx(torch.cat(wanted).numpy(), rel=1e-5)
        # not by chance: the two directions differ here
        assert measured(pred, reference)[1] != pytest.approx(measured(reference, pred)[1], rel=1e-3)


class TestStorage:
    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
    @pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
    def test_permuted_and_flipped(self, order, flipped):
        pair = blobs(1), blobs(2)
        stored = [np.flip(labels.transpose(order), flipped) for labels in pair]
        matrix = SHEARED[:, order].copy()
        matrix[:, list(flipped)] *= -1
        assert measured(*stored, matrix) == pytest.approx(measured(*pair, SHEARED))
        assert measured(*stored, SPACING[list(order)]) == pytest.approx(measured(*pair))

    @pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.uint64, ">i2"])
    def test_any_integer_type_and_memory_order(self, dtype):
        wanted = measured(blobs(1), blobs(2))
        assert (measured(blobs(1).astype(dtype), np.asfortranarray(blobs(2).astype(dtype))) == wanted).all()

    def test_the_images_edge_is_a_surface(self):
        pred, reference = np.ones((4, 5, 6), np.uint8), np.zeros((4, 5, 6), np.uint8)
        reference[1:3, 1:4, 2:] = 1
        found = measured(pred, reference, channels=2)
        assert found == pytest.approx(measured(np.pad(pred, 2), np.pad(reference, 2), channels=2)) and found.all()

    def test_neighbours_do_not_change_a_structure(self):
        pair = blobs(3), blobs(4)
        together = measured(*pair)
        for channel in range(1, CHANNELS):
            alone = measured(*((labels == channel).astype(np.uint8) for labels in pair), channels=2)
            assert alone[:, 0] == pytest.approx(together[:, channel - 1])

    def test_nothing_is_written_to_the_maps(self):
        pair = blobs(1), blobs(2)
        for labels in pair:
            labels.flags.writeable = False
        measured(*pair)


class TestMissing:
    def test_blank_unless_in_both(self):
        pred, reference = NOTHING.copy(), NOTHING.copy()
        pred[0, 0, 0] = reference[2, 0, 0] = 1  # in both
        pred[3, 3, 3] = 2  # only predicted
        reference[3, 3, 0] = 3  # only drawn; channel 4 in neither
        nan = math.nan
        assert measured(pred, reference, channels=5).tolist() == pytest.approx(
            np.array([[1.4, nan, nan, nan]] * 3), nan_ok=True
        )

    @pytest.mark.parametrize("shape", [(4, 4, 4), (0, 3, 3), (0, 0, 0)])
    def test_empty_maps(self, shape):
        empty = np.zeros(shape, np.uint8)
        found = surface_distances(empty, empty, SPACING, CHANNELS)
        for values in found:
            assert values.shape == (CHANNELS - 1,) and values.dtype == np.float64 and np.isnan(values).all()


class TestRefused:
    def test_shapes_must_agree(self):
        with pytest.raises(
            ValueError, match=r"^prediction and reference differ in shape: \(4, 4, 4\) and \(4, 4, 3\)$"
        ):
            measured(NOTHING, NOTHING[..., :3])

    @pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 4)])
    def test_three_dimensions(self, shape):
        with pytest.raises(ValueError, match="must have three dimensions"):
            measured(np.zeros(shape, int), np.zeros(shape, int))

    @pytest.mark.parametrize(
        "wrong", [NOTHING + np.uint8(4), NOTHING - 1.0, NOTHING.astype(bool), NOTHING - np.int8(1)]
    )
    def test_channels(self, wrong):
        with pytest.raises(ValueError, match=r"^prediction .*channels"):
            measured(wrong, NOTHING)
        with pytest.raises(ValueError, match=r"^reference .*channels"):
            measured(NOTHING, wrong)

    @pytest.mark.parametrize(
        "wrong",
        [1.0, [1.0, 1.0], np.eye(5), [1, -1, -1], [1, 1, 0], [1, 1, np.nan], [1, np.inf, 1], np.diag([1, 1, 0, 1])],
    )
    def test_geometry(self, wrong):
        with pytest.raises(ValueError, match=r"affine|spacing|volume"):
            measured(NOTHING, NOTHING, wrong)
