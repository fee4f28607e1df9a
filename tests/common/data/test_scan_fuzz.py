"""Scans that are damaged at random: each is read and its label map written, or it is refused in one line."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from common.data.label_writer import default_suffix, scan_name, write_label_map
from common.data.scan_checks import check_scan
from common.data.scan_reader import list_series, read_geometry, read_scan, source_files
from common.data.scans import ScanList
from common.errors import InputError
from tests.dicom_files import slice_elements, write_dicom
from tests.fuzzing import all_survive, damaged, damaged_lines, remove
from tests.helpers import affine_of
from tests.scan_files import LPS, picture, write_itk, write_scan

CASES = 500  # of each kind
KINDS = (
    "nii", "nii.gz", "nifti2", "mha", "packed mha", "mhd", "nrrd", "packed nrrd", "nhdr", "dicom", "enhanced"
)  # fmt: skip
SHAPE = (6, 5, 4)
# Where the header of a kind ends, in bytes.
HEADERS = {"nii": 352, "nii.gz": 352, "nifti2": 544, "dicom": 800, "enhanced": 1800}

# What no element of a DICOM file may say.
_WRONG = (
    "", "0", "-1", "1e400", "nan\\nan", "a\\b", "9" * 40, "../../up", "/", "\n", "1\\2\\3\\4\\5\\6", b"\xff" * 8
)  # fmt: skip


def outcome(call: Callable[..., Any], path: Path, *arguments: Any) -> Any:
    """Return what the call returns, None where it refuses the file as a user can read it."""
    try:
        return call(path, *arguments)
    except InputError as error:
        assert "\n" not in str(error) and str(path.parent) in str(error)
        return None


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


def read_or_refused(path: Path, folder: Path) -> None:
    """Do with a scan what a run does; only ``folder / 'out'`` may change."""
    before = content_of(path if path.is_dir() else path.parent)
    outcome(check_scan, path)
    grid, files = outcome(read_geometry, path), outcome(source_files, path)
    assert files is None or set(files) <= set(before)
    name = outcome(scan_name, path)
    assert name is None or name == Path(name).name not in ("", ".", "..")
    assert all("\n" not in (series.problem or "") for series in list_series(folder / "scans"))
    scans = outcome(ScanList, folder / "scans")
    for item in scans.items if scans else ():
        voxels, meta = read_scan(item["image"])
        assert np.isfinite(voxels).all() and np.isfinite(meta["affine"]).all()
        if item["image"] == str(path):
            assert grid is not None and grid[0] == voxels.shape and np.allclose(grid[1], meta["affine"])
        target = folder / "out" / f"{item['id']}_seg{default_suffix(item['image'])}"
        try:
            write_label_map(np.ones(voxels.shape, np.uint8), item["image"], target)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert read_geometry(target)[0] == voxels.shape
            assert [file.name for file in (folder / "out").iterdir()] == [target.name]
            remove(folder / "out")
    assert content_of(path if path.is_dir() else path.parent) == before


def damaged_scan(seed: int, folder: Path, kind: str) -> None:
    """Write a scan, damage one of its files, and try it."""
    rng = np.random.default_rng(seed)
    array, scans = picture(SHAPE), folder / "scans"
    if kind == "nifti2":
        scans.mkdir()
        path = scans / "scan.nii"
        nib.save(nib.Nifti2Image(array, affine_of()), path)
    elif kind.startswith("packed"):
        scans.mkdir()
        path = write_itk(scans / f"scan.{kind.split()[1]}", array, affine_of(), compress=True)
    else:
        path = write_scan(scans, kind, array)
    target = sorted(path.iterdir())[rng.integers(SHAPE[2])] if kind == "dicom" else path
    content = target.read_bytes()
    lines = "mh" in kind or "nrrd" in kind or kind == "nhdr"
    header = HEADERS.get(kind) or len(content) - (array.nbytes if kind in ("mha", "nrrd") else 0)
    if kind == "dicom" and rng.random() < 0.5:
        changed_series(rng, target, array)
    elif kind == "nii.gz" and rng.random() < 0.7:
        target.write_bytes(gzip.compress(damaged(gzip.decompress(content), rng, header), 1))
    elif lines and rng.random() < 0.5:
        target.write_bytes(damaged_lines(content, rng, header))
    else:
        target.write_bytes(damaged(content, rng, header))
    read_or_refused(path, folder)


def changed_series(rng: np.random.Generator, target: Path, array: np.ndarray) -> None:
    """Take a slice away, add it again under another name, or write it with elements that are missing or wrong."""
    kind = rng.integers(8)
    if kind == 0:
        target.unlink()
    elif kind == 1:
        target.with_name("again.dcm").write_bytes(target.read_bytes())
    else:
        elements = slice_elements(array, LPS @ affine_of(), int(rng.integers(array.shape[2])))
        for tag in rng.choice(list(elements), rng.integers(1, 3), replace=False).tolist():
            representation, value = elements[tag]
            if rng.random() < 0.2:
                value = None  # left out
            elif representation == "US":
                value = int(rng.integers(1 << 16))
            else:
                value = _WRONG[rng.integers(len(_WRONG))]
            elements[tag] = (representation, value)
        write_dicom(target, elements)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, tmp_path):
    first = KINDS.index(kind) * 1_000_000
    all_survive(damaged_scan, tmp_path, range(first, first + CASES), kind)


def random_bytes(seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    starts = (
        b"", b"NRRD0005\n", b"ObjectType = Image\nNDims = 3\n", b"\0" * 128 + b"DICM", b"\x1f\x8b\x08\0", b"\x5c\1\0\0"
    )  # fmt: skip
    start, length = starts[rng.integers(len(starts))], (0, 20, 400)[rng.integers(3)]
    suffix = ("nii", "nii.gz", "mha", "mhd", "nrrd", "nhdr", "dcm", "txt", "")[rng.integers(9)]
    path = folder / "scans" / f"a.{suffix}"
    path.parent.mkdir()
    path.write_bytes(start + rng.bytes(length))
    with pytest.raises(InputError):
        check_scan(path)
    read_or_refused(path, folder)


def test_random_bytes(tmp_path):
    all_survive(random_bytes, tmp_path, range(CASES))


def field_at_its_limit(field: int, folder: Path, limit: bytes) -> None:
    path = write_scan(folder / "scans", "nii", picture(SHAPE))
    content = path.read_bytes()
    path.write_bytes(content[:field] + limit + content[field + len(limit) :])
    read_or_refused(path, folder)


@pytest.mark.parametrize("limit", [b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\x80\x7f", b"\xff\xff\xff\xff"])
def test_nifti_header_limits(limit, tmp_path):
    """Every field of the header at its limits, one after the other."""
    all_survive(field_at_its_limit, tmp_path, range(40, 348, 4), limit)
