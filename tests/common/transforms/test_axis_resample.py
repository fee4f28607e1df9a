from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import GaussianSmooth, SpatialResample

from common.transforms import axis_resample
from common.transforms.axis_resample import AxisResample
from tests.helpers import CODES, affine_of, noise, stored

OBLIQUE = affine_of((1.0, 1.25, 1.5), (0.2, -0.1, 0.3))
SHAPE = (9, 12, 11)


def target(step=(1.7, 0.8, 0.6), offset=(-2.31, 0.43, 1.87), code="RAS") -> tuple[np.ndarray, tuple[int, ...]]:
    """A grid parallel to the RAS one, finer, coarser and partly outside of it, in any storage order."""
    move = np.diag([*step, 1.0])
    move[:3, 3] = offset
    array, affine = stored(np.zeros((7, 13, 10)), OBLIQUE @ move, code)
    return affine, array.shape


def scores(code: str = "RAS", channels: int = 3, seed: int = 0) -> MetaTensor:
    stack = [stored(noise(SHAPE, seed=seed + channel), OBLIQUE, code) for channel in range(channels)]
    values = torch.from_numpy(np.stack([np.ascontiguousarray(array) for array, _ in stack]))
    return MetaTensor(values, affine=torch.from_numpy(stack[0][1]))


def monais(img: MetaTensor, affine: np.ndarray, size, mode="bilinear") -> MetaTensor:
    resample = SpatialResample(mode=mode, padding_mode="zeros", align_corners=False, dtype=torch.float64)
    return resample(img, dst_affine=torch.from_numpy(affine), spatial_size=size)


@pytest.mark.parametrize("there", CODES)
@pytest.mark.parametrize("here", CODES)
def test_as_monai(here, there):
    img, (affine, size) = scores(here), target(code=there)
    ours, theirs = AxisResample()(img, affine, size), monais(img, affine, size)
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.affine, affine, atol=1e-9)
    nearest = AxisResample()(img, affine, size, "nearest")
    np.testing.assert_array_equal(nearest.numpy(), monais(img, affine, size, "nearest").numpy())
    labels = AxisResample()(img, affine, size, "argmax")
    assert labels.dtype == torch.uint8 and labels.shape == (1, *ours.shape[1:])
    np.testing.assert_array_equal(labels[0].numpy(), ours.numpy().argmax(axis=0))


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_inverse(mode):
    """Back on the grid that it came from, as MONAI brings it back, with nothing left in the trace."""
    img, (affine, size), resample = scores(), target(code="PIR"), AxisResample()
    there = resample(img, affine, size, mode)
    assert len(there.applied_operations) == 1
    back = resample.inverse(there)
    assert back.shape == img.shape and not back.applied_operations
    np.testing.assert_allclose(back.affine, img.affine, atol=1e-9)
    wanted = monais(monais(img, affine, size, mode), np.asarray(img.affine), SHAPE, mode)
    np.testing.assert_allclose(back.numpy(), wanted.numpy(), atol=1e-5)


def test_smoothing_comes_first_and_is_not_undone():
    img, (affine, size), sigma = scores("PIR"), target(), (0.0, 1.3, 0.4)
    resample = AxisResample()
    ours = resample(img, affine, size, sigma=sigma)
    wanted = monais(GaussianSmooth(sigma)(img), affine, size)
    np.testing.assert_allclose(ours.numpy(), wanted.numpy(), atol=1e-5)
    back = resample.inverse(ours)
    np.testing.assert_allclose(back.numpy(), monais(wanted, np.asarray(img.affine), img.shape[1:]).numpy(), atol=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_nearest_right_between_two_voxels(flip):
    """The smaller output index decides, whichever way the source is stored."""
    ramp = np.arange(1.0, 7.0).reshape(6, 1, 1)
    affine, half = np.eye(4), np.eye(4)
    half[0, 3] = 0.5
    if flip:
        ramp, affine = ramp[::-1].copy(), np.diag([-1.0, 1, 1, 1])
        affine[0, 3] = 5
    img = MetaTensor(torch.from_numpy(ramp[None]), affine=torch.from_numpy(affine))
    assert AxisResample()(img, half, (5, 1, 1), "nearest").flatten().tolist() == [1, 2, 3, 4, 5]


class TestArgmax:
    """Only where channel 0 does not win for certain is looked at: the result must not show it."""

    def blob(self, where: tuple[slice, ...]) -> MetaTensor:
        img = scores()
        img[0] += 1
        img[(2, *where)] += 5
        return img

    @pytest.mark.parametrize(
        "where",
        [
            (slice(4, 6), slice(5, 7), slice(6, 8)),
            (slice(0, 1), slice(0, 12), slice(10, 11)),
            (slice(0, 9), slice(3, 4), slice(0, 2)),
        ],
    )
    def test_a_small_region(self, where):
        img, (affine, size) = self.blob(where), target(step=(1.3, 0.95, 1.15), offset=(-0.4, -0.6, -0.3))
        wanted = monais(img, affine, size).numpy().argmax(axis=0)
        assert wanted.any()
        np.testing.assert_array_equal(AxisResample()(img, affine, size, "argmax")[0].numpy(), wanted)

    def test_nothing(self):
        img, (affine, size) = scores(), target()
        img[0] += 1
        assert not AxisResample()(img, affine, size, "argmax").any()

    def test_a_region_that_no_new_voxel_touches(self):
        img = self.blob((slice(8, 9), slice(0, 12), slice(0, 11)))
        assert not AxisResample()(img, OBLIQUE, (5, 12, 11), "argmax").any()

    def test_in_pieces(self, monkeypatch):
        img, (affine, size) = scores(channels=4), target()
        whole = AxisResample()(img, affine, size, "argmax")
        monkeypatch.setattr(axis_resample, "_CHUNK", 1)
        assert torch.equal(whole, AxisResample()(img, affine, size, "argmax"))


def test_axes_that_are_not_parallel():
    img, turned = scores(), affine_of(angles=(0.4, 0, 0))
    with pytest.raises(ValueError, match="not parallel"):
        AxisResample()(img, turned, SHAPE)


def test_unknown_mode():
    with pytest.raises(ValueError, match="bilinear, nearest or argmax, got 'bicubic'"):
        AxisResample()(scores(), OBLIQUE, SHAPE, "bicubic")
