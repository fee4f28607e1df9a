from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd

from common.networks.slice_context import halve_in_plane
from common.transforms import InvertToLabelsd
from common.transforms.half_resolution import HalveInPlaned
from common.transforms.sagittal_volume import ResampleSagittald
from tests.helpers import affine_of, noise

BOTH = ("image", "label")
# voxels of 0.5 x 0.5 x 4 mm whose axes run to the back, feet and right
PIR = np.array([[0, 0, 4.0, 0], [-0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1]])


def test_volumes_are_halved_as_within_the_network():
    volume = torch.from_numpy(noise((2, 24, 32, 3)))
    found = HalveInPlaned("image")({"image": volume})["image"]
    assert torch.equal(found, halve_in_plane(volume[None])[0])


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_odd_sides(mode):
    with pytest.raises(ValueError, match="even"):
        HalveInPlaned("image", mode)({"image": torch.zeros(1, 8, 9, 3)})


def test_unknown_mode():
    with pytest.raises(ValueError, match="'cubic'"):
        HalveInPlaned("image", "cubic")


def blob() -> dict[str, MetaTensor]:
    """A smooth blob, and as a label map where it is."""
    affine = torch.from_numpy(affine_of((1, 1, 1), (0.1, 0.2, 0.3)) @ PIR)
    grid = np.indices((32, 40, 6)).astype(np.float32)
    distance = ((grid[0] - 14) / 8) ** 2 + ((grid[1] - 22) / 10) ** 2 + ((grid[2] - 3) / 2) ** 2
    image = torch.from_numpy(np.exp(-distance)[None])
    return {
        "image": MetaTensor(image, affine=affine),
        "label": MetaTensor((image > 0.3).to(torch.uint8), affine=affine),
    }


def test_place_in_the_world():
    item = blob()
    halved = HalveInPlaned(BOTH, ["bilinear", "nearest"])(item)
    assert halved["label"].dtype == torch.uint8 and halved["label"].shape == halved["image"].shape == (1, 16, 20, 6)

    def centre(volume: MetaTensor) -> torch.Tensor:
        weights = volume.as_tensor().double()[0]
        index = torch.stack(
            [(weights * axis).sum() / weights.sum() for axis in torch.from_numpy(np.indices(weights.shape))]
        )
        return volume.affine[:3, :3].double() @ index + volume.affine[:3, 3].double()

    assert torch.dist(centre(halved["image"]), centre(item["image"])) < 0.05
    # every second voxel of a label map: half a voxel of the full resolution, at most
    assert torch.dist(centre(halved["label"]), centre(item["label"])) < 0.5


def test_way_back_alone_and_behind_a_resampling():
    item = blob()
    steps = Compose(
        [
            ResampleSagittald(BOTH, (0.4, 0.4, 4.0), ["bilinear", "nearest"]),
            HalveInPlaned(BOTH, ["bilinear", "nearest"]),
        ]
    )
    halved = steps({key: volume.clone() for key, volume in item.items()})
    foreground = (halved["image"][0].as_tensor() > 0.3).float()
    scores = torch.stack([1 - foreground, foreground])
    found = InvertToLabelsd("pred", steps)(halved | {"pred": scores})["pred"]
    inverted = Invertd("pred", steps, "image", nearest_interp=False)(halved | {"pred": MetaTensor(scores)})["pred"]
    for labels in (found, inverted.argmax(0, keepdim=True)):
        assert labels.shape == item["label"].shape and torch.allclose(labels.affine, item["label"].affine, atol=1e-4)
        both = ((labels == 1) & (item["label"] == 1)).sum()
        assert 2 * both / ((labels == 1).sum() + (item["label"] == 1).sum()) > 0.95
