"""The curves of a test set's sequences, kept so that the scores of the whole set can be taken of them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from common.errors import InputError
from common.metrics.video_segmentation import CURVES, LEVELS, curve_scores

__all__ = ["SequenceCurves"]

_MEANS = ("mae", "dice_at_half")
_REMEDY = "delete that folder and evaluate again"


@dataclass(frozen=True)
class SequenceCurves:
    """What :class:`common.metrics.VideoSegmentationMetric` found of N sequences.

    Args:
        ids: of the sequences, N.
        subjects: who was recorded, N.
        curves: (N, 4, 256), float64: ``CURVES`` at thresholds 0/255 to 255/255.
        means: (N, 2), float64: MAE, and Dice at 0.5, which is NaN where nothing is drawn.
    """

    ids: Sequence[str]
    subjects: Sequence[str]
    curves: np.ndarray
    means: np.ndarray

    def scores(self) -> list[Mapping[str, float]]:
        """Return the scores of each sequence on its own, N mappings by the names in ``SCORES``."""
        return [
            curve_scores(torch.from_numpy(curves), torch.from_numpy(means))
            for curves, means in zip(self.curves, self.means, strict=True)
        ]

    def curve(self, name: str) -> np.ndarray:
        """Return one of ``CURVES`` of all sequences, (N, 256)."""
        return self.curves[:, CURVES.index(name)]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays by name, for ``numpy.savez_compressed``."""
        return {
            "ids": np.array(self.ids, dtype=np.str_),
            "subjects": np.array(self.subjects, dtype=np.str_),
            "thresholds": np.arange(LEVELS) / (LEVELS - 1),
            **{name: self.curve(name) for name in CURVES},
            **{name: self.means[:, at] for at, name in enumerate(_MEANS)},
        }

    @classmethod
    def load(cls, path: str | Path) -> SequenceCurves:
        """Read what :meth:`arrays` gave.

        Raises:
            InputError: the file is missing, as after an evaluation by an earlier version, or is none of these.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                ids, subjects = ([str(name) for name in file[key]] for key in ("ids", "subjects"))
                curves = np.stack([file[name] for name in CURVES], axis=1)
                means = np.stack([file[name] for name in _MEANS], axis=1)
            if len(subjects) != len(ids) or curves.shape != (len(ids), len(CURVES), LEVELS) or len(means) != len(ids):
                raise ValueError(f"unexpected shapes {curves.shape}, {means.shape}")
        except FileNotFoundError as error:
            raise InputError(path, "does not exist", _REMEDY) from error
        except Exception as error:  # a damaged archive makes NumPy, zipfile and zlib raise whatever they stumble over
            raise InputError(path, f"holds no curves of sequences ({type(error).__name__})", _REMEDY) from error
        return cls(ids, subjects, curves, means)
