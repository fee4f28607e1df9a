from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from common.data import ScanReader
from common.errors import InputError
from common.transforms.labelled_case import CheckLabelledCased
from tests.helpers import affine_of, noise
from tests.scan_files import FORMATS, picture, write_scan

OBLIQUE = affine_of((0.7, 0.8, 3.3), (0.2, -0.1, 0.3))
SHAPE = (40, 60, 9)


def volume(array: np.ndarray, affine: np.ndarray = OBLIQUE, name: str = "a.nii") -> MetaTensor:
    return MetaTensor(array[None], affine=affine, meta={"filename_or_obj": name})


def case(shape=SHAPE, affine=OBLIQUE, image=None) -> dict[str, MetaTensor]:
    return {
        "image": volume(noise(SHAPE) if image is None else image),
        "label": volume(np.zeros(shape, np.uint8), affine, "b.nii"),
    }


def message(item) -> str:
    with pytest.raises(InputError) as error:
        CheckLabelledCased()(item)
    return str(error.value)


def moved(voxels: float, axis: int = 1) -> np.ndarray:
    shift = np.eye(4)
    shift[axis, 3] = voxels
    return OBLIQUE @ shift


def test_a_good_case_passes_as_it_is():
    item = case() | {"id": 7}
    found = CheckLabelledCased()(item)
    assert found == item and found["image"] is item["image"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_with_a_value_that_is_none(value):
    image = noise(SHAPE)
    image[1, 2, 3] = value
    assert message(case(image=image)) == "a.nii: has voxels that are NaN or infinite; re-export the scan"


def test_an_image_without_a_picture():
    assert message(case(image=np.full(SHAPE, 3.0))) == (
        "a.nii: has the same value in every voxel; pass a scan with a picture in it"
    )


def test_another_size():
    assert message(case((40, 60, 8))) == (
        "b.nii: has 40 x 60 x 8 voxels, its image a.nii has 40 x 60 x 9; draw it on that image"
    )


@pytest.mark.parametrize(
    ("affine", "apart"),
    [
        (moved(0.5), "0.5"),
        (moved(-3, axis=2), "3"),
        (OBLIQUE @ np.diag([-1.0, 1, 1, 1]), "78"),  # mirrored about its first voxel
        (OBLIQUE @ np.diag([1.02, 1, 1, 1]), "0.78"),  # another spacing
        (affine_of((0.7, 0.8, 3.3), (0.2, -0.1, 0.32)), "0.724"),  # turned
    ],
)
def test_another_place(affine, apart):
    assert message(case(affine=affine)) == (
        f"b.nii: does not lie where its image a.nii does (their corners are {apart} voxels apart); "
        "resample it onto the image"
    )


@pytest.mark.parametrize("angles", [(0.2, -0.1, 0.3), (3.1, 0.01, 3.14), (0, 0, np.pi), (np.pi, 0.001, 0)])
def test_one_geometry_as_other_programs_write_it(angles):
    """In float32, as a quaternion, with six digits."""
    affine = affine_of((0.7, 0.8, 3.3), angles)
    header = nib.Nifti1Header()
    header.set_data_shape(SHAPE)
    header.set_qform(affine, 1)
    for same in (
        affine.astype(np.float32),
        header.get_qform(),
        np.array([[float(f"{x:.6g}") for x in r] for r in affine]),
    ):
        item = {"image": volume(noise(SHAPE), affine), "label": volume(np.zeros(SHAPE), same, "b.nii")}
        CheckLabelledCased()(item)


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_in_one_format_and_labels_in_another(tmp_path, kind):
    image = write_scan(tmp_path / "image", kind, affine=OBLIQUE)
    label = write_scan(tmp_path / "label", "nii.gz", (picture() > 500).astype(np.uint8), OBLIQUE)
    load = Compose(
        [
            LoadImaged(("image", "label"), reader=ScanReader()),
            EnsureChannelFirstd(("image", "label")),
            CheckLabelledCased(),
        ]
    )
    load({"image": str(image), "label": str(label)})
