from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from common.data.phantom import make_spine_phantom

pytest.register_assert_rewrite(
    *(
        f"tests.bundles.{name}"
        for name in (
            "bundle_test_base",
            "host_tests",
            "spine_bundle_tests",
            "video_bundle_tests",
            "clip_bundle_tests",
            "runs",
        )
    )
)

# Case 5's annotators drew the sacrum, L5 to L2 and the discs between them, nothing above.
PARTLY_DRAWN = [1, 2, 3, 4, 5, 11, 12, 13, 14]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """Six small phantoms in three folds, one of them drawn in part."""
    folder = tmp_path_factory.mktemp("phantoms")
    cases = []
    for seed in range(6):
        phantom = make_spine_phantom(seed, shape=(64, 64, 8))
        label = phantom.label.copy()
        case = {"id": f"case{seed}", "image": f"images/case{seed}.nii.gz", "label": f"labels/case{seed}.nii.gz"}
        case |= {"fold": seed % 3, "sequence": "T1" if seed % 2 else "T2"}
        if seed == 5:
            label[~np.isin(label, PARTLY_DRAWN)] = 0
            case["labelled"] = PARTLY_DRAWN
        for key, array in (("image", phantom.image), ("label", label)):
            file = folder / case[key]
            file.parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, phantom.affine), file)
        cases.append(case)
    (folder / "index.json").write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return folder


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder for trainings: pytest would keep their large files of its last three runs."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()


@pytest.fixture(scope="class")
def shared() -> Iterator[Path]:
    """The same for what the tests of one class share."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder).resolve()
