"""The frames of a data set for the two stages: is it there, and where."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common.data.cases import CaseList
from common.data.frames.frame_list import find_frames
from common.data.frames.grouped_folds import split_frames
from common.data.frames.labelled_frame import LabelledFrame
from common.data.frames.pictures import reference_name
from common.data.parts import chosen_part
from common.data.video.phantom import write_video_phantoms
from common.errors import InputError

__all__ = ["FrameCases"]

logger = logging.getLogger(__name__)

_STAGES = ("classifier", "segmenter", "both")


class FrameCases:
    """Training, validation and test frames of a data set.

    Each item has ``id``, ``number`` (its place in ``frames``), ``image`` and ``label`` (references, see
    :class:`common.transforms.LoadFramed`; ``label`` is None where nothing is drawn), ``present`` and ``patient``.

    The parts are made of all frames before the stage takes its own, so that both stages agree on who is tested.

    Args:
        dataset_dir: the data set (see :func:`common.data.frames.find_frames`).
        stage: ``classifier`` takes all frames, and there have to be negatives; ``segmenter`` the positives only, as
            masks exist there only and the Dice of an empty mask tells nothing; ``both``, for an evaluation from end to
            end, all frames, of which the positives must have masks.
        datalist: a list elsewhere than in ``dataset_dir``.
        labels: which of LabelMe's labels count.
        frame_step: take every so-manieth frame of video sequences.
        expansion: how often each training frame is in ``train``. The BESS paper expands the data of its segmentation
            models three-fold: with random augmentation each repetition is another picture.
        phantom_dir: where the embedded phantom lives. Only when ``dataset_dir`` is this very folder is the phantom
            made, on first use: a folder that the user names is never filled.
        phantom_sequences: how many phantoms.
        phantom_length: number of frames of each.
        phantom_size: height and width of their frames.
        phantom_seed: their seed.
        fold: which fold is for validation, 0-based; ``all``: none, everything but the test part is trained on.
        num_folds: into how many folds all but the test part are divided.
        test_share: what share of the frames is for testing.
        seed: of the division. What of these three the data state themselves goes before (see
            :func:`common.data.frames.grouped_folds.split_frames`).
        negatives: the segmenter is trained on frames without anything too, with an empty mask, which a loss with a
            cross-entropy learns from: it then marks less where there is nothing. Validation and test stay positives.

    Attributes:
        frames: all frames, of any stage.
        train: :class:`common.data.CaseList` of training items.
        validation: those of the validation part.
        test: those of the test part.

    Raises:
        InputError: see :func:`common.data.frames.find_frames` and
            :func:`common.data.frames.grouped_folds.split_frames`; or a setting is unknown, the stage lacks positives or
            negatives, or a positive has no mask although the stage needs it.
    """

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        stage: str = "both",
        datalist: str | os.PathLike | None = None,
        labels: Sequence[str] | None = None,
        frame_step: int = 1,
        expansion: int = 1,
        phantom_dir: str | os.PathLike | None = None,
        phantom_sequences: int = 20,
        phantom_length: int = 40,
        phantom_size: Sequence[int] = (256, 448),
        phantom_seed: int = 0,
        fold: int | str = 0,
        num_folds: int = 3,
        test_share: float = 6 / 28,
        seed: int = 0,
        negatives: bool = False,
    ) -> None:
        if stage not in _STAGES:
            raise InputError(f"stage={stage}", "is unknown", f"choose {', '.join(_STAGES)}")
        if int(expansion) < 1:
            raise InputError(f"expansion={expansion}", "is not a number of repetitions", "use 1 or more")
        if phantom_dir is not None and not datalist and os.path.abspath(dataset_dir) == os.path.abspath(phantom_dir):
            if not os.path.isfile(os.path.join(phantom_dir, "index.json")):
                logger.info("No dataset_dir given: making %d video phantoms in %s", int(phantom_sequences), phantom_dir)
            write_video_phantoms(
                phantom_dir, int(phantom_sequences), int(phantom_seed), int(phantom_length),
                tuple(int(side) for side in phantom_size), report=logger.info,
            )  # fmt: skip
        self.stage = stage
        self.frames = find_frames(dataset_dir, datalist, labels, int(frame_step))
        self._number = {frame.id: number for number, frame in enumerate(self.frames)}
        _check_stage(dataset_dir, stage, self.frames)
        chosen = None if str(fold).lower() == "all" else int(fold)
        parts = split_frames(self.frames, chosen, int(num_folds), float(test_share), int(seed))
        if stage == "segmenter":
            parts = {
                name: [frame for frame in part if frame.present or (negatives and name == "train")]
                for name, part in parts.items()
            }
        _check_stage(f"{dataset_dir} (its train part)", stage, parts["train"])
        if chosen is not None and not parts["validation"]:
            raise InputError(f"fold={chosen}", "has no positives to validate with", "choose another fold")
        stated = any(frame.part == "validation" for frame in self.frames)

        self._split: dict[str, Any] = {"dataset_dir": str(Path(dataset_dir).resolve()), "stage": stage}
        if chosen is None or not stated:
            self._split |= {"fold": "all" if chosen is None else chosen, "num_folds": int(num_folds)}
        self._split |= {name: [frame.id for frame in part] for name, part in parts.items()}
        self._split["patients"] = {name: sorted({frame.patient for frame in part}) for name, part in parts.items()}
        every = [frame for frame in self.frames if frame.present or stage != "segmenter"]
        self._parts = parts | {"heldout": parts["validation"] + parts["test"], "all": every}
        self.train = CaseList(list(self._items("train")) * int(expansion), self._split)
        self.validation, self.test = self._items("validation"), self._items("test")
        logger.info(
            "%s: %d frames, %d positive, of %d patients; %s: %s; each training frame %d x",
            dataset_dir, len(self.frames), sum(bool(frame.present) for frame in self.frames),
            len({frame.patient for frame in self.frames}),
            f"fold {self._split['fold']} of {int(num_folds)}" if "fold" in self._split else "parts as stated",
            ", ".join(
                f"{name} {len(part)} ({sum(bool(frame.present) for frame in part)} positive)"
                for name, part in parts.items()
            ), int(expansion),
        )  # fmt: skip

    def part(self, name: str) -> CaseList:
        """Return the items of one part, each once.

        Raises:
            InputError: there is no part of that name, or it is empty.
        """
        return chosen_part(name, self._items, "frames")

    def _items(self, name: str) -> CaseList:
        return CaseList(map(self._item, self._parts[name]), self._split)

    def _item(self, frame: LabelledFrame) -> dict[str, Any]:
        return {
            "id": frame.id,
            "number": self._number[frame.id],
            "image": frame.image,
            "label": frame.mask,
            "present": bool(frame.present),
            "patient": frame.patient,
        }


def _check_stage(where: object, stage: str, frames: Sequence[LabelledFrame]) -> None:
    """Fail where a stage lacks what it needs."""
    if stage == "classifier" and all(frame.present for frame in frames):
        problem = "has no frame without what is to be segmented, so that stage 1 cannot be trained"
        raise InputError(where, problem, "add negatives, or train stage 2 alone (train_segmenter.json)")
    if stage != "both" and not any(frame.present for frame in frames):
        problem = "has no frame with what is to be segmented, so that neither stage can be trained"
        raise InputError(where, problem, "add positives")
    bare = next((frame for frame in frames if frame.present and frame.mask is None), None)
    if bare is not None and stage != "classifier":
        problem = "is a positive without a mask, which stage 2 needs"
        raise InputError(reference_name(bare.image), problem, "draw it, or train stage 1 alone (train_classifier.json)")
