from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from common.metrics.spine_measures import measure_spine
from common.visualize import render_overlay
from common.visualize.measures import MEASURE_COLORS, draw_measures, measure_lines
from tests.common.metrics.spine_measures.spines import SCHEME, Block, rasterise

AFFINE = np.diag([4.0, 1, 1, 1])
AFFINE[:3, 3] = -30, -40, -24
SHAPE = (16, 80, 90)
# L4 over L5, 6 mm between, 10 mm to the front.
LOWER = np.array([[-16.0, 13], [16, 13], [16, -13], [-16, -13]])
BLOCKS = {"L5": Block(LOWER), "L4": Block(LOWER + np.array([10, 32]))}


@pytest.fixture(scope="module")
def spine():
    labels = rasterise(BLOCKS, AFFINE, SHAPE)
    return labels, measure_spine(labels, AFFINE, SCHEME)


def test_points_and_slip_are_drawn_where_they_are(spine):
    _, measures = spine
    picture = Image.new("RGB", (400, 450))
    draw_measures(picture, measures, lambda point: (200 - 4 * point[1], 300 - 4 * point[2]), 2)
    pixels = np.asarray(picture)
    for block in BLOCKS.values():
        for front, up in block.corners:
            x, y = round(200 - 4 * front), round(300 - 4 * up)
            assert (pixels[y - 3 : y + 4, x - 3 : x + 4] == MEASURE_COLORS["bone"]).all(axis=2).any()
    # From the lower back corner of L4 (-6, 19) to the upper one of L5 (-16, 13).
    assert (pixels[300 - 4 * 16, 200 + 4 * 11 - 3 : 200 + 4 * 11 + 4] == MEASURE_COLORS["slip"]).all(axis=1).any()
    assert not (pixels == MEASURE_COLORS["lordosis"]).all(axis=2).any()


def test_lines_of_text(spine):
    _, measures = spine
    lines = {text: (kind, point) for kind, text, point in measure_lines(measures)}
    assert list(lines) == [
        "L5   27.0  27.0  27.0",
        "L4   27.0  27.0  27.0",
        "L4 slip +10.0 mm, grade II",
        "L4/L5   5.0  5.0  5.0   DHI 0.19",
    ]
    kind, point = lines["L4   27.0  27.0  27.0"]
    assert kind == "bone"
    np.testing.assert_allclose(point, (0, 10, 32), atol=1)
    assert lines["L4/L5   5.0  5.0  5.0   DHI 0.19"][0] == "disc"


def test_the_picture_gets_a_panel_with_numbers(spine, monkeypatch):
    labels, measures = spine
    written, original = [], ImageDraw.ImageDraw.text

    def text(self, xy, string, *args, **kwargs):
        written.append(string)
        return original(self, xy, string, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    image = np.full(SHAPE, 300, np.int16)
    plain = render_overlay(image, labels, AFFINE, SCHEME)
    assert "Sagittal, measures" not in written
    drawn = render_overlay(image, labels, AFFINE, SCHEME, measures=measures)
    assert {"Sagittal, measures", "L4 slip +10.0 mm, grade II", "L4/L5   5.0  5.0  5.0   DHI 0.19"} <= set(written)
    assert drawn.width > plain.width + 250
    nothing = measure_spine(np.zeros(SHAPE, np.uint8), AFFINE, SCHEME)
    assert render_overlay(image, labels, AFFINE, SCHEME, measures=nothing).tobytes() == plain.tobytes()
