"""Dice per case and structure, with a summary that a script can read."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from common.data.atomic import write_csv, write_json
from common.data.label_scheme import LabelScheme, Structure
from common.data.provenance import provenance
from common.data.scan_reader import read_scan
from common.errors import InputError
from common.metrics import dice_per_structure, joint_histogram, merged_dice, named_right, surface_distances
from common.visualize import save_overlay

__all__ = ["EvaluationReport"]

logger = logging.getLogger(__name__)

STRUCTURES, CASES, SUMMARY = "dice.csv", "cases.csv", "summary.json"
# How the results name what `surface_distances` measures, all in millimetres.
_DISTANCES = {"hd95_mm": "hd95", "msd_mm": "msd_one_sided", "assd_mm": "msd_symmetric"}
_COLUMNS = (
    "case", "subject", "group", "value", "structure", "kind", "dice", "named_right", *_DISTANCES,
    "reference_voxels", "predicted_voxels", "reference_ml", "predicted_ml",
)  # fmt: skip
_KINDS = {"vertebrae": "vertebra", "discs": "disc"}
_CASE_COLUMNS = ("case", "subject", "group", "dice", *_KINDS, *(f"merged_{kind}" for kind in _KINDS), "named_right")


class EvaluationReport:
    """Write ``dice.csv`` (a row for each case and structure), ``cases.csv`` (a row for each case) and ``summary.json``.

    Only what a case's annotators drew is scored. A structure that they drew, that is in their label map and that was
    not found has Dice 0; one that is in neither has none (blank); one that is only in the prediction has Dice 0. A
    case's Dice is the mean over its structures, and the summary's the mean over the cases: the rule of the authors'
    program of SSHSNet (https://arxiv.org/abs/2203.12151).

    The same over the vertebrae (the sacrum is one) and over the discs alone. Merged Dice takes all vertebrae for one
    structure, and all discs, whatever their names (:func:`common.metrics.merged_dice`). ``wholly_named_right`` is the
    share of the cases in which every structure that was drawn is named right.

    Args:
        output_dir: the folder.
        scheme: name of the label scheme.
        bundle_root: for the provenance.
        weights: for the provenance; None where they came from no file.
        settings: for the provenance.
        group_by: an entry of the datalist's cases by which the summary is divided too, such as ``sequence``.
        overlays: whether to draw each case with its reference, ``NAME_overlay.png``.
        distances: whether to measure surface distances: 95th percentile of the Hausdorff distance, mean surface
            distance from prediction to reference (the SAFNet paper's), and the symmetric mean, in mm.

    It takes from the engine ``pred`` and ``label``: channels, (1, X, Y, Z), on the scan's own grid; and ``drawn``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        scheme: str,
        bundle_root: str | Path,
        weights: str | Path | None,
        settings: Mapping[str, Any] | None = None,
        group_by: str = "",
        overlays: bool = False,
        distances: bool = True,
    ) -> None:
        self.folder, self.scheme = Path(output_dir).resolve(), LabelScheme.load(scheme)
        self.bundle_root, self.weights, self.settings = bundle_root, weights, dict(settings or {})
        self.group_by, self.overlays, self.distances = group_by, overlays, distances
        self.rows: list[dict[str, Any]] = []
        self.cases: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Follow the evaluator."""
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._cases)
        engine.add_event_handler(Events.COMPLETED, self._completed)

    def _started(self, engine: Engine) -> None:
        self.rows.clear()
        self.cases.clear()

    def _cases(self, engine: Engine) -> None:
        for case, output in zip(engine.state.batch, engine.state.output, strict=True):
            self.add(case, output["pred"], output["label"])

    def add(self, case: Mapping[str, Any], pred: torch.Tensor, reference: torch.Tensor) -> None:
        """Score one case.

        Args:
            case: its items: ``drawn``, what ``group_by`` names, and perhaps ``id`` and ``subject``.
            pred: channels, (1, X, Y, Z), a MetaTensor.
            reference: the same of the label map.

        Raises:
            InputError: the case has no entry ``group_by``.
        """
        if self.group_by and self.group_by not in case:
            raise InputError(f"--group_by {self.group_by}", "is not an entry of every case", "add it to the datalist")
        drawn = case["drawn"]
        histogram = joint_histogram(pred, reference, self.scheme.num_channels).cpu()
        dice = dice_per_structure(histogram, drawn, absent="zero")
        named = named_right(histogram, drawn)
        in_reference, predicted = histogram.sum(dim=1), histogram.sum(dim=0)
        affine = np.asarray(pred.affine)
        measured = self._distances(pred, reference, affine)
        milliliters = abs(np.linalg.det(affine[:3, :3])) / 1000
        name = str(case.get("id", Path(str(pred.meta["filename_or_obj"])).name))
        about = {
            "case": name,
            "subject": case.get("subject", name),
            "group": case[self.group_by] if self.group_by else "",
        }
        rows = []
        for structure in self.scheme.structures:
            channel = structure.channel
            if not bool(drawn[channel]):
                continue
            rows.append(
                about
                | {
                    "value": structure.value,
                    "structure": structure.name,
                    "kind": _kind(structure),
                    "dice": _number(dice[channel - 1]),
                    "named_right": _number(named[channel - 1]),
                    **{name: _number(values[channel - 1]) for name, values in measured.items()},
                    "reference_voxels": int(in_reference[channel]),
                    "predicted_voxels": int(predicted[channel]),
                    "reference_ml": round(float(in_reference[channel]) * milliliters, 3),
                    "predicted_ml": round(float(predicted[channel]) * milliliters, 3),
                }
            )
        self.rows.extend(rows)
        self.cases.append(about | self._case_scores(rows, histogram, drawn))
        if self.overlays:
            values = torch.from_numpy(self.scheme.channel_to_value)
            picture, _ = read_scan(str(pred.meta["filename_or_obj"]))
            save_overlay(
                self.folder / f"{name}_overlay.png",
                picture,
                values[pred.cpu().as_tensor()[0].long()].numpy(),
                affine,
                self.scheme,
                title=name,
                reference=values[reference.cpu().as_tensor()[0].long()].numpy(),
            )

    def _case_scores(
        self, rows: list[dict[str, Any]], histogram: torch.Tensor, drawn: torch.Tensor
    ) -> dict[str, float | str]:
        """Return what ``cases.csv`` has of a case: means over structures, Dice of merged ones, share named right."""
        scores = {"dice": _mean(rows), "named_right": _mean(rows, "named_right")}
        for name, kind in _KINDS.items():
            scores[name] = _mean([row for row in rows if row["kind"] == kind])
            channels = [structure.channel for structure in self.scheme.structures if _kind(structure) == kind]
            scores[f"merged_{name}"] = merged_dice(histogram, drawn, channels)
        return {name: _number(value) for name, value in scores.items()}

    def _distances(self, pred: torch.Tensor, reference: torch.Tensor, affine: np.ndarray) -> dict[str, np.ndarray]:
        if not self.distances:
            return {}
        maps = [volume.cpu().as_tensor()[0].to(torch.uint8).numpy() for volume in (pred, reference)]
        found = surface_distances(*maps, affine, self.scheme.num_channels)._asdict()
        return {name: found[key] for name, key in _DISTANCES.items()}

    def summary(self) -> dict[str, Any]:
        """Return mean, standard deviation and counts: over the cases' means, per structure, and per group."""
        result = _summary(self.rows, self.cases)
        if self.group_by:

            def part(rows: list[dict[str, Any]], group: str) -> list[dict[str, Any]]:
                return [row for row in rows if str(row["group"]) == group]

            groups = sorted({str(row["group"]) for row in self.cases})
            result["groups"] = {name: _summary(part(self.rows, name), part(self.cases, name)) for name in groups}
        return result

    def _gather(self) -> bool:
        """Collect the rows of all processes; tell whether this one is to write them."""
        if dist.is_available() and dist.is_initialized():
            parts: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(parts, (self.rows, self.cases))
            # By case and structure: where there are fewer cases than processes, each has scored all of them.
            self.rows = list({(row["case"], row["value"]): row for part, _ in parts for row in part}.values())
            self.cases = list({row["case"]: row for _, part in parts for row in part}.values())
            if dist.get_rank() > 0:
                return False
        # Stable: the structures of a case stay in their order, whichever process had the case.
        self.rows.sort(key=lambda row: row["case"])
        self.cases.sort(key=lambda row: row["case"])
        return True

    def _completed(self, engine: Engine) -> None:
        if not self._gather():
            return
        write_csv(self.folder / STRUCTURES, self.rows, _COLUMNS)
        write_csv(self.folder / CASES, self.cases, _CASE_COLUMNS)
        summary = self.summary()
        origin = provenance(self.bundle_root, self.weights, None, self.settings)
        write_json(self.folder / SUMMARY, summary | {"provenance": origin})
        for name, row in summary["structures"].items():
            logger.info("%-8s Dice %.3f +- %.3f in %d cases", name, row["mean"], row["sd"], row["cases"])
        for name in _KINDS:
            whole, merged = summary[name]["dice"], summary[name]["merged"]
            logger.info(
                "%-8s Dice %.3f +- %.3f, merged %.3f +- %.3f in %d cases",
                name, whole["mean"], whole["sd"], merged["mean"], merged["sd"], merged["cases"],
            )  # fmt: skip
        logger.info(
            "mean Dice %.4f +- %.4f over %d cases; %.1f %% of %d structures named right; %s, %s and %s are in %s",
            summary["dice"]["mean"], summary["dice"]["sd"], summary["dice"]["cases"],
            100 * summary["named_right"]["share"], summary["named_right"]["structures"],
            STRUCTURES, CASES, SUMMARY, self.folder,
        )  # fmt: skip


def _kind(structure: Structure) -> str:
    return _KINDS["discs" if structure.is_disc else "vertebrae"]


def _mean(rows: list[dict[str, Any]], column: str = "dice") -> float:
    """Mean of a column of rows; NaN where nothing was scored."""
    scored = [row[column] for row in rows if row[column] != ""]
    return statistics.fmean(scored) if scored else float("nan")


def _number(value: torch.Tensor | float) -> float | str:
    return "" if math.isnan(float(value)) else round(float(value), 6)


def _spread(values: Iterable[float], what: str = "cases") -> dict[str, float]:
    numbers = list(values)
    return {
        "mean": statistics.fmean(numbers) if numbers else float("nan"),
        "sd": statistics.stdev(numbers) if len(numbers) > 1 else 0.0,
        what: len(numbers),
    }


def _summary(rows: list[dict[str, Any]], cases: list[dict[str, Any]]) -> dict[str, Any]:
    scored = [row for row in rows if row["dice"] != ""]
    by_case: dict[str, list[float]] = {}
    by_structure: dict[str, list[float]] = {}
    for row in scored:
        by_case.setdefault(row["case"], []).append(row["dice"])
        by_structure.setdefault(row["structure"], []).append(row["dice"])
    by_distance = {name: [row[name] for row in scored if name in row] for name in _DISTANCES}
    named = [row["named_right"] for row in rows if row["named_right"] != ""]
    whole = [case["named_right"] == 1 for case in cases if case["named_right"] != ""]
    return {
        "dice": _spread(statistics.fmean(values) for values in by_case.values()),
        **{
            kind: {
                name: _spread(case[column] for case in cases if case[column] != "")
                for name, column in (("dice", kind), ("merged", f"merged_{kind}"))
            }
            for kind in _KINDS
        },
        "named_right": {"share": statistics.fmean(named) if named else float("nan"), "structures": len(named)},
        "wholly_named_right": {"share": statistics.fmean(whole) if whole else float("nan"), "cases": len(whole)},
        "distances": {
            name: _spread((value for value in values if value != ""), "structures") | {"blank": values.count("")}
            for name, values in by_distance.items()
            if values
        },
        "structures": {name: _spread(values) for name, values in by_structure.items()},
        "cases": {name: statistics.fmean(values) for name, values in by_case.items()},
    }
