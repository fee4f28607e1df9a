"""One scan with a bright block at a known place, in every format that the project reads."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from tests.dicom_files import write_enhanced, write_slices
from tests.helpers import affine_of, stored

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
FORMATS = ("nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr", "dicom", "enhanced")
SHAPE = (12, 10, 8)


def picture(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Return int16 noise with a block that is brighter than all else."""
    array = (np.random.default_rng(3).random(shape) * 100).astype(np.int16)
    array[2:6, 5:9, 3:5] = 1000
    return array


def write_itk(path: Path, array: np.ndarray, affine: np.ndarray, compress: bool = False) -> Path:
    """Write (X, Y, Z) voxels with a RAS affine by SimpleITK."""
    image, matrix = sitk.GetImageFromArray(np.ascontiguousarray(array.T)), LPS @ affine
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path), compress)
    return path


def write_scan(
    folder: Path, kind: str, array: np.ndarray | None = None, affine: np.ndarray | None = None, code: str = "RAS"
) -> Path:
    """Write a RAS array in a format and in the storage order of ``code``; return its path form."""
    array = picture() if array is None else array
    voxels, matrix = stored(array, affine_of() if affine is None else affine, code)
    voxels = np.ascontiguousarray(voxels)
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "dicom":
        return write_slices(folder / "series", voxels, LPS @ matrix)
    if kind == "enhanced":
        return write_enhanced(folder / "enhanced.dcm", voxels, LPS @ matrix)
    path = folder / f"scan.{kind}"
    if kind.startswith("nii"):
        nib.save(nib.Nifti1Image(voxels, matrix), path)
        return path
    return write_itk(path, voxels, matrix)


def centre(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Return where the middle of a mask lies in the world (RAS, mm)."""
    return affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]


def open_elsewhere(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read an image by the other library: NIfTI by SimpleITK, anything else by SimpleITK's own guess; RAS affine."""
    image = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, LPS @ affine
