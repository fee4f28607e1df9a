"""What several test modules need: small NIfTI files in any orientation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

# Every axis comes first, second and third somewhere, in both senses; left- and right-handed.
CODES = ("RAS", "LPI", "PIR", "ASL", "SRP", "LAS", "AIL", "IRP", "RSA")

SPACING = (1.0, 1.25, 1.5)  # mm


def stored(array: np.ndarray, affine: np.ndarray, code: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the RAS array and affine as a file of another orientation holds them."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(code))
    return apply_orientation(array, turn), affine @ inv_ornt_aff(turn, array.shape)


def affine_of(spacing: Sequence[float] = SPACING, angles: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    """Return a voxel-to-world matrix of axes near R, A, S, turned by the angles (radians)."""
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(*angles) @ np.diag(spacing)
    affine[:3, 3] = -31.5, 12.25, 100
    return affine


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None, code: str = "RAS") -> Path:
    """Write a RAS array in the storage order of ``code``; make the folder."""
    voxels, matrix = stored(array, np.eye(4) if affine is None else affine, code)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(voxels), matrix), path)
    return path


def noise(shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Return float32 noise in 0..1."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)
