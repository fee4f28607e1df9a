from __future__ import annotations

import numpy as np
import pytest

from common.visualize.caption import draw_caption

TEXT = "no tissue 0.12"


def box_of(picture: np.ndarray, drawn: np.ndarray) -> tuple[slice, slice]:
    rows, columns = np.nonzero((picture != drawn).any(axis=-1))
    return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (100, 100), (270, 480), (1080, 1920)], ids=str)
@pytest.mark.parametrize("shade", [0, 120, 255])
def test_a_bar_in_the_lower_left_corner(size: tuple[int, int], shade: int) -> None:
    picture = np.full((*size, 3), shade, np.uint8)
    drawn = draw_caption(picture, TEXT)
    rows, columns = box_of(picture, drawn)
    assert (rows.stop, columns.start) == (size[0], 0) and (picture == shade).all()
    assert 8 <= rows.stop - rows.start <= max(16, min(size) / 14)
    bar = drawn[rows, columns].astype(int)
    assert bar.max() - bar.min() > 100  # letters can be told from their ground


@pytest.mark.parametrize("width", [54, 64, 96])
def test_the_whole_text_fits_on_small_pictures(width: int) -> None:
    """The last letter is there: a longer text looks different."""
    picture = np.zeros((48, width, 3), np.uint8)
    drawn = draw_caption(picture, TEXT)
    assert box_of(picture, drawn)[1].stop <= width
    assert (drawn[:, -1] < 40).all()  # no letter touches the edge
    assert not np.array_equal(drawn, draw_caption(picture, TEXT[:-1]))


@pytest.mark.parametrize("size", [(48, 20), (3, 64), (1, 1)], ids=str)
def test_what_does_not_fit_is_cut_off(size: tuple[int, int]) -> None:
    assert draw_caption(np.zeros((*size, 3), np.uint8), TEXT).shape == (*size, 3)


def test_the_bar_does_not_move_with_the_digits() -> None:
    picture = np.full((200, 300, 3), 255, np.uint8)
    captions = (draw_caption(picture, f"no tissue {number:.2f}") for number in np.arange(0, 0.5, 0.07))
    assert len({box_of(picture, drawn)[0].start for drawn in captions}) == 1


def test_the_size_of_the_letters() -> None:
    picture = np.full((360, 640, 3), 120, np.uint8)
    small, large = (box_of(picture, draw_caption(picture, TEXT, size))[0] for size in (None, 26))
    assert large.stop - large.start > 1.5 * (small.stop - small.start)
