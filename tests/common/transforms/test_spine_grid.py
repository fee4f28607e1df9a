from __future__ import annotations

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, Invertd, LoadImaged, NormalizeIntensityd, SpatialResample

from common.transforms import CropAnteriorPosteriord, FitToGridd
from common.transforms.spine_grid import network_orientation
from tests.helpers import CODES, affine_of, noise, stored, write_nifti

GRID = (18, 64, 32)
TURNED = (0.21, -0.17, 0.33)
# RAS shape, spacing, angles. Odd and even sizes: an odd remainder must not depend on the storage order. No number of
# slices puts a grid slice right between two of the scan, where nearest is at the mercy of rounding.
GEOMETRIES = {
    "straight": ((22, 60, 72), (4.0, 1.2, 1.2), (0, 0, 0)),
    "anisotropic": ((19, 61, 47), (3.3, 0.9, 1.6), (0, 0, 0)),
    "oblique": ((23, 57, 70), (4.1, 1.3, 1.1), TURNED),
    "few slices": ((13, 75, 64), (4.4, 1.0, 1.25), TURNED),
}
BLOCK = (slice(5, 10), slice(22, 34), slice(16, 38))  # in RAS voxels; within the crop of each geometry


def preprocessing(keys=("image",), size=GRID, center="image", fraction=0.5) -> Compose:
    """The bundles' way onto the grid."""
    return Compose(
        [
            LoadImaged(keys),
            EnsureChannelFirstd(keys),
            CropAnteriorPosteriord(keys, fraction=fraction, center=center),
            NormalizeIntensityd("image"),
            FitToGridd(keys, size, mode=["bilinear", "nearest"][: len(keys)]),
        ]
    )


def back(item: dict, pred: torch.Tensor, transform: Compose) -> MetaTensor:
    inverse = Invertd("pred", transform=transform, orig_keys="image", nearest_interp=False)
    return inverse(item | {"pred": MetaTensor(pred)})["pred"]


def block_of(geometry: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RAS label with one block, its affine, and where in the world the block's middle is."""
    shape, spacing, angles = GEOMETRIES[geometry]
    label, affine = np.zeros(shape, np.uint8), affine_of(spacing, angles)
    label[BLOCK] = 3
    middle = [(box.start + box.stop - 1) / 2 for box in BLOCK]
    return label, affine, affine[:3, :3] @ middle + affine[:3, 3]


def voxels_off(weights: np.ndarray, affine: np.ndarray, world: np.ndarray) -> float:
    """Largest distance, in voxels along an axis, between the weights' centroid and a place in the world."""
    centroid = [float((weights * index).sum() / weights.sum()) for index in np.indices(weights.shape)]
    wanted = np.linalg.solve(np.asarray(affine)[:3, :3], world - np.asarray(affine)[:3, 3])
    return float(np.abs(centroid - wanted).max())


def metatensor(array: np.ndarray, affine: np.ndarray, code: str = "RAS", name: str = "") -> MetaTensor:
    voxels, matrix = stored(array, affine, code)
    meta = {"filename_or_obj": name} if name else {}
    return MetaTensor(torch.from_numpy(voxels[None].copy()), affine=torch.from_numpy(matrix), meta=meta)


def fitted(array: np.ndarray, spacing=(4.0, 1.0, 1.0), size=GRID, mode="bilinear") -> MetaTensor:
    return FitToGridd("image", size, mode)({"image": metatensor(array, affine_of(spacing))})["image"]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("code", CODES)
class TestAnyStorageOrder:
    def files(self, folder: Path, geometry: str, code: str) -> dict[str, Path]:
        label, affine, _ = block_of(geometry)
        return {
            "image": write_nifti(folder / "image.nii.gz", noise(label.shape) + label, affine, code),
            "label": write_nifti(folder / "label.nii.gz", label, affine, code),
        }

    def test_inverse_restores_shape_affine_and_place(self, tmp_path, geometry, code):
        files, transform = self.files(tmp_path, geometry, code), preprocessing(("image", "label"))
        item = transform(files)
        assert item["image"].shape == item["label"].shape == (1, *GRID)
        block = (item["label"].as_tensor() == 3).float()
        pred = back(item, torch.cat([1 - block, block]), transform)
        file = nib.load(files["image"])
        assert pred.shape == (2, *file.shape)
        assert np.allclose(pred.affine, file.affine, atol=1e-4)
        assert voxels_off(pred[1].numpy(), file.affine, block_of(geometry)[2]) < 0.5

    def test_block_is_found_at_its_place_in_the_world(self, tmp_path, geometry, code):
        item = preprocessing(("image", "label"))(self.files(tmp_path, geometry, code))
        world = block_of(geometry)[2]
        for key in ("image", "label"):
            assert voxels_off((item["label"] == 3)[0].numpy(), item[key].affine, world) < 0.5
        # The image is brightest in the block: image and label lie on each other.
        image = item["image"][0].as_tensor()
        inside = item["label"][0].as_tensor() == 3
        assert image[inside].mean() > image[~inside].max()

    @pytest.mark.parametrize("size", [GRID, (18, 20, 12)], ids=["full", "smoothed"])
    def test_network_sees_the_same(self, tmp_path, geometry, code, size):
        transform = preprocessing(("image", "label"), size)
        item = transform(self.files(tmp_path / "own", geometry, code))
        reference = transform(self.files(tmp_path / "reference", geometry, "RIP"))
        assert np.allclose(item["image"], reference["image"], atol=2e-3)
        assert (item["label"] != reference["label"]).float().mean() < 1e-3  # nearest: ties within rounding
        assert np.allclose(item["image"].affine, reference["image"].affine, atol=1e-3)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("RIP", [[0, 1], [1, 1], [2, 1]]),
        ("PIR", [[2, 1], [1, 1], [0, 1]]),
        ("LAS", [[0, -1], [2, -1], [1, -1]]),
        ("SRA", [[1, -1], [0, 1], [2, -1]]),
    ],
)
@pytest.mark.parametrize("angles", [(0, 0, 0), TURNED])
def test_network_orientation(code, expected, angles):
    _, affine = stored(np.zeros((4, 5, 6)), affine_of((4, 1, 1.5), angles), code)
    assert network_orientation(affine).tolist() == expected


def test_grid_axes_run_to_the_right_the_feet_and_the_back():
    directions = np.asarray(fitted(noise((18, 32, 64))).affine)[:3, :3]
    assert np.allclose(directions / np.linalg.norm(directions, axis=0), [[1, 0, 0], [0, 0, -1], [0, -1, 0]])


class TestCrop:
    @pytest.mark.parametrize("code", CODES)
    @pytest.mark.parametrize(
        ("size", "fraction", "kept"),
        [(40, 0.5, range(10, 30)), (40, 0.25, range(15, 25)), (41, 1.0, range(41)), (42, 0.5, range(10, 31))],
    )
    def test_keeps_the_centre_of_one_axis(self, code, size, fraction, kept):
        array = np.broadcast_to(np.arange(size, dtype=np.float32)[None, :, None], (6, size, 10)).copy()
        item = {"image": metatensor(array, affine_of((4, 1, 1)), code)}
        out = CropAnteriorPosteriord("image", fraction=fraction)(item)["image"]
        assert sorted(out.shape[1:]) == sorted((6, len(kept), 10))
        found = torch.unique(out.as_tensor()).tolist()
        # Half a voxel may be left over: it lies on the same side whatever the storage order (tested above).
        assert found in ([float(n) for n in kept], [float(n + 1) for n in kept])

    @pytest.mark.parametrize("size", [15, 17, 30, 31])
    @pytest.mark.parametrize("center", ["image", "body"])
    def test_window_does_not_depend_on_the_storage_order(self, center, size):
        array = np.broadcast_to(np.arange(size, dtype=np.float32)[None, :, None], (6, size, 10)).copy()
        windows = {
            tuple(torch.unique(out["image"].as_tensor()).tolist())
            for code in CODES
            for out in [CropAnteriorPosteriord("image", center=center)({"image": metatensor(array, np.eye(4), code)})]
        }
        assert len(windows) == 1

    @pytest.mark.parametrize("code", ["RAS", "PIR", "LPI"])
    @pytest.mark.parametrize(("place", "kept"), [(30, range(20, 40)), (4, range(20)), (12, range(2, 22))])
    def test_body_centre_is_followed(self, code, place, kept, caplog):
        image, position = np.zeros((6, 40, 10), np.float32), np.zeros((6, 40, 10), np.float32)
        image[:, place - 2 : place + 2] = 100
        position += np.arange(40)[None, :, None]
        item = {"image": metatensor(image, np.eye(4), code), "label": metatensor(position, np.eye(4), code)}
        out = CropAnteriorPosteriord(("image", "label"), center="body")(item)
        assert torch.unique(out["label"].as_tensor()).tolist() == [float(n) for n in kept]
        assert out["image"].as_tensor().sum() == image.sum()
        assert not caplog.records

    @pytest.mark.parametrize("place", [3, 36])
    def test_warns_of_a_body_outside_the_window(self, place, caplog):
        image = np.zeros((6, 40, 10), np.float32)
        image[:, place - 2 : place + 2] = 100
        with caplog.at_level(logging.WARNING):
            CropAnteriorPosteriord("image")({"image": metatensor(image, np.eye(4), "PIR", "/scans/far.nii.gz")})
        assert [record.getMessage() for record in caplog.records] == [
            "/scans/far.nii.gz: the crop to 50 % of the anterior-posterior extent misses the middle of the body; "
            "pass --crop_center body or a larger --crop_fraction"
        ]

    @pytest.mark.parametrize("level", [0.0, 7.0])
    def test_blank_or_central_picture_is_no_warning(self, level, caplog):
        image = np.full((6, 40, 10), level, np.float32)
        for center in ("image", "body"):
            out = CropAnteriorPosteriord("image", center=center)({"image": metatensor(image, np.eye(4))})
            assert out["image"].shape == (1, 6, 20, 10)
        assert not caplog.records

    def test_label_is_cropped_like_the_image(self):
        label = noise((6, 40, 10)) * np.linspace(0, 1, 40)[None, :, None]  # its own middle lies elsewhere
        image = label[:, ::-1].copy()
        item = {"label": metatensor(label, np.eye(4)), "image": metatensor(image, np.eye(4))}
        both = CropAnteriorPosteriord(("image", "label"), center="body")(item)
        assert np.allclose(both["image"].affine, both["label"].affine)
        alone = CropAnteriorPosteriord(("image", "label"), center="body", allow_missing_keys=True)
        assert np.allclose(alone({"image": item["image"]})["image"].affine, both["label"].affine)

    @pytest.mark.parametrize("fraction", [0, -0.5, 1.5])
    def test_fraction_out_of_range(self, fraction):
        with pytest.raises(ValueError, match=f"^crop fraction must be above 0 and at most 1, got {fraction}$"):
            CropAnteriorPosteriord("image", fraction=fraction)

    def test_unknown_center(self):
        with pytest.raises(ValueError, match=r"^crop center must be 'image' or 'body', got 'middle'$"):
            CropAnteriorPosteriord("image", center="middle")

    @pytest.mark.parametrize("center", ["image", "body"])
    @pytest.mark.parametrize("code", CODES)
    def test_nothing_comes_back_outside_the_window(self, tmp_path, code, center):
        array, affine = np.zeros((20, 60, 72), np.float32), affine_of((4, 1.2, 1.2))
        array[:, 22:36] = 100 + noise((20, 14, 72))
        transform = preprocessing(center=center)
        path = write_nifti(tmp_path / "scan.nii.gz", array, affine, code)
        pred = back(transform({"image": path}), torch.ones(1, *GRID), transform)
        own = nib.orientations.axcodes2ornt(code)
        ras = nib.orientations.apply_orientation(pred[0].numpy(), own)
        start = 15 if center == "image" else 14
        assert not ras[:, :start].any() and not ras[:, start + 30 :].any()
        assert (ras[:, start : start + 30] > 0.4).all()  # the outermost voxels mix with the padding
        assert np.allclose(ras[2:-2, start + 2 : start + 28, 2:-2], 1, atol=1e-4)


class TestFit:
    @pytest.mark.parametrize("spacing", [(4, 1, 1), (3, 0.6, 1.7), (5, 2.2, 0.7)])
    @pytest.mark.parametrize("shape", [(20, 60, 70), (18, 33, 128), (12, 90, 40)])
    def test_aspect_is_kept_in_mm_and_the_picture_fills_the_grid(self, shape, spacing):
        affine = np.asarray(fitted(noise(shape), spacing).affine)
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        assert steps[1] == pytest.approx(steps[2])
        height, width = shape[2] * spacing[2], shape[1] * spacing[1]  # mm
        used = height / steps[1] / GRID[1], width / steps[2] / GRID[2]
        assert max(used) == pytest.approx(1)
        assert steps[0] == pytest.approx(max(shape[0] / GRID[0], 1) * spacing[0])

    @pytest.mark.parametrize("shape", [(18, 20, 80), (18, 40, 40), (24, 20, 80)])
    def test_middle_stays_in_the_middle(self, shape):
        out = fitted(noise(shape), (4, 1.0, 1.0))
        middle = affine_of((4, 1, 1)) @ [*(np.array(shape) / 2 - 0.5), 1]
        found = np.asarray(out.affine) @ [*(np.array(GRID) / 2 - 0.5), 1]
        assert np.allclose(found, middle, atol=1e-4)

    def test_padding_is_zero_on_both_sides(self):
        out = fitted(np.full((12, 20, 80), 7, np.float32))[0].as_tensor()
        expected = torch.zeros(GRID)
        expected[3:15, :, 8:24] = 7  # 1.25 mm pixels: 20 mm are 16 of 32 columns, 80 mm all 64 rows
        assert torch.equal(out.abs() < 1e-3, expected == 0)
        assert torch.allclose(out[3:15, 1:-1, 9:23], expected[3:15, 1:-1, 9:23])

    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    @pytest.mark.parametrize("count", [2, 9, 12, 13, 15, 17, 18])
    def test_few_slices_stay_what_they_are(self, count, mode):
        array = np.broadcast_to(np.arange(1, count + 1, dtype=np.float32)[:, None, None], (count, 32, 64)).copy()
        slices = fitted(array, mode=mode)[0, :, 30, 15].tolist()
        first = next(k for k, value in enumerate(slices) if value > 0.1)
        assert slices[first : first + count] == pytest.approx(list(range(1, count + 1)), abs=1e-4)
        assert slices[:first] + slices[first + count :] == pytest.approx([0] * (18 - count), abs=1e-4)
        assert abs(first - (18 - count - first)) <= 1

    @pytest.mark.parametrize("mode", ["bilinear", "nearest"])
    @pytest.mark.parametrize("columns", [20, 21, 31])
    def test_pixels_of_the_right_size_stay_what_they_are(self, columns, mode):
        array = np.random.default_rng(0).integers(1, 20, (18, columns, 64)).astype(np.float32)
        out = fitted(array, mode=mode)[0].as_tensor()
        kept = out[:, :, (out > 0.1).flatten(0, 1).any(0)]
        # H runs to the feet and W to the back: against RAS
        assert torch.allclose(kept, torch.from_numpy(array[:, ::-1, ::-1].transpose(0, 2, 1).copy()), atol=1e-3)

    @pytest.mark.parametrize("count", [19, 20, 25, 36])
    def test_many_slices_are_resampled_to_the_grid(self, count):
        array = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None] + 100, (count, 32, 64)).copy()
        slices = fitted(array)[0, :, 30, 15].numpy()
        step = count / 18
        assert slices == pytest.approx(100 + step * (np.arange(18) + 0.5) - 0.5, abs=1e-3)

    @pytest.mark.parametrize(("factor", "smoothed"), [(1, False), (1.9, False), (2, False), (2.1, True), (3, True)])
    def test_smooths_only_what_shrinks_by_more_than_half(self, factor, smoothed):
        image = metatensor(noise((18, round(32 * factor), round(64 * factor))), affine_of((4, 1, 1)))
        out = FitToGridd("image", GRID)({"image": image})["image"]
        plain = SpatialResample(padding_mode="zeros", align_corners=False)(
            image, dst_affine=out.affine, spatial_size=GRID, mode="bilinear"
        )
        assert torch.allclose(out.as_tensor(), plain.as_tensor().float(), atol=1e-3) is not smoothed
        if smoothed:
            assert out.as_tensor().std() < 0.7 * plain.as_tensor().std()

    def test_smoothing_leaves_slices_and_labels_alone(self):
        array = np.zeros((18, 96, 192), np.float32)
        array[::2] = 100
        out = fitted(array)[0, :, 8:-8, 8:-8].as_tensor()
        assert out[::2].min() > 99.9 and out[1::2].max() < 0.1
        values = np.random.default_rng(1).choice([0, 3, 11], (18, 96, 192)).astype(np.float32)
        assert set(torch.unique(fitted(values, mode="nearest").as_tensor()).tolist()) == {0.0, 3.0, 11.0}

    def test_fine_pattern_does_not_alias(self):
        stripes = np.zeros((18, 96, 192), np.float32)
        stripes[..., ::3] = 3  # a third of the rows: the coarse grid must show their mean, 1, and no bands
        out = fitted(stripes)[0, :, 8:-8, 8:-8].as_tensor()
        assert torch.allclose(out, torch.tensor(1.0), atol=0.15)

    @pytest.mark.parametrize("channels", [1, 18])
    def test_inverse_takes_any_number_of_channels(self, channels):
        image = metatensor(noise((20, 40, 50)), affine_of((4, 1, 1), TURNED), "PIR")
        transform = FitToGridd("image", GRID)
        item = transform({"image": image})
        item["image"] = MetaTensor(
            torch.rand(channels, *GRID), meta=item["image"].meta, applied_operations=item["image"].applied_operations
        )
        out = transform.inverse(item)["image"]
        assert out.shape == (channels, *image.shape[1:])
        assert np.allclose(out.affine, image.affine, atol=1e-4)
        assert not out.applied_operations

    def test_missing_key(self):
        image = metatensor(noise((18, 32, 64)), np.eye(4))
        out = FitToGridd(("image", "label"), GRID, ("bilinear", "nearest"), allow_missing_keys=True)({"image": image})
        assert set(out) == {"image"}
        with pytest.raises(KeyError, match="label"):
            FitToGridd(("image", "label"), GRID)({"image": image})


def test_smooth_picture_survives_the_round_trip(tmp_path):
    shape, spacing, angles = GEOMETRIES["oblique"]
    x, y, z = np.indices(shape)
    picture = (100 + 20 * np.sin(x / 4) + 30 * np.cos(y / 6) + 25 * np.sin(z / 7)).astype(np.float32)
    path = write_nifti(tmp_path / "scan.nii.gz", picture, affine_of(spacing, angles))
    transform = Compose([t for t in preprocessing().transforms if not isinstance(t, NormalizeIntensityd)])
    item = transform({"image": path})
    result = back(item, item["image"].as_tensor().clone(), transform)[0].numpy()
    inner = (slice(2, -2), slice(18, 39), slice(4, -4))
    assert np.abs(result[inner] - picture[inner]).max() < 5
    assert np.corrcoef(result[inner].ravel(), picture[inner].ravel())[0, 1] > 0.99
