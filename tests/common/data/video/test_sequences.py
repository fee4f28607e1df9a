from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from common.data.video.layouts import VideoSequence
from common.data.video.sequences import find_sequences
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

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "cvc612"
ADVICE = "see 'Train on your own data' in the README"
NO_LIST = "has no list 'sequences' with an 'id' in each; write {\"sequences\": [{\"id\": ...}, ...]}"
NO_PART = "gives the sequence '{}' no part; put it into train, validation or test"
NOT_THERE = "names a sequence 'd' that is not there; add it or remove it from {}.json"
# Sequences of CVC-ClinicDB's README by PNS-Net's folder (folder k is sequence k + 1).
FOLDERS = {
    "train": [1, 5, 8, 9, 10, 12, 13, 14, 18, 19, 20, 21, 22, 23, 25, 26, 27, 28],
    "validation": [2, 3, 4, 11, 15, 17],
    "test": [0, 6, 7, 16, 24],
}


def touch_pairs(frames: Path, masks: Path, numbers, suffix: str = ".png", form: str = "{}") -> None:
    """Finding sequences reads no pixel: empty files will do."""
    for folder in (frames, masks):
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            (folder / f"{form.format(number)}{suffix}").touch()


def message(root: Path) -> str:
    with pytest.raises(InputError) as error:
        find_sequences(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def by_id(sequences: list[VideoSequence]) -> dict[str, VideoSequence]:
    found = {sequence.id: sequence for sequence in sequences}
    assert len(found) == len(sequences)
    return found


def stems(references) -> list[str]:
    return [Path(reference).stem for reference in references]


class TestFolderForEachSequence:
    @pytest.mark.parametrize("folders", [("frames", "masks"), ("Frame", "GT")])
    def test_frames_and_masks(self, tmp_path, folders):
        write_sequences(tmp_path, {"case10": 2, "case2": 11}, folders, (".jpg", ".png"))
        (tmp_path / "case2" / folders[0] / ".hidden.jpg").touch()
        (tmp_path / "case2" / folders[1] / "notes.txt").touch()
        (tmp_path / "other").mkdir()
        found = find_sequences(tmp_path)
        assert [(sequence.id, len(sequence.frames)) for sequence in found] == [("case2", 11), ("case10", 2)]
        place = tmp_path / "case10"
        assert found[1] == VideoSequence(
            "case10", place, tuple(str(place / folders[0] / f"00{i}.jpg") for i in range(2)),
            tuple(str(place / folders[1] / f"00{i}.png") for i in range(2)), subject="case10",
        )  # fmt: skip

    def test_time_order(self, tmp_path):
        touch_pairs(tmp_path / "a/frames", tmp_path / "a/masks", (10, 9, 100, 1), form="frame{}")
        (sequence,) = find_sequences(tmp_path)
        assert stems(sequence.frames) == stems(sequence.masks) == ["frame1", "frame9", "frame10", "frame100"]

    def test_what_is_missing(self, tmp_path):
        assert message(tmp_path / "none").endswith("/none: is not a folder; pass --dataset_dir with a folder that "
                                                   "holds video sequences")  # fmt: skip
        assert message(tmp_path) == f"{tmp_path}: holds no video sequences; {ADVICE}"
        frames, masks = tmp_path / "a/frames", tmp_path / "a/masks"
        frames.mkdir(parents=True)
        assert message(tmp_path) == f"{tmp_path}/a: has frames/ but no masks/; add the masks or move the folder away"
        masks.mkdir()
        assert message(tmp_path).startswith(f"{frames}: holds no frames (.png")
        touch_pairs(frames, masks, (1, 2))
        (masks / "1.png").unlink()
        assert message(tmp_path) == f"{frames}/1.png: has no mask {masks}/1.*; add it or move the frame away"
        (frames / "1.png").unlink()
        (frames / "2.png").unlink()
        assert message(tmp_path) == f"{masks}/2.png: has no frame {frames}/2.*; add it or move the mask away"

    def test_two_frames_of_one_name(self, tmp_path):
        touch_pairs(tmp_path / "a/frames", tmp_path / "a/masks", (1,))
        (tmp_path / "a/frames/1.jpg").touch()
        assert message(tmp_path).startswith(f"{tmp_path}/a/frames/1.png: has the same name as 1.jpg")


class TestListings:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        for name in "abc":
            touch_pairs(tmp_path / name / "frames", tmp_path / name / "masks", range(3))
        return tmp_path

    def test_index(self, root):
        rows = [
            {"id": "a", "part": "train", "subject": 7, "present": [True, False, 1]},
            {"id": "b", "part": "valid", "frame_rate": 12.5},
            {"id": "c", "part": "Test"},
        ]
        write_json(root / "index.json", {"frame_rate": 30, "sequences": rows})
        a, b, c = find_sequences(root)
        assert (a.part, a.subject, a.present, a.frame_rate) == ("train", "7", (True, False, True), 30.0)
        assert (b.part, b.subject, b.present, b.frame_rate) == ("validation", "b", None, 12.5)
        assert c.part == "test"

    def test_index_without_parts(self, root):
        write_json(root / "index.json", {"sequences": [{"id": "b", "subject": "ann"}]})
        assert [(s.part, s.subject) for s in find_sequences(root)] == [(None, "a"), (None, "ann"), (None, "c")]

    def test_splits(self, root):
        write_json(root / "splits.json", {"note": "by hand", "train": ["a"], "val": ["b"], "test": ["c"]})
        assert [s.part for s in find_sequences(root)] == ["train", "validation", "test"]

    def test_splits_go_before_the_index(self, root):
        write_json(root / "index.json", {"sequences": [{"id": i, "part": "test"} for i in "abc"]})
        write_json(root / "splits.json", {"train": ["a", "b", "c"]})
        assert [s.part for s in find_sequences(root)] == ["train"] * 3

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ([], "is not a JSON object; mend it"),
            ({"cases": []}, NO_LIST),
            ({"sequences": [{}]}, NO_LIST),
            ({"sequences": [{"id": "d"}]}, NOT_THERE.format("index")),
            ({"sequences": [{"id": "a"}] * 2}, "lists the sequence 'a' twice; remove one of the two"),
            (
                {"sequences": [{"id": "a", "part": "tests"}]},
                "names a part 'tests' that is unknown; use train, validation or test",
            ),
            (
                {"sequences": [{"id": "a", "part": "train"}, {"id": "b"}]},
                NO_PART.format("b"),
            ),
            (
                {"sequences": [{"id": "a", "part": "train"}, {"id": "b", "part": "test"}]},
                NO_PART.format("c"),
            ),
            (
                {"sequences": [{"id": "a", "present": [True]}]},
                "'present' of 'a' is not a list of 3, the number of frames; give each frame true or false",
            ),
            ({"sequences": [{"id": "a", "frame_rate": 0}]}, "states a frame rate of 0; use frames per second"),
            ({"frame_rate": "30", "sequences": [{"id": "a"}]}, "states a frame rate of '30'; use frames per second"),
        ],
    )  # fmt: skip
    def test_broken_index(self, root, content, problem):
        write_json(root / "index.json", content)
        assert message(root) == f"{root}/index.json: {problem}"

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ({"train": ["a", "b"]}, NO_PART.format("c")),
            ({"train": ["a", "b", "c", "d"]}, NOT_THERE.format("splits")),
            ({"train": ["a", "b"], "test": ["b", "c"]}, "has the sequence 'b' in train and in test; list it once"),
            ({"train": ["a", "b", "b", "c"]}, "has the sequence 'b' twice in train; list it once"),
            ({"dev": ["a", "b", "c"]}, "names a part 'dev' that is unknown; use train, validation or test"),
        ],
    )  # fmt: skip
    def test_broken_splits(self, root, content, problem):
        write_json(root / "splits.json", content)
        assert message(root) == f"{root}/splits.json: {problem}"

    def test_not_json(self, root):
        (root / "splits.json").write_bytes(b"\xff{")
        assert message(root).startswith(f"{root}/splits.json: is not valid JSON (")

    def test_a_subject_in_two_parts(self, root):
        rows = [{"id": i, "part": p, "subject": "ann"} for i, p in zip("abc", ("train", "train", "test"), strict=True)]
        write_json(root / "index.json", {"sequences": rows})
        assert message(root) == (
            f"{root}: subject 'ann' is in train (sequence 'a') and in test ('c'); "
            "put all sequences of a subject into one part"
        )


class TestClinicDB:
    @pytest.fixture(scope="class")
    def root(self, tmp_path_factory) -> Path:
        root = tmp_path_factory.mktemp("CVC-ClinicDB")
        write_pairs(root / "Original", root / "Ground Truth", map(str, range(1, 613)), (".tif", ".tif"), (2, 3))
        return root

    def test_every_frame_is_in_one_sequence(self, root):
        found = find_sequences(root)
        assert [sequence.id for sequence in found] == [f"{i:02d}" for i in range(1, 30)]
        numbers = [int(stem) for sequence in found for stem in stems(sequence.frames)]
        assert numbers == list(range(1, 613))  # contiguous, in order
        for sequence in found:
            assert stems(sequence.frames) == stems(sequence.masks)
            assert {Path(mask).parent.name for mask in sequence.masks} == {"Ground Truth"}

    def test_published_parts(self, root):
        found = find_sequences(root)
        for part, folders in FOLDERS.items():
            assert [int(sequence.id) - 1 for sequence in found if sequence.part == part] == folders
        frames = Counter()
        for sequence in found:
            frames[sequence.part] += len(sequence.frames)
        assert frames == {"train": 367, "validation": 123, "test": 122}
        scored = {part: frames[part] - 2 * len(FOLDERS[part]) for part in ("validation", "test")}
        assert scored == {"validation": 111, "test": 112}

    @pytest.mark.skipif(not REAL.is_dir(), reason="the real sequences are not there (shared/data/cvc612)")
    def test_frame_ranges_of_the_real_sequences(self, root):
        ours = by_id(find_sequences(root))
        real = find_sequences(REAL)
        assert len(real) == 24
        for sequence in real:
            assert [int(stem) for stem in stems(sequence.frames)] == [int(s) for s in stems(ours[sequence.id].frames)]
            assert sequence.part == ours[sequence.id].part

    def test_own_parts_and_missing_frames(self, tmp_path):
        touch_pairs(tmp_path / "Original", tmp_path / "Ground Truth", (1, 2, 26, 27, 612), ".tif")
        write_json(tmp_path / "splits.json", {"train": ["01", "02"], "test": ["29"]})
        assert [(s.id, s.part, len(s.frames)) for s in find_sequences(tmp_path)] == [
            ("01", "train", 2), ("02", "train", 2), ("29", "test", 1)
        ]  # fmt: skip

    def test_a_frame_that_is_not_of_the_set(self, tmp_path):
        touch_pairs(tmp_path / "Original", tmp_path / "Ground Truth", (1, 613), ".tif")
        assert message(tmp_path) == (
            f"{tmp_path}/Original/613.tif: is not among the frames 1 to 612 of CVC-ClinicDB; "
            "move it away, or name the folders frames/ and masks/"
        )


class TestNumberedFrames:
    def found(self, root: Path, numbers, form: str = "{:05d}") -> list[tuple[str, str | None, int]]:
        touch_pairs(root / "frames", root / "masks", numbers, form=form)
        return [(sequence.id, sequence.part, len(sequence.frames)) for sequence in find_sequences(root)]

    def test_spinal_nerve_parts(self, tmp_path):
        numbers = [*range(5319, 5324), *range(6198, 6203), 6399, *range(6400, 7003), *range(12799, 12803), 13001]
        assert self.found(tmp_path, numbers) == [
            ("05319-05320", "train", 2),
            ("05321-05323", "validation", 3),
            ("06198-06200", "validation", 3),
            ("06201-06202", "train", 2),
            ("06399-06400", "train", 2),
            ("06401-06600", "test", 200),
            ("06601-06800", "test", 200),
            ("06801-07000", "test", 200),
            ("07001-07002", "train", 2),
            ("12799-12800", "validation", 2),
            ("12801-12802", "test", 2),
            ("13001-13001", "train", 1),
        ]

    def test_another_stream_has_no_parts(self, tmp_path):
        numbers = [*range(1, 4), 8, *range(5321, 5325)]
        assert self.found(tmp_path, numbers, "img_{}") == [
            ("img_1-img_3", None, 3), ("img_8-img_8", None, 1), ("img_5321-img_5324", None, 4)
        ]  # fmt: skip
        assert {sequence.subject for sequence in find_sequences(tmp_path)} == {"recording"}

    def test_frames_without_or_with_the_same_number(self, tmp_path):
        self.found(tmp_path, (1, 2))
        for folder in ("frames", "masks"):
            (tmp_path / folder / "2.png").touch()
        assert message(tmp_path) == (
            f"{tmp_path}/frames/2.png: has the same number as 00002.png; number each frame once"
        )
        for folder in ("frames", "masks"):
            (tmp_path / folder / "2.png").rename(tmp_path / folder / "first.png")
        assert message(tmp_path) == (
            f"{tmp_path}/frames/first.png: has no number in its name; number the frames of a stream in their order"
        )


class TestVideos:
    def test_mask_videos_and_folders(self, tmp_path):
        images = [picture(10 * i) for i in range(4)]
        masks = [drawn(i)[..., None].repeat(3, -1) for i in range(4)]
        write_video(tmp_path / "videos/one.mkv", images)
        write_video(tmp_path / "masks/one.mkv", masks)
        write_video(tmp_path / "videos/two.mkv", images[:3])
        for i in range(3):
            write_picture(tmp_path / f"masks/two/{i}.png", masks[i])
        one, two = find_sequences(tmp_path)
        paths = [str(tmp_path / folder / "one.mkv") for folder in ("videos", "masks")]
        assert one.frames == tuple((paths[0], i) for i in range(4))
        assert one.masks == tuple((paths[1], i) for i in range(4))
        assert (one.id, one.subject, one.frame_rate) == ("one", "one", 25.0)
        assert [two.frames[0][1], two.frames[-1][1], *stems(two.masks)] == [0, 2, "0", "1", "2"]

    @pytest.mark.parametrize("folders", [("frames", "masks"), ("Frame", "GT")])
    def test_folders_of_frames(self, tmp_path, folders):
        for name in ("case2_1", "case1_1"):
            touch_pairs(*(tmp_path / folder / name for folder in folders), range(2))
        assert [(s.id, len(s.frames)) for s in find_sequences(tmp_path)] == [("case1_1", 2), ("case2_1", 2)]

    def test_numbers_of_frames_differ(self, tmp_path):
        video = write_video(tmp_path / "videos/one.mkv", [picture(0)] * 4)
        touch_pairs(tmp_path / "masks/one", tmp_path / "masks/one", range(3))
        assert message(tmp_path) == (
            f"{video}: has 4 frames, but its masks {tmp_path}/masks/one are 3; give each frame one mask"
        )

    def test_one_without_the_other(self, tmp_path):
        for folder in ("videos", "masks"):
            (tmp_path / folder).mkdir()
        assert message(tmp_path).startswith(f"{tmp_path}/videos: holds no videos (.mp4")
        (tmp_path / "videos/a.mp4").touch()
        assert message(tmp_path) == (
            f"{tmp_path}/videos/a.mp4: has no masks {tmp_path}/masks/a; add it or move this away"
        )
        (tmp_path / "videos/a.mp4").rename(tmp_path / "masks/a.mp4")
        assert message(tmp_path) == (
            f"{tmp_path}/masks/a.mp4: has no video {tmp_path}/videos/a; add it or move this away"
        )
        for suffix in ("mp4", "avi"):
            (tmp_path / f"videos/b.{suffix}").touch()
        assert message(tmp_path) == f"{tmp_path}/videos/b.mp4: has the same name as b.avi; rename one of them"


def test_single_images(tmp_path):
    touch_pairs(tmp_path / "images", tmp_path / "masks", ("b", "a"))
    found = find_sequences(tmp_path)
    assert [(s.id, s.frames, s.part) for s in found] == [(i, (f"{tmp_path}/images/{i}.png",), None) for i in "ab"]


def test_no_masks_at_all(tmp_path):
    (tmp_path / "images").mkdir()
    assert message(tmp_path) == f"{tmp_path}: has images/ but no masks/; {ADVICE}"
