from __future__ import annotations

import re

import nibabel as nib
import numpy as np

from tools import crop_loss


def write_case(folder, name, first_column):
    """A volume stored as P, I, R whose label block begins at a column of its 32 anterior-posterior ones."""
    affine = np.array([[0, 0, 4, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=float)
    image = np.zeros((32, 16, 4), np.int16)
    image[8:24] = 100
    label = np.zeros_like(image, dtype=np.uint8)
    label[first_column : first_column + 4, 4:8, 1:3] = 2
    for part, data in (("images", image), ("labels", label)):
        (folder / part).mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(data, affine), folder / part / f"{name}.nii.gz")


def test_the_share_that_the_crop_cuts_is_counted(tmp_path, capsys):
    write_case(tmp_path, "inside", 14)
    write_case(tmp_path, "half", 22)  # two of its four columns lie behind the middle half (8..23)
    assert crop_loss.main([str(tmp_path), "--fractions", "0.5"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "crop_center image" in line)
    assert re.search(r"1 of 2 cases lose labelled voxels, at worst 50\.0 % \(half\)", line)


def test_a_folder_without_cases_is_one_line(tmp_path, capsys):
    assert crop_loss.main([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'none'}: is not a folder")
