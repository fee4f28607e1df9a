from __future__ import annotations

import numpy as np
import pytest

from common.data.label_scheme import LabelScheme
from common.metrics import structure_volumes, volumes, voxel_counts

SCHEME = LabelScheme.load("mrspineseg17")


def labels() -> np.ndarray:
    array = np.zeros((10, 8, 6), dtype=np.uint8)
    array[:5] = 3
    array[5, :, :2] = 11
    array[9, 7, 5] = 10  # T9: counted by no row of this scheme
    return array


def test_rows_are_the_schemes_structures_with_absent_ones():
    rows = structure_volumes(labels(), 2.0, SCHEME)
    assert [row["value"] for row in rows] == [structure.value for structure in SCHEME.structures]
    assert list(rows[0]) == ["value", "name", "description", "voxels", "volume_ml"]
    by_name = {row["name"]: row for row in rows}
    assert by_name["L4"] == {
        "value": 3,
        "name": "L4",
        "description": "vertebra L4",
        "voxels": 240,
        "volume_ml": pytest.approx(0.48),
    }
    assert by_name["L5/S"]["value"] == 11 and by_name["L5/S"]["voxels"] == 16
    assert by_name["T12"]["voxels"] == 0 and by_name["T12"]["volume_ml"] == 0
    assert type(by_name["L4"]["voxels"]) is int and type(by_name["L4"]["volume_ml"]) is float
    assert {row["name"] for row in structure_volumes(labels(), 2.0, LabelScheme.load("mrspineseg19"))} >= {"T9"}


@pytest.mark.parametrize("flip", [1, -1])
def test_affine_may_be_anisotropic_sheared_and_left_handed(flip):
    affine = np.array([[0.5 * flip, 0.2, 0.7, -80], [0, 0.6, -0.3, 12], [0, 0, 4.0, 5], [0, 0, 0, 1]])
    for given in (affine, affine[:3, :3]):
        row = structure_volumes(labels(), given, SCHEME)[2]
        assert row["name"] == "L4" and row["volume_ml"] == pytest.approx(240 * 0.5 * 0.6 * 4 / 1000)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64, ">i2"])
def test_any_integer_type_and_memory_order(dtype, monkeypatch):
    monkeypatch.setattr(volumes, "_PIECE", 100)  # counted in several pieces
    expected = structure_volumes(labels(), 1.0, SCHEME)
    for array in (labels().astype(dtype), np.asfortranarray(labels().astype(dtype)), labels().astype(dtype)[::-1]):
        assert structure_volumes(array, 1.0, SCHEME) == expected


def test_counts_have_every_value():
    counts = voxel_counts(labels(), SCHEME)
    assert counts.shape == (20,) and counts.sum() == labels().size and counts[10] == 1
    assert voxel_counts(np.zeros((0, 3), dtype=int), SCHEME).sum() == 0


@pytest.mark.parametrize("wrong", [np.array([0.0, 1.0]), np.array([True]), np.array([-1, 3]), np.array([20])])
def test_other_labels_are_refused(wrong):
    with pytest.raises(ValueError, match="labels"):
        structure_volumes(wrong, 1.0, SCHEME)


@pytest.mark.parametrize("wrong", [0, -1.0, np.nan, np.inf, np.diag([1, 1, 0, 1]), np.eye(5), np.ones(3)])
def test_other_volumes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"volume|affine"):
        structure_volumes(labels(), wrong, SCHEME)
