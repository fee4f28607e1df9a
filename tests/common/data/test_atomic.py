from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from common.data.atomic import atomic_path, write_csv, write_json, write_text
from common.errors import InputError


def test_block_that_ends_well_replaces_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "mask.nii.gz"
    for content in (b"old", b"new"):
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.name.startswith(f".tmp-{os.getpid()}-") and temporary.name.endswith("-mask.nii.gz")
            temporary.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"old"
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["mask.nii.gz"]


def test_writers_choose_the_format_by_the_temporary_name(tmp_path):
    with atomic_path(tmp_path / "mask.nii.gz") as temporary:
        nib.save(nib.Nifti1Image(np.ones((2, 3, 4), dtype=np.uint8), np.eye(4)), temporary)
    assert nib.load(tmp_path / "mask.nii.gz").shape == (2, 3, 4)
    assert (tmp_path / "mask.nii.gz").read_bytes()[:2] == b"\x1f\x8b"


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_block_that_fails_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "report.txt"
    path.write_text("old", encoding="utf-8")
    raised = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(raised), atomic_path(path) as temporary:
        temporary.write_text("half of the n", encoding="utf-8")
        raise error
    assert path.read_text(encoding="utf-8") == "old" and os.listdir(tmp_path) == ["report.txt"]


def test_disk_errors_are_one_clear_line(tmp_path):
    path = tmp_path / "report.txt"
    with pytest.raises(InputError) as caught, atomic_path(path):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{path}: cannot be written (No space left on device); free space or choose another output_dir"
    )
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "file" / "report.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "folder", "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_disk_error_behind_another_error_is_the_same_line(tmp_path):
    """A full disk, as torch meets it: its own error comes up while the disk's is on its way."""
    path = tmp_path / "model.pt"

    class Full(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 500:
                raise OSError(28, "No space left on device")
            return super().write(data)

    with pytest.raises(InputError) as caught, atomic_path(path):
        torch.save({"weight": torch.zeros(1000)}, Full())
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert str(caught.value) == (
        f"{path}: cannot be written (No space left on device); free space or choose another output_dir"
    )


def test_an_input_error_of_the_block_stays_what_it_is(tmp_path):
    with pytest.raises(InputError, match=r"^scan: is broken; mend it$"), atomic_path(tmp_path / "a"):
        try:
            raise OSError(5, "Input/output error")
        except OSError as error:
            raise InputError("scan", "is broken", "mend it") from error


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_missing_permission_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            write_text(tmp_path / "report.txt", "text")
    finally:
        tmp_path.chmod(0o700)


def test_nested_blocks_of_one_path_do_not_meet(tmp_path):
    path = tmp_path / "report.txt"
    with atomic_path(path) as outer, atomic_path(path) as inner:
        assert outer != inner
        outer.write_text("outer", encoding="utf-8")
        inner.write_text("inner", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "outer" and os.listdir(tmp_path) == ["report.txt"]


def test_longest_names_can_be_written(tmp_path):
    path = tmp_path / ("ü" * 120 + ".nii.gz")
    write_text(path, "text")
    assert os.listdir(tmp_path) == [path.name]


def test_text_is_written_as_it_stands(tmp_path):
    write_text(tmp_path / "text", "Wirbelkörper\nline\n")
    assert (tmp_path / "text").read_bytes() == "Wirbelkörper\nline\n".encode()


def test_json_takes_numpy_paths_and_nan(tmp_path):
    content = {
        "dice": np.float32(0.5),
        "voxels": np.arange(3, dtype=np.uint8),
        "missing": [float("nan"), np.inf, np.array([np.nan, 1.0])],
        "path": Path("a") / "b",
        "name": "Wirbelkörper",
        3: (True, None),
    }
    write_json(tmp_path / "report.json", content)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert text.endswith("}\n") and '\n    "dice": 0.5' in text and "Wirbelkörper" in text
    assert json.loads(text, parse_constant=pytest.fail) == {
        "dice": 0.5,
        "voxels": [0, 1, 2],
        "missing": [None, None, [None, 1.0]],
        "path": os.path.join("a", "b"),
        "name": "Wirbelkörper",
        "3": [True, None],
    }


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "report.json", [1])
    with pytest.raises(TypeError):
        write_json(tmp_path / "report.json", [object()])
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == [1] and os.listdir(tmp_path) == [
        "report.json"
    ]


def test_csv_reads_back(tmp_path):
    rows = [{"name": "L5/S", "dice": np.float64(0.25), "more": 1}, {"name": 'a "b", c\nd', "dice": float("nan")}, {}]
    write_csv(tmp_path / "table.csv", iter(rows), ["dice", "name"])
    assert b"\r" not in (tmp_path / "table.csv").read_bytes()
    with open(tmp_path / "table.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["dice", "name"], ["0.25", "L5/S"], ["", 'a "b", c\nd'], ["", ""]]
