from __future__ import annotations

import threading

import pytest

from common.data.video.background import Background


class Counter:
    """Counts how many items were made, and whether the generator was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.made = 0
        self.closed = threading.Event()
        self.count, self.error = count, error

    def items(self):
        try:
            for index in range(self.count):
                self.made += 1
                yield index
            if self.error is not None:
                raise self.error
        finally:
            self.closed.set()


def test_items_come_in_order():
    counter = Counter(100)
    assert list(Background(counter.items(), room=3)) == list(range(100))
    assert counter.closed.is_set()


def test_it_works_no_further_ahead_than_there_is_room():
    counter = Counter(100)
    run = Background(counter.items(), room=3)
    for taken in range(1, 20):
        assert next(run) == taken - 1
        assert counter.made <= taken + 3
    run.close()


def test_errors_come_after_the_items_before_them():
    run = Background(Counter(3, RuntimeError("broken")).items())
    assert [next(run) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RuntimeError, match="broken"):
        next(run)
    assert list(run) == []


def test_closing_ends_the_thread_and_the_generator():
    counter = Counter(10**9)
    run = Background(counter.items())
    next(run)
    run.close()
    assert counter.closed.is_set() and not run._thread.is_alive()
    assert list(run) == []
    run.close()


def test_closing_wakes_a_reader_that_waits():
    gate = threading.Event()

    def items():
        gate.wait()
        yield 0

    run, found = Background(items()), []
    reader = threading.Thread(target=lambda: found.extend(run))
    reader.start()
    run._shelf.stop()
    reader.join(timeout=10)
    assert not reader.is_alive() and found == []
    gate.set()
    run.close()
