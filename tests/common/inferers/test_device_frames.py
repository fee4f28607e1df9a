from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Resized

from common.inferers.device_frames import DeviceFrames
from common.transforms import FramesFirstd, LoadClipd, NormalizeFramesd

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")),
]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def by_transforms(image: np.ndarray, size: tuple[int, int] | None, normalize: object) -> torch.Tensor:
    resized = [] if size is None else [Resized("image", size, mode="bilinear")]
    chain = [LoadClipd(allow_missing_keys=True), *resized, NormalizeFramesd("image", normalize), FramesFirstd("image")]
    return Compose(chain)({"image": [image]})["image"].as_tensor()[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [None, (64, 96), (200, 300), (90, 121), (90, 40)])
@pytest.mark.parametrize("normalize", ["none", IMAGENET])
def test_the_numbers_of_the_transforms(device, size, normalize):
    """Smaller, larger, as it is, and another shape."""
    image = picture(90, 121)
    statistics = {} if normalize == "none" else {"mean": normalize[0], "std": normalize[1]}
    found = DeviceFrames(size, **statistics, device=device)(image)
    assert found.dtype == torch.float32 and found.device.type == device and found.is_contiguous()
    # A GPU interpolates with weights that are rounded otherwise.
    torch.testing.assert_close(
        found.cpu(), by_transforms(image, size, normalize), rtol=0, atol=1e-6 if device == "cpu" else 1e-4
    )


@pytest.mark.parametrize("device", DEVICES)
def test_frames_after_one_another(device):
    """Each keeps its numbers when the next one comes, and the size may change."""
    ready, images = DeviceFrames(device=device), [picture(20, 30, 1), picture(20, 30, 2), picture(12, 8, 3)]
    found = [ready(image) for image in images]
    for image, frame in zip(images, found, strict=True):
        np.testing.assert_array_equal(np.moveaxis((255 * frame).cpu().numpy().round(), 0, -1), image)


def test_any_memory_layout():
    image = picture(20, 30)
    fixed = image.copy()
    fixed.flags.writeable = False
    expected = DeviceFrames((10, 10))(image)
    for given in (fixed, np.asfortranarray(image), picture(20, 30)[::-1][::-1]):
        assert torch.equal(DeviceFrames((10, 10))(given), expected)
    np.testing.assert_array_equal(image, picture(20, 30))


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), picture(4, 4)[..., :2]])
def test_what_is_no_frame(image):
    with pytest.raises(ValueError, match=r"a frame is uint8 \(H, W, 3\), not"):
        DeviceFrames()(image)


@pytest.mark.parametrize("wrong", [{"size": (4,)}, {"size": (0, 4)}, {"mean": (0.0,)}, {"std": (1.0, 0.0, 1.0)}])
def test_what_cannot_be_set(wrong):
    with pytest.raises(ValueError, match="got"):
        DeviceFrames(**wrong)
