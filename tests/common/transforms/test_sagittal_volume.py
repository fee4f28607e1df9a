from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, SpatialPadd

from common.data import ScanReader
from common.errors import InputError
from common.transforms import InvertToLabelsd
from common.transforms.sagittal_volume import CropToSignald, NormalizeSignald, ResampleSagittald
from tests.helpers import CODES, affine_of, noise, stored, write_nifti

BOTH = ("image", "label")
SPACING = (0.7, 0.7, 3.0)
# RAS shape, spacing, angles: larger and smaller voxels than wanted, straight and oblique
GEOMETRIES = {
    "enlarged": ((9, 30, 41), (3.0, 1.1, 1.1), (0, 0, 0)),
    "reduced": ((21, 70, 61), (1.5, 0.4, 0.5), (0.2, -0.15, 0.3)),
    "few slices": ((4, 33, 40), (4.4, 0.7, 0.9), (0, 0.1, 0)),
}


def preprocessing(spacing=SPACING, slices: int = 12, size=(48, 64)) -> Compose:
    return Compose(
        [
            LoadImaged(BOTH, reader=ScanReader()),
            EnsureChannelFirstd(BOTH),
            ResampleSagittald(BOTH, spacing, ["bilinear", "nearest"]),
            CropToSignald(BOTH),
            NormalizeSignald("image"),
            SpatialPadd(BOTH, [-1, -1, slices], mode="edge"),
            SpatialPadd(BOTH, [*size, -1]),
        ]
    )


def block_files(folder, geometry: str, code: str) -> dict:
    """A label block in the middle, and an image that is brightest there and 0 in front."""
    shape, spacing, angles = GEOMETRIES[geometry]
    label, affine = np.zeros(shape, np.uint8), affine_of(spacing, angles)
    label[1:-1, shape[1] // 3 : 2 * shape[1] // 3, shape[2] // 4 : shape[2] // 2] = 3
    image = 100 * noise(shape) + 1 + 500.0 * label
    image[:, -4:] = 0
    return {
        "image": write_nifti(folder / "image.nii.gz", image, affine, code),
        "label": write_nifti(folder / "label.nii.gz", label, affine, code),
    }


def world_centre(volume: MetaTensor | nib.Nifti1Image, value: int) -> np.ndarray:
    voxels = np.asarray(volume.dataobj if isinstance(volume, nib.Nifti1Image) else volume[0])
    affine = np.asarray(volume.affine)
    return affine[:3, :3] @ np.argwhere(voxels == value).mean(axis=0) + affine[:3, 3]


def tensor(array: np.ndarray, affine: np.ndarray | None = None, code: str = "PIR") -> MetaTensor:
    voxels, matrix = stored(array, np.eye(4) if affine is None else affine, code)
    meta = {"filename_or_obj": "scan.nii"}
    return MetaTensor(torch.from_numpy(voxels[None].copy()).float(), affine=torch.from_numpy(matrix), meta=meta)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("code", CODES)
class TestAnyStorageOrder:
    def test_axes_place_and_way_back(self, tmp_path, geometry, code):
        files, transform = block_files(tmp_path, geometry, code), preprocessing()
        item, file = transform(files), nib.load(files["label"])
        assert nib.aff2axcodes(item["image"].affine) == tuple("PIR")
        assert item["image"].shape == item["label"].shape
        assert all(a >= b for a, b in zip(item["image"].shape[1:], (48, 64, 12), strict=True))
        reached = np.linalg.norm(world_centre(item["label"], 3) - world_centre(file, 3))
        # edges repeated on both sides keep a block in the middle in its middle
        assert reached < max(GEOMETRIES[geometry][1]) / 2
        inside = item["label"].as_tensor() == 3
        assert item["image"].as_tensor()[inside].mean() > 1

        scores = torch.stack([(item["label"][0] == c).float() for c in range(4)])
        found = InvertToLabelsd("pred", transform)(item | {"pred": scores})["pred"]
        assert found.shape == (1, *file.shape) and np.allclose(found.affine, file.affine, atol=1e-4)
        truth = np.asarray(file.dataobj)
        overlap = 2 * ((found[0].numpy() == 3) & (truth == 3)).sum() / ((found == 3).sum() + (truth == 3).sum())
        assert overlap > (0.9 if geometry == "reduced" else 0.95)
        probabilities = Invertd("pred", transform, "image", nearest_interp=False)(item | {"pred": MetaTensor(scores)})
        assert (probabilities["pred"].argmax(0) == found[0]).float().mean() > 0.999


class TestResampling:
    def test_size_is_rounded_and_the_extent_stays(self):
        volume = tensor(noise((17, 40, 51)), affine_of((4.5, 0.8, 0.8)))  # RAS: R slices, A, S
        found = ResampleSagittald("image", (0.35, 0.35, 4.4))({"image": volume})["image"]
        assert found.shape == (1, round(40 * 0.8 / 0.35), round(51 * 0.8 / 0.35), 17)
        edges = np.array([[-0.5, -0.5, -0.5, 1], [*(np.array(found.shape[1:]) - 0.5), 1]]).T
        own = np.array([[-0.5, -0.5, -0.5, 1], [*(np.array(volume.shape[1:]) - 0.5), 1]]).T
        assert np.allclose(found.affine @ edges, volume.affine @ own, atol=1e-5)

    def test_a_scan_of_the_wanted_spacing_is_only_turned(self):
        array, spacing = noise((12, 20, 24)), (4.4000001, 0.34482759, 0.34482759)
        found = ResampleSagittald("image")({"image": tensor(array, affine_of(spacing), "LAS")})["image"]
        assert np.allclose(found[0], stored(array, np.eye(4), "PIR")[0], atol=1e-6)

    def test_an_axis_can_keep_its_spacing(self):
        array = noise((12, 20, 24))
        found = ResampleSagittald("image", (0.5, 0.5, None))({"image": tensor(array, affine_of((4.0, 0.5, 0.5)))})
        assert np.allclose(found["image"][0], stored(array, np.eye(4), "PIR")[0], atol=1e-6)

    def test_fine_detail_is_smoothed_away_but_no_label(self):
        stripes = np.tile(np.arange(64) % 2, (8, 32, 1)).astype(np.float32)
        volume = tensor(stripes, affine_of((4.0, 1.0, 1.0)))
        step = ResampleSagittald(BOTH, (4.0, 4.0, 4.0), ["bilinear", "nearest"])
        found = step({"image": volume, "label": volume.clone()})
        assert found["image"][0, 2:-2, 2:-2, 1:-1].std() < 0.05
        assert set(found["label"].unique().tolist()) <= {0.0, 1.0}

    @pytest.mark.parametrize("spacing", [(1, 1), (1, 0, 1), (1, float("nan"), 1)])
    def test_bad_spacing(self, spacing):
        with pytest.raises(InputError, match="is not three positive numbers or null"):
            ResampleSagittald("image", spacing)


class TestCrop:
    def test_first_axis_only_and_back(self):
        array = np.zeros((20, 16, 12), np.float32)
        array[4:15, 5:9, 3:6] = -2  # anything but 0 counts
        crop = CropToSignald(BOTH)
        item = {"image": tensor(array, code="RAS"), "label": tensor(array != 0, code="RAS")}
        found = crop(item)
        assert set(found) == set(BOTH)
        assert found["image"].shape == found["label"].shape == (1, 11, 16, 12)
        assert torch.equal(found["image"].as_tensor(), item["image"].as_tensor()[:, 4:15])
        back = crop.inverse(found)
        assert all(torch.equal(back[key].as_tensor(), item[key].as_tensor()) for key in BOTH)
        assert np.allclose(back["image"].affine, item["image"].affine)

    def test_nothing_but_0(self):
        with pytest.raises(InputError, match=r"^scan\.nii: is 0 in every voxel; "):
            CropToSignald("image")({"image": tensor(np.zeros((4, 4, 4)))})


class TestIntensities:
    def test_voxels_of_0_count_nowhere_and_stay(self):
        values = np.random.default_rng(0).gamma(2, 100, (1, 30, 30, 10)).astype(np.float32)
        values[:, :12] = 0
        values[0, 20, 3, 3] = 1e6
        seen = values[values != 0]
        clipped = np.clip(seen, *np.percentile(seen, (0.5, 99.5)))
        found = NormalizeSignald("image")({"image": torch.from_numpy(values.copy())})["image"].numpy()
        assert (found[values == 0] == 0).all()
        assert np.allclose(found[values != 0], (clipped - clipped.mean()) / clipped.std(), atol=1e-4)

    def test_where_all_others_are_alike(self):
        volume = torch.zeros(1, 4, 4, 4)
        volume[0, 1] = 7
        assert not NormalizeSignald("image")({"image": volume})["image"].any()

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_not_finite(self, value):
        with pytest.raises(InputError, match=r"^scan\.nii: has voxels that are NaN or infinite; "):
            NormalizeSignald("image")({"image": tensor(np.full((4, 4, 4), value))})

    @pytest.mark.parametrize("percentiles", [(50, 50), (-1, 99), (1, 101)])
    def test_bad_percentiles(self, percentiles):
        with pytest.raises(ValueError, match="percentiles must be"):
            NormalizeSignald("image", *percentiles)
