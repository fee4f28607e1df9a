from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest

from common.data import phantom_anatomy
from common.data.phantom import make_spine_phantom
from common.data.phantom_canvas import Window
from common.metrics.spine_measures import MEASURES, measure_spine, meyerding_grade
from tests.common.metrics.spine_measures.spines import BONES, SCHEME, Block, gaps, lordosis, rasterise, slip, stack
from tests.helpers import CODES, stored

HEIGHTS = ("height_anterior_mm", "height_middle_mm", "height_posterior_mm")
# Voxel sizes from side to side, front to back and upwards, mm; turns of the grid about these axes, radians.
GRIDS = {
    "thick slices": ((4.0, 0.9, 0.9), (0, 0, 0)),
    "fine": ((4.0, 0.6, 0.6), (0, 0, 0)),
    "isotropic, oblique": ((1.2, 1.2, 1.2), (0.09, -0.06, 0.07)),
    "thick, oblique": ((4.4, 0.8, 0.7), (-0.12, 0.05, -0.08)),
}


def grid(spacing=(4.0, 0.9, 0.9), angles=(0, 0, 0), low=(-32, -64, -56), high=(32, 118, 196)) -> tuple:
    """A grid that covers a box of world coordinates, mm."""
    turn = nib.eulerangles.euler2mat(*angles[::-1])
    shape = [int((b - a) / step) for a, b, step in zip(low, high, spacing, strict=True)]
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = (np.array(low) + high) / 2 - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine, shape


def measured(blocks: dict[str, Block], affine: np.ndarray, shape, **drawn):
    return measure_spine(rasterise(blocks, affine, shape, **drawn), affine, SCHEME)


def heights(row: dict) -> list[float]:
    return [row[key] for key in HEIGHTS]


@pytest.fixture(scope="module")
def usual():
    """A usual spine on a usual grid: blocks, label map, affine, measures."""
    affine, shape = grid()
    blocks = stack({"L4": 9.5})
    labels = rasterise(blocks, affine, shape)
    return blocks, labels, affine, measure_spine(labels, affine, SCHEME)


@pytest.mark.parametrize("arch", [False, True], ids=["body", "whole vertebra"])
@pytest.mark.parametrize("name", GRIDS)
def test_measures_are_those_that_the_spine_was_built_with(name, arch):
    spacing, angles = GRIDS[name]
    affine, shape = grid(spacing, angles, *(((-48, -64, -58), (48, 118, 200)) if any(angles) else ()))
    blocks, half = stack({"L4": 9.5, "L2": -4.0}), max(spacing[1:]) / 2
    found = measured(blocks, affine, shape, arch=arch)
    for below, bone in itertools.pairwise(BONES):
        row = found.row(bone)
        assert row["missing"] == "", bone
        np.testing.assert_allclose(heights(row), blocks[bone].heights, atol=half, err_msg=bone)
        assert row["depth_mm"] == pytest.approx(34, abs=half)
        expected = slip(blocks[bone], blocks[below])
        assert row["slip_mm"] == pytest.approx(expected, abs=half), bone
        assert row["slip_percent"] == pytest.approx(100 * expected / 34, abs=100 * half / 34 + 0.5)
        disc = found.row(f"{bone}/{below}")
        np.testing.assert_allclose(heights(disc), gaps(blocks[bone], blocks[below]), atol=half, err_msg=bone)
    assert found.row("L1-S1")["lordosis_deg"] == pytest.approx(lordosis(blocks), abs=2)
    assert [found.row(bone)["slip_grade"] for bone in BONES[1:]] == ["0", "II", "0", "0", "0"]
    assert found.row("S")["depth_mm"] == pytest.approx(34, abs=half)
    assert found.row("S")["missing"] == ""


def test_disc_height_index(usual):
    _, _, _, found = usual
    for disc, bodies in (("L3/L4", ("L3", "L4")), ("L5/S", ("L5",))):
        row = found.row(disc)
        around = np.mean([heights(found.row(body)) for body in bodies])
        assert row["disc_height_index"] == pytest.approx(np.mean(heights(row)) / around)
    assert 0.2 < found.row("L3/L4")["disc_height_index"] < 0.4


def test_volumes_are_those_of_the_label_map(usual):
    _, labels, affine, found = usual
    for structure in SCHEME.structures:
        voxels = np.count_nonzero(labels == structure.value)
        expected = voxels * abs(np.linalg.det(affine[:3, :3])) / 1000 if voxels else None
        assert found.row(structure.name)["volume_ml"] == (pytest.approx(expected) if voxels else None)


def test_a_spine_that_leans_to_the_side():
    affine, shape = grid(high=(66, 118, 196))
    blocks = stack()
    found = measured(blocks, affine, shape, lean=0.2)
    for bone in BONES[1:]:
        np.testing.assert_allclose(heights(found.row(bone)), blocks[bone].heights, atol=0.45, err_msg=bone)


@pytest.mark.parametrize("code", CODES)
def test_the_same_label_map_in_another_orientation(usual, code):
    _, labels, affine, found = usual
    again = measure_spine(*stored(labels, affine, code), SCHEME)
    for row, other in zip(found.rows, again.rows, strict=True):
        assert row["level"] == other["level"] and row["missing"] == other["missing"]
        for key in MEASURES:
            if row[key] is None or key == "slip_grade":
                assert row[key] == other[key]
            else:
                assert other[key] == pytest.approx(row[key], abs=0.02), (row["level"], key)


def test_landmarks_lie_on_the_corners(usual):
    blocks, _, _, found = usual
    for bone in BONES[1:]:
        outline = found.outlines[bone]
        points = (outline.upper.back, outline.upper.front, outline.lower.front, outline.lower.back)
        np.testing.assert_allclose(np.array(points)[:, 1:], blocks[bone].corners, atol=0.7)
        assert np.abs(np.array(points)[:, 0]).max() < 1
    np.testing.assert_allclose(found.sacral_plate.back[1:], blocks["S"].corners[0], atol=0.7)


@pytest.mark.parametrize(
    ("slip_mm", "grade"),
    [(-12, "0"), (2.9, "0"), (3, "I"), (8.5, "I"), (8.6, "II"), (17.5, "III"), (30, "IV"), (34.1, "V"), (80, "V")],
)
def test_grades_are_quarters_of_the_end_plate(slip_mm, grade):
    assert meyerding_grade(slip_mm, 34) == grade


class TestMissing:
    def test_every_level_has_a_row(self):
        found = measure_spine(np.zeros((5, 6, 7), np.uint8), np.eye(4), SCHEME)
        assert [row["level"] for row in found.rows] == [
            *(s.name for s in sorted(SCHEME.structures, key=lambda s: s.value)),
            "L1-S1",
        ]
        assert all(row[key] is None for row in found.rows for key in MEASURES)
        assert all("not in the label map" in row["missing"] for row in found.rows)
        assert found.outlines == {} and found.sacral_plate is None

    def test_a_vertebra_that_the_upper_edge_cuts(self, usual):
        blocks, labels, affine, whole = usual
        top = int((blocks["L1"].corners[:, 1].mean() - affine[2, 3]) / affine[2, 2])
        found = measure_spine(labels[:, :, :top], affine, SCHEME)
        row = found.row("L1")
        assert all(row[key] is None for key in MEASURES)
        assert row["missing"] == "volume, heights and depth, slip: cut by the upper edge of the scan"
        reason = "L1 is not measured (cut by the upper edge of the scan)"
        assert found.row("L1-S1")["missing"] == f"lordosis: {reason}"
        assert found.row("L1/L2")["missing"] == f"heights and depth, index: {reason}"
        assert heights(found.row("L2")) == pytest.approx(heights(whole.row("L2")), abs=0.1)

    def test_a_slab_that_cuts_the_sides(self, usual):
        _, labels, affine, whole = usual
        found = measure_spine(labels[:12], affine, SCHEME)
        row = found.row("L3")
        assert row["volume_ml"] is None and row["missing"] == "volume: cut by the right edge of the scan"
        assert heights(row) == pytest.approx(heights(whole.row("L3")), abs=0.3)
        narrow = measure_spine(labels[:7], affine, SCHEME).row("L3")
        assert narrow["height_middle_mm"] is None
        assert narrow["missing"] == "volume, heights and depth, slip: cut by the right edge of the scan"

    def test_a_label_on_a_single_slice(self, usual):
        _, labels, affine, _ = usual
        single = np.zeros_like(labels)
        single[8] = labels[8]
        row = measure_spine(single, affine, SCHEME).row("L3")
        assert row["height_middle_mm"] is None and row["volume_ml"] > 0
        assert row["missing"] == "heights and depth, slip: its label is only 4 mm wide"

    def test_no_sacrum(self, usual):
        _, labels, affine, _ = usual
        found = measure_spine(np.where(labels == 1, 0, labels), affine, SCHEME)
        assert found.row("L1-S1")["lordosis_deg"] is None
        assert found.row("L1-S1")["missing"] == "lordosis: S is not measured (not in the label map)"
        row = found.row("L5")
        assert row["height_middle_mm"] is not None and row["slip_mm"] is None and row["slip_grade"] is None
        assert row["missing"] == "slip: S is not measured (not in the label map)"

    def test_a_sacrum_alone(self, usual):
        _, labels, affine, _ = usual
        found = measure_spine(np.where(labels == 1, labels, 0), affine, SCHEME)
        assert found.row("S")["missing"] == "depth: there is neither L5 nor the disc above to find its end plate by"

    def test_numbers_that_skip_a_level(self, usual):
        _, labels, affine, _ = usual
        renamed = np.where(labels == 3, 0, np.where(labels == 4, 3, labels))  # L3 is called L4
        row = measure_spine(renamed, affine, SCHEME).row("L4")
        assert row["slip_mm"] is None and row["missing"].startswith("slip: L4 and L5 are 4")

    @pytest.mark.parametrize("height", [2, 70])
    def test_what_has_not_the_size_of_a_body(self, height):
        affine, shape = grid((4, 1, 1), low=(-30, -40, -60), high=(30, 40, 60))
        corners = np.array([[-15, height / 2], [15, height / 2], [15, -height / 2], [-15, -height / 2]])
        row = measured({"L3": Block(corners)}, affine, shape).row("L3")
        assert row["height_middle_mm"] is None and "heights and depth, slip: it" in row["missing"]

    def test_an_arch_that_closes_the_canal(self):
        affine, shape = grid((4, 1, 1), low=(-30, -80, -30), high=(30, 60, 30))
        corners = np.array([[-60, 13.5], [34, 13.5], [34, -13.5], [-60, -13.5]])
        row = measured({"L3": Block(corners)}, affine, shape).row("L3")
        assert row["depth_mm"] is None and "mm deep" in row["missing"]


def test_an_island_changes_no_height(usual):
    _, labels, affine, whole = usual
    more = labels.copy()
    more[2:4, 5:9, 100:104] = 4
    assert heights(measure_spine(more, affine, SCHEME).row("L3")) == heights(whole.row("L3"))


def test_discs_alone_are_measured_themselves():
    affine, shape = grid((4, 0.8, 0.8))
    blocks = stack()
    found = measured({name: block for name, block in blocks.items() if "/" in name}, affine, shape)
    for below, bone in itertools.pairwise(BONES):
        row = found.row(f"{bone}/{below}")
        # The label ends where the longer of its two end plates does: a wedge is a little higher there.
        np.testing.assert_allclose(heights(row), gaps(blocks[bone], blocks[below]), atol=0.8, err_msg=bone)
        assert row["disc_height_index"] is None
        assert row["missing"] == f"index: {bone} is not measured (not in the label map)"


def test_spines_of_the_phantom(monkeypatch):
    """The phantom's own end plates, as it paints them, are the truth: hollow, round at the corners, 1.1 mm pixels."""
    plates = []

    class Kept(phantom_anatomy._Plates):
        def __init__(self, spine, rng):
            super().__init__(spine, rng)
            plates.append((self, spine))

    monkeypatch.setattr(phantom_anatomy, "_Plates", Kept)
    phantom = make_spine_phantom(3)
    ((kept, spine),) = plates
    found = measure_spine(phantom.label, phantom.affine, SCHEME)

    def point(body, top: bool, front: float) -> np.ndarray:
        ahead = np.full((1, 1, 1), front, np.float32)
        along = kept.height(body, top, Window(None, ahead * 0, ahead, ahead * 0)).item()
        lean = np.interp(along, spine.height, spine.lean)
        return np.array(spine.at(along)) + front * np.array([np.cos(lean), -np.sin(lean)])

    for i, name in enumerate(("L5", "L4", "L3", "L2", "L1")):
        body = spine.bodies[i]
        # The back wall is hollow in the middle.
        fronts = (body.depth, 0.52 * body.depth, 0.0413 * body.depth)
        truth = [np.linalg.norm(point(body, True, front) - point(body, False, front)) for front in fronts]
        np.testing.assert_allclose(heights(found.row(name)), truth, atol=1.3, err_msg=name)
    ends = [(point(body, True, body.depth), point(body, True, 0)) for body in (spine.bodies[4], spine.sacrum[0])]
    angles = [np.degrees(np.arctan2(*(front - back)[::-1])) for front, back in ends]
    assert found.row("L1-S1")["lordosis_deg"] == pytest.approx(angles[0] - angles[1], abs=2)


def test_unusable_arguments_are_refused():
    for labels, affine in (
        (np.zeros((3, 3), np.uint8), np.eye(4)),
        (np.zeros((3, 3, 3)), np.eye(4)),
        (np.full((3, 3, 3), 20), np.eye(4)),
        (np.zeros((3, 3, 3), np.uint8), np.diag([1, 1, 0, 1])),
    ):
        with pytest.raises(ValueError, match=r"label|volume"):
            measure_spine(labels, affine, SCHEME)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(12))
def test_any_label_map_is_measured_or_not_but_never_an_error(seed):
    """What an untrained network writes: noise, blobs and slivers of any shape."""
    random = np.random.default_rng(seed)
    size = tuple(random.integers(3, 60, 3))
    coarse = random.integers(0, 20, [max(1, edge // random.integers(1, 15)) for edge in size])
    places = np.ix_(*(np.arange(edge) * length // edge for edge, length in zip(size, coarse.shape, strict=True)))
    labels = coarse[places].astype(np.uint8)
    affine = grid(random.uniform(0.4, 5, 3), random.normal(0, 0.3, 3))[0]
    found = measure_spine(labels, affine, SCHEME)
    assert all(np.isfinite(row[key]) for row in found.rows for key in MEASURES[:7] if row[key] is not None)
