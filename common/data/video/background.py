"""Work ahead in a thread of its own."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

__all__ = ["Background"]

T = TypeVar("T")


class _Shelf(Generic[T]):
    """What the thread and its reader share. The thread must not hold the reader, or it could never be collected."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.items: deque[T] = deque()
        self.changed = threading.Condition()
        self.error: BaseException | None = None
        self.done = False
        self.stopped = False

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.items.clear()
            self.changed.notify_all()

    def wait_for_room(self) -> bool:
        """Wait until an item more may be made; return False where none is wanted any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(self.items) < self.room)
            return not self.stopped

    def fill(self, source: Generator[T, None, None]) -> None:
        try:
            while self.wait_for_room():
                item = next(source, self)
                if item is self:
                    break
                with self.changed:
                    if not self.stopped:
                        self.items.append(item)
                        self.changed.notify_all()
                del item  # the next one is made while this one may be gone already
        except BaseException as error:  # whatever it is, it belongs to the reader
            self.error = error
        finally:
            source.close()
            with self.changed:
                self.done = True
                self.changed.notify_all()

    def take(self) -> T:
        with self.changed:
            self.changed.wait_for(lambda: self.items or self.done or self.stopped)
            if self.items:
                item = self.items.popleft()
                self.changed.notify_all()
                return item
            error, self.error = self.error, None
        if error is not None and not self.stopped:
            raise error
        raise StopIteration


class Background(Iterator[T]):
    """Run a generator in a thread of its own, a few items ahead of the reader.

    What the generator raises reaches the reader after the items before it. The thread ends with the generator, on
    :meth:`close`, or when this object is no longer referred to; the generator is closed in each case.

    Args:
        source: what makes the items.
        room: how many of them may wait for the reader.
    """

    def __init__(self, source: Generator[T, None, None], room: int = 4) -> None:
        self._shelf: _Shelf[T] = _Shelf(room)
        self._thread = threading.Thread(target=self._shelf.fill, args=(source,), name="frames", daemon=True)
        weakref.finalize(self, self._shelf.stop)
        self._thread.start()

    def __next__(self) -> T:
        return self._shelf.take()

    def close(self) -> None:
        """End the thread and wait until it has ended; what it made ahead is dropped."""
        self._shelf.stop()
        self._thread.join()
