from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from common.data import CaseList
from common.data.video import cases as cases_module
from common.data.video.cases import VideoCases
from common.errors import InputError
from tests.common.data.video.dataset_files import write_json, write_pairs, write_sequences

REAL = Path(__file__).resolve().parents[4].parent / "shared" / "data" / "cvc612"
LENGTHS = {"a": 12, "b": 7, "c": 6, "d": 3, "e": 9}


@pytest.fixture
def root(tmp_path) -> Path:
    """Five sequences whose parts are stated."""
    write_sequences(tmp_path / "set", LENGTHS, size=(2, 2))
    write_json(tmp_path / "set/splits.json", {"train": ["a", "b", "c"], "valid": ["d"], "test": ["e"]})
    return tmp_path / "set"


def message(call, *args, **kwargs) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def kept(items) -> dict[str, list[int]]:
    """The frames that count, by sequence."""
    found: dict[str, list[int]] = {}
    for item in items:
        found.setdefault(item["sequence"], []).extend(
            frame for frame, keep in zip(item["frames"], item["keep"], strict=True) if keep
        )
    return found


class TestStatedParts:
    def test_items(self, root):
        cases = VideoCases(root)
        folder = root / "d"
        (item,) = cases.validation
        assert item == {
            "id": "d_0000", "sequence": "d", "sequence_number": 3, "frames": [0, 0, 0, 1, 2],
            "image": [str(folder / "frames" / f"00{i}.png") for i in (0, 0, 0, 1, 2)],
            "label": [str(folder / "masks" / f"00{i}.png") for i in (0, 0, 0, 1, 2)],
            "keep": [False, False, True, True, True],
        }  # fmt: skip
        assert [sequence.id for sequence in cases.sequences] == list("abcde")
        assert json.loads(json.dumps(cases.validation)) == cases.validation

    def test_training_clips(self, root):
        protocol = VideoCases(root).train
        assert [item["id"] for item in protocol] == [f"a_{i:04d}" for i in range(1, 7)] + ["b_0001"]
        every = VideoCases(root, training_starts="all").train
        assert [item["id"] for item in every] == [
            f"{name}_{i:04d}" for name, count in (("a", 8), ("b", 3), ("c", 2)) for i in range(count)
        ]

    def test_single_frames(self, root):
        cases = VideoCases(root, frames="1")
        assert [(item["sequence"], item["frames"]) for item in cases.train] == [
            (name, [i]) for name in "abc" for i in range(LENGTHS[name])
        ]

    def test_every_frame_is_scored_once(self, root):
        cases = VideoCases(root)
        expected = {"train": "abc", "validation": "d", "test": "e", "heldout": "de", "all": "abcde"}
        for part, names in expected.items():
            assert kept(cases.part(part)) == {name: list(range(LENGTHS[name])) for name in names}
        assert cases.part("test") == cases.test and cases.part("validation") == cases.validation

    def test_split_and_log(self, root, caplog):
        with caplog.at_level(logging.INFO):
            cases = VideoCases(root)
        assert caplog.messages == [
            f"{root}: 5 sequences, parts as stated: train 3 (25 frames), validation 1 (3 frames), test 1 (9 frames); "
            "7 training clips of 5 frames"
        ]
        split = {
            "dataset_dir": str(root), "frames": 5, "train": ["a", "b", "c"], "validation": ["d"], "test": ["e"]
        }  # fmt: skip
        assert cases.train.split == cases.test.split == cases.part("all").split == split
        assert all(type(part) is CaseList for part in (cases.train, cases.validation, cases.part("heldout")))

    def test_errors(self, root):
        assert message(VideoCases, root, frames=11) == (
            f"{root}: has no training sequence of 13 frames or more, which clips of 11 need; "
            "pass --training_starts all, or a smaller --frames"
        )
        assert message(VideoCases, root, training_starts="any") == (
            "training_starts=any: is unknown; choose protocol or all"
        )
        write_json(root / "splits.json", {"train": list("abcde")})
        cases = VideoCases(root)
        assert message(cases.part, "test") == "part=test: has no sequences in this split; choose another part or split"
        assert message(cases.part, "valid") == (
            "part=valid: is not a part of the data; choose one of train, validation, test, heldout, all"
        )


class TestDividedBySubject:
    @pytest.fixture
    def root(self, tmp_path) -> Path:
        """Twelve sequences of six subjects."""
        write_sequences(tmp_path / "set", {f"case{i}": 7 for i in range(12)}, size=(2, 2))
        rows = [{"id": f"case{i}", "subject": i // 2} for i in range(12)]
        write_json(tmp_path / "set/index.json", {"sequences": rows})
        return tmp_path / "set"

    def test_subjects_stay_together(self, root, caplog):
        folds = []
        with caplog.at_level(logging.INFO):
            for fold in range(3):
                split = VideoCases(root, fold=fold, num_folds=3, num_validation=2).train.split
                parts = [split[name] for name in ("train", "validation", "test")]
                assert [len(part) for part in parts] == [8, 2, 2]
                subjects = [{int(name[4:]) // 2 for name in part} for part in parts]
                assert sum(map(len, subjects)) == 6
                assert (split["fold"], split["num_folds"]) == (fold, 3)
                folds += split["validation"] + split["test"]
        assert sorted(folds) == sorted(f"case{i}" for i in range(12))
        assert all("fold" in line and "MRSpineSeg" not in line for line in caplog.messages)

    def test_seed(self, root):
        splits = [VideoCases(root, num_folds=3, seed=seed).train.split for seed in (0, 0, 1)]
        assert splits[0] == splits[1] != splits[2]

    def test_one_recording(self, tmp_path):
        write_pairs(tmp_path / "frames", tmp_path / "masks", ("1", "2", "8", "9"), size=(2, 2))
        assert message(VideoCases, tmp_path) == (
            f"{tmp_path}/frames: is all there is of one subject, which cannot be divided; state parts in splits.json"
        )
        write_json(tmp_path / "splits.json", {"train": ["1-2"], "test": ["8-9"]})
        assert "subject 'recording' is in train" in message(VideoCases, tmp_path)


class TestSingleImages:
    @pytest.fixture
    def images(self, tmp_path) -> Path:
        write_pairs(tmp_path / "kvasir/images", tmp_path / "kvasir/masks", ("x", "a"), size=(2, 2))
        return tmp_path / "kvasir"

    def test_are_trained_on_beside_the_frames(self, root, images, caplog):
        with caplog.at_level(logging.INFO):
            cases = VideoCases(root, frames=1, images_dir=images)
        assert len(cases.train) == 25 + 2
        assert [(item["id"], item["image"]) for item in cases.train[-2:]] == [
            (f"kvasir/{name}_0000", [f"{images}/images/{name}.png"]) for name in "ax"
        ]
        numbers = [item["sequence_number"] for item in cases.part("all") + cases.train[-2:]]
        assert sorted(set(numbers)) == list(range(7))
        assert kept(cases.part("all")).keys() == set("abcde")  # they are never scored
        assert (cases.train.split["images_dir"], cases.train.split["images"]) == (str(images), 2)
        assert caplog.messages[-1] == f"{images}: 2 single images are trained on too"

    def test_not_with_clips(self, root, images):
        assert message(VideoCases, root, images_dir=images) == (
            f"{images}: holds single images, not clips of 5 frames; pass --frames 1"
        )


class TestPhantoms:
    @pytest.fixture(autouse=True)
    def calls(self, monkeypatch) -> list[tuple]:
        """Replace the phantoms by ones of a few pixels, and record how they were asked for."""
        calls = []

        def write(folder, count, seed, length, size, report) -> None:
            calls.append((str(folder), count, seed, length, size))
            write_sequences(Path(folder), {f"phantom_{i}": length for i in range(count)}, size=(2, 2))
            parts = ("train", "train", "train", "validation", "test")
            rows = [{"id": f"phantom_{i}", "part": parts[i % 5]} for i in range(count)]
            write_json(Path(folder) / "index.json", {"sequences": rows})

        monkeypatch.setattr(cases_module, "write_video_phantoms", write)
        return calls

    def test_made_where_the_user_names_no_folder(self, tmp_path, calls, caplog):
        folder = tmp_path / "data" / "phantom"
        with caplog.at_level(logging.INFO):
            cases = VideoCases(
                f"{folder}/", phantom_dir=folder, phantom_sequences="5", phantom_length="8", phantom_size=[64, 48]
            )
        assert calls == [(str(folder), 5, 0, 8, (64, 48))]
        assert len(cases.train) == 3 * 2
        assert caplog.messages[0] == f"No dataset_dir given: making 5 video phantoms in {folder}"
        caplog.clear()
        VideoCases(folder, phantom_dir=folder, phantom_sequences=5, phantom_length=8)
        assert not caplog.messages[1:]  # the second time they are there

    def test_a_folder_that_the_user_names_is_never_filled(self, root, tmp_path, calls):
        VideoCases(root, phantom_dir=tmp_path / "phantom")
        VideoCases(root)
        empty = tmp_path / "empty"
        empty.mkdir()
        message(VideoCases, empty, phantom_dir=tmp_path / "phantom")
        assert not calls and not list(empty.iterdir()) and not (tmp_path / "phantom").exists()


def test_real_phantoms(tmp_path):
    folder = tmp_path / "phantom"
    cases = VideoCases(folder, phantom_dir=folder, phantom_sequences=5, phantom_length=7, phantom_size=(32, 32))
    assert (len(cases.train), len(cases.validation), len(cases.test)) == (3, 2, 2)
    for sequence in cases.sequences:
        assert len(sequence.frames) == len(sequence.masks) == len(sequence.present) == 7 and sequence.frame_rate > 0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sequences are not there (shared/data/cvc612)")
def test_real_sequences():
    cases = VideoCases(REAL)
    assert len(cases.train) == 259 and {name: len(part) for name, part in kept(cases.validation).items()} == {
        "03": 17, "04": 11, "05": 25, "12": 25, "16": 25, "18": 20
    }  # fmt: skip
    assert len(VideoCases(REAL, frames=1).train) == 367
