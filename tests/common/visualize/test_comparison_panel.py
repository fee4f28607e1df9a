from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from common.visualize import OUTLINE_COLOR
from common.visualize.comparison_panel import PanelMask, PanelRow, draw_panel, save_panel
from common.visualize.model_colors import model_color

GREY = 150


def block(top: int = 30, left: int = 40, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + 40, left : left + 60] = True
    return mask


EMPTY = block() & False
FOUND = PanelMask(block(), opened=True, p_present=0.91, dice=0.83)
CLOSED = PanelMask(block(), opened=False, p_present=0.23, dice=0.0)


def row(*models: PanelMask, reference: np.ndarray | None = None, name: str = "frame 7") -> PanelRow:
    reference = block() if reference is None else reference
    return PanelRow(name, np.full((*reference.shape, 3), GREY, np.uint8), reference, models)


def color(panel: Image.Image | np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    return (np.asarray(panel) == wanted).all(axis=-1)


def cells(panel: Image.Image, columns: int) -> list[np.ndarray]:
    """The columns of a panel, below the heads."""
    pixels = np.asarray(panel)
    return np.array_split(pixels[40:], columns, axis=1)


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """Record what is written into pictures."""
    found, original = [], ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **kwargs):
        found.append(text)
        return original(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


def test_columns():
    panel = draw_panel(["one", "two"], [row(FOUND, replace(FOUND, mask=block(60, 80)))])
    frame, reference, one, two = cells(panel, 4)
    outlines = {"reference": OUTLINE_COLOR, "one": model_color(0), "two": model_color(1)}
    found = {
        (number, name)
        for number, cell in enumerate((frame, reference, one, two))
        for name, wanted in outlines.items()
        if color(cell, wanted).sum() > 100
    }
    assert found == {(1, "reference"), (2, "one"), (3, "two")}
    # The frame itself is there as it is, and the outline lies where the mask is: at 280 / 160 of the size.
    assert color(frame, (GREY,) * 3).sum() == 280 * 210
    rows, columns = np.nonzero(color(one, model_color(0)))
    assert (np.ptp(rows), np.ptp(columns)) == pytest.approx((40 * 1.75, 60 * 1.75), abs=4)


def test_closed_gate_is_seen(written):
    panel = draw_panel(["one", "two"], [row(FOUND, CLOSED)])
    _, _, one, two = cells(panel, 4)
    assert written.count("gate closed") == 1
    assert color(one, (GREY,) * 3).sum() > 10000
    assert not color(two, (GREY,) * 3).any() and not color(two, model_color(1)).any()
    assert color(two, (int(GREY * 0.45),) * 3).sum() > 10000
    assert color(two, (170,) * 3).sum() > 100  # what the gate has kept back


def test_numbers_below_each(written):
    draw_panel(["one", "two"], [row(FOUND, CLOSED)])
    assert {"DSC 0.83    p 0.91", "DSC 0.00    p 0.23", "frame 7", "present"} <= set(written)


@pytest.mark.parametrize(
    ("found", "reference", "words"),
    [
        (CLOSED, block(), {"missed by the gate"}),
        (replace(FOUND, mask=EMPTY), block(), {"missed by the segmenter"}),
        (FOUND, EMPTY, {"false alarm", "absent"}),
        (CLOSED, EMPTY, {"absent"}),
        (FOUND, block(), set()),
        (replace(FOUND, mask=None), block(), {"mask not saved"}),
        (replace(FOUND, mask=EMPTY), EMPTY, {"absent"}),
    ],
)
def test_what_is_wrong_is_said(found, reference, words, written):
    draw_panel(["one"], [row(found, reference=reference)])
    said = {"missed by the gate", "missed by the segmenter", "false alarm", "absent", "mask not saved"}
    assert set(written) & said == words


def test_sizes():
    """Pictures keep their proportions, and each fits into its cell."""
    shapes = ((108, 192), (300, 100), (30, 30))
    rows = [row(FOUND, reference=np.zeros(shape, bool)) for shape in shapes]
    rows = [replace(one, models=[replace(FOUND, mask=one.reference)]) for one in rows]
    first = np.asarray(draw_panel(["one"], rows))[:, : 16 + 280]
    grey = color(first, (GREY,) * 3)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], (grey.sum(axis=1) > 20).astype(int), [0]])))
    heights = runs[1::2] - runs[::2]
    widths = [int(grey[top].sum()) for top in runs[::2]]
    assert list(zip(heights, widths, strict=True)) == [(158, 280), (280, 93), (280, 280)]


def test_a_small_mask_is_not_lost():
    mask = np.zeros((1080, 1920), bool)
    mask[500, 900] = True
    panel = draw_panel(["one"], [row(replace(FOUND, mask=mask), reference=mask)])
    _, reference, one = cells(panel, 3)
    assert color(reference, OUTLINE_COLOR).any() and color(one, model_color(0)).any()


def test_long_names_are_cut(written):
    name = "patient/" * 20 + "7"
    panel = draw_panel(["m" * 300], [row(FOUND, name=name)], title="t" * 900)
    assert panel.width == 3 * 280 + 2 * 10 + 2 * 16
    assert any(text.startswith("...") and text.endswith("/7") for text in written)
    assert sum(text.endswith("m...") for text in written) == 1 and not any(len(text) > 200 for text in written)


def test_arguments_are_not_changed():
    one = row(CLOSED)
    draw_panel(["one"], [one])
    assert (one.picture == GREY).all() and (one.reference == block()).all() and (CLOSED.mask == block()).all()


@pytest.mark.parametrize("rows", [[], [row(FOUND), row(FOUND, CLOSED)]])
def test_other_numbers_of_models(rows):
    with pytest.raises(ValueError, match="as many masks as there are models"):
        draw_panel(["one"], rows)


def test_file(tmp_path):
    save_panel(tmp_path / "new" / "panel.png", ["one"], [row(FOUND)], "title")
    with Image.open(tmp_path / "new" / "panel.png") as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == np.asarray(draw_panel(["one"], [row(FOUND)], "title"))).all()
