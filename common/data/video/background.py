"""Work ahead in a thread of its own."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

__all__ = ["Background"]

T = TypeVar("T")
_END = object()


class _Shelf(Generic[T]):
    """What the thread and its reader share. The thread must not hold the reader, or it could never be collected.

    Queues alone, whose steps are whole: a lock of ours could be left held by Ctrl-C in the reader.
    """

    def __init__(self, room: int) -> None:
        self.items: SimpleQueue[Any] = SimpleQueue()  # the last one is _END
        self.room: SimpleQueue[None] = SimpleQueue()
        for _ in range(room):
            self.room.put(None)
        self.error: BaseException | None = None
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        self.room.put(None)
        self.items.put(_END)

    def fill(self, source: Generator[T, None, None]) -> None:
        try:
            while True:
                self.room.get()
                item = _END if self.stopped else next(source, _END)
                if item is _END:
                    break
                self.items.put(item)
                del item  # the next one is made while this one may be gone already
        except BaseException as error:  # whatever it is, it belongs to the reader
            self.error = error
        finally:
            source.close()
            self.items.put(_END)

    def take(self) -> T:
        item = self.items.get()
        if item is not _END and not self.stopped:
            self.room.put(None)
            return item
        self.items.put(_END)  # for who asks again
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
