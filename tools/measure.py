"""Measure the spine in label maps: ``python -m tools.measure LABELS [--image SCAN] -o OUT``.

LABELS is a label map with MRSpineSeg's values (see the README), or a folder of them. OUT/measures.csv gets a row for
each level of each label map: heights of vertebral bodies, heights and height index of discs, slips, lordosis, volumes,
in millimetres, degrees and millilitres, and why what is missing is missing. What each measure is, and where its
definition comes from, stands in the docstring of common.metrics.spine_measures.measure_spine. Rows of other cases in an
existing measures.csv stay.

With --image SCAN, the scan that belongs to the label map, or a folder of scans (NAME for the label map NAME or
NAME_seg), OUT/NAME_overlay.png shows the points on the scan. A label map that cannot be used gets a line that says why,
the rest is done, and the exit status is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.cases import case_id, scan_files
from common.data.label_scheme import LabelScheme
from common.data.scan_reader import read_scan
from common.errors import InputError
from common.handlers.case_table import CaseTable
from common.metrics.spine_measures import MEASURE_COLUMNS, measure_spine, measure_table
from common.visualize import save_overlay
from tools.benchmark.arguments import OneLineParser

TABLE = "measures.csv"
_SCHEME = "mrspineseg19"
_SEGMENTED = "_seg"  # what an inference run puts behind a scan's name


def read_labels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a label map.

    Returns:
        The values (X, Y, Z), uint8, and the affine (4x4, voxel to world, RAS, mm).

    Raises:
        InputError: it cannot be read, or holds other values than 0 to 19.
    """
    voxels, meta = read_scan(path)
    highest = max(LabelScheme.load(_SCHEME).values)
    wrong = ~np.isfinite(voxels) | (voxels < 0) | (voxels > highest) | (voxels != np.rint(voxels))
    if wrong.any():
        value = f"{voxels[wrong][0]:g}"
        raise InputError(path, f"is no label map of the spine (it holds {value})", f"pass whole values 0 to {highest}")
    return voxels.astype(np.uint8), np.asarray(meta["affine"])


def _label_maps(given: Path) -> list[Path]:
    if not given.exists():
        raise InputError(given, "does not exist", "pass a label map or a folder of label maps")
    files = scan_files(given) if given.is_dir() else [given]
    if not files:
        raise InputError(given, "holds no label map", "pass a folder with .nii.gz, .nii, .mha or .nrrd files")
    return files


def _scan_of(case: str, images: Path | None) -> Path | None:
    """Return the scan that a label map belongs to, None where there shall be no picture.

    Raises:
        InputError: it is not there.
    """
    if images is None or not images.is_dir():
        return images
    scans = {case_id(path): path for path in scan_files(images)}
    for name in (case, case.removesuffix(_SEGMENTED)):
        if name in scans:
            return scans[name]
    raise InputError(
        images, f"holds no scan for {case}", f"name it {case.removesuffix(_SEGMENTED)}, or leave --image out"
    )


def measure_file(path: Path, images: Path | None, table: CaseTable) -> None:
    """Measure one label map, and draw it where there is a scan.

    Args:
        path: the label map.
        images: its scan, or a folder of scans; None for no picture.
        table: gets the rows.

    Raises:
        InputError: the label map or the scan cannot be used, or the picture cannot be written.
    """
    scheme, case = LabelScheme.load(_SCHEME), case_id(path)
    scan = _scan_of(case, images)
    labels, affine = read_labels(path)
    measures = measure_spine(labels, affine, scheme)
    if scan is not None:
        voxels, meta = read_scan(scan)
        if voxels.shape != labels.shape or not np.allclose(meta["affine"], affine, atol=1e-2):
            raise InputError(path, f"does not lie on the grid of {scan}", "resample it onto the scan")
        picture = table.path.with_name(f"{case.removesuffix(_SEGMENTED)}_overlay.png")
        save_overlay(picture, voxels, labels, affine, scheme, title=case, measures=measures)
    table.put(case, measure_table(measures, path.name))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was written.

    Returns:
        0, or 1 where a label map could not be measured; each such gets one line on stderr.
    """
    parser = OneLineParser("tools.measure", __doc__)
    parser.add_argument("labels", type=Path, help="a label map, or a folder of label maps")
    parser.add_argument("--image", type=Path, help="the scan, or a folder of scans: draws overlays")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder to write to")
    options = parser.parse_args(argv)
    table = CaseTable(options.output / TABLE, MEASURE_COLUMNS)
    measured, status = 0, 0
    try:
        files = _label_maps(options.labels)
        if options.image is not None and not options.image.exists():
            raise InputError(options.image, "does not exist", "pass a scan, or a folder of scans")
        if options.image is not None and options.image.is_file() and len(files) > 1:
            raise InputError(options.image, f"is one scan for {len(files)} label maps", "pass a folder of scans")
        table.load()
        for path in files:
            try:
                measure_file(path, options.image, table)
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                status = 1
            else:
                measured += 1
                table.write()  # what is done stays, whatever comes
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if measured:
        print(f"{measured} of {len(files)} label maps measured: {table.path}")
    return status


if __name__ == "__main__":
    sys.exit(main())
