"""Ctrl-C as a wish that a loop reads, where an exception would come in the middle of something."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

__all__ = ["CtrlC"]


class CtrlC:
    """While its ``with`` block runs, the first Ctrl-C is only noted; a second one raises ``KeyboardInterrupt``.

    Python raises ``KeyboardInterrupt`` between any two instructions of the main thread: while a picture is written, or
    where it has just taken a lock that others wait for, who then wait forever.

    Where Ctrl-C does something else already (a program that is told to ignore it, a handler of a host) or the block is
    not in the main thread, which alone can be interrupted, nothing changes.

    Attributes:
        pressed: whether it was.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._taken = False

    def __enter__(self) -> CtrlC:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._note)
            self._taken = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._taken:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
