from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from monai.data import list_data_collate

from common.data import CaseList, SpineCases, find_cases
from common.data import cases as cases_module
from common.data.cases import case_id, scan_files
from common.data.parts import PARTS
from common.data.scan_reader import FORMATS
from common.errors import InputError
from tests.dicom_files import write_slices
from tests.helpers import write_nifti
from tests.scan_files import picture, write_scan


def touch(*paths: Path) -> None:
    """Finding cases reads no voxel: empty files will do."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def folders(tmp_path) -> Path:
    """A data set of plain folders, ten cases."""
    for i in range(10):
        touch(tmp_path / f"images/Case{i}.nii.gz", tmp_path / f"labels/Case{i}.nii.gz")
    return tmp_path


def datalist(root: Path, rows, name: str = "index.json") -> Path:
    """Write a datalist, and the files that it names."""
    for row in rows:
        touch(*(root / row[key] for key in ("image", "label") if key in row))
    (root / name).write_text(json.dumps({"cases": rows}), encoding="utf-8")
    return root / name


def rows_of(count: int, **more) -> list[dict]:
    return [{"image": f"scans/{i}.nii.gz", "label": f"masks/{i}_seg.nii", **more} for i in range(count)]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def message(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a"), ("a.nii", "a"), ("A.b.NII.GZ", "A.b"), ("x.dcm", "x"), ("a.nii.gz.nii", "a.nii.gz"),
        ("a.b.mha", "a.b"), ("a.NRRD", "a"), ("a", "a"),
    ],
)  # fmt: skip
def test_case_id(name, expected):
    assert case_id(Path("/data") / name) == expected


def test_case_id_of_a_folder(tmp_path):
    (tmp_path / "a.2").mkdir()
    assert case_id(tmp_path / "a.2") == "a.2"


def test_scan_files_are_in_order_and_nothing_else_counts(tmp_path):
    touch(*(tmp_path / name for name in ("b.nii", "a.nii.gz", "C.MHA", "d.nhdr", "d.raw", ".h.nii", "n.txt", "a.json")))
    (tmp_path / "folder.nii").mkdir()
    assert [path.name for path in scan_files(tmp_path)] == ["C.MHA", "a.nii.gz", "b.nii", "d.nhdr"]


class TestFolders:
    def test_images_and_labels_of_the_same_name(self, tmp_path):
        touch(tmp_path / "images/b.nii.gz", tmp_path / "labels/b.nii")  # the suffix may differ
        touch(tmp_path / "images/a.nii", tmp_path / "labels/a.nii", tmp_path / "labels/without_image.nii")
        assert find_cases(tmp_path) == [
            {
                "id": name,
                "subject": name,
                "image": str(tmp_path / "images" / f"{name}{suffix}"),
                "label": str(tmp_path / "labels" / f"{name}.nii"),
            }
            for name, suffix in (("a", ".nii"), ("b", ".nii.gz"))
        ]

    def test_paths_are_absolute(self, folders, monkeypatch):
        monkeypatch.chdir(folders.parent)
        found = find_cases(folders.name)
        assert all(os.path.isabs(case[key]) for case in found for key in ("image", "label"))

    def test_errors(self, tmp_path):
        nowhere, file = tmp_path / "nowhere", tmp_path / "file"
        file.touch()
        for place in (nowhere, file):
            assert message(find_cases, place) == (
                f"{place}: is not a folder; pass --dataset_dir with a folder that holds images/ and labels/"
            )
        root = tmp_path / "set"
        root.mkdir()
        advice = "see 'Train on your own data' in the README"
        assert message(find_cases, root) == f"{root}: has neither index.json nor a folder images/; {advice}"
        (root / "images").mkdir()
        assert message(find_cases, root) == f"{root}: has neither index.json nor a folder labels/; {advice}"
        (root / "labels").mkdir()
        assert message(find_cases, root) == f"{root}/images: holds no scan ({FORMATS}); put the scans there"
        touch(root / "images/a.nii", root / "labels/A.nii")
        assert message(find_cases, root) == (
            f"{root}/images/a.nii: has no label map of the same name in {root}/labels; add it or move the image away"
        )

    def test_all_formats_in_one_set(self, tmp_path):
        for number, kind in enumerate(("nii", "mha", "nhdr")):
            write_scan(tmp_path / "images", kind).rename(tmp_path / "images" / f"{number}.{kind}")
        for name in ("3", ".4"):
            write_slices(tmp_path / "images" / name, picture(), np.eye(4))
        touch(tmp_path / "images/notes/readme.txt")
        touch(*(tmp_path / "labels" / name for name in ("0.nrrd", "1.nii.gz", "2.mha", "3.nii.gz")))
        found = [(case["id"], Path(case["image"]).name, Path(case["label"]).name) for case in find_cases(tmp_path)]
        assert found == [
            ("0", "0.nii", "0.nrrd"), ("1", "1.mha", "1.nii.gz"), ("2", "2.nhdr", "2.mha"), ("3", "3", "3.nii.gz"),
        ]  # fmt: skip

    @pytest.mark.parametrize("other", ["a.mha", "a.nii.gz"])
    def test_two_images_of_one_name(self, tmp_path, other):
        touch(tmp_path / "images/a.nii", tmp_path / "images" / other, tmp_path / "labels/a.nii")
        first, second = sorted(("a.nii", other))
        assert message(find_cases, tmp_path) == (
            f"{tmp_path}/images/{second}: has the same case id 'a' as {tmp_path}/images/{first}; "
            "give each case its own id"
        )

    def test_two_label_maps_of_one_name(self, tmp_path):
        touch(tmp_path / "images/a.nii", tmp_path / "labels/a.mha", tmp_path / "labels/a.nii")
        assert message(find_cases, tmp_path) == (
            f"{tmp_path}/labels/a.nii: is a label map of the same case as {tmp_path}/labels/a.mha; keep one of them"
        )


class TestDatalist:
    def test_entries_are_kept(self, tmp_path):
        rows = [
            {"image": "i/2.nii", "label": "l/2.nii", "id": "two", "subject": "ann", "labelled": [2, 1.0], "fold": "3"},
            {"image": "i/1.nii.gz", "label": "l/1.nii"},
        ]
        datalist(tmp_path, rows)
        assert find_cases(tmp_path) == [
            {"image": str(tmp_path / "i/1.nii.gz"), "label": str(tmp_path / "l/1.nii"), "id": "1", "subject": "1"},
            {
                "image": str(tmp_path / "i/2.nii"), "label": str(tmp_path / "l/2.nii"), "id": "two", "subject": "ann",
                "labelled": [1, 2], "fold": 3,
            },
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("entries", "kept"),
        [
            (["T1", "T2"], ["T1", "T2"]),
            ([1.5, "3"], ["1.5", "3"]),
            (["T1", None], None),
            (["T1"], None),
            ([["a"], ["b", "c"]], None),
            ([{"a": 1}, {"b": 2}], None),
            (["T1", "\udc80"], None),
        ],
    )
    def test_further_entries_are_kept_as_text_where_every_case_has_one(self, tmp_path, entries, kept):
        rows = rows_of(2)
        for row, entry in zip(rows, entries, strict=False):
            row["sequence"] = entry
        datalist(tmp_path, rows)
        cases = find_cases(tmp_path)
        assert [case.get("sequence") for case in cases] == (kept or [None, None])
        assert list_data_collate(cases)["id"] == ["0", "1"]

    def test_the_fold_of_one_case_counts_for_its_subject(self, tmp_path):
        first, *others = rows_of(3, subject="ann")
        datalist(tmp_path, [*others, first | {"fold": 2}])
        assert [case["fold"] for case in find_cases(tmp_path)] == [2, 2, 2]

    def test_null_is_no_entry(self, tmp_path):
        datalist(tmp_path, rows_of(1, id=None, subject=None, labelled=None, fold=None, sequence=None))
        (case,) = find_cases(tmp_path)
        assert set(case) == {"id", "subject", "image", "label"} and case["id"] == case["subject"] == "0"

    def test_another_list_and_absolute_paths(self, tmp_path):
        elsewhere, root = tmp_path / "lists", tmp_path / "set"
        root.mkdir()
        elsewhere.mkdir()
        touch(tmp_path / "far.nii", root / "near.nii")
        listing = elsewhere / "own.json"
        listing.write_text(
            json.dumps({"cases": [{"image": str(tmp_path / "far.nii"), "label": "near.nii"}]}), encoding="utf-8"
        )
        (found,) = find_cases(root, listing)
        assert (found["image"], found["label"]) == (str(tmp_path / "far.nii"), str(root / "near.nii"))

    def test_goes_before_folders(self, folders):
        datalist(folders, rows_of(2))
        assert len(find_cases(folders)) == 2

    def test_numbers_as_ids(self, tmp_path):
        datalist(tmp_path, [row | {"id": i, "subject": 7} for i, row in enumerate(rows_of(2))])
        assert [(case["id"], case["subject"]) for case in find_cases(tmp_path)] == [("0", "7"), ("1", "7")]

    @pytest.mark.parametrize(
        "name", ["../../x", "/abs/x", "..", ".", " ", "a\\b", "a\0b", "a\nb", "a\x1bb", "\udc80", "x" * 201, "é" * 101]
    )
    def test_ids_that_are_no_plain_file_names(self, tmp_path, name):
        datalist(tmp_path, rows_of(1, id=name))
        assert message(find_cases, tmp_path).startswith(f"{tmp_path}/index.json: ")

    def test_an_id_that_leads_elsewhere(self, tmp_path):
        datalist(tmp_path, rows_of(1, id="../../x"))
        assert message(find_cases, tmp_path) == (
            f"{tmp_path}/index.json: the case id '../../x' is no plain file name; "
            "give it up to 200 characters, without / and \\"
        )

    @pytest.mark.parametrize(
        ("key", "value", "problem"),
        [
            *[("fold", value, "is not a whole number; number the folds from 0")
              for value in ("one", "", [1], {}, True, 1.5, float("nan"), float("inf"))],
            *[("labelled", value, "is not a list of whole numbers; use values from 1 to 19")
              for value in ("12", 5, {"1": 2}, ["L5"], [[1]], [None], [True], [1.5], [float("inf")])],
            ("labelled", [1, 20, -3], "[-3, 20] are not label values; use values from 1 to 19"),
            *[("image", value, f"is not a file name ({value[:100]!a}); name a file")
              for value in ("", "a\0b", "\udc80", "x" * 256, "x/" * 2000)],
            ("label", "a\nb", "is not a file name ('a\\nb'); name a file"),
            *[(key, value, "is neither a text of one line nor a number; give it a name")
              for key in ("id", "subject") for value in ([], {}, ["a"], "\udc80", "a\nb")],
        ],
    )  # fmt: skip
    def test_entries_that_are_not_what_they_have_to_be(self, tmp_path, key, value, problem):
        first, second = rows_of(2)
        listing = datalist(tmp_path, [first, second])
        listing.write_text(json.dumps({"cases": [first, second | {key: value}]}), encoding="utf-8")
        assert message(find_cases, tmp_path) == f"{tmp_path}/index.json: case 1: '{key}' {problem}"

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ('{"cases": [', "is not valid JSON (Expecting value: line 1 column 12 (char 11)); mend it"),
            ("[" * 5000 + "]" * 5000, "is not valid JSON (nested too deep); mend it"),
            ("[]", 'has no list \'cases\'; write {"cases": [{"image": ..., "label": ...}, ...]}'),
            ('{"training": []}', 'has no list \'cases\'; write {"cases": [{"image": ..., "label": ...}, ...]}'),
            ('{"cases": []}', 'has no list \'cases\'; write {"cases": [{"image": ..., "label": ...}, ...]}'),
            ('{"cases": {}}', 'has no list \'cases\'; write {"cases": [{"image": ..., "label": ...}, ...]}'),
            ('{"cases": [{"image": "a.nii"}]}', "case 0 has no 'image' or no 'label'; name both files"),
            ('{"cases": [{"image": 1, "label": 2}]}', "case 0 has no 'image' or no 'label'; name both files"),
            ('{"cases": ["a.nii"]}', "case 0 has no 'image' or no 'label'; name both files"),
        ],
    )
    def test_broken_lists(self, tmp_path, text, problem):
        (tmp_path / "index.json").write_text(text, encoding="utf-8")
        assert message(find_cases, tmp_path) == f"{tmp_path}/index.json: {problem}"

    def test_not_text(self, tmp_path):
        (tmp_path / "index.json").write_bytes(b"\xff\xfe\x00")
        found = message(find_cases, tmp_path)
        assert found.startswith(f"{tmp_path}/index.json: is not valid JSON (") and found.endswith("; mend it")

    def test_a_folder_in_the_place_of_a_list(self, tmp_path):
        assert message(find_cases, tmp_path, tmp_path) == (
            f"{tmp_path}: is a folder; pass --datalist with a JSON file, or leave it out"
        )

    def test_missing_list(self, tmp_path):
        assert message(find_cases, tmp_path, tmp_path / "own.json") == (
            f"{tmp_path}/own.json: does not exist; pass --datalist with a JSON file, or leave it out"
        )

    def test_a_series_is_named_by_its_folder(self, tmp_path):
        folder = write_scan(tmp_path, "dicom")
        touch(tmp_path / "a.nii", tmp_path / "b.nii")
        uid = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))[0]
        rows = [{"image": "series", "label": "a.nii"}, {"image": f"series#{uid}", "label": "b.nii", "id": "named"}]
        (tmp_path / "index.json").write_text(json.dumps({"cases": rows}), encoding="utf-8")
        assert [(case["id"], case["image"]) for case in find_cases(tmp_path)] == [
            ("named", f"{folder}#{uid}"), ("series", str(folder)),
        ]  # fmt: skip

    @pytest.mark.parametrize("key", ["image", "label"])
    def test_missing_file(self, tmp_path, key):
        rows = rows_of(2)
        datalist(tmp_path, rows)
        gone = tmp_path / rows[1][key]
        gone.unlink()
        assert message(find_cases, tmp_path) == f"{gone}: does not exist (the {key} of case '1'); mend the datalist"

    def test_doubled_id(self, tmp_path):
        datalist(tmp_path, [row | {"id": "same"} for row in rows_of(2)])
        assert message(find_cases, tmp_path) == (
            f"{tmp_path}/scans/1.nii.gz: has the same case id 'same' as {tmp_path}/scans/0.nii.gz; "
            "give each case its own id"
        )


class TestSpineCases:
    def test_parts(self, folders, caplog):
        with caplog.at_level(logging.INFO):
            cases = SpineCases(folders, fold=1, num_validation=1)
        sizes = {name: len(getattr(cases, name)) for name in PARTS}
        assert sizes == {"train": 8, "validation": 1, "test": 1, "heldout": 2, "all": 10}
        assert all(type(getattr(cases, name)) is CaseList for name in PARTS)
        ids = {name: [case["id"] for case in getattr(cases, name)] for name in PARTS}
        assert ids["heldout"] == sorted(ids["validation"] + ids["test"])
        assert ids["all"] == sorted(ids["train"] + ids["heldout"])
        assert cases.train.split == cases.all.split == {
            "dataset_dir": str(folders), "fold": 1, "num_folds": 5,
            "train": ids["train"], "validation": ids["validation"], "test": ids["test"],
        }  # fmt: skip
        assert json.loads(json.dumps(cases.train.split)) == cases.train.split
        assert caplog.messages == [f"{folders}: 10 cases; fold 1 of 5: 8 train, 1 validation, 1 test"]

    def test_words_from_the_command_line(self, folders):
        assert SpineCases(folders, fold="1", num_folds="5", num_validation="1", seed="0").train == (
            SpineCases(folders, fold=1, num_folds=5, num_validation=1, seed=0).train
        )

    def test_seed_and_stated_folds(self, folders, tmp_path):
        assert SpineCases(folders, seed=0).train != SpineCases(folders, seed=1).train
        root = tmp_path / "stated"
        root.mkdir()
        datalist(root, [row | {"fold": i // 2} for i, row in enumerate(rows_of(10))])
        assert [case["id"] for case in SpineCases(root, fold=2).heldout] == ["4", "5"]

    @pytest.mark.parametrize("name", PARTS)
    def test_part_by_name(self, folders, name):
        cases = SpineCases(folders, num_validation=1)
        assert cases.part(name) is getattr(cases, name)

    def test_part_errors(self, tmp_path):
        datalist(tmp_path, rows_of(5))
        cases = SpineCases(tmp_path)  # one case is held out: it validates, and none is left to test
        assert message(cases.part, "test") == "part=test: has no cases in this split; choose another part or split"
        assert message(cases.part, "PARTS") == (
            "part=PARTS: is not a part of the data; choose one of train, validation, test, heldout, all"
        )

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"fold": 7}, "fold=7: is not one of the 5 folds; pass --fold 0 to 4"),
            ({"num_folds": 11}, "dataset_dir: has 10 subjects for 11 folds; pass a smaller --num_folds"),
        ],
    )
    def test_division_errors(self, folders, options, expected):
        assert message(SpineCases, folders, **options) == expected

    def test_contradicting_folds(self, tmp_path):
        datalist(tmp_path, [row | {"subject": "ann", "fold": i} for i, row in enumerate(rows_of(5))])
        with_others = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))["cases"]
        datalist(
            tmp_path, [*with_others, *[{"image": f"o/{i}.nii", "label": f"p/{i}.nii", "id": f"o{i}"} for i in range(5)]]
        )
        assert message(SpineCases, tmp_path) == (
            f"{tmp_path}/scans/1.nii.gz: subject 'ann' is in folds 0 and 1; put all cases of a subject into one fold"
        )


class TestPhantoms:
    @pytest.fixture(autouse=True)
    def tiny_phantoms(self, monkeypatch) -> list[tuple]:
        """Replace the phantoms by ones of a few voxels, and record how they were asked for."""
        calls = []

        def write(folder, count, seed=0, report=None) -> Path:
            calls.append((str(folder), count, seed))
            for i in range(count):
                for kind in ("images", "labels"):
                    write_nifti(Path(folder) / kind / f"phantom_{i}.nii.gz", np.zeros((2, 2, 2), np.uint8))
            rows = [
                {"image": f"images/phantom_{i}.nii.gz", "label": f"labels/phantom_{i}.nii.gz"} for i in range(count)
            ]
            return datalist(Path(folder), rows)

        monkeypatch.setattr(cases_module, "write_spine_phantoms", write)
        return calls

    def test_made_where_the_user_names_no_folder(self, tmp_path, tiny_phantoms, caplog):
        folder = tmp_path / "data" / "phantom"
        with caplog.at_level(logging.INFO):
            cases = SpineCases(folder, phantom_dir=folder, phantom_cases="6", phantom_seed="3", num_folds=2)
        assert tiny_phantoms == [(str(folder), 6, 3)]
        assert len(cases.all) == 6
        assert caplog.messages[0] == f"No dataset_dir given: making 6 spine phantoms in {folder}"
        caplog.clear()
        with caplog.at_level(logging.INFO):
            SpineCases(folder, phantom_dir=folder, phantom_cases=6, num_folds=2)
        assert len(caplog.messages) == 1  # the second time they are there

    @pytest.mark.parametrize("spelling", ["{}/", "{}/../phantom", "relative"])
    def test_the_same_folder_in_another_spelling(self, tmp_path, tiny_phantoms, monkeypatch, spelling):
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "phantom"
        given = "phantom" if spelling == "relative" else spelling.format(folder)
        assert len(SpineCases(given, phantom_dir=folder, phantom_cases=4, num_folds=2).all) == 4
        assert len(tiny_phantoms) == 1

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_folder_that_the_user_names_is_never_filled(self, tmp_path, tiny_phantoms, exists):
        named, phantom = tmp_path / "named", tmp_path / "phantom"
        if exists:
            named.mkdir()
        before = tree(tmp_path)
        with pytest.raises(InputError):
            SpineCases(named, phantom_dir=phantom)
        assert tree(tmp_path) == before and not tiny_phantoms

    def test_no_phantoms_beside_ones_own_data(self, folders, tiny_phantoms):
        before = tree(folders)
        SpineCases(folders, phantom_dir=folders / "phantom")
        SpineCases(folders, phantom_dir=None)
        assert tree(folders) == before and not tiny_phantoms

    def test_no_phantoms_with_a_datalist(self, tmp_path, tiny_phantoms):
        phantom = tmp_path / "phantom"
        phantom.mkdir()
        listing = datalist(phantom, rows_of(6), "own.json")
        assert len(SpineCases(phantom, datalist=listing, phantom_dir=phantom).all) == 6
        assert not tiny_phantoms


def test_case_list_without_a_split():
    assert CaseList() == [] and CaseList().split == {}
    items, split = [{"id": "a"}], {"fold": 1}
    cases = CaseList(items, split)
    split["fold"] = 2
    assert cases == items and cases.split == {"fold": 1}


def test_the_challenges_own_names(tmp_path):
    """MRSpineSeg: MR/CaseN.nii.gz and Mask/mask_caseN.nii.gz."""
    for number in (2, 12):
        write_nifti(tmp_path / "MR" / f"Case{number}.nii.gz", np.ones((4, 4, 4), np.int16))
        write_nifti(tmp_path / "Mask" / f"mask_case{number}.nii.gz", np.ones((4, 4, 4), np.uint8))
    cases = find_cases(tmp_path)
    assert [case["id"] for case in cases] == ["Case12", "Case2"]
    assert [Path(case["label"]).name for case in cases] == ["mask_case12.nii.gz", "mask_case2.nii.gz"]
