"""Files that are damaged at random: each is read, or refused in one line; none is changed or made."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data.label_writer import scan_name
from common.data.scan_checks import check_scan
from common.data.scan_reader import list_series, read_geometry
from common.errors import InputError
from tests.helpers import affine_of
from tests.scan_files import picture, write_itk, write_scan

CASES = 60  # of each kind


def damaged(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """Return the content with a few bytes changed, mostly in the header, or a part cut out, doubled or left off."""
    data = bytearray(content)
    kind = rng.integers(5)
    if kind <= 1:
        for _ in range(rng.integers(1, 6)):
            end = header if rng.random() < 0.8 else len(data)
            data[rng.integers(end)] = rng.integers(256)
    elif kind == 2:
        return content[: rng.integers(len(data))]
    else:
        start, length = int(rng.integers(header)), int(rng.integers(1, 40))
        part = data[start : start + length]
        data[start : start + length] = part * 2 if kind == 3 else b""
    if rng.random() < 0.3:  # numbers at their limits, where a text or a binary field may be
        place = int(rng.integers(header))
        limits = (b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\xff" * 4, b"\0\0\xc0\x7f", b"9999", b"-1 0", b"nan ", b"1e99")
        data[place : place + 4] = limits[rng.integers(len(limits))]
    return bytes(data)


def one_line_or_good(path: Path) -> None:
    for call in (check_scan, read_geometry, scan_name):
        try:
            call(path)
        except InputError as error:
            assert "\n" not in str(error) and str(path.parent) in str(error)


@pytest.mark.parametrize(
    "kind", ["nii", "nii.gz", "mha", "packed mha", "mhd", "nrrd", "packed nrrd", "nhdr", "dicom", "enhanced"]
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path, kind):
    rng = np.random.default_rng(len(kind) * 1000 + ord(kind[-1]))
    array = picture((6, 5, 4 + 1))
    if kind.startswith("packed"):
        path = write_itk(tmp_path / f"scan.{kind.split()[1]}", array, affine_of(), compress=True)
    else:
        path = write_scan(tmp_path, kind, array)
    folder = path if path.is_dir() else path.parent
    files = sorted(folder.iterdir())
    target = files[2] if kind == "dicom" else path
    content = target.read_bytes()
    plain = gzip.decompress(content) if kind == "nii.gz" else None
    header = {"nii": 352, "nii.gz": 352, "dicom": 800, "enhanced": 1800}.get(kind, 460)
    check_scan(path)
    read = 0
    for _ in range(CASES):
        if plain is not None and rng.random() < 0.7:
            bad = gzip.compress(damaged(plain, rng, header), 1)
        else:
            bad = damaged(content, rng, min(header, len(content)))
        target.write_bytes(bad)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            one_line_or_good(path)
            if kind in ("dicom", "enhanced"):
                assert all("\n" not in (series.problem or "") for series in list_series(folder))
        assert sorted(folder.iterdir()) == files and target.read_bytes() == bad
        read += 1
    assert read == CASES


@pytest.mark.filterwarnings("ignore")
def test_random_bytes(tmp_path):
    rng = np.random.default_rng(5)
    starts = (
        b"",
        b"NRRD0005\n",
        b"ObjectType = Image\nNDims = 3\n",
        b"\0" * 128 + b"DICM",
        b"\x1f\x8b\x08\0",
        b"\x5c\1\0\0",
    )
    for start in starts:
        for suffix in ("nii", "nii.gz", "mha", "nrrd", "dcm"):
            path = tmp_path / f"a.{suffix}"
            for length in (0, 20, 400):
                path.write_bytes(start + rng.bytes(length))
                with pytest.raises(InputError):
                    check_scan(path)
            path.unlink()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", range(40, 348, 4))
@pytest.mark.filterwarnings("ignore")
def test_nifti_header_limits(tmp_path, field):
    content = nib.Nifti1Image(picture((6, 5, 4)), affine_of()).to_bytes()
    path = tmp_path / "a.nii"
    for value in (b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\x80\x7f", b"\xff\xff\xff\xff"):
        path.write_bytes(content[:field] + value + content[field + 4 :])
        one_line_or_good(path)
