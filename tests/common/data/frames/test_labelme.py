from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.data.frames.labelme import labelme_labels, read_labelme
from common.errors import InputError
from tests.common.data.video.dataset_files import write_json

SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def write(path: Path, *shapes: dict, size: tuple[int | None, int | None] = (6, 8)) -> Path:
    return write_json(path, {"version": "5.4.1", "shapes": shapes, "imageHeight": size[0], "imageWidth": size[1]})


def shape(points, label: str = "root", kind: str | None = "polygon") -> dict:
    return {"label": label, "points": points, "shape_type": kind}


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def message(path: Path, *arguments) -> str:
    with pytest.raises(InputError) as error:
        read_labelme(path, *arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "drawn", [shape(SQUARE), shape(SQUARE, kind=None), shape([[4, 3], [1, 1]], kind="rectangle")]
)  # fmt: skip
def test_polygons_and_rectangles(tmp_path, drawn):
    mask = read_labelme(write(tmp_path / "a.json", drawn))
    assert mask.dtype == bool and (mask == box(1, 1, 3, 4)).all()


def test_a_polygon_that_is_no_rectangle(tmp_path):
    mask = read_labelme(write(tmp_path / "a.json", shape([[10, 10], [90, 10], [10, 90]]), size=(100, 100)))
    assert mask[15, 15] and mask[40, 40] and not mask[60, 60]
    assert mask.sum() == pytest.approx(80 * 80 / 2, rel=0.04)


def test_circle(tmp_path):
    mask = read_labelme(write(tmp_path / "a.json", shape([[50, 40], [50, 60]], kind="circle"), size=(100, 100)))
    assert mask[40, 50] and mask[40, 30] and not mask[22, 32]
    assert mask.sum() == pytest.approx(np.pi * 20**2, rel=0.06)


def test_union_and_labels(tmp_path):
    path = write(
        tmp_path / "a.json", shape(SQUARE), shape([[3, 2], [6, 5]], "dura", "rectangle"),
        shape([[0, 5], [0, 5]], "tool", "rectangle"), shape([[0, 0]], "note", "point"),
    )  # fmt: skip
    root, dura = box(1, 1, 3, 4), box(2, 3, 5, 6)
    assert (read_labelme(path, ["root", "dura"]) == (root | dura)).all()
    assert (read_labelme(path, ["dura"]) == dura).all()
    assert not read_labelme(path, ["vein"]).any()
    assert labelme_labels(path) == {"root", "dura", "tool", "note"}
    assert message(path) == (
        f"{path} (shape 3): is a 'point', which has no certain area; draw it as one of polygon, rectangle, circle"
    )


def test_no_shapes_and_shapes_beyond_the_edge(tmp_path):
    assert not read_labelme(write(tmp_path / "a.json")).any()
    beyond = shape([[-5, 4], [40, 4], [40, 40], [-5, 40]])
    assert (read_labelme(write(tmp_path / "b.json", beyond)) == box(4, 0, 5, 7)).all()


def test_size(tmp_path):
    path = write(tmp_path / "a.json", shape(SQUARE))
    assert read_labelme(path, None, (6, 8)).shape == (6, 8)
    assert message(path, None, (8, 6)) == (
        f"{path}: was drawn on 8 x 6, but its picture is 6 x 8; draw it on the picture that is there"
    )
    silent = write(tmp_path / "b.json", shape(SQUARE), size=(None, None))
    assert read_labelme(silent, None, (7, 9)).shape == (7, 9)
    assert "does not state the size" in message(silent)
    assert "states a picture of -3 x 5" in message(write(tmp_path / "c.json", size=(5, -3)))


@pytest.mark.parametrize(
    "points", [[[1, 1], [2, 2]], [[1, 1], [2, 2], [3]], [[1, 1], [2, 2], ["x", 1]], [[1, 1], [2, 2], [1e300, 0]], None]
)
def test_a_polygon_that_is_none(tmp_path, points):
    path = write(tmp_path / "a.json", shape(points))
    assert message(path) == (
        f"{path} (shape 0): is not a polygon of three points or more; mend or delete it in LabelMe"
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"shapes": 3}', '{"shapes": [1]}'])
def test_not_a_labelme_file(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    assert message(path).startswith(f"{path}: is not ") and message(path).endswith("; save it in LabelMe again")
