"""What an inference run writes for each scan."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from common.data.atomic import write_json
from common.data.label_scheme import LabelScheme
from common.data.label_writer import LABEL_SUFFIXES, default_suffix, write_label_map
from common.data.provenance import provenance
from common.data.scan_reader import read_scan
from common.errors import InputError
from common.handlers.case_table import CaseTable
from common.metrics import structure_volumes
from common.metrics.spine_measures import MEASURE_COLUMNS, measure_spine, measure_table
from common.visualize import save_overlay, write_itksnap_labels, write_slicer_color_table

__all__ = ["SegmentationWriter"]

logger = logging.getLogger(__name__)

VOLUMES, MEASURES = "volumes.csv", "measures.csv"
_COLUMNS = ("case", "file", "value", "structure", "description", "voxels", "volume_ml")


class SegmentationWriter:
    """Write label maps, pictures, volumes and provenance into one folder.

    For a scan ``NAME.nii.gz``: ``NAME_seg.nii.gz`` (uint8, on the scan's own grid, with its geometry),
    ``NAME_overlay.png`` and ``NAME_seg.json`` (provenance). For all of them: ``volumes.csv`` with a row for each
    structure, ``measures.csv`` with a row for each level (:func:`common.metrics.spine_measures.measure_spine`),
    ``labels.ctbl`` (3D Slicer) and ``labels_itksnap.txt`` (ITK-SNAP). Each file is written whole or not at all; rows of
    other cases in existing tables stay.

    Args:
        output_dir: the folder.
        scheme: name of the label scheme.
        bundle_root: for the provenance.
        weights: the file of the weights, for the provenance; several where their results are averaged.
        settings: what was set, for the provenance.
        overlay: whether to draw the picture.
        measures: whether to measure the spine: ``measures.csv``, and a further panel of the picture.
        output_format: ``nii.gz``, ``nii``, ``mha`` or ``nrrd``; None: NIfTI for NIfTI and DICOM, else the scan's own.

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
        measures: bool = True,
        output_format: str | None = None,
    ) -> None:
        self.folder = Path(output_dir).resolve()
        self.scheme = LabelScheme.load(scheme)
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.overlay = overlay
        self.suffix = "." + str(output_format).lstrip(".") if output_format else None
        if self.suffix not in (None, *LABEL_SUFFIXES):
            words = ", ".join(suffix[1:] for suffix in LABEL_SUFFIXES)
            raise InputError(f"--output_format {output_format}", "is not known", f"choose one of {words}")
        self.volumes = CaseTable(self.folder / VOLUMES, _COLUMNS)
        self.measures = CaseTable(self.folder / MEASURES, MEASURE_COLUMNS) if measures else None
        self._flushed = 0.0

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._scan)
        engine.add_event_handler(Events.COMPLETED, self._completed)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._interrupted)

    def _started(self, engine: Engine) -> None:
        self.count = engine.state.epoch_length
        write_slicer_color_table(self.scheme, self.folder / "labels.ctbl")
        write_itksnap_labels(self.scheme, self.folder / "labels_itksnap.txt")
        for table in self._tables():
            table.load()

    def _tables(self) -> list[CaseTable]:
        return [table for table in (self.volumes, self.measures) if table is not None]

    def _scan(self, engine: Engine) -> None:
        for case, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.write(output["pred"], case["id"], number=engine.state.iteration)
        if time.monotonic() - self._flushed > 5:
            self._flush()

    def write(self, pred: Any, name: str, number: int = 1) -> Path:
        """Write all files of one scan.

        Args:
            pred: (1, X, Y, Z) label values, a MetaTensor.
            name: stem of the files.
            number: how manieth scan this is, for the log.

        Returns:
            The path of the label map.

        Raises:
            InputError: the prediction's grid is not the scan's, or a file cannot be written.
        """
        source = str(pred.meta["filename_or_obj"])
        picture, meta = read_scan(source)
        affine = np.asarray(meta["affine"])
        labels = np.asarray(pred.cpu())[0].astype(np.uint8)
        if labels.shape != picture.shape or not np.allclose(np.asarray(pred.affine), affine, atol=1e-3):
            raise InputError(source, "the segmentation does not lie on its grid", "report this as a bug")
        target = self.folder / f"{name}_seg{self.suffix or default_suffix(source)}"
        write_label_map(labels, source, target)
        rows = structure_volumes(labels, affine, self.scheme)
        found = [row for row in rows if row["voxels"] > 0]
        self.volumes.put(
            name,
            [
                {
                    "file": target.name,
                    "value": row["value"],
                    "structure": row["name"],
                    "description": row["description"],
                    "voxels": row["voxels"],
                    "volume_ml": f"{row['volume_ml']:.3f}",
                }
                for row in found
            ],
        )
        measured = None
        if self.measures is not None:
            measured = measure_spine(labels, affine, self.scheme)
            self.measures.put(name, measure_table(measured, target.name))
        if self.overlay:
            path = self.folder / f"{name}_overlay.png"
            save_overlay(path, picture, labels, affine, self.scheme, title=name, measures=measured)
        write_json(self.folder / f"{name}_seg.json", provenance(self.bundle_root, self.weights, source, self.settings))
        logger.info("%d/%s %s: %d structures -> %s", number, self.count, name, len(found), target)
        return target

    def _flush(self) -> None:
        for table in self._tables():
            table.write()
        self._flushed = time.monotonic()

    def _completed(self, engine: Engine) -> None:
        self._flush()
        logger.info("Label maps and tables are in %s", self.folder)

    def _interrupted(self, engine: Engine, error: BaseException) -> None:
        self._flush()
        raise error
