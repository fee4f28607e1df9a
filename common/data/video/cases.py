"""The clips of a video data set: for training, and for scoring every frame once."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.data.cases import CaseList
from common.data.parts import chosen_part
from common.data.splits import split_cases
from common.data.video.layouts import VideoSequence
from common.data.video.phantom import write_video_phantoms
from common.data.video.sequences import PARTS, find_sequences
from common.data.video.windows import Window, scoring_windows, training_windows
from common.errors import InputError

__all__ = ["VideoCases"]

logger = logging.getLogger(__name__)


class VideoCases:
    """Training, validation and test clips of a video data set.

    Each item is a clip of T frames: ``id``, ``sequence`` (its id), ``sequence_number`` (its place in ``sequences``),
    ``image`` and ``label`` (lists of T references, see :class:`common.transforms.LoadClipd`), ``frames`` (T indices in
    the sequence) and ``keep`` (T booleans: whose predictions count, see
    :class:`common.data.video.windows.Window`).

    Args:
        dataset_dir: the data set (see :func:`common.data.video.find_sequences`).
        frames: length T of the clips; 1 for pre-training on single frames.
        training_starts: ``protocol``: training clips leave out the ends of each sequence, as PNS-Net's do
            (:func:`common.data.video.windows.training_windows`), or ``all``. Of single frames always all are used.
        images_dir: single images (``images/``, ``masks/``, such as Kvasir-SEG) that are trained on too; only with
            ``frames`` 1.
        phantom_dir: where the embedded phantom lives. Only when ``dataset_dir`` is this very folder is the phantom
            made, on first use: a folder that the user names is never filled.
        phantom_sequences: how many phantoms.
        phantom_length: number of frames of each.
        phantom_size: height and width of their frames.
        phantom_seed: their seed.
        fold: which part is held out, 0-based. This and the following are for data whose parts are neither published nor
            stated: whole subjects are divided as :func:`common.data.splits.split_cases` does.
        num_folds: into how many parts the subjects are divided.
        num_validation: how many of the held-out sequences select the model (at most half); the rest are for the test.
        seed: of the division.

    Attributes:
        sequences: all sequences, those of ``images_dir`` last.
        train: :class:`common.data.CaseList` of training clips.
        validation: scoring clips of the validation part.
        test: scoring clips of the test part.

    Raises:
        InputError: see :func:`common.data.video.find_sequences` and :func:`common.data.splits.split_cases`; or the
            training sequences are too short for a clip, or ``images_dir`` is given for clips.
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        frames: int = 5,
        training_starts: str = "protocol",
        images_dir: str | os.PathLike | None = None,
        phantom_dir: str | os.PathLike | None = None,
        phantom_sequences: int = 20,
        phantom_length: int = 40,
        phantom_size: Sequence[int] = (256, 448),
        phantom_seed: int = 0,
        fold: int = 0,
        num_folds: int = 5,
        num_validation: int = 4,
        seed: int = 0,
    ) -> None:
        self.frames = int(frames)
        if training_starts not in ("protocol", "all"):
            raise InputError(f"training_starts={training_starts}", "is unknown", "choose protocol or all")
        if images_dir and self.frames != 1:
            raise InputError(images_dir, f"holds single images, not clips of {self.frames} frames", "pass --frames 1")
        if phantom_dir is not None and os.path.abspath(dataset_dir) == os.path.abspath(phantom_dir):
            if not os.path.isfile(os.path.join(phantom_dir, "index.json")):
                logger.info("No dataset_dir given: making %d video phantoms in %s", int(phantom_sequences), phantom_dir)
            write_video_phantoms(
                phantom_dir, int(phantom_sequences), int(phantom_seed), int(phantom_length),
                tuple(int(side) for side in phantom_size), report=logger.info,
            )  # fmt: skip
        found = find_sequences(dataset_dir)
        stated = found[0].part is not None
        parts = _stated_parts(found) if stated else _divide(found, int(fold), int(num_folds), int(num_validation), seed)
        images = find_sequences(images_dir) if images_dir else []
        images = [replace(image, id=f"{Path(images_dir).name}/{image.id}") for image in images]  # two sets, no id twice
        self.sequences = found + images

        self._split: dict[str, Any] = {"dataset_dir": str(Path(dataset_dir).resolve()), "frames": self.frames}
        if not stated:
            self._split |= {"fold": int(fold), "num_folds": int(num_folds)}
        self._split |= {name: [sequence.id for sequence in part] for name, part in parts.items()}
        if images_dir:
            self._split |= {"images_dir": str(Path(images_dir).resolve()), "images": len(images)}
        self._parts = parts | {"heldout": parts["validation"] + parts["test"], "all": found}
        self._number = {sequence.id: number for number, sequence in enumerate(self.sequences)}

        every_frame = training_starts == "all" or self.frames == 1
        trained = [
            self._item(sequence, window)
            for sequence in parts["train"] + images
            for window in training_windows(len(sequence.frames), self.frames, every_frame)
        ]
        if parts["train"] and not trained:
            problem = f"has no training sequence of {self.frames + 2} frames or more, which clips of {self.frames} need"
            raise InputError(dataset_dir, problem, "pass --training_starts all, or a smaller --frames")
        self.train = CaseList(trained, self._split)
        self.validation, self.test = self._scored("validation"), self._scored("test")
        logger.info(
            "%s: %d sequences, %s: %s; %d training clips of %d frames",
            dataset_dir, len(found), "parts as stated" if stated else f"fold {int(fold)} of {int(num_folds)}",
            ", ".join(f"{name} {len(part)} ({_count(part)} frames)" for name, part in parts.items()),
            len(trained), self.frames,
        )  # fmt: skip
        if images:
            logger.info("%s: %d single images are trained on too", images_dir, _count(images))

    def part(self, name: str) -> CaseList:
        """Return the scoring clips of one part.

        Raises:
            InputError: there is no part of that name, or it is empty.
        """
        return chosen_part(name, self._scored, "sequences")

    def _scored(self, name: str) -> CaseList:
        return CaseList(
            (
                self._item(sequence, window)
                for sequence in self._parts[name]
                for window in scoring_windows(len(sequence.frames), self.frames)
            ),
            self._split,
        )

    def _item(self, sequence: VideoSequence, window: Window) -> dict[str, Any]:
        return {
            "id": f"{sequence.id}_{window.frames[0]:04d}",
            "sequence": sequence.id,
            "sequence_number": self._number[sequence.id],
            "image": [sequence.frames[frame] for frame in window.frames],
            "label": [sequence.masks[frame] for frame in window.frames],
            "frames": list(window.frames),
            "keep": list(window.keep),
        }


def _count(sequences: Sequence[VideoSequence]) -> int:
    return sum(len(sequence.frames) for sequence in sequences)


def _stated_parts(sequences: Sequence[VideoSequence]) -> dict[str, list[VideoSequence]]:
    return {name: [sequence for sequence in sequences if sequence.part == name] for name in PARTS}


def _divide(
    sequences: Sequence[VideoSequence], fold: int, num_folds: int, num_validation: int, seed: int
) -> dict[str, list[VideoSequence]]:
    if len({sequence.subject for sequence in sequences}) == 1:
        raise InputError(
            sequences[0].place, "is all there is of one subject, which cannot be divided", "state parts in splits.json"
        )
    # Numbers as ids keep the order, and names such as `case1` from being taken for another data set's published folds.
    cases = [
        {"id": f"sequence {number:06d}", "subject": sequence.subject, "image": sequence.frames[0], "sequence": sequence}
        for number, sequence in enumerate(sequences)
    ]
    parts = split_cases(cases, fold=fold, num_folds=num_folds, num_validation=num_validation, seed=int(seed))
    return {name: [case["sequence"] for case in part] for name, part in parts.items()}
