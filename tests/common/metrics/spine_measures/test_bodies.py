from __future__ import annotations

import os

import numpy as np
import pytest

from common.data.label_scheme import LabelScheme
from common.metrics.spine_measures import measure_spine
from tests.common.metrics.spine_measures.bodies import Body, box, draw

SCHEME = LabelScheme.load("mrspineseg19")
L3 = next(structure.value for structure in SCHEME.all_structures if structure.name == "L3")
HEIGHTS = ("height_anterior_mm", "height_middle_mm", "height_posterior_mm")
COUNT = int(os.environ.get("SPINE_BODIES", "6"))


def any_body(seed: int) -> tuple[Body, tuple[float, float, float]]:
    """Return a body of any size, tilt and place within a voxel, and the spacing to draw it with."""
    random = np.random.default_rng(seed)
    pixel = random.uniform(0.5, 1.2)
    back = random.uniform(20, 30)
    corners = box(random.uniform(28, 40), back + random.uniform(-4, 4), back, random.uniform(-0.5, 0.5))
    body = Body(corners, random.uniform(-0.5, 0.5, 3) * [4, pixel, pixel], random.uniform(-38, 38))
    return body, (random.uniform(3, 5), pixel, pixel)


@pytest.mark.parametrize("majority", [False, True], ids=["centre", "majority"])
@pytest.mark.parametrize("seed", range(COUNT))
def test_a_body_is_measured_to_half_a_voxel(seed, majority):
    """SPINE_BODIES=N takes N bodies of each kind instead of 6.

    Where an end plate runs along the rows of voxels to within 2 degrees, all of its places within a voxel may give the
    same label map: two end plates are then a whole voxel farther apart, or nearer, and no method can tell.
    """
    body, spacing = any_body(seed)
    row = measure_spine(*draw(body, L3, spacing, majority), SCHEME).row("L3")
    bound = spacing[1] * (0.5 if body.tilts.min() > 2 else 1.0)
    np.testing.assert_allclose([row[key] for key in HEIGHTS], body.heights, atol=bound)
    assert row["depth_mm"] == pytest.approx(body.depth, abs=bound)
