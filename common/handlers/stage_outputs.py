"""What the gate of a two-stage network said, beside the masks."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from common.inferers.gated import GatedInferer

__all__ = ["StageOutputs"]


class StageOutputs:
    """Put into an engine's output what the stages did, so that it is taken apart to items as the masks are.

    ``p_present``, ``passes`` and ``seg_ran`` (:class:`common.inferers.GatedRun`): of an item that is a clip, tensors
    ``(T,)``; of one that is a frame, a float and two booleans, as MONAI's decollation makes plain numbers of scalars.

    Args:
        inferer: the engine's.
    """

    def __init__(self, inferer: GatedInferer) -> None:
        self.inferer = inferer

    def attach(self, engine: Engine) -> None:
        """Follow an evaluator."""
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._forward_completed)

    def _forward_completed(self, engine: Engine) -> None:
        run = self.inferer.last
        engine.state.output.update(p_present=run.p_present, passes=run.passes, seg_ran=run.seg_ran)
