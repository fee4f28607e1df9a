"""The embedded phantoms: what they hold, that they are repeatable, and that brightness alone does not solve them."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from common.data.phantom import PHANTOM_VERSION, make_spine_phantom, write_spine_phantoms
from common.errors import InputError

SEEDS = range(24)
SMALL = (128, 128, 15)  # two millimetre pixels: a quarter of the time, the same field of view
BODIES, DISCS = range(2, 11), range(11, 20)
UPWARD = [1, 11, 2, 12, 3, 13, 4, 14, 5, 15, 6, 16, 7, 17, 8, 18, 9, 19, 10]


@pytest.fixture(scope="module")
def phantoms():
    return [make_spine_phantom(seed, contrast=("T2", "T1")[seed % 2], shape=SMALL) for seed in SEEDS]


def present(phantom):
    return set(np.unique(phantom.label)) - {0}


def voxel_ml(phantom):
    return abs(np.linalg.det(phantom.affine[:3, :3])) / 1000


def test_same_seed_gives_the_same_voxels():
    a, b = (make_spine_phantom(5, shape=SMALL) for _ in range(2))
    assert a.image.tobytes() == b.image.tobytes()
    assert a.label.tobytes() == b.label.tobytes()
    assert a.affine.tobytes() == b.affine.tobytes()
    assert a.contrast == b.contrast


def test_other_seeds_give_other_people(phantoms):
    assert len({p.label.tobytes() for p in phantoms}) == len(phantoms)
    assert len({p.affine.tobytes() for p in phantoms}) == len(phantoms)


def test_one_seed_is_one_person_in_both_contrasts():
    t1, t2 = (make_spine_phantom(3, contrast, SMALL) for contrast in ("T1", "T2"))
    assert np.array_equal(t1.label, t2.label) and np.array_equal(t1.affine, t2.affine)
    assert not np.array_equal(t1.image, t2.image)


def test_default_shape_and_types():
    phantom = make_spine_phantom(0)
    columns, rows, slices = phantom.image.shape
    assert columns == rows and 224 <= rows <= 288 and 15 <= slices <= 20
    assert phantom.label.shape == phantom.image.shape
    assert (phantom.image.dtype, phantom.label.dtype) == (np.float32, np.uint8)
    assert phantom.image.min() >= 0 and 300 < phantom.image.max() <= 4095
    assert np.array_equal(phantom.image, np.rint(phantom.image))
    spacing = np.linalg.norm(phantom.affine[:3, :3], axis=0)
    assert (spacing[:2] > 0.95).all() and (spacing[:2] < 1.35).all() and 4.0 <= spacing[2] <= 4.4


def test_contrast_left_to_the_seed_varies():
    assert {make_spine_phantom(seed, shape=(64, 64, 9)).contrast for seed in range(10)} == {"T1", "T2"}


def test_all_structures_occur(phantoms):
    seen = [present(p) for p in phantoms]
    assert set().union(*seen) == set(range(1, 20))
    for value in (1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15):
        assert sum(value in s for s in seen) >= 0.9 * len(seen), value
    for value in (10, 19):
        assert sum(value in s for s in seen) < 0.5 * len(seen), value


def test_field_of_view_cuts_at_different_levels(phantoms):
    tops = [max(UPWARD.index(value) for value in present(p)) for p in phantoms]
    assert len(set(tops)) >= 4
    sacrum = [np.count_nonzero(p.label == 1) * voxel_ml(p) for p in phantoms]
    assert max(sacrum) > 1.3 * min(sacrum)


def test_order_along_the_spine(phantoms):
    for phantom in phantoms:
        seen = [value for value in UPWARD if value in present(phantom)]
        assert seen == UPWARD[: len(seen)]  # no gaps
        middles = ndimage.center_of_mass(phantom.label > 0, phantom.label, seen)
        height = nib.affines.apply_affine(phantom.affine, middles)[:, 2]
        assert (np.diff(height) > 0).all(), phantom.seed


def test_every_structure_is_in_one_piece(phantoms):
    for phantom in phantoms:
        for value in present(phantom):
            assert ndimage.label(phantom.label == value)[1] == 1, (phantom.seed, value)


def test_sizes_are_plausible(phantoms):
    for phantom in phantoms:
        # Whole structures only: none at the edge of the field of view.
        inner = phantom.label.copy()
        edges = np.ones(inner.shape, bool)
        edges[1:-1, 1:-1, :] = False
        cut = set(np.unique(phantom.label[edges]))
        for value in present(phantom) - cut - {1}:
            ml = np.count_nonzero(phantom.label == value) * voxel_ml(phantom)
            low, high = (8, 60) if value in BODIES else (2, 25)
            assert low < ml < high, (phantom.seed, value, ml)


def test_orientation_and_tilt(phantoms):
    for phantom in phantoms:
        assert nib.aff2axcodes(phantom.affine) == ("P", "I", "R")
        axes = phantom.affine[:3, :3] / np.linalg.norm(phantom.affine[:3, :3], axis=0)
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-9)
        tilt = np.rad2deg(np.arccos(np.clip(np.abs([axes[1, 0], axes[2, 1], axes[0, 2]]), -1, 1)))
        assert tilt.max() < 15
    assert max(np.abs(p.affine[0, 0]) for p in phantoms) > 0.01  # some are oblique


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed -1 is negative"),
        ({"seed": 0, "contrast": "PD"}, "unknown contrast 'PD'; choose one of T1, T2"),
        ({"seed": 0, "shape": (4, 64, 15)}, "shape (4, 64, 15) is not three sizes of 8 or more"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_spine_phantom(**arguments)


# -- brightness alone ------------------------------------------------------------------------------------------------


def _bins(phantom):
    image = phantom.image
    scaled = (image - image.mean()) / image.std()
    return np.clip((scaled + 3) * (256 / 9), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("contrast", ["T1", "T2"])
def test_brightness_alone_does_not_tell_structures_apart(phantoms, contrast):
    cases = [p for p in phantoms if p.contrast == contrast]
    fitted, held_out = cases[:8], cases[8:]
    counts = np.zeros((256, 20))
    for phantom in fitted:
        np.add.at(counts, (_bins(phantom).ravel(), phantom.label.ravel()), 1)
    balanced = counts / counts.sum(axis=0)  # as if every structure were as large as the background
    for table in (counts, balanced, balanced * np.r_[0.0, np.ones(19)]):
        answer = table.argmax(axis=1).astype(np.uint8)
        scores = []
        for phantom in held_out:
            guess = answer[_bins(phantom)]
            for value in present(phantom):
                a, b = guess == value, phantom.label == value
                scores.append(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
        assert np.mean(scores) < 0.15


# -- the data set ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "made" / "phantoms"
    assert write_spine_phantoms(folder, count=2, seed=7) == folder / "index.json"
    return folder


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_index(folder):
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert list(index["label_names"]) == [str(value) for value in range(1, 20)]
    assert (index["label_names"]["1"], index["label_names"]["11"]) == ("S", "L5/S")
    assert index["generator"] == {"version": PHANTOM_VERSION, "seed": 7, "count": 2}
    assert index["cases"] == [
        {
            "id": f"phantom_00{i}",
            "image": f"images/phantom_00{i}.nii.gz",
            "label": f"labels/phantom_00{i}.nii.gz",
            "labelled": list(range(1, 20)),
            "sequence": ("T2 phantom", "T1 phantom")[i],
            "subject": f"phantom_00{i}",
            "fold": i,
        }
        for i in range(2)
    ]


def test_files_hold_the_phantom(folder):
    phantom = make_spine_phantom(70_001, contrast="T1")
    for kind, voxels in (("images", phantom.image), ("labels", phantom.label)):
        nifti = nib.load(folder / kind / "phantom_001.nii.gz")
        assert np.array_equal(np.asarray(nifti.dataobj), voxels)
        assert nib.aff2axcodes(nifti.affine) == ("P", "I", "R")
        for form, code in (nifti.get_sform(coded=True), nifti.get_qform(coded=True)):
            assert code == 1
            assert np.allclose(form, phantom.affine, atol=1e-3)
        assert nifti.header.get_xyzt_units()[0] == "mm"


def test_same_settings_give_the_same_bytes_and_a_second_call_does_nothing(folder, tmp_path):
    write_spine_phantoms(tmp_path / "again", count=2, seed=7)
    assert files(tmp_path / "again") == files(folder)

    def fail(_line):
        raise AssertionError("made again")

    assert write_spine_phantoms(folder, count=2, seed=7, report=fail) == folder / "index.json"


def test_other_settings_are_refused(folder):
    before = files(folder)
    message = (
        f"{folder}: holds phantoms made with version {PHANTOM_VERSION}, seed 7, count 2, not version "
        f"{PHANTOM_VERSION}, seed 7, count 3; choose another folder or delete this one"
    )
    with pytest.raises(InputError) as caught:
        write_spine_phantoms(folder, count=3, seed=7)
    assert str(caught.value) == message
    assert files(folder) == before


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        write_spine_phantoms(tmp_path / "mine", count=1)
    assert str(caught.value) == f"{tmp_path / 'mine'}: holds files but no index.json; choose a new or an empty folder"
    assert files(tmp_path) == {"mine/thesis.txt": b"years of work"}


@pytest.mark.parametrize("text", ["[]", "{}", "no json"])
def test_another_index_is_refused(tmp_path, text):
    (tmp_path / "index.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        write_spine_phantoms(tmp_path, count=1)
    assert str(caught.value) == (
        f"{tmp_path / 'index.json'}: is not an index of phantoms; choose a new or an empty folder"
    )


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"file: is a file; choose a folder for the phantoms$"):
        write_spine_phantoms(tmp_path / "file", count=1)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        write_spine_phantoms(tmp_path / "file" / "new", count=1)
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'new'}: cannot be written (File exists); free space or choose another folder"
    )


@pytest.mark.parametrize(
    ("count", "seed", "message"),
    [(0, 0, "count: 0 is not a number of phantoms; use 1 or more"), (1, -1, "seed: -1 is negative; use 0 or more")],
)
def test_settings_out_of_range(tmp_path, count, seed, message):
    with pytest.raises(InputError) as caught:
        write_spine_phantoms(tmp_path / "new", count, seed)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_interruption_leaves_nothing(tmp_path):
    lines = []

    def stop(line):
        lines.append(line)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_spine_phantoms(tmp_path / "new", count=3, report=stop)
    assert lines == ["phantom_000 (1 of 3)", "phantom_001 (2 of 3)"]
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    write_spine_phantoms(tmp_path / "empty", count=1)
    assert sorted(files(tmp_path)) == [
        "empty/images/phantom_000.nii.gz",
        "empty/index.json",
        "empty/labels/phantom_000.nii.gz",
    ]
