from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

from common.data import ScanReader, SpineCases
from common.data.splits import _mrspineseg_folds
from common.data.unlabeled_cases import UnlabeledCases, published_unlabelled
from common.errors import InputError
from tests.helpers import noise, write_nifti


def dataset(root: Path, names: Sequence[str]) -> Path:
    """A data set whose images differ and whose label maps are no images: nobody may read them."""
    for number, name in enumerate(names):
        write_nifti(root / "images" / f"{name}.nii.gz", noise((8, 8, 8), number))
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{name}.nii.gz").write_text("no image", encoding="utf-8")
    return root


@pytest.fixture
def data(tmp_path) -> Path:
    return dataset(tmp_path / "set", [f"c{number}" for number in range(15)])


def ids(items) -> list[str]:
    return [item["id"] for item in items]


def made(root: Path, **options) -> UnlabeledCases:
    return UnlabeledCases(SpineCases(root), root, **options)


def message(call, *args, **options) -> str:
    with pytest.raises(InputError) as error:
        call(*args, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


class TestWithheldLabels:
    def test_share_of_the_training_cases(self, data):
        cases = SpineCases(data)
        found = UnlabeledCases(cases, data, labelled_share=0.25)
        assert len(cases.train) == 12 and len(found.labelled) == 3 and len(found.unlabelled) == 9
        assert sorted(ids(found.labelled) + ids(found.unlabelled)) == ids(cases.train)
        assert found.labelled == [case for case in cases.train if case["id"] in ids(found.labelled)]
        assert all(set(scan) == {"image", "id"} for scan in found.unlabelled)

    def test_split_is_noted(self, data):
        found = made(data, labelled_share=0.25)
        for items in (found.labelled, found.unlabelled):
            assert items.split["labelled"] == ids(found.labelled)
            assert items.split["unlabelled"] == ids(found.unlabelled)
            assert items.split["fold"] == 0 and items.split["unlabelled_and_held_out"] == []

    def test_seeds_and_shares(self, data):
        def kept(share, seed=0):
            return set(ids(made(data, labelled_share=share, seed=seed).labelled))

        assert kept(0.3) == kept(0.3) and len({frozenset(kept(0.3, seed)) for seed in range(5)}) > 1
        assert kept(0.1) < kept(0.3) < kept(0.7) < kept(1)
        assert len(kept(1e-6)) == 1 and len(kept(1)) == 12

    def test_subjects_stay_together(self, tmp_path):
        root = dataset(tmp_path, [f"{number:02d}" for number in range(20)])
        rows = [
            {"image": f"images/{n:02d}.nii.gz", "label": f"labels/{n:02d}.nii.gz", "subject": f"s{n // 2}"}
            for n in range(20)
        ]
        (root / "index.json").write_text(json.dumps({"cases": rows}), encoding="utf-8")
        found = made(root, labelled_share=0.5)
        assert {case["subject"] for case in found.labelled}.isdisjoint(
            f"s{int(scan['id']) // 2}" for scan in found.unlabelled
        )

    @pytest.mark.parametrize("share", [0, -1, 1.1, float("nan"), "much", None])
    def test_bad_share(self, data, share):
        assert message(made, data, labelled_share=share) == (
            f"labelled_share={share}: is not a share above 0 and up to 1; use 1 to keep all labels"
        )

    def test_withheld_labels_are_never_read(self, data):
        """All label maps but those of the labelled cases are unreadable, and everything loads."""
        found = made(data, labelled_share=0.25)
        for case in found.labelled:
            write_nifti(Path(case["label"]), (10 * noise((8, 8, 8))).astype(np.uint8))

        def loaded(items, keys):
            steps = Compose([LoadImaged(keys, reader=ScanReader()), EnsureChannelFirstd(keys)])
            return list(DataLoader(CacheDataset(items, steps, progress=False), batch_size=1))

        assert len(loaded(found.unlabelled, ["image"])) == 9
        assert [batch["label"].max() for batch in loaded(found.labelled, ["image", "label"])] == [9, 9, 9]
        withheld = [case for case in SpineCases(data).train if case not in found.labelled]
        with pytest.raises(RuntimeError) as error:
            loaded(withheld[:1], ["image", "label"])
        assert f"{withheld[0]['label']}: cannot be read as NIfTI" in str(error.value.__cause__)


class TestFolder:
    def test_scans_of_a_folder(self, data, tmp_path):
        for number in range(3):
            write_nifti(tmp_path / "more" / f"u{number}.nii", noise((8, 8, 8), 100 + number))
        found = made(data, unlabeled_dir=tmp_path / "more")
        assert ids(found.pool()) == ["u0", "u1", "u2"] and len(found.labelled) == 12
        assert ids(made(data, unlabeled_dir=tmp_path / "more", labelled_share=0.5).unlabelled)[-3:] == [
            "u0",
            "u1",
            "u2",
        ]

    def test_a_bad_scan_is_left_out(self, data, tmp_path, caplog):
        write_nifti(tmp_path / "more" / "good.nii", noise((8, 8, 8), 100))
        (tmp_path / "more" / "bad.nii").write_text("no image", encoding="utf-8")
        assert ids(made(data, unlabeled_dir=tmp_path / "more").unlabelled) == ["good"]
        assert "bad.nii: cannot be read as NIfTI" in caplog.text

    def test_nothing_there(self, data, tmp_path):
        assert "does not exist" in message(made, data, unlabeled_dir=tmp_path / "nowhere")
        found = made(data)
        assert found.unlabelled == [] and len(found.labelled) == 12
        assert message(found.pool) == (
            "unlabeled_dir: no scan without labels is given; pass --unlabeled_dir with a folder of scans, "
            "or --labelled_share 0.2 to withhold labels"
        )


class TestDatalist:
    def listing(self, data: Path, entries, name: str = "index.json") -> Path:
        names = [f"c{number}" for number in range(15)]
        rows = [{"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"} for name in names]
        (data / name).write_text(json.dumps({"cases": rows, "unlabelled": entries}), encoding="utf-8")
        return data / name

    @pytest.mark.parametrize("name", ["index.json", "other.json"])
    def test_files_and_folders(self, data, name):
        for file in ("one", "two/a", "two/b"):
            write_nifti(data / "more" / f"{file}.nii.gz", noise((8, 8, 8), len(file) + ord(file[-1])))
        listing = self.listing(data, ["more/one.nii.gz", {"image": "more/two", "subject": "X"}], name)
        given = None if name == "index.json" else listing
        found = UnlabeledCases(SpineCases(data, given), data, given)
        assert ids(found.unlabelled) == ["one", "a", "b"]
        assert all(set(scan) == {"image", "id"} for scan in found.unlabelled)

    @pytest.mark.parametrize(
        ("entries", "what"),
        [
            ("more", "its entry 'unlabelled' is not a list"),
            ([3], "unlabelled scan 0 has no 'image'"),
            ([{"label": "x"}], "unlabelled scan 0 has no 'image'"),
            (["images/c0.nii.gz", "nowhere.nii"], "unlabelled scan 1: "),
        ],
    )
    def test_errors(self, data, entries, what):
        listing = self.listing(data, entries)
        assert message(made, data).startswith(f"{listing}: {what}")


class TestHeldOutScans:
    """What is validated or tested with is no fair test where its image was trained on."""

    def copies(self, data: Path, folder: Path, how: str) -> str:
        """Put one held-out image among unlabelled ones; return its id there."""
        case = SpineCases(data).test[0]
        write_nifti(folder / "other.nii", noise((8, 8, 8), 100))
        if how == "link":
            (folder / "linked.nii.gz").symlink_to(case["image"])
        elif how == "copy":
            shutil.copy(case["image"], folder / "copied.nii.gz")
        else:  # another file of its name
            write_nifti(folder / f"{case['id']}.nii", noise((8, 8, 8), 101))
        return {"link": "linked", "copy": "copied"}.get(how, case["id"])

    @pytest.mark.parametrize("how", ["link", "copy", "name"])
    def test_said_or_refused(self, data, tmp_path, caplog, how):
        name = self.copies(data, tmp_path / "more", how)
        with caplog.at_level(logging.WARNING):
            found = made(data, unlabeled_dir=tmp_path / "more")
        said = "1 of 2 unlabelled scans are also held out for validation or test"
        assert f"{said} (first: {name}): the training is transductive" in caplog.text
        assert sorted(ids(found.unlabelled)) == sorted([name, "other"])
        assert found.labelled.split["unlabelled_and_held_out"] == [name]
        assert said in message(made, data, unlabeled_dir=tmp_path / "more", refuse_transductive=True)

    def test_subject_of_the_list(self, data, caplog):
        case = SpineCases(data).validation[0]
        write_nifti(data / "more.nii", noise((8, 8, 8), 100))
        TestDatalist().listing(data, [{"image": "more.nii", "subject": case["subject"]}])
        assert ids(made(data).unlabelled) == ["more"]
        assert "the training is transductive" in caplog.text

    def test_nothing_is_said_of_others(self, data, tmp_path, caplog):
        write_nifti(tmp_path / "more" / "other.nii", noise((8, 8, 8), 100))
        made(data, unlabeled_dir=tmp_path / "more", labelled_share=0.5, refuse_transductive=True)
        assert "transductive" not in caplog.text

    def test_labelled_training_cases_are_left_out(self, data, tmp_path):
        train = SpineCases(data).train[0]
        write_nifti(tmp_path / "more" / "other.nii", noise((8, 8, 8), 100))
        shutil.copy(train["image"], tmp_path / "more" / "again.nii.gz")
        assert ids(made(data, unlabeled_dir=tmp_path / "more").unlabelled) == ["other"]


class TestPublishedList:
    def test_all_cases_of_the_challenge_are_listed_once(self):
        labelled = _mrspineseg_folds()
        assert len(published_unlabelled()) == 43 and len(labelled) == 172
        assert published_unlabelled().isdisjoint(labelled)
        assert published_unlabelled() | set(labelled) == set(range(1, 216))

    def test_a_folder_with_all_cases(self, tmp_path):
        numbers = sorted(_mrspineseg_folds(), key=lambda number: (number % 7, number))[:20]
        root = dataset(tmp_path / "set", [f"Case{number}" for number in numbers])
        everything = tmp_path / "all"
        shutil.copytree(root / "images", everything)
        for number in (1, 3, 500):
            write_nifti(everything / f"Case{number}.nii.gz", noise((8, 8, 8), 1000 + number))
        found = made(root, unlabeled_dir=everything, refuse_transductive=True)
        assert ids(found.unlabelled) == ["Case1", "Case3"]
