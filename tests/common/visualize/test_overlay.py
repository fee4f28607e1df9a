from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage

from common.data.label_scheme import LabelScheme
from common.errors import InputError
from common.visualize import overlay, render_overlay, save_overlay
from tests.helpers import CODES, SPACING, affine_of, stored

SCHEME = LabelScheme.load("mrspineseg17")
COLORS = {structure.value: structure.color for structure in SCHEME.all_structures}
SHAPE = (32, 40, 48)  # small enough to be shown whole: 32 x 50 x 72 mm
GREY = 128  # how a constant image is drawn


def spine(shape=SHAPE) -> np.ndarray:
    """Stack of L4, L3/L4, L3, without symmetry, in RAS axes."""
    labels = np.zeros(shape, dtype=np.uint8)
    labels[9:25, 18:30, 4:16] = 3
    labels[10:24, 18:31, 17:21] = 13
    labels[11:27, 20:32, 22:37] = 4
    return labels


def panels(picture: Image.Image) -> list[tuple[slice, slice]]:
    """Find the panels of a constant image as large grey areas: sagittal, image alone, coronal, axial."""
    grey = (np.asarray(picture) == GREY).all(axis=2)
    areas, _ = ndimage.label(grey)
    sizes = np.bincount(areas.ravel())
    boxes = [box for index, box in enumerate(ndimage.find_objects(areas), 1) if sizes[index] > 3000]
    return sorted(boxes, key=lambda box: box[1].start)


def constant(shape=SHAPE) -> np.ndarray:
    return np.full(shape, 300, dtype=np.int16)


@pytest.fixture
def texts(monkeypatch) -> list[tuple[str, tuple[float, float]]]:
    """Record what is written into pictures, and where."""
    found, original = [], ImageDraw.ImageDraw.text

    def text(self, xy, text, *args, **kwargs):
        found.append((text, xy))
        return original(self, xy, text, *args, **kwargs)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


@pytest.mark.parametrize("code", CODES)
def test_block_lies_where_it_is_in_the_patient(code):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[3:11, 26:37, 33:44] = 5  # left, anterior and superior of the middle: x 3..11, y 26..37, z 33..44
    data, affine = stored(labels, affine_of(), code)
    picture = render_overlay(constant(data.shape), data, affine, SCHEME)
    pixels = np.asarray(picture).astype(int)
    boxes = panels(picture)
    assert len(boxes) == 4
    # How far right and down, as fractions of the panel: the head is up, anterior and the patient's right at the left.
    expected = {
        0: ((1 - 37 / 40, 1 - 26 / 40), (1 - 44 / 48, 1 - 33 / 48)),
        2: ((1 - 11 / 32, 1 - 3 / 32), (1 - 44 / 48, 1 - 33 / 48)),
        3: ((1 - 11 / 32, 1 - 3 / 32), (1 - 37 / 40, 1 - 26 / 40)),
    }
    for index, box in enumerate(boxes):
        part = pixels[box]
        painted = part[..., 1] - part[..., 0] > 40  # L2 is green; letters, lines and bars are thin
        painted = ndimage.binary_opening(painted, iterations=3)
        if index == 1:
            assert not painted.any()
            continue
        rows, columns = np.nonzero(painted)
        (left, right), (top, bottom) = expected[index]
        height, width = painted.shape
        found = (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1)
        np.testing.assert_allclose(found, (left * width, right * width, top * height, bottom * height), atol=2.5)
        fill = 0.64 * GREY + 0.36 * np.array(COLORS[5])
        np.testing.assert_allclose(np.median(part[painted], axis=0), fill, atol=2)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.1, -0.15, 0.2)], ids=["straight", "oblique"])
def test_picture_is_the_same_however_it_is_stored(angles, monkeypatch):
    monkeypatch.setattr(overlay, "_SAMPLES", 4000)  # so that the grey window is taken from a part of the voxels
    random = np.random.default_rng(0)
    image, labels = random.gamma(2, 100, SHAPE), spine()
    reference, affine = np.roll(labels, (1, 2, -1), (0, 1, 2)), affine_of(angles=angles)
    pictures = []
    for code in CODES:
        parts = [stored(array, affine, code) for array in (image, labels, reference)]
        (turned, turned_affine), (turned_labels, _), (turned_reference, _) = parts
        pictures.append(
            render_overlay(turned, turned_labels, turned_affine, SCHEME, title="case", reference=turned_reference)
        )
    for code, picture in zip(CODES, pictures, strict=True):
        assert picture.tobytes() == pictures[0].tobytes(), code


def test_pixels_are_square_in_millimetres(texts):
    picture = render_overlay(constant(), spine(), affine_of(), SCHEME)
    pixels = np.asarray(picture)
    for box, (width_mm, height_mm) in zip(panels(picture), ((50, 72), (50, 72), (32, 72), (32, 50)), strict=True):
        height, width = (part.stop - part.start for part in box)
        assert width / width_mm == pytest.approx(height / height_mm, abs=1.5 / height_mm)
        below = pixels[box[0].stop + 2 : box[0].stop + 16, box[1].start : box[1].stop + 2]
        bar = (below == overlay._TEXT).all(axis=2).sum(axis=1).max()
        assert bar == pytest.approx((50 if width_mm >= 50 else 20) * width / width_mm, abs=2)
    assert [text for text, _ in texts if text.endswith((" cm", " mm"))] == ["5 cm", "5 cm", "2 cm", "2 cm"]


def test_orientation_letters_stand_at_the_edges(texts):
    picture = render_overlay(constant(), spine(), affine_of(), SCHEME)
    letters = [(text, xy) for text, xy in texts if len(text) == 1 and text in "APSIRL"]
    assert "".join(text for text, _ in letters) == "APSIAPSIRLSIRLAP"
    for index, (rows, columns) in enumerate(panels(picture)):
        left, right, top, bottom = (xy for _, xy in letters[4 * index : 4 * index + 4])
        assert left[0] - columns.start < 10 and columns.stop - right[0] < 10
        assert top[1] - rows.start < 10 and rows.stop - bottom[1] < 10


def test_outlines_are_crisper_than_the_fill():
    picture = render_overlay(constant(), spine(), affine_of(), SCHEME)
    part = np.asarray(picture)[panels(picture)[0]].astype(int)
    outline = np.abs(part - COLORS[3]).max(axis=2) < 4  # L4's colour is bright enough to be kept
    assert 200 < outline.sum() < 0.1 * outline.size


def test_names_stand_in_the_margin_without_overlap(texts):
    labels = np.zeros((10, 40, 44), dtype=np.uint8)
    for value in range(1, 20):
        labels[3:7, 10:20, 2 * value : 2 * value + 2] = value
    picture = render_overlay(constant(labels.shape), labels, affine_of((3, 1, 0.5)), SCHEME)
    box = panels(picture)[0]
    names = [(text, xy) for text, xy in texts if text in {s.name for s in SCHEME.all_structures}]
    margin = [(text, xy) for text, xy in names if 30 < xy[0] < box[1].start]
    assert [text for text, _ in margin] == [s.name for s in reversed(SCHEME.all_structures)]  # head first
    heights = [y for _, (_, y) in margin]
    assert min(np.diff(heights)) > 17.9
    assert 0 < heights[0] and heights[-1] < picture.height


def test_leader_line_meets_its_structure():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[12:20, 10:20, 20:30] = 1
    picture = render_overlay(constant(), labels, affine_of(), SCHEME)
    rows, columns = panels(picture)[0]
    part = np.asarray(picture)[rows, columns].astype(int)
    reddish = part[..., 0] - part[..., 2] > 60
    line = int((1 - 25 / 48) * reddish.shape[0])
    assert reddish[line - 1 : line + 2, : reddish.shape[1] // 2].any(axis=0).mean() > 0.95


@pytest.mark.parametrize("wanted", [[], [5.0], [5, 5, 5], [0, 0, 1, 50, 51, 99], list(range(0, 100, 5)), [99, 99.5]])
def test_spread_keeps_distance_order_and_bounds(wanted):
    moved = overlay._spread(wanted, 5, 2, 98)
    assert len(moved) == len(wanted)
    assert all(b - a >= 5 - 1e-9 for a, b in itertools.pairwise(moved))
    assert all(2 <= position <= 98 for position in moved)
    if wanted == [5.0]:
        assert moved == wanted


def test_legend_has_the_structures_with_colours_and_volumes(texts):
    labels, affine = spine(), affine_of()
    labels[0, 0, 0] = 10  # T9: not known to this scheme's network, and yet not to be hidden
    picture = render_overlay(constant(), labels, affine, SCHEME, title="case 7")
    strings = [text for text, _ in texts]
    assert "case 7" in strings and "no structure found" not in strings and "Dice" not in strings
    for value in (3, 4, 13):
        volume = (labels == value).sum() * np.prod(SPACING) / 1000
        assert f"{volume:.1f}" in strings
    assert "<0.1" in strings
    right = np.asarray(picture)[:, panels(picture)[3][1].stop + 5 :]
    shown = {value for value, color in COLORS.items() if (right == color).all(axis=2).sum() > 100}
    assert shown == {3, 4, 10, 13}


def test_reference_is_drawn_in_white_and_compared(texts):
    labels, reference = spine(), np.zeros(SHAPE, dtype=np.int32)
    reference[9:25, 18:30, 10:16] = 3  # half of the prediction's L4
    reference[9:25, 18:30, 38:46] = 5  # missing in the prediction
    picture = render_overlay(constant(), labels, affine_of(), SCHEME, reference=reference)
    strings = [text for text, _ in texts]
    assert "0.667" in strings and "0.000" in strings and f"{(2 / 3 + 0) / 2:.3f}" in strings
    assert strings.count("-") == 2  # L3/L4 and L3 are not in the reference
    rows, columns = panels(picture)[0]
    part = np.asarray(picture)[rows, columns]
    top, bottom = (round((1 - z / 48) * part.shape[0]) for z in (46, 38))
    white = (part > 240).all(axis=2)
    assert white[top - 2 : bottom + 2].sum() > 100
    alone = np.asarray(render_overlay(constant(), labels, affine_of(), SCHEME))
    assert not (alone[rows, columns][top + 20 : bottom + 2] > 240).all(axis=2).any()


def test_nothing_labelled_is_said(texts):
    picture = render_overlay(constant(), np.zeros(SHAPE, dtype=np.uint8), affine_of(), SCHEME)
    assert "no structure found" in [text for text, _ in texts]
    assert len(panels(picture)) == 4
    texts.clear()
    render_overlay(constant(), np.zeros(SHAPE, dtype=np.uint8), affine_of(), SCHEME, reference=spine())
    assert {"no structure found", "0.000"} <= {text for text, _ in texts}


def test_sagittal_slice_is_the_fullest():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[5:20, 10:20, 10:20] = 3
    labels[20, 5:35, 5:40] = 4
    picture = render_overlay(constant(), labels, affine_of(), SCHEME)
    part = np.asarray(picture)[panels(picture)[0]].astype(int)
    fill = (0.64 * GREY + 0.36 * np.array(COLORS[4])).round()
    assert (np.abs(part - fill).max(axis=2) < 3).mean() == pytest.approx(30 / 40 * 35 / 48, rel=0.1)


@pytest.mark.parametrize("shape", [(16, 16, 2), (2, 16, 16), (16, 2, 16), (1, 1, 1), (1, 300, 2), (3, 3, 400)], ids=str)
@pytest.mark.parametrize("content", ["random", "constant", "zero", "nan", "infinite", "bool"])
def test_degenerate_volumes_are_drawn(shape, content):
    random = np.random.default_rng(1)
    image = random.normal(size=shape)
    if content == "infinite":
        image.flat[::2] = np.inf
    elif content == "bool":
        image = image > 0
    elif content != "random":
        image = np.full(shape, {"constant": -4.0, "zero": 0.0, "nan": np.nan}[content])
    labels = random.integers(0, 20, shape).astype(np.int16)
    picture = render_overlay(image, labels, np.diag([-1, 2, 0.5, 1]), SCHEME, title="x" * 500)
    assert picture.mode == "RGB" and max(picture.size) < 4000


def test_values_that_are_not_finite_are_black():
    image = np.full(SHAPE, 100.0)
    image[:, :, 24:] = np.nan
    image[:, :20, 24:] = np.inf
    image[:8] = 50
    picture = np.asarray(render_overlay(image, spine() * 0, affine_of(), SCHEME))
    columns = np.flatnonzero((picture == 255).all(axis=2).sum(axis=0) > 100)
    rows = np.flatnonzero((picture[:, columns[20]] == 255).all(axis=1))
    height = rows[-1] + 1 - rows[0]  # the lower half is white
    assert (picture[rows[0] - height + 30 : rows[0] - 30, columns[20]] == 0).all()


def test_unusable_arguments_are_refused():
    image, labels, affine = constant(), spine(), affine_of()
    for wrong in (labels[1:], labels.astype(float), labels.astype(np.int16) - 1, labels + 17):
        with pytest.raises(ValueError, match="labels"):
            render_overlay(image, wrong, affine, SCHEME)
    with pytest.raises(ValueError, match="reference"):
        render_overlay(image, labels, affine, SCHEME, reference=labels[1:])
    with pytest.raises(ValueError, match="image"):
        render_overlay(image[0], labels[0], affine, SCHEME)
    for wrong in (np.eye(3), np.diag([1, 1, 0, 1]), np.full((4, 4), np.nan)):
        with pytest.raises(ValueError, match=r"affine|volume"):
            render_overlay(image, labels, wrong, SCHEME)


def test_arguments_are_not_changed():
    image, labels, affine = np.random.default_rng(0).normal(size=SHAPE), spine(), affine_of()
    copies = image.copy(), labels.copy(), affine.copy()
    render_overlay(image, labels, affine, SCHEME, reference=labels)
    for array, copy in zip((image, labels, affine), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "case.png"
    assert save_overlay(path, constant(), spine(), affine_of(), SCHEME, title="first") == path
    with Image.open(path) as written:
        assert written.format == "PNG"
        drawn = render_overlay(constant(), spine(), affine_of(), SCHEME, path=tmp_path / "again.png", title="first")
        assert written.tobytes() == drawn.tobytes()
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()

    before = path.read_bytes()

    def full(self, target, **options):
        target.write_bytes(b"half a pict")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match=r"case\.png: cannot be written \(No space left on device\)"):
        save_overlay(path, constant(), spine(), affine_of(), SCHEME)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["case.png"]


def test_large_scan_is_drawn_quickly():
    shape = (512, 512, 20)
    image = np.random.default_rng(0).integers(0, 1000, shape, dtype=np.int16)
    labels = np.zeros(shape, dtype=np.uint8)
    for value in range(1, 20):
        labels[200:280, 20 + 24 * value : 40 + 24 * value, 4:16] = value
    affine = np.array([[0, 0, 4, 0], [-0.6, 0, 0, 0], [0, -0.6, 0, 0], [0, 0, 0, 1.0]])  # PIR, as sagittal scans are
    start = time.process_time()
    render_overlay(image, labels, affine, SCHEME, reference=np.roll(labels, 2, 0))
    assert time.process_time() - start < 1.5
