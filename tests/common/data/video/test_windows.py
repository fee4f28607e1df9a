from __future__ import annotations

from collections import Counter

import pytest

from common.data.video.windows import Window, scoring_windows, training_windows

T, F = True, False
LENGTHS = range(1, 31)


@pytest.mark.parametrize("frames", range(1, 8))
class TestScoringWindows:
    def test_every_frame_counts_once(self, frames):
        for length in LENGTHS:
            windows = scoring_windows(length, frames)
            kept = [f for window in windows for f, keep in zip(window.frames, window.keep, strict=True) if keep]
            assert kept == list(range(length))

    def test_as_few_clips_of_consecutive_frames_as_can_be(self, frames):
        for length in LENGTHS:
            windows = scoring_windows(length, frames)
            assert len(windows) == -(-length // frames)
            for window in windows:
                last = window.frames[-1]
                assert window.frames == tuple(max(last - i, 0) for i in reversed(range(frames)))
                assert any(window.keep)

    def test_only_the_last_is_shifted(self, frames):
        for length in LENGTHS:
            starts = [window.frames[0] for window in scoring_windows(length, frames)]
            assert starts[:-1] == [i * frames for i in range(len(starts) - 1)]
            assert starts[-1] == max(length - frames, 0)


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1, [Window((0,) * 5, (F, F, F, F, T))]),
        (3, [Window((0, 0, 0, 1, 2), (F, F, T, T, T))]),
        (5, [Window((0, 1, 2, 3, 4), (T,) * 5)]),
        (6, [Window((0, 1, 2, 3, 4), (T, F, F, F, F)), Window((1, 2, 3, 4, 5), (T,) * 5)]),
        (7, [Window((0, 1, 2, 3, 4), (T, T, F, F, F)), Window((2, 3, 4, 5, 6), (T,) * 5)]),
        (10, [Window((0, 1, 2, 3, 4), (T,) * 5), Window((5, 6, 7, 8, 9), (T,) * 5)]),
    ],
)
def test_scoring_windows_by_hand(length, expected):
    assert scoring_windows(length, 5) == expected


@pytest.mark.parametrize("frames", range(1, 8))
class TestTrainingWindows:
    def test_ends_are_left_out(self, frames):
        for length in LENGTHS:
            windows = training_windows(length, frames)
            assert len(windows) == max(length - frames - 1, 0)
            used = Counter(frame for window in windows for frame in window.frames)
            assert set(used) == (set(range(1, length - 1)) if windows else set())

    def test_every_frame(self, frames):
        for length in LENGTHS:
            windows = training_windows(length, frames, every_frame=True)
            assert len(windows) == max(length - frames + 1, 1)
            assert {frame for window in windows for frame in window.frames} == set(range(length))
            counted = {f for w in windows for f, keep in zip(w.frames, w.keep, strict=True) if keep}
            assert counted == set(range(length))
            if length < frames:
                assert windows == scoring_windows(length, frames)

    def test_frames_are_consecutive(self, frames):
        for length in LENGTHS:
            for window in training_windows(length, frames):
                assert window == Window(tuple(range(window.frames[0], window.frames[0] + frames)), (T,) * frames)


def test_training_starts_of_the_protocol():
    assert [window.frames[0] for window in training_windows(25, 5)] == list(range(1, 20))  # 1 to L - 6, both included
    assert training_windows(6, 5) == []


@pytest.mark.parametrize("windows", [scoring_windows, training_windows])
@pytest.mark.parametrize("numbers", [(0, 5), (5, 0)])
def test_numbers_below_one(windows, numbers):
    with pytest.raises(ValueError, match="at least one frame"):
        windows(*numbers)
