from __future__ import annotations

import numpy as np
import pytest

from common.visualize import OUTLINE_COLOR, draw_outline


def scene(height: int = 60, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((height, width), np.uint8)
    mask[20:40, 30:60] = 255
    return np.full((height, width, 3), 120, np.uint8), mask


def test_a_line_along_the_border_and_nothing_else():
    picture, mask = scene()
    drawn = draw_outline(picture, mask, width=2)
    line = (drawn == OUTLINE_COLOR).all(axis=-1)
    assert line[19:21, 40].all() and line[30, 29:31].all()  # a pixel on either side of the border
    rows, columns = np.nonzero(line)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 40, 29, 60)
    assert (drawn[22:38, 32:58] == 120).all() and (drawn[:17] == 120).all()
    assert (drawn[18, 40] == 0).all() and (drawn[21, 40] == 0).all()  # the dark rim
    assert (picture == 120).all()


def test_the_box_that_is_looked_at_does_not_show():
    """Wherever the mask lies, the line is the same."""
    picture, mask = scene()
    whole = draw_outline(picture, mask)
    for shift in ((-20, -30), (15, 20), (0, 20)):
        moved = np.roll(mask, shift, axis=(0, 1))
        drawn = np.roll(draw_outline(picture, moved), [-step for step in shift], axis=(0, 1))
        inner = (slice(25, 35), slice(35, 55))
        np.testing.assert_array_equal(drawn[inner], whole[inner])


def test_no_line_along_the_pictures_edge():
    picture, mask = scene()
    mask[:] = 0
    mask[:, :40] = 1
    drawn = draw_outline(picture, mask, width=2)
    assert (drawn[:, :30] == 120).all() and (drawn[0, 39] == OUTLINE_COLOR).all()


def test_an_empty_mask_leaves_the_picture():
    picture, mask = scene()
    np.testing.assert_array_equal(draw_outline(picture, np.zeros_like(mask)), picture)


def test_the_line_grows_with_the_picture():
    def line(factor: int) -> int:
        picture, mask = scene(60 * factor, 80 * factor)
        mask[:] = 0
        mask[:, 40 * factor :] = 255
        return int((draw_outline(picture, mask)[30] == OUTLINE_COLOR).all(axis=-1).sum())

    assert line(1) == 2 and line(20) > 4


def test_another_size():
    with pytest.raises(ValueError, match="the mask has the shape"):
        draw_outline(scene()[0], np.zeros((5, 5)))
