"""The volumes that are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from common.data import ScanList
from common.data.phantom import make_spine_phantom
from common.data.scan_reader import read_geometry
from common.errors import InputError
from tools.benchmark.nnunet_inference import axis_order, spacing_of
from tools.benchmark.nnunet_plan import target_spacing

__all__ = ["Volumes", "find_volumes", "make_phantom"]

_SEED = 3
# Medians of what the phantoms are drawn from: slice distance and field of view, mm.
_SLICE_DISTANCE, _FIELD_OF_VIEW = 4.2, 285.5


@dataclass(frozen=True)
class Volumes:
    """Scans, and what nnU-Net's fingerprint would know of them.

    Attributes:
        items: ``image`` (a path) and ``id`` of each.
        shapes: voxels, the axis of the largest spacing first.
        spacings: mm, in the same order.
        median_spacing: that a plan resamples to.
        labels: label maps by ``id``, where they are known.
    """

    items: list[dict[str, Any]]
    shapes: list[tuple[int, ...]]
    spacings: list[tuple[float, ...]]
    median_spacing: tuple[float, ...]
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def median_shape(self) -> tuple[int, ...]:
        """The median size at the median spacing."""
        sizes = [np.multiply(*pair) / self.median_spacing for pair in zip(self.shapes, self.spacings, strict=True)]
        return tuple(round(float(n)) for n in np.median(sizes, axis=0))


def find_volumes(sources: Sequence[str]) -> Volumes:
    """Collect scans.

    Args:
        sources: files and folders, as ``--input`` of the bundles takes them.

    Raises:
        InputError: one cannot be used, or two have the same name.
    """
    items: list[dict[str, Any]] = []
    for source in sources:
        found = ScanList(source)
        found.finish()
        items += found.items
    taken: dict[str, str] = {}
    for item in items:
        if item["id"] in taken:
            raise InputError(item["image"], f"has the same name as {taken[item['id']]}", "rename one of them")
        taken[item["id"]] = item["image"]
    shapes, spacings = zip(*map(_geometry, items), strict=True)
    return Volumes(items, list(shapes), list(spacings), target_spacing(spacings, shapes))


def make_phantom(folder: Path, size: tuple[int, int, int]) -> Volumes:
    """Write a phantom of a lumbar exam and its label map.

    The plan's spacing is the median of all phantoms, not this one's own: a set of exams has many fields of view, and
    nnU-Net resamples nearly each of them.

    Args:
        folder: where to.
        size: columns, rows, slices.

    Raises:
        InputError: a size is below 8.
    """
    try:
        phantom = make_spine_phantom(_SEED, "T2", size)
    except ValueError as error:
        raise InputError(f"--phantom_size {','.join(map(str, size))}", str(error), "use 8 or more") from error
    image, label = folder / "images" / "phantom.nii.gz", folder / "labels" / "phantom.nii.gz"
    for path, voxels in ((image, phantom.image.astype(np.int16)), (label, phantom.label)):
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(voxels, phantom.affine), path)
    item = {"image": str(image), "id": "phantom"}
    shape, spacing = _geometry(item)
    median = (_SLICE_DISTANCE, _FIELD_OF_VIEW / size[1], _FIELD_OF_VIEW / size[0])
    return Volumes([item], [shape], [spacing], median, {"phantom": str(label)})


def _geometry(item: dict[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    shape, affine = read_geometry(item["image"])
    spacing = spacing_of(affine)
    order = axis_order(spacing)
    return tuple(int(shape[axis]) for axis in order), tuple(float(spacing[axis]) for axis in order)
