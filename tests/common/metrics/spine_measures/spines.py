"""Spines of prisms, whose measures are known because they are built from them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.data.label_scheme import LabelScheme

SCHEME = LabelScheme.load("mrspineseg19")
BONES = ("S", "L5", "L4", "L3", "L2", "L1")


@dataclass(frozen=True)
class Block:
    """A prism: corners in the sagittal plane, (front, up) in mm; upper back, upper front, lower front, lower back."""

    corners: np.ndarray

    @property
    def heights(self) -> list[float]:
        upper_back, upper_front, lower_front, lower_back = self.corners
        middle = (upper_back + upper_front - lower_front - lower_back) / 2
        return [float(np.linalg.norm(v)) for v in (upper_front - lower_front, middle, upper_back - lower_back)]


def direction(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])


def stack(
    slips: Mapping[str, float] | None = None,
    slope: float = -38.0,
    wedge: float = 3.0,
    open_by: float = 8.0,
    depth: float = 34.0,
    bones: Sequence[str] = BONES,
) -> dict[str, Block]:
    """Build a spine from the sacrum up.

    Args:
        slips: of a vertebra on the one below, mm.
        slope: of the sacrum's end plate, degrees.
        wedge: between the end plates of each body.
        open_by: angle of each disc, degrees.
        depth: of all end plates.
        bones: from the sacrum up.
    """
    back, angle, blocks = np.array([0.0, 0.0]), slope, {}
    front = back + depth * direction(angle)
    down = 30 * direction(angle - 90)
    blocks[bones[0]] = Block(np.array([back, front, front + down, back + down]))
    for i, (below, bone) in enumerate(itertools.pairwise(bones)):
        slip = (slips or {}).get(bone, 0.0)
        normal = direction(angle + 90)
        plate = [back, back + depth * direction(angle)]
        back = back + slip * direction(angle) + (6 + 0.4 * i) * normal
        angle += open_by
        lower_back, lower_front = back, back + depth * direction(angle)
        blocks[f"{bone}/{below}"] = Block(np.array([lower_back, lower_front, plate[1], plate[0]]))
        back = back + (27 - i) * direction(angle + 90 + wedge / 2)
        angle += wedge
        blocks[bone] = Block(np.array([back, back + depth * direction(angle), lower_front, lower_back]))
    return blocks


def rasterise(
    blocks: Mapping[str, Block],
    affine: np.ndarray,
    shape: Sequence[int],
    arch: bool = False,
    lean: float = 0.0,
    half_width: float = 23.0,
) -> np.ndarray:
    """Draw blocks into a label map, (X, Y, Z) uint8.

    Args:
        blocks: by the structure's name; (front, up) are the world's (y, z).
        affine: from voxels to world.
        shape: of the label map.
        arch: whether vertebrae have pedicles, laminae and a spinous process behind a canal.
        lean: radians by which the spine leans to the right.
        half_width: of all blocks, mm.
    """
    points = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T + affine[:3, 3]
    cosine, sine = np.cos(lean), np.sin(lean)
    side = cosine * points[:, 0] - sine * points[:, 2]
    plane = np.column_stack([points[:, 1], sine * points[:, 0] + cosine * points[:, 2]])
    labels = np.zeros(len(points), dtype=np.uint8)
    values = {structure.name: structure.value for structure in SCHEME.all_structures}
    for name, block in blocks.items():
        inside = _within(plane, block.corners) & (np.abs(side) <= half_width)
        if arch and "/" not in name and name != "S":
            inside |= _arch(plane, side, block)
        labels[inside] = values[name]
    return labels.reshape(shape)


def _within(plane: np.ndarray, corners: np.ndarray) -> np.ndarray:
    inside = np.ones(len(plane), dtype=bool)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge, away = end - start, plane - start
        inside &= edge[0] * away[:, 1] - edge[1] * away[:, 0] <= 0
    return inside


def _arch(plane: np.ndarray, side: np.ndarray, block: Block) -> np.ndarray:
    upper_back, upper_front, _, lower_back = block.corners
    ahead = (upper_front - upper_back) / np.linalg.norm(upper_front - upper_back)
    away = plane - (upper_back + lower_back) / 2
    front, up = away @ ahead, away @ np.array([-ahead[1], ahead[0]])
    out = np.abs(side)
    pedicle = (np.abs(out - 14) <= 4) & (front <= 2) & (front >= -22) & (up > -2) & (up < 11)
    lamina = (out <= 18) & (front <= -18) & (front >= -24) & (np.abs(up) < 10)
    process = (out <= 3.5) & (front <= -18) & (front >= -52) & (np.abs(up + 5) < 9)
    return pedicle | lamina | process


def slip(above: Block, below: Block) -> float:
    plate = below.corners[1] - below.corners[0]
    return float((above.corners[3] - below.corners[0]) @ plate / np.linalg.norm(plate))


def gaps(above: Block, below: Block) -> list[float]:
    """Heights of the disc, front, middle and back, along the normal of the bisector of its end plates."""
    plates = above.corners[2] - above.corners[3], below.corners[1] - below.corners[0]
    lean = sum(plate / np.linalg.norm(plate) for plate in plates)
    normal = np.array([-lean[1], lean[0]]) / np.linalg.norm(lean)
    front, back = above.corners[2] - below.corners[1], above.corners[3] - below.corners[0]
    return [float(v @ normal) for v in (front, (front + back) / 2, back)]


def lordosis(blocks: Mapping[str, Block]) -> float:
    angles = [np.arctan2(*(block.corners[1] - block.corners[0])[::-1]) for block in (blocks["L1"], blocks["S"])]
    return float(np.degrees(angles[0] - angles[1]))
