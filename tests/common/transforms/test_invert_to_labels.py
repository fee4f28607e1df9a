from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, Invertd, LoadImaged, NormalizeIntensityd

from common.transforms import CropAnteriorPosteriord, FitToGridd, InvertToLabelsd
from tests.helpers import CODES, affine_of, noise, write_nifti

GRID = (10, 32, 24)


def preprocessing() -> Compose:
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            CropAnteriorPosteriord("image", fraction=0.6),
            NormalizeIntensityd("image"),
            FitToGridd("image", GRID),
        ]
    )


@pytest.mark.parametrize("code", CODES)
def test_as_monais_two_transforms(tmp_path, code):
    transform = preprocessing()
    path = write_nifti(tmp_path / "scan.nii.gz", noise((14, 40, 36)), affine_of((4, 1.2, 1.1), (0.1, 0.2, -0.1)), code)
    item = transform({"image": str(path)})
    scores = torch.from_numpy(np.stack([noise(GRID, seed=seed) for seed in range(5)]))
    theirs = Compose(
        [
            Invertd("pred", transform=transform, orig_keys="image", nearest_interp=False),
            AsDiscreted("pred", argmax=True, dtype=torch.uint8),
        ]
    )(item | {"pred": MetaTensor(scores)})["pred"]
    ours = InvertToLabelsd("pred", transform)(item | {"pred": MetaTensor(scores)})["pred"]
    assert ours.shape == theirs.shape and ours.dtype == torch.uint8
    np.testing.assert_allclose(ours.affine, theirs.affine, atol=1e-9)
    assert ours.meta["filename_or_obj"] == str(path)
    assert not ours.applied_operations
    assert len(np.unique(ours)) == 5
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_scores_and_image_stay_as_they_are(tmp_path):
    transform = preprocessing()
    path = write_nifti(tmp_path / "scan.nii.gz", noise((14, 40, 36)), affine_of((4, 1.2, 1.1)))
    item = transform({"image": str(path)}) | {"pred": torch.from_numpy(np.stack([noise(GRID), 1 - noise(GRID)]))}
    operations, before = len(item["image"].applied_operations), item["pred"].clone()
    first, again = (InvertToLabelsd("pred", transform)(item)["pred"] for _ in range(2))
    assert torch.equal(first, again) and torch.equal(item["pred"], before)
    assert len(item["image"].applied_operations) == operations
