"""Scans that cannot be used, and what a user reads of each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from tests.dicom_files import write_report, write_slices
from tests.helpers import affine_of
from tests.scan_files import picture, write_itk

AFFINE = affine_of((4, 1.2, 1.3))


@dataclass(frozen=True)
class BadScan:
    """A scan that cannot be used.

    Args:
        name: of its file or folder.
        write: how it is made at a path.
        problem: what the line says of it.
    """

    name: str
    write: Callable[[Path], object]
    problem: str

    def make(self, folder: Path) -> Path:
        """Write it into a folder and return its path form."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder / self.name)
        return folder / self.name


def _nifti(array: np.ndarray, affine: np.ndarray = AFFINE) -> Callable[[Path], None]:
    return lambda path: nib.save(nib.Nifti1Image(array, affine), path)


def _spoilt(value: float) -> np.ndarray:
    array = picture().astype(np.float32)
    array[4, 3, 2] = value
    return array


def _cut_off(path: Path) -> None:
    write_itk(path, picture(), AFFINE)
    path.write_bytes(path.read_bytes()[:-500])


def _flat(path: Path) -> None:
    content = bytearray(nib.Nifti1Image(picture(), AFFINE).to_bytes())
    content[280:328] = bytes(48)  # the sform
    path.write_bytes(content)


def _unreadable(path: Path) -> None:
    _nifti(picture())(path)
    path.chmod(0)


def _series(**changes: object) -> Callable[[Path], Path]:
    return lambda path: write_slices(path, picture(), np.diag([1.0, 1, 4, 1]), **changes)


def _with_a_double(path: Path) -> None:
    _series()(path)
    _series(names=[f"again{k}.dcm" for k in range(8)], skip=[0, 1, 2, 4, 5, 6, 7])(path)


COLOURS = np.zeros((9, 8, 7), [("R", "u1"), ("G", "u1"), ("B", "u1")])
BAD_SCANS = {
    "4-D series": BadScan(
        "fmri.nii.gz", _nifti(np.ones((9, 8, 7, 2))), "not one 3D volume (its size is 9 x 8 x 7 x 2)"
    ),
    "warp field": BadScan(
        "warp.nii", _nifti(np.ones((9, 8, 7, 1, 3))), "not one 3D volume (its size is 9 x 8 x 7 x 1 x 3)"
    ),
    "2-D image": BadScan("plane.nii.gz", _nifti(np.eye(9)), "is not one 3D volume (its size is 9 x 9)"),
    "one slice": BadScan("slice.nii", _nifti(np.eye(9)[..., None]), "has 1 slice (its size is 9 x 9 x 1)"),
    "two slices": BadScan("slices.nii", _nifti(picture((9, 2, 8))), "has 2 slices (its size is 9 x 2 x 8)"),
    "corrupt": BadScan("noise.nii.gz", lambda path: path.write_bytes(bytes(range(256)) * 2), "cannot be read as NIfTI"),
    "truncated": BadScan("cut.nrrd", _cut_off, "cannot be read as NRRD"),
    "NaN": BadScan("nan.nii.gz", _nifti(_spoilt(np.nan)), "has voxels that are NaN or infinite"),
    "infinite": BadScan("inf.nii", _nifti(_spoilt(-np.inf)), "has voxels that are NaN or infinite"),
    "constant": BadScan(
        "grey.mha", lambda path: write_itk(path, picture() * 0 + 7, AFFINE), "the same value in every voxel"
    ),
    "absurd spacing": BadScan(
        "metres.nii", _nifti(picture(), np.diag([4e-3, 1e-3, 1e-3, 1])), "has voxels of 0.004 x 0.001"
    ),
    "no position": BadScan("flat.nii", _flat, "has no valid position in space"),
    "colours": BadScan("rgb.nii.gz", _nifti(COLOURS), "holds no plain numbers"),
    "missing slice": BadScan(
        "gap", _series(skip=[3]), "8 mm between slices 3 and 4, elsewhere 4 mm: a slice is missing"
    ),
    "doubled slice": BadScan("double", _with_a_double, "has two slices at one position (IM0003.dcm and again3.dcm)"),
    "foreign slice": BadScan(
        "foreign", _series(changes={2: {0x00100020: ("LO", "other")}}), "1 of its 8 slices have another"
    ),
    "no image": BadScan("report.dcm", write_report, "is a DICOM object without a scan"),
}
if os.geteuid() != 0:  # who may read everything
    BAD_SCANS["no permission"] = BadScan("locked.nii.gz", _unreadable, "cannot be read (no permission)")
