from __future__ import annotations

import threading

import pytest

from common.errors import InputError
from tests.tools.stream.controlled import Held, frame, until
from tools.stream.worker import NewestFrameWorker


@pytest.fixture
def held():
    segmenter = Held()
    yield segmenter
    segmenter.release(100)


def test_the_newest_frame_is_the_next_one(held):
    with NewestFrameWorker(held) as worker:
        worker.offer(frame(0), 0)
        held.has(0)
        for index in range(1, 6):
            worker.offer(frame(index), 0)
        assert worker.newest is None and (worker.segmented, worker.dropped) == (0, 4)
        held.release()
        held.has(0, 5)
        assert worker.newest.frame.index == 0 and worker.segmented == 1
        worker.offer(frame(6), 0)
        worker.offer(frame(7), 1)
        held.release(2)
        worker.finish()
    assert held.taken == [0, 5, 7] and held.scenes == [0, 0, 1]
    assert worker.newest.frame.index == 7 and worker.newest.scene == 1
    assert (worker.segmented, worker.dropped, worker.ended) == (3, 5, True)


def test_the_end_of_the_block_leaves_what_waits(held):
    with NewestFrameWorker(held) as worker:
        worker.offer(frame(0), 0)
        held.has(0)
        worker.offer(frame(1), 0)
        threading.Timer(0.2, held.release).start()  # what is being segmented is waited for
    assert held.taken == [0] and worker.segmented == 1 and worker.ended


def test_it_ends_after_so_many(held):
    with NewestFrameWorker(held, most=2) as worker:
        for index in range(2):
            worker.offer(frame(index), 0)
            until(lambda: len(held.taken) > index)  # noqa: B023
            assert not worker.ended
            worker.offer(frame(9), 0) if index else None
            held.release()
        until(lambda: worker.ended)
        worker.finish()
    assert held.taken == [0, 1] and worker.segmented == 2


@pytest.mark.parametrize("error", [InputError("frame 1", "is bad", "look at it"), RuntimeError("out of memory")])
def test_an_error_reaches_who_offers(held, error):
    with NewestFrameWorker(held) as worker:
        worker.offer(frame(0), 0)
        held.error = error
        held.release()
        until(lambda: worker.ended)
        worker.offer(frame(1), 0)
        worker.wait_for(frame(1), 60)  # nothing will come of it
        with pytest.raises(type(error)) as raised:
            worker.finish()
    assert raised.value is error and worker.segmented == 0 and held.taken == [0]


def test_waiting_for_a_frame(held):
    """Until it is done if it is its turn; not at all behind another one."""
    with NewestFrameWorker(held) as worker:
        first, second = frame(0), frame(1)
        worker.offer(first, 0)
        threading.Timer(0.05, held.release).start()
        worker.wait_for(first, 60)
        assert worker.newest.frame is first
        worker.offer(second, 0)
        held.has(0, 1)
        worker.wait_for(second, 0.01)
        assert worker.newest.frame is first
        third = frame(2)
        worker.offer(third, 0)
        worker.wait_for(third, 60)
        assert worker.newest.frame is first and held.taken == [0, 1]
        held.release(2)
        worker.finish()
