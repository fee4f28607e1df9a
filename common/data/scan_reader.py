"""Scans of any format as arrays with MONAI's metadata."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from common.data.dicom_header import is_dicom
from common.data.dicom_series import SeriesInfo, Stack, find_stack, list_series, split_path
from common.data.itk_names import itk_name
from common.data.meta_image import check_meta_image
from common.data.nrrd_header import check_nrrd_header
from common.data.volume_checks import check_grid, check_numbers
from common.errors import InputError

__all__ = [
    "ScanReader",
    "SeriesInfo",
    "known_format",
    "list_series",
    "open_nifti",
    "read_geometry",
    "read_scan",
    "scan_format",
    "source_files",
]

NIFTI_SUFFIXES = (".nii.gz", ".nii")
META_SUFFIXES = (".mha", ".mhd")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
SCAN_SUFFIXES = NIFTI_SUFFIXES + META_SUFFIXES + NRRD_SUFFIXES
FORMATS = ", ".join(SCAN_SUFFIXES) + " or a folder of DICOM"
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_DEFLATION = 1040  # no content of a gzip or zlib stream is longer than so many times the stream


class ScanReader(ImageReader):
    """Read NIfTI, MetaImage, NRRD and DICOM series for MONAI's ``LoadImage``.

    A path is a file (``.nii.gz``, ``.nii``, ``.mha``, ``.mhd``, ``.nrrd``, ``.nhdr``), a folder that holds one DICOM
    image series, ``FOLDER#SERIESUID`` for one of several, or a DICOM file (see
    :func:`common.data.dicom_series.find_stack`).

    NIfTI is not left to MONAI's ``NibabelReader``: where a header contradicts itself, that changes the header, and the
    scan would lie elsewhere than in every other program (see :func:`open_nifti`).

    ``read`` only notes the paths and ``get_data`` does the work: ``LoadImage`` answers an error in ``read`` by trying
    its other readers, whose guesses about a bad file nobody wants, but lets one in ``get_data`` through.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Say whether all paths are of a known format."""
        return all(scan_format(name) is not None for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> list[str]:
        """Note the paths.

        Args:
            data: a path, or several scans on one grid, to be stacked as channels.
            kwargs: none is used.
        """
        return [str(name) for name in ensure_tuple(data)]

    def get_data(self, img: Sequence[str]) -> tuple[np.ndarray, dict]:
        """Read the scans.

        Args:
            img: what :meth:`read` gave.

        Returns:
            The array (X, Y, Z), or (N, X, Y, Z) for several paths, and MONAI's metadata: ``affine`` and
            ``original_affine`` (4x4, voxel to world, RAS, mm), ``spatial_shape``, ``space``,
            ``original_channel_dim``, ``filename_or_obj``.

        Raises:
            InputError: see :func:`read_scan`; or several scans on different grids.
        """
        scans = [read_scan(path) for path in img]
        array, meta = scans[0]
        if len(scans) == 1:
            return array, meta
        for path, (other, its) in zip(img, scans, strict=True):
            if other.shape != array.shape or not np.allclose(its[MetaKeys.AFFINE], meta[MetaKeys.AFFINE], atol=1e-3):
                raise InputError(path, f"does not lie on the grid of {img[0]}", "resample it first")
        return np.stack([other for other, _ in scans]), {**meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0}


def scan_format(path: str | os.PathLike) -> str | None:
    """Return ``nifti``, ``meta``, ``nrrd`` or ``dicom``; None for what is none of them.

    A folder counts as DICOM, whatever is in it; of files that exist, so does one with DICOM's preamble.
    """
    name = str(path).lower()
    place, uid = split_path(path)
    if uid is not None or place.is_dir():
        return "dicom"
    kinds = {"nifti": NIFTI_SUFFIXES, "meta": META_SUFFIXES, "nrrd": NRRD_SUFFIXES, "dicom": (".dcm", ".dicom", ".ima")}
    for kind, suffixes in kinds.items():
        if name.endswith(suffixes):
            return kind
    try:
        return "dicom" if is_dicom(place) else None
    except OSError:
        return None


def read_scan(path: str | os.PathLike) -> tuple[np.ndarray, dict]:
    """Read one scan.

    Args:
        path: a path form of :class:`ScanReader`.

    Returns:
        The array and the metadata, as :meth:`ScanReader.get_data` has them. Axes of length 1 behind the third one of a
        NIfTI file are left out.

    Raises:
        InputError: it does not exist, is of an unknown format, cannot be read, is damaged, or is not one 3D volume of
            grey levels on a grid that :func:`common.data.volume_checks.check_grid` lets pass; for DICOM also a missing,
            doubled or foreign slice, or no image at all.
    """
    kind = known_format(path)
    if kind == "nifti":
        image = open_nifti(path)
        shape, affine = _nifti_grid(path, image)
        try:
            array = np.asanyarray(image.dataobj).reshape(shape)
        except Exception as error:
            raise _nifti_error(path, error) from error
    elif kind == "dicom":
        stack = find_stack(path)
        shape, affine = _stack_grid(path, stack)
        array = stack.read()
    else:
        reader = _open(path, kind)
        shape, affine = _information(path, reader)
        try:
            array = sitk.GetArrayFromImage(reader.Execute()).T
        except (RuntimeError, MemoryError) as error:
            raise _damaged(path, kind, _reason(error)) from error
    check_numbers(path, array.dtype)
    return array, {
        MetaKeys.AFFINE: affine.copy(),
        MetaKeys.ORIGINAL_AFFINE: affine.copy(),
        MetaKeys.SPATIAL_SHAPE: np.asarray(shape),
        MetaKeys.SPACE: SpaceKeys.RAS,
        MetaKeys.ORIGINAL_CHANNEL_DIM: "no_channel",
        "filename_or_obj": str(path),
    }


def read_geometry(path: str | os.PathLike) -> tuple[tuple[int, ...], np.ndarray]:
    """Read a scan's grid without its voxels.

    Returns:
        The shape (X, Y, Z), and the affine (4x4, voxel to world, RAS, mm).

    Raises:
        InputError: see :func:`read_scan`.
    """
    kind = known_format(path)
    if kind == "nifti":
        return _nifti_grid(path, open_nifti(path))
    if kind == "dicom":
        return _stack_grid(path, find_stack(path))
    return _information(path, _open(path, kind))


def source_files(path: str | os.PathLike) -> list[Path]:
    """Return the files that a scan consists of, by name: those of a DICOM series, else the one that was named.

    Raises:
        InputError: see :func:`read_geometry`.
    """
    return [Path(file) for file in find_stack(path).files] if known_format(path) == "dicom" else [Path(path)]


def open_nifti(path: str | os.PathLike) -> nib.Nifti1Image:
    """Read the header of a NIfTI file, and make sure that the file can be as long as it says.

    The affine is what nibabel takes: the sform where its code is above 0, else the qform where its code is, else the
    spacing alone.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with _without_remarks():
            image = nib.load(path)
        dtype = image.get_data_dtype()
        wanted = int(np.prod(image.shape, dtype=object)) * dtype.itemsize
        there = os.path.getsize(path) * (_MAX_DEFLATION if str(path).lower().endswith("gz") else 1)
        if wanted > there:
            raise ValueError(f"expected {wanted} bytes of voxels, the file is too short")
        return image
    except Exception as error:
        raise _nifti_error(path, error) from error


def known_format(path: str | os.PathLike) -> str:
    """Return :func:`scan_format`'s word for a scan that is there and may be read.

    Raises:
        InputError: it does not exist, cannot be read, or is of an unknown format.
    """
    place, uid = split_path(path)
    if uid is None and not place.exists():
        raise InputError(path, "does not exist", "pass --input with a scan or a folder of scans")
    if place.is_file():
        try:
            place.open("rb").close()
        except OSError as error:
            raise InputError(path, f"cannot be read ({_access(error)})", "grant read access") from error
    kind = scan_format(path)
    if kind is None:
        raise InputError(path, f"is not a scan ({FORMATS})", "convert it first")
    return kind


def _drop(record: object) -> bool:
    return False


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep nibabel from printing what it mends in a header: an error is one line, and the rest is no error."""
    logger = nib.imageglobals.logger
    logger.addFilter(_drop)
    try:
        yield
    finally:
        logger.removeFilter(_drop)


def _access(error: OSError) -> str:
    return "no permission" if isinstance(error, PermissionError) else error.strerror or str(error)


def _damaged(path: str | os.PathLike, kind: str, reason: object) -> InputError:
    name = {"nifti": "NIfTI", "meta": "MetaImage", "nrrd": "NRRD"}[kind]
    return InputError(path, f"cannot be read as {name} ({reason})", "check or re-export the file")


def _reason(error: BaseException) -> str:
    """Return the last sentence of an ITK error, without the places in its source code."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.split(r"ITK ERROR: |sitk::ERROR: |\[nrrd\] ", text)[-1]
    return re.sub(r"^\w+\(0x[0-9a-f]+\): ", "", text)[:200].strip()


def _nifti_error(path: str | os.PathLike, error: Exception) -> Exception:
    """Return what a user can read in the place of nibabel's many kinds of errors."""
    if isinstance(error, InputError):
        return error
    if isinstance(error, PermissionError):
        return InputError(path, "cannot be read (no permission)", "grant read access")
    expected = (
        nib.filebasedimages.ImageFileError,
        nib.spatialimages.HeaderDataError,
        OSError,
        EOFError,
        ArithmeticError,
        ValueError,
        LookupError,
        TypeError,
        MemoryError,
        zlib.error,
    )
    return _damaged(path, "nifti", error) if isinstance(error, expected) else error


def _nifti_grid(path: str | os.PathLike, image: nib.Nifti1Image) -> tuple[tuple[int, ...], np.ndarray]:
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:  # a series of one volume is a volume
        shape = shape[:-1]
    check_grid(path, shape, image.affine)
    return shape, image.affine


def _stack_grid(path: str | os.PathLike, stack: Stack) -> tuple[tuple[int, ...], np.ndarray]:
    affine = LPS_TO_RAS @ stack.affine
    check_grid(path, stack.shape, affine)
    return stack.shape, affine


def _open(path: str | os.PathLike, kind: str) -> sitk.ImageFileReader:
    {"meta": check_meta_image, "nrrd": check_nrrd_header}[kind](path)
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # what is wrong is said in one line, below
    reader = sitk.ImageFileReader()
    reader.SetImageIO({"meta": "MetaImageIO", "nrrd": "NrrdImageIO"}[kind])
    try:
        reader.SetFileName(itk_name(path))
        reader.ReadImageInformation()
    except (RuntimeError, MemoryError) as error:
        raise _damaged(path, kind, _reason(error)) from error
    size = reader.GetSize()
    # A separate data file is not looked at here: the reader finds for itself that it is short.
    if Path(str(path)).suffix.lower() in (".mha", ".nrrd"):
        wanted = int(np.prod(size, dtype=object)) * reader.GetNumberOfComponents()
        if wanted > os.path.getsize(path) * _MAX_DEFLATION:
            raise _damaged(path, kind, f"expected {wanted} voxels, the file is too short")
    return reader


def _information(path: str | os.PathLike, reader: sitk.ImageFileReader) -> tuple[tuple[int, ...], np.ndarray]:
    shape = reader.GetSize()
    components = reader.GetNumberOfComponents()
    if len(shape) != 3 or components != 1:
        check_grid(path, shape if components == 1 else (*shape, components), np.eye(4))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(reader.GetDirection(), (3, 3)) * reader.GetSpacing()
    affine[:3, 3] = reader.GetOrigin()
    affine = LPS_TO_RAS @ affine
    check_grid(path, shape, affine)
    return shape, affine
