from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from common.errors import InputError
from common.visualize.curves import Curve, precision_recall_figure, roc_figure, save_figure
from common.visualize.model_colors import model_color

GUESS = Curve("a guess", np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5)


def perfect(name: str = "perfect") -> Curve:
    return Curve(name, np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]), 1.0, (0.0, 1.0))


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def picture(figure, folder) -> np.ndarray:
    save_figure(folder / "new" / "curves.png", figure)
    with Image.open(folder / "new" / "curves.png") as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def colored(pixels: np.ndarray, number: int) -> np.ndarray:
    return np.abs(pixels - model_color(number)).max(axis=-1) < 8


def test_legend_names_the_areas():
    assert texts(roc_figure([perfect(), GUESS])) == ["AUROC 1.000   perfect", "AUROC 0.500   a guess"]
    assert texts(precision_recall_figure([GUESS], 0.1)) == ["AUPRC 0.500   a guess"]


def test_what_is_drawn(tmp_path):
    figure = roc_figure([perfect(), GUESS])
    axes = figure.axes[0]
    pixels = picture(figure, tmp_path)
    height = pixels.shape[0]

    def at(x: float, y: float) -> tuple[slice, slice]:
        column, row = axes.transData.transform((x, y))
        return slice(round(height - row) - 4, round(height - row) + 5), slice(round(column) - 4, round(column) + 5)

    for x, y in ((0, 0.5), (0.5, 1), (0, 1)):
        assert colored(pixels[at(x, y)], 0).any() and not colored(pixels[at(x, y)], 1).any()
    assert colored(pixels[at(0.5, 0.5)], 1).any() and not colored(pixels[at(0.5, 0.5)], 0).any()
    # The legend's lines lie below the plot.
    below = round(height - axes.transAxes.transform((0, 0))[1])
    assert all(colored(pixels[below:], number).sum() > 50 for number in (0, 1))


def test_area_of_the_steps_is_the_average_precision():
    curve = Curve("steps", np.array([0.25, 0.5, 1.0]), np.array([1.0, 0.5, 0.75]), 0.25 + 0.125 + 0.375)
    line = next(line for line in precision_recall_figure([curve], 0.3).axes[0].lines if len(line.get_xdata()) > 2)
    assert line.get_drawstyle() == "steps-pre"
    x, y = line.get_xdata(), line.get_ydata()
    assert np.diff(x) @ y[1:] == pytest.approx(curve.area) and (x[0], y[0]) == (0, 1)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_everything_is_on_the_page(count):
    """Whatever the models are called, and however many there are."""
    names = ["_hidden", "cost $x$ and $y", "a very long name " * 9, "ä"] * 3
    figure = roc_figure([perfect(name) for name in names[:count]])
    figure.canvas.draw()
    page = figure.bbox
    boxes = [figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()]
    for box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    assert boxes[0].y1 < boxes[1].y0  # the legend is below the axes' labels
    assert len(texts(figure)) == count


def test_models_of_one_colour_differ_by_their_lines():
    lines = roc_figure([perfect(str(number)) for number in range(12)]).legends[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 12


def test_pyplot_keeps_none():
    roc_figure([GUESS])
    assert pyplot.get_fignums() == []


def test_same_curves_same_file(tmp_path):
    for name in ("one.png", "two.png"):
        save_figure(tmp_path / name, roc_figure([perfect(), GUESS]))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_not_to_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(tmp_path / "file" / "curves.png", roc_figure([GUESS]))
