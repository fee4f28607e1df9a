from __future__ import annotations

import logging
from pathlib import Path

import pytest

from common.data.frames.frame_list import find_frames
from common.errors import InputError
from tests.common.data.video.dataset_files import (
    drawn,
    picture,
    write_json,
    write_pairs,
    write_picture,
    write_sequences,
    write_video,
)  # fmt: skip

BUSI = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "busi"
NEGATIVE = 24  # the column from which on nothing is left to draw


def write_frames(folder: Path, names, masks: Path | None = None, column: int = 9, end: str = "") -> None:
    """Write frames and, where a folder for them is given, masks that begin at a column."""
    for name in names:
        write_picture(folder / f"{name}.png", picture(5))
        if masks is not None:
            write_picture(masks / f"{name}{end}.png", drawn(column))


def write_labelme(path: Path, *labels: str, height: int = 16) -> Path:
    shapes = [{"label": label, "points": [[2, 2], [9, 2], [9, 9]], "shape_type": "polygon"} for label in labels]
    return write_json(path, {"shapes": shapes, "imageHeight": height, "imageWidth": 24})


def found(*arguments, **settings) -> list[tuple]:
    """Id, whether there is a mask, whether it is a positive, the patient."""
    frames = find_frames(*arguments, **settings)
    return [(frame.id, frame.mask is not None, frame.present, frame.patient) for frame in frames]


def message(*arguments, **settings) -> str:
    with pytest.raises(InputError) as error:
        find_frames(*arguments, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestPositivesAndNegatives:
    @pytest.mark.parametrize("folders", [("positive", "negative"), ("Pos", "NEG")])
    def test_folders(self, tmp_path, folders):
        positive, negative = (tmp_path / folder for folder in folders)
        write_frames(positive / "images", ("p2", "p10"), positive / "masks")
        write_frames(negative / "images", ("n1",))
        expected = {(f"{folders[0]}/{name}", True, True, f"{folders[0]}/{name}") for name in ("p2", "p10")}
        assert set(found(tmp_path)) == expected | {(f"{folders[1]}/n1", False, False, f"{folders[1]}/n1")}

    def test_patients_and_pictures_right_in_the_folder(self, tmp_path):
        write_frames(tmp_path / "positive/A", ("1", "2"), tmp_path / "positive/masks/A", end="_mask")
        write_frames(tmp_path / "negative/A", ("1",))
        write_frames(tmp_path / "negative/B", ("1",))
        assert found(tmp_path) == [
            ("negative/A/1", False, False, "A"), ("negative/B/1", False, False, "B"),
            ("positive/A/1", True, True, "A"), ("positive/A/2", True, True, "A"),
        ]  # fmt: skip

    def test_positive_without_a_mask(self, tmp_path):
        write_frames(tmp_path / "positive", ("a",))
        write_frames(tmp_path / "negative", ("b",))
        assert [row[1:3] for row in found(tmp_path)] == [(False, False), (False, True)]

    def test_contradictions(self, tmp_path):
        write_frames(tmp_path / "negative/images", ("a",), tmp_path / "negative/masks", NEGATIVE)
        assert found(tmp_path) == [("negative/a", True, False, "negative/a")]
        path = write_picture(tmp_path / "negative/masks/a.png", drawn(23))
        assert message(tmp_path) == (
            f"{path}: its frame is stated as a negative, but its mask is not empty; mend one of the two"
        )
        (tmp_path / "negative").rename(tmp_path / "positive")
        path = write_picture(tmp_path / "positive/masks/a.png", drawn(NEGATIVE))
        assert message(tmp_path) == (
            f"{path}: its frame is stated as a positive, but its mask is empty; mend one of the two"
        )

    def test_two_folders_of_one_class(self, tmp_path):
        for name in ("neg", "negative"):
            write_frames(tmp_path / name, ("a",))
        assert message(tmp_path) == (f"{tmp_path}: has neg and negative, of which two mean the same; put them into one")


class TestImagesAndMasks:
    def test_presence_is_what_is_drawn(self, tmp_path, caplog):
        write_frames(tmp_path / "images", ("a",), tmp_path / "masks")
        write_frames(tmp_path / "images", ("b",), tmp_path / "masks", NEGATIVE)
        write_frames(tmp_path / "images", ("c",))
        with caplog.at_level(logging.WARNING):
            assert found(tmp_path) == [("a", True, True, "a"), ("b", True, False, "b"), ("c", False, False, "c")]
        assert [line.split(": ")[-1][:31] for line in caplog.messages] == [
            "the patients of 3 of 3 frames a", "Nothing is drawn on 1 of 3 fram"
        ]  # fmt: skip

    def test_masks_beside_their_frames(self, tmp_path):
        write_frames(tmp_path, ("a (1)",), tmp_path, end="_mask")
        write_frames(tmp_path, ("b",))
        assert [row[:3] for row in found(tmp_path)] == [("a (1)", True, True), ("b", False, False)]
        second = write_picture(tmp_path / "a (1)_mask_1.png", drawn(3))
        assert message(tmp_path).startswith(f"{second}: is a second mask of {tmp_path}/a (1).png")

    def test_a_folder_for_each_patient(self, tmp_path):
        for patient in ("P10", "P9"):
            write_frames(tmp_path / patient / "images", ("1",), tmp_path / patient / "masks")
            write_frames(tmp_path / patient / "images", ("2",))
        assert found(tmp_path) == [
            (f"{patient}/{i}", i == 1, i == 1, patient) for patient in ("P9", "P10") for i in (1, 2)
        ]

    def test_parts(self, tmp_path):
        for part, patient in (("train", "A"), ("val", "B"), ("test", "C")):
            write_frames(tmp_path / part / "images" / patient, ("1",), tmp_path / part / "masks" / patient)
        frames = find_frames(tmp_path)
        assert {(f.id, f.part, f.patient) for f in frames} == {
            ("train/A/1", "train", "A"), ("val/B/1", "validation", "B"), ("test/C/1", "test", "C")
        }  # fmt: skip
        write_frames(tmp_path / "test/images/A", ("7",), tmp_path / "test/masks/A")
        assert "its patient 'A' is in the " in message(tmp_path)

    def test_mask_and_frame_differ_in_size(self, tmp_path):
        write_frames(tmp_path / "images", ("a",))
        path = write_picture(tmp_path / "masks/a.png", drawn(3, (12, 24)))
        assert message(tmp_path) == f"{path}: is 24 x 12, its frame 24 x 16; draw the mask on its own frame"

    def test_what_belongs_nowhere(self, tmp_path):
        write_frames(tmp_path / "images", ("a",))
        path = write_picture(tmp_path / "masks/b.png", drawn(3))
        assert message(tmp_path) == (f"{path}: belongs to no frame: there is no picture 'b'; add it or move this away")
        write_picture(tmp_path / "images/a.jpg", picture(0))
        assert "has the same name as a.jpg; remove or rename one of them" in message(tmp_path)

    def test_nothing_drawn_at_all(self, tmp_path):
        write_frames(tmp_path / "images", ("a", "b"))
        assert "all other frames have neither masks nor a word on what is present" in message(tmp_path)


class TestLabelMe:
    def test_beside_the_pictures(self, tmp_path):
        write_frames(tmp_path / "P1", ("1", "2", "3"))
        write_labelme(tmp_path / "P1/1.json", "root", "tool")
        write_labelme(tmp_path / "P1/2.json", "tool")
        write_json(tmp_path / "classes.json", ["root", "tool"])
        assert [row[1:] for row in found(tmp_path)] == [
            (True, True, "P1"), (True, True, "P1"), (False, False, "P1")
        ]  # fmt: skip
        assert [row[1:3] for row in found(tmp_path, labels="root")] == [(True, True), (True, False), (False, False)]
        frame = find_frames(tmp_path, labels=["root"])[0]
        assert frame.mask == {"labelme": str(tmp_path / "P1/1.json"), "labels": ["root"]}
        assert message(tmp_path, labels="nerve") == (
            f"{tmp_path}: has no LabelMe shape labelled nerve, only root, tool; pass the right --labels"
        )

    def test_in_a_folder_of_their_own(self, tmp_path):
        write_frames(tmp_path / "images", ("1", "2"))
        (tmp_path / "annotations").mkdir()
        write_labelme(tmp_path / "annotations/1.json", "root")
        assert [row[:3] for row in found(tmp_path)] == [("1", True, True), ("2", False, False)]
        path = write_labelme(tmp_path / "images/1.json", "root")
        assert "is a second mask of" in message(tmp_path)
        path.unlink()
        path = write_labelme(tmp_path / "annotations/3.json", "root")
        assert message(tmp_path).startswith(f"{path}: belongs to no frame")

    def test_of_another_picture(self, tmp_path):
        write_frames(tmp_path, ("1",))
        path = write_labelme(tmp_path / "1.json", "root", height=15)
        assert message(tmp_path).startswith(f"{path}: was drawn on 24 x 15, but its picture is 24 x 16")


class TestLists:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        write_frames(tmp_path / "images", ("a", "b", "c"))
        write_picture(tmp_path / "masks/a.png", drawn(2))
        return tmp_path

    def test_paths(self, root):
        write_labelme(root / "b.json", "root")
        rows = [
            {"image": "images/a.png", "mask": "masks/a.png", "patient": 7, "part": "train"},
            {"image": "images/b.png", "label": "b.json", "subject": "x", "part": "valid", "id": "B"},
            {"image": "images/c.png", "mask": None, "part": "test", "group": "y", "note": "kept by nobody"},
        ]
        expected = [("images/a", True, True, "7"), ("B", True, True, "x"), ("images/c", False, False, "y")]
        write_json(root / "list.json", {"frames": rows})
        assert found(root, root / "list.json") == expected
        write_json(root / "index.json", rows)
        assert found(root) == expected
        assert [frame.part for frame in find_frames(root)] == ["train", "validation", "test"]

    def test_ids_and_groups(self, root):
        write_json(root / "index.json", [{"id": "a", "present": 1, "group": "g"}, {"id": "b", "present": 0}])
        assert found(root) == [("a", True, True, "g"), ("b", False, False, "b")]

    def test_folds(self, root):
        rows = [{"id": name, "patient": name, "fold": at} for at, name in enumerate("ab")]
        write_json(root / "index.json", [*rows, {"id": "c", "part": "test"}])
        assert [(f.part, f.fold) for f in find_frames(root)] == [("train", 0), ("train", 1), ("test", None)]
        write_json(root / "index.json", [*rows, {"id": "c"}])
        assert message(root) == (
            f"{root}/images/c.png: has no 'fold' although other frames have; give every frame a fold"
        )
        write_json(root / "index.json", [rows[0], rows[1] | {"patient": "a"}])
        assert message(root) == (
            f"{root}/images/b.png: its patient 'a' is in folds 0 and 1; put all frames of a patient into one fold"
        )

    @pytest.mark.parametrize(
        ("rows", "expected"),
        [
            ([], "{0}/index.json: lists no frames"),
            ([{"mask": "x"}], "{0}/index.json (frame 0): has no 'image'"),
            ([3], "{0}/index.json (frame 0): has no 'image'"),
            ([{"id": "x"}], "{0}/images/x.*: does not exist (the image of frame 'x')"),
            ([{"image": "images/a.png", "mask": "m"}], "{0}/m: does not exist (the mask of frame 'images/a')"),
            ([{"id": "a", "part": "exam"}], "{0}/index.json (frame 0): names a part 'exam' that is unknown"),
            ([{"id": "a", "fold": "1"}], "{0}/index.json (frame 0): has the fold '1'"),
            ([{"id": "a", "present": "no"}], "{0}/index.json (frame 0): states 'present' as 'no'"),
            ([{"id": "a"}, {"id": "a"}], "{0}/images/a.png: is listed twice (as 'a')"),
            ([{"id": "a"}, {"id": "b", "image": "images/a.png"}], "{0}/images/a.png: is listed twice"),
            ([{"id": "a", "part": "test"}, {"id": "b"}], "{0}/images/b.png: is in no part, although other"),
            ([{"id": "a", "present": False}], "{0}/masks/a.png: its frame is stated as a negative"),
            ([{"id": "a", "patient": "P", "part": "train"}, {"id": "b", "patient": "P", "part": "test"}],
             "{0}/images/b.png: its patient 'P' is in the train part and in the test part"),
        ],
    )  # fmt: skip
    def test_errors(self, root, rows, expected):
        write_json(root / "index.json", rows)
        assert message(root).startswith(expected.format(root))

    def test_a_list_that_is_none(self, root):
        assert "does not exist; pass --datalist" in message(root, root / "no.json")
        write_json(root / "list.json", {"cases": []})
        assert message(root, root / "list.json").startswith(f"{root}/list.json: has no list 'frames'")
        (root / "index.json").write_text("{", encoding="utf-8")
        assert "is not valid JSON" in message(root)
        assert "is not a folder" in message(root / "nowhere")


class TestSequences:
    def test_subjects_are_patients(self, tmp_path):
        write_sequences(tmp_path, {"s1": 4, "s2": 3})
        write_picture(tmp_path / "s1/masks/002.png", drawn(NEGATIVE))
        rows = [{"id": "s1", "subject": "A", "part": "train"}, {"id": "s2", "subject": "B", "part": "test"}]
        write_json(tmp_path / "index.json", {"sequences": rows})
        frames = find_frames(tmp_path, frame_step=2)
        assert [(f.id, f.present, f.patient, f.part) for f in frames] == [
            ("s1_0000", True, "A", "train"), ("s1_0002", False, "A", "train"),
            ("s2_0000", True, "B", "test"), ("s2_0002", True, "B", "test"),
        ]  # fmt: skip
        assert len(find_frames(tmp_path)) == 7
        assert "is not a step" in message(tmp_path, frame_step=0)

    def test_videos(self, tmp_path):
        write_video(tmp_path / "videos/v.mkv", [picture(0)] * 3)
        masks = [drawn(column)[..., None].repeat(3, -1) for column in (2, NEGATIVE, 9)]
        path = write_video(tmp_path / "masks/v.mkv", masks)
        frames = find_frames(tmp_path)
        assert [frame.present for frame in frames] == [True, False, True]
        assert (frames[1].image, frames[1].mask) == ((str(tmp_path / "videos/v.mkv"), 1), (str(path), 1))

    def test_numbered_frames(self, tmp_path):
        write_pairs(tmp_path / "frames", tmp_path / "masks", ("1", "2", "8"))
        assert {frame.patient for frame in find_frames(tmp_path)} == {"recording"}


@pytest.mark.skipif(not BUSI.is_dir(), reason="the real images are not there (shared/data/busi)")
def test_real_images():
    frames = find_frames(BUSI)
    assert (len(frames), sum(f.present for f in frames), len({f.patient for f in frames})) == (584, 478, 477)
