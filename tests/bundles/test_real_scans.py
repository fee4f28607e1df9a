"""A real exam has one segmentation, however it is stored; the data are no part of the project."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from common.data import LabelScheme
from tests.bundles.runs import ROOT, overlap, run
from tests.helpers import stored
from tests.scan_files import open_elsewhere, write_scan

IMAGES = ROOT.parent / "shared" / "data" / "spine" / "images"
EXAMS = ("ivd_11", "vb3_49")  # int16 and uint8; the second has a severe scoliosis
SCHEME = LabelScheme.load("mrspineseg17")
# How a copy is stored: format, directions of its axes. The exams themselves are NIfTI, PIR.
COPIES = {
    "mha": ("mha", "PIR"),
    "nrrd": ("nrrd", "PIR"),
    "dicom": ("dicom", "PIR"),
    "RAS": ("nii.gz", "RAS"),
    "LPS": ("nii.gz", "LPS"),
    "ASL": ("nii.gz", "ASL"),
    "SRP": ("nii.gz", "SRP"),
    "LAI": ("nii.gz", "LAI"),
}


class BrightParts(torch.nn.Module):
    """Stands for a trained network: what is bright has the channel of the part of the grid where it lies.

    There are two parts along the first axis, four along the second and two along the third, so that a grid which is
    turned, and turned back alike, does not go unseen.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(B, 1, D, H, W)`` to ``(B, C, D, H, W)``, sure of itself."""
        part = torch.zeros(x.shape[2:], dtype=torch.long)
        for axis, count in enumerate((2, 4, 2)):
            steps = torch.arange(part.shape[axis]) * count // part.shape[axis]
            part = part * count + steps.reshape([-1 if i == axis else 1 for i in range(3)])
        bright = torch.clamp(10 * (x - 1), -10, 10)
        logits = torch.full((x.shape[0], SCHEME.num_channels, *x.shape[2:]), -20.0)
        logits[:, :1] = -bright
        return logits.scatter(1, (part + 1).expand_as(x), bright)


@pytest.fixture(scope="module", params=EXAMS)
def exam(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nib.Nifti1Image, Path]:
    """An exam (turned to RAS) and the folder with the segmentations of its copies."""
    file = IMAGES / f"{request.param}.nii.gz"
    if not file.is_file():
        pytest.skip("the real exams are not there (shared/data/spine)")
    folder = tmp_path_factory.mktemp(request.param)
    image = nib.as_closest_canonical(nib.load(file))
    (folder / "scans").mkdir()
    for name, (kind, code) in ({"exam": ("nii.gz", "PIR")} | COPIES).items():
        written = write_scan(folder / name, kind, np.asarray(image.dataobj), image.affine, code)
        written.rename(folder / "scans" / (name if written.is_dir() else f"{name}.{kind}"))
    torch.save({}, folder / "model.pt")  # the stand-in has no weights
    ids = {"input": str(folder / "scans"), "checkpoint": str(folder / "model.pt"), "output_dir": str(folder / "out")}
    ids |= {"network_def": BrightParts(), "spatial_size": [18, 96, 48], "precision": "fp32", "overlay": False}
    run(ROOT / "bundles" / "safnet", "inference", **ids)
    return image, folder / "out"


def segmentation(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The label map of a copy and its affine, not read by the library that the project reads it by."""
    (file,) = folder.glob(f"{name}_seg.[mn]*")
    return open_elsewhere(file)


def to_ras(labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return np.asarray(nib.as_closest_canonical(nib.Nifti1Image(labels, affine)).dataobj)


@pytest.mark.parametrize("name", COPIES)
def test_the_same_segmentation(name, exam):
    image, folder = exam
    labels, affine = segmentation(folder, name)
    voxels, its = stored(np.asarray(image.dataobj), image.affine, COPIES[name][1])
    assert labels.shape == voxels.shape
    np.testing.assert_allclose(affine, its, atol=1e-3)

    expected, found = to_ras(*segmentation(folder, "exam")), to_ras(labels, affine)
    values = set(np.unique(expected)) - {0}
    assert len(values) >= 8 and set(np.unique(found)) - {0} == values
    dice = {value: overlap(found == value, expected == value) for value in values}
    assert min(dice.values()) >= 0.98, dice
