"""Label maps on the grid of the scan that they belong to."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from common.data.atomic import atomic_path
from common.data.dicom_series import is_multi_frame, series_label, split_path
from common.data.itk_names import itk_name
from common.data.scan_reader import LPS_TO_RAS, SCAN_SUFFIXES, open_nifti, read_geometry, scan_format
from common.errors import InputError

__all__ = ["LABEL_SUFFIXES", "default_suffix", "scan_name", "write_label_map"]

LABEL_SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
_GEOMETRY = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def default_suffix(source: str | os.PathLike) -> str:
    """Return the suffix of a scan's label map: ``.nii.gz`` for NIfTI and DICOM, ``.mha`` and ``.nrrd`` for their own.

    The two-file forms ``.mhd`` and ``.nhdr`` have their one-file counterparts.
    """
    return {"meta": ".mha", "nrrd": ".nrrd"}.get(scan_format(source) or "", ".nii.gz")


def scan_name(source: str | os.PathLike, root: str | os.PathLike | None = None) -> str:
    """Return the stem of a scan's outputs.

    Args:
        source: a path form of :class:`common.data.scan_reader.ScanReader`.
        root: the folder that the scans were looked for in; the folders between are put in front of the name.

    Returns:
        A file's name without its suffix. For a DICOM series the folder's name; where the folder holds several, the
        series' number and description follow, and the end of its UID where those are the same. A DICOM file with
        several frames has its own name, one with a single slice that of its series.

    Raises:
        InputError: a DICOM folder cannot be read.
    """
    path, uid = split_path(source)
    kind = scan_format(source)
    label = ""
    if kind == "dicom" and uid is None and path.is_file() and not is_multi_frame(path):
        label, path = series_label(source), path.resolve().parent
    elif kind == "dicom" and not path.is_file():
        label = series_label(source)
    name = path.resolve().name if path.name in ("", "..") or path.is_dir() else path.name
    suffix = next((end for end in (*SCAN_SUFFIXES, ".dcm", ".dicom", ".ima") if name.lower().endswith(end)), "")
    if suffix and not path.is_dir():
        name = name[: -len(suffix)]
    between: tuple[str, ...] = ()
    if root is not None and path.resolve().is_relative_to(Path(root).resolve()):
        between = path.resolve().relative_to(Path(root).resolve()).parts[:-1]
    return "_".join(filter(None, (*between, name or "scan", label)))


def write_label_map(labels: np.ndarray, source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Write a label map with its scan's geometry, whole or not at all.

    From NIfTI to NIfTI: the header's sform and qform with their codes, as they are. Else the affine: in NIfTI as sform
    and, where it has right angles, as qform, both with code 1 (scanner).

    Args:
        labels: (X, Y, Z) whole numbers 0..255 in the scan's own order of voxels.
        source: the scan, a path form of :class:`common.data.scan_reader.ScanReader`.
        target: the file, which ends in one of ``LABEL_SUFFIXES``; it is written as uint8, compressed but for ``.nii``.

    Raises:
        InputError: the target's format is not known, the scan cannot be read or has another size, or the file cannot
            be written.
        ValueError: a label is not a whole number in 0..255.
    """
    target = Path(target)
    if not target.name.lower().endswith(LABEL_SUFFIXES):
        raise InputError(target, "is no format for label maps", f"choose one of {', '.join(LABEL_SUFFIXES)}")
    array = np.asarray(labels)
    voxels = array.astype(np.uint8)
    if not np.array_equal(voxels, array):
        raise ValueError("labels are whole numbers in 0..255")
    shape, affine = read_geometry(source)
    if voxels.shape != tuple(shape):
        sizes = (" x ".join(map(str, size)) for size in (voxels.shape, shape))
        raise InputError(
            source, "the segmentation ({}) does not lie on its grid ({})".format(*sizes), "report this as a bug"
        )
    if target.name.lower().endswith((".nii.gz", ".nii")):
        from_nifti = scan_format(source) == "nifti"
        image = _with_header(voxels, source) if from_nifti else _with_affine(voxels, affine)
        with atomic_path(target) as temporary:
            nib.save(image, temporary)
        return
    itk_name(target)
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    matrix = LPS_TO_RAS @ affine
    spacing = np.sqrt((matrix[:3, :3] ** 2).sum(axis=0))
    try:
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(matrix[:3, 3].tolist())
        image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    except RuntimeError as error:
        raise InputError(source, f"has a position that {target.suffix} cannot hold", "write NIfTI") from error
    with atomic_path(target) as temporary:
        try:
            sitk.WriteImage(image, str(temporary), useCompression=True)
            whole = np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(temporary))), voxels.T)
        except RuntimeError as error:  # ITK has no other kind of error
            raise OSError("ITK could not write it") from error
        if not whole:
            raise OSError("the file is not complete")


def _with_header(voxels: np.ndarray, source: str | os.PathLike) -> nib.Nifti1Image:
    scan = open_nifti(source)
    header = scan.header.copy()
    header.extensions.clear()  # they may hold what the scanner knew of the patient
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"] = header["cal_max"] = 0
    # Without an affine, nibabel leaves both matrices and their codes as the header has them.
    image = type(scan)(voxels, None, header)
    for name in (*_GEOMETRY, "qform_code", "sform_code"):
        image.header[name] = scan.header[name]
    image.header["pixdim"][:4] = scan.header["pixdim"][:4]
    return image


def _with_affine(voxels: np.ndarray, affine: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(voxels, affine)
    axes = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    image.set_sform(affine, 1)
    image.set_qform(affine, 1 if np.allclose(axes.T @ axes, np.eye(3), atol=1e-3) else 0)
    image.header.set_xyzt_units("mm")
    return image
