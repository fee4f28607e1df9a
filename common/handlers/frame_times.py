"""How long a frame's steps take in an inference run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

from common.inferers.gated import GatedInferer

__all__ = ["FrameTimes"]

_STEPS, _STAGES = ("read", "network", "postprocess", "write"), ("classifier", "segmenter")


class FrameTimes:
    """The milliseconds of reading, network, postprocessing and writing, of one clip at a time.

    A step's time is shared by the frames of the clip that count. With an inferer of two stages there are theirs, too,
    which the network's time includes; the segmenter's is shared by the frames on which it was called.

    Args:
        device: of the network; on CUDA each step is waited for, so that its time is its own.
        stages: the inferer, where it is one of two stages.

    Attributes:
        columns: what the numbers of :meth:`per_frame` are.
    """

    def __init__(self, device: torch.device, stages: GatedInferer | None = None) -> None:
        self.device, self.stages = device, stages
        self.columns = [f"ms_{step}" for step in (*_STEPS[:2], *(_STAGES if stages else ()), *_STEPS[2:])]
        self._begun: dict[str, float] = {}

    def begin(self, step: str) -> None:
        """Note that a step begins: ``read``, ``network``, ``postprocess`` or ``write``."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._begun[step] = time.perf_counter()

    def per_frame(self, ran: Sequence[bool]) -> Iterator[list[float]]:
        """Yield the milliseconds of each frame; the last step ends now.

        Args:
            ran: of each frame that counts, whether the segmenter was called on it.
        """
        marks = [*(self._begun[step] for step in _STEPS), time.perf_counter()]
        read, network, postprocess, write = ((end - begin) * 1000 / len(ran) for begin, end in pairwise(marks))
        if self.stages is None:
            yield from ([read, network, postprocess, write] for _ in ran)
            return
        classifier = self.stages.last.ms_classifier / len(ran)
        # Called only on frames that do not count, it is in the network's time alone.
        segmenter = self.stages.last.ms_segmenter / sum(ran) if any(ran) else 0.0
        network -= segmenter * sum(ran) / len(ran)
        for here in ran:
            yield [read, network + segmenter * here, classifier, segmenter * here, postprocess, write]
