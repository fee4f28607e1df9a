from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.common.metrics.spine_measures.spines import Block, rasterise
from tests.helpers import noise, write_nifti
from tools import measure

AFFINE = np.diag([4.0, 1, 1, 1])
AFFINE[:3, 3] = -30, -26, -20
SHAPE = (16, 52, 40)
CORNERS = np.array([[-16, 13], [16, 13], [16, -13], [-16, -13]])  # 32 x 26 mm


@pytest.fixture
def folder(tmp_path) -> Path:
    """A label map of one vertebra, and its scan."""
    write_nifti(tmp_path / "labels" / "a_seg.nii.gz", rasterise({"L3": Block(CORNERS)}, AFFINE, SHAPE), AFFINE)
    write_nifti(tmp_path / "images" / "a.nii.gz", noise(SHAPE), AFFINE)
    return tmp_path


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "measures.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_label_map_with_its_scan(folder, capsys):
    arguments = [folder / "labels" / "a_seg.nii.gz", "--image", folder / "images", "-o", folder / "out"]
    assert measure.main([str(word) for word in arguments]) == 0
    assert capsys.readouterr().out == f"1 of 1 label maps measured: {folder / 'out' / 'measures.csv'}\n"
    rows = {row["level"]: row for row in table(folder / "out")}
    assert list(rows)[:2] == ["S", "L5"] and list(rows)[-1] == "L1-S1" and len(rows) == 20
    l3 = rows["L3"]
    assert (l3["case"], l3["file"]) == ("a_seg", "a_seg.nii.gz")
    # Both edges of the block lie on voxels' centres, and belong to it.
    assert (l3["height_anterior_mm"], l3["height_posterior_mm"], l3["depth_mm"]) == ("27.00", "27.00", "33.00")
    assert l3["slip_mm"] == "" and l3["missing"] == "slip: L4 is not measured (not in the label map)"
    with Image.open(folder / "out" / "a_overlay.png") as picture:
        picture.load()


def test_a_folder_with_a_bad_one(folder, capsys):
    write_nifti(folder / "labels" / "b.nii.gz", np.full(SHAPE, 21, np.uint8), AFFINE)
    assert measure.main([str(folder / "labels"), "-o", str(folder / "out")]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("1 of 2 label maps measured")
    assert err == (
        f"error: {folder / 'labels' / 'b.nii.gz'}: is no label map of the spine (it holds 21); "
        "pass whole values 0 to 19\n"
    )
    assert {row["case"] for row in table(folder / "out")} == {"a_seg"}


def test_rows_of_other_cases_stay(folder):
    out = folder / "out"
    assert measure.main([str(folder / "labels"), "-o", str(out)]) == 0
    (folder / "labels" / "a_seg.nii.gz").rename(folder / "labels" / "c.nii.gz")
    assert measure.main([str(folder / "labels"), "-o", str(out)]) == 0
    assert len(table(out)) == 40 and [table(out)[0]["case"], table(out)[20]["case"]] == ["a_seg", "c"]
    assert not list(out.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{none}", "-o", "{out}"], "{none}: does not exist; pass a label map or a folder of label maps"),
        (["{empty}", "-o", "{out}"], "{empty}: holds no label map; pass a folder with"),
        (["{labels}", "--image", "{none}", "-o", "{out}"], "{none}: does not exist; pass a scan"),
        (["{labels}", "--image", "{empty}", "-o", "{out}"], "{empty}: holds no scan for a_seg; name it a, or leave"),
        (["{labels}", "--image", "{small}", "-o", "{out}"], "{label}: does not lie on the grid of {small}; resample"),
        (["{labels}"], "the following arguments are required: -o/--output; see --help"),
        (["{labels}", "-o", "{small}"], "{small}/measures.csv: cannot be written"),
    ],
)
def test_bad_arguments_are_one_line(folder, arguments, says, capsys):
    places = {name: str(folder / name) for name in ("labels", "none", "empty", "out")}
    places |= {"small": str(folder / "small.nii.gz"), "label": str(folder / "labels" / "a_seg.nii.gz")}
    (folder / "empty").mkdir()
    write_nifti(folder / "small.nii.gz", noise((4, 5, 6)), AFFINE)
    try:
        status = measure.main([word.format(**places) for word in arguments])
    except SystemExit as ended:
        status = ended.code
    out, err = capsys.readouterr()
    assert status == 1 and out == "" and len(err.splitlines()) == 1
    assert err.startswith("error: " + says.format(**places))
    assert not (folder / "out").exists()


def test_one_scan_for_two_label_maps(folder, capsys):
    write_nifti(folder / "labels" / "b.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    scan = folder / "images" / "a.nii.gz"
    assert measure.main([str(folder / "labels"), "--image", str(scan), "-o", str(folder / "out")]) == 1
    assert capsys.readouterr().err == f"error: {scan}: is one scan for 2 label maps; pass a folder of scans\n"
