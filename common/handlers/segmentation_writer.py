"""What an inference run writes for each scan."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from common.data.atomic import write_csv, write_json
from common.data.dicom_seg import SEG_FORMAT, SEG_SUFFIX, Algorithm, write_dicom_seg
from common.data.label_scheme import LabelScheme
from common.data.label_writer import LABEL_SUFFIXES, default_suffix, write_label_map
from common.data.provenance import bundle_version, differences, provenance, read_provenance, sha256_of
from common.data.scan_reader import read_scan
from common.errors import InputError
from common.metrics import structure_volumes
from common.visualize import save_overlay, write_itksnap_labels, write_slicer_color_table

__all__ = ["SegmentationWriter"]

logger = logging.getLogger(__name__)

VOLUMES = "volumes.csv"
_COLUMNS = ("case", "file", "value", "structure", "description", "voxels", "volume_ml")


class SegmentationWriter:
    """Write label maps, pictures, volumes and provenance into one folder.

    For a scan ``NAME.nii.gz``: ``NAME_seg.nii.gz`` (uint8, on the scan's own grid, with its geometry),
    ``NAME_overlay.png`` and ``NAME_seg.json`` (provenance). For all of them: ``volumes.csv`` with a row for each
    structure, ``labels.ctbl`` (3D Slicer) and ``labels_itksnap.txt`` (ITK-SNAP). Each file is written whole or not at
    all, the provenance as the last of its scan; rows of other cases in an existing ``volumes.csv`` stay.

    Args:
        output_dir: the folder.
        scheme: name of the label scheme.
        bundle_root: for the provenance.
        weights: the file of the weights, for the provenance; several where their results are averaged.
        settings: what was set, for the provenance.
        overlay: whether to draw the picture.
        output_format: ``nii.gz``, ``nii``, ``mha`` or ``nrrd``; None: NIfTI for NIfTI and DICOM, else the scan's own;
            ``dicom-seg``: ``NAME_seg.dcm`` (:mod:`common.data.dicom_seg`), which is left out where nothing was found.

    Attributes:
        written: the label map of each scan that this run has finished, by the scan's name; None where DICOM has none.

    It takes from the engine ``pred``: (1, X, Y, Z) label values on the scan's own grid, with the scan's path in
    ``meta["filename_or_obj"]``; and from the batch ``id``, the stem of the files.

    Raises:
        InputError: ``output_format`` is none of these.
    """

    def __init__(
        self,
        output_dir: str | Path,
        scheme: str,
        bundle_root: str | Path,
        weights: str | Path | Sequence[str | Path],
        settings: Mapping[str, Any] | None = None,
        overlay: bool = True,
        output_format: str | None = None,
    ) -> None:
        self.folder = Path(output_dir).resolve()
        self.scheme = LabelScheme.load(scheme)
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.overlay = overlay
        self.as_dicom = output_format == SEG_FORMAT
        self.suffix = SEG_SUFFIX if self.as_dicom else "." + str(output_format).lstrip(".") if output_format else None
        if not self.as_dicom and self.suffix not in (None, *LABEL_SUFFIXES):
            words = ", ".join([suffix[1:] for suffix in LABEL_SUFFIXES] + [SEG_FORMAT])
            raise InputError(f"--output_format {output_format}", "is not known", f"choose one of {words}")
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.written: dict[str, Path | None] = {}

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._scan)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.count = engine.state.epoch_length
        write_slicer_color_table(self.scheme, self.folder / "labels.ctbl")
        write_itksnap_labels(self.scheme, self.folder / "labels_itksnap.txt")
        existing = self.folder / VOLUMES
        if existing.is_file():
            with open(existing, newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    self.rows.setdefault(str(row.get("case")), []).append(row)

    def _scan(self, engine: Engine) -> None:
        for case, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.write(output["pred"], case["id"], number=engine.state.iteration)

    def paths(self, name: str, source: str | Path) -> dict[str, Path]:
        """Return where a scan's ``segmentation``, ``overlay`` and ``provenance`` are written."""
        return {
            "segmentation": self.folder / f"{name}_seg{self.suffix or default_suffix(source)}",
            "overlay": self.folder / f"{name}_overlay.png",
            "provenance": self.folder / f"{name}_seg.json",
        }

    def existing(self, name: str, source: str | Path) -> list[str] | None:
        """Compare what an earlier run has left of a scan with what this one would write.

        Args:
            name: stem of the files.
            source: the scan.

        Returns:
            In what its provenance differs (:func:`common.data.provenance.differences`); an empty list where this run
            would write the same again; None where there is nothing, or not all that this run would write.

        Raises:
            InputError: the provenance cannot be read.
        """
        paths = self.paths(name, source)
        found = read_provenance(paths["provenance"])
        if found is None:
            return None
        if other := differences(found, provenance(self.bundle_root, self.weights, source, self.settings)):
            return other
        empty = self.as_dicom and found.get("segmentation", "") is None
        complete = (empty or paths["segmentation"].is_file()) and (not self.overlay or paths["overlay"].is_file())
        return [] if complete else None

    def write(self, pred: Any, name: str, number: int = 1) -> Path:
        """Write all files of one scan.

        Args:
            pred: (1, X, Y, Z) label values, a MetaTensor.
            name: stem of the files.
            number: how manieth scan this is, for the log.

        Returns:
            The path of the label map; there is none in DICOM where nothing was found.

        Raises:
            InputError: the prediction's grid is not the scan's, or a file cannot be written.
        """
        source = str(pred.meta["filename_or_obj"])
        picture, meta = read_scan(source)
        affine = np.asarray(meta["affine"])
        labels = np.asarray(pred.cpu())[0].astype(np.uint8)
        if labels.shape != picture.shape or not np.allclose(np.asarray(pred.affine), affine, atol=1e-3):
            raise InputError(source, "the segmentation does not lie on its grid", "report this as a bug")
        paths = self.paths(name, source)
        target, written = paths["segmentation"], True
        if self.as_dicom:
            written = write_dicom_seg(labels, source, target, self.scheme, self._algorithm())
        else:
            write_label_map(labels, source, target)
        rows = structure_volumes(labels, affine, self.scheme)
        self.rows[name] = [
            {
                "case": name,
                "file": target.name,
                "value": row["value"],
                "structure": row["name"],
                "description": row["description"],
                "voxels": row["voxels"],
                "volume_ml": f"{row['volume_ml']:.3f}",
            }
            for row in rows
            if row["voxels"] > 0
        ]
        self._write_rows()
        if self.overlay:
            save_overlay(paths["overlay"], picture, labels, affine, self.scheme, title=name)
        origin = provenance(self.bundle_root, self.weights, source, self.settings)
        write_json(paths["provenance"], {"segmentation": target.name if written else None} | origin)
        self.written[name] = target if written else None
        where = target if written else "no DICOM SEG, which has no way to say so"
        logger.info("%d/%s %s: %d structures -> %s", number, self.count, name, len(self.rows[name]), where)
        return target

    def _algorithm(self) -> Algorithm:
        weights = [self.weights] if isinstance(self.weights, str | Path) else self.weights
        return Algorithm(*bundle_version(self.bundle_root), ",".join(map(sha256_of, weights)))

    def _write_rows(self) -> None:
        write_csv(self.folder / VOLUMES, [row for rows in self.rows.values() for row in rows], _COLUMNS)

    def _completed(self, engine: Engine) -> None:
        self._write_rows()
        logger.info("Label maps and %s are in %s", VOLUMES, self.folder)
