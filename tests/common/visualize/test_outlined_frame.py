from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.visualize.model_colors import model_color
from common.visualize.outline import OUTLINE_COLOR
from common.visualize.outlined_frame import draw_outlined, save_outlined

GREY = np.full((400, 500, 3), 120, np.uint8)


def box(size: tuple[int, int], top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def extent(drawn: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((drawn == color).all(axis=-1))
    return rows.min(), rows.max(), columns.min(), columns.max()


def test_both_outlines_in_their_places():
    """The mask is on a grid of a quarter of the picture's size, the reference on the picture's own."""
    drawn = draw_outlined(GREY, box((400, 500), 50, 150, 60, 200), box((100, 125), 50, 70, 25, 75), "text")
    assert drawn.shape == GREY.shape
    for color, wanted in ((OUTLINE_COLOR, (49, 150, 59, 200)), (model_color(0), (199, 280, 99, 300))):
        assert extent(drawn, color) == pytest.approx(wanted, abs=1)
    assert (drawn[80:120, 90:170] == 120).all() and (drawn[220:260, 130:270] == 120).all()
    assert (drawn[-8:, :20] != 120).any() and (drawn[:40] == 120).all()  # the caption's corner


def test_a_model_that_marks_nothing():
    drawn = draw_outlined(GREY, box((400, 500), 50, 150, 60, 200), None, "")
    assert not (drawn == model_color(0)).all(axis=-1).any() and (drawn == OUTLINE_COLOR).all(axis=-1).any()


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((1080, 1920), (360, 640)), ((36, 64), (180, 320)), ((400, 500), (400, 500)), ((900, 9), (640, 6))],
)
def test_modest_sizes(size, wanted):
    nothing = np.zeros(size, bool)
    assert draw_outlined(np.zeros((*size, 3), np.uint8), nothing, nothing, "a caption").shape == (*wanted, 3)


def test_the_file(tmp_path):
    path = tmp_path / "a" / "b.jpg"
    save_outlined(path, GREY, box((400, 500), 50, 150, 60, 200), None, "")
    with Image.open(path) as image:
        assert image.format == "JPEG" and image.size == (500, 400)
        line = np.asarray(image)[50, 100:180].mean(axis=0)
    assert line == pytest.approx(OUTLINE_COLOR, abs=25)  # thin lines keep their colour
    assert [found.name for found in path.parent.iterdir()] == ["b.jpg"]


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.jpg: cannot be written"):
        save_outlined(tmp_path / "file" / "b.jpg", GREY, np.zeros((400, 500)), None, "")
