from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from common.transforms import KeepLargestComponentd


def two_structures() -> tuple[torch.Tensor, torch.Tensor]:
    """A label map (1, X, Y, Z) with scattered parts, and what should be left of it."""
    before, after = torch.zeros(1, 12, 12, 12, dtype=torch.uint8), torch.zeros(1, 12, 12, 12, dtype=torch.uint8)
    for volume in (before, after):
        volume[0, 1:4, 1:4, 1:4] = 3  # 27 voxels: stays
        volume[0, 6:9, 6:9, 6:11] = 11  # 45 voxels: stays
        volume[0, 4, 1:4, 1:4] = 7  # one part only, touching the first: stays
    before[0, 10, 10, 1:5] = 3  # 4 voxels
    before[0, 4, 4, 4] = 3  # touches its kind at a corner only
    before[0, 1:3, 10, 10] = 11
    before[0, 11, 0, 0] = 11
    return before, after


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_largest_part_of_each_structure_stays(dtype):
    before, after = two_structures()
    found = KeepLargestComponentd("pred")({"pred": before.to(dtype)})["pred"]
    assert torch.equal(found, after.to(dtype)) and found.dtype == dtype


def test_input_other_items_and_geometry_are_left_alone():
    before, after = two_structures()
    volume = MetaTensor(before.clone(), affine=torch.diag(torch.tensor([4.0, 1, 1, 1])), meta={"filename_or_obj": "x"})
    volume.push_applied_operation({"class": "Crop", "id": 1})
    item = {"pred": volume, "label": before}
    out = KeepLargestComponentd("pred")(item)
    assert torch.equal(item["pred"].as_tensor(), before) and out["label"] is before
    assert isinstance(out["pred"], MetaTensor) and torch.equal(out["pred"].as_tensor(), after)
    assert torch.equal(out["pred"].affine, volume.affine) and out["pred"].meta["filename_or_obj"] == "x"
    assert out["pred"].applied_operations == volume.applied_operations


def test_blank_and_connected_maps_do_not_change():
    whole = torch.ones(1, 3, 3, 3, dtype=torch.uint8)
    for volume in (torch.zeros_like(whole), whole):
        assert torch.equal(KeepLargestComponentd("pred")({"pred": volume})["pred"], volume)


def test_a_part_inside_another_structures_box():
    labels = np.zeros((1, 9, 9, 9), np.uint8)
    labels[0, 0, :, :] = labels[0, 8, :, :] = labels[0, :, 0, :] = 5  # a bracket around the rest
    labels[0, 4:6, 4:6, 4:6] = 6
    labels[0, 2, 2, 2] = 5
    found = KeepLargestComponentd("pred")({"pred": torch.from_numpy(labels)})["pred"].numpy()
    assert found[0, 2, 2, 2] == 0
    assert (found == 6).sum() == 8 and (found == 5).sum() == (labels == 5).sum() - 1


def test_missing_key():
    assert KeepLargestComponentd("pred", allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="pred"):
        KeepLargestComponentd("pred")({"image": 1})
