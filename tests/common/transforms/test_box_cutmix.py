from __future__ import annotations

import pytest
import torch

from common.transforms.box_cutmix import BoxCutMixMask


def masks(count: int, size=(64, 128), seed: int = 0, **options) -> torch.Tensor:
    draw = BoxCutMixMask(**options)
    draw.set_random_state(seed=seed)
    return draw(count, size)


def test_a_quarter_of_the_pixels_is_on():
    drawn = masks(2000)
    assert drawn.shape == (2000, 1, 64, 128) and drawn.dtype == torch.bool
    shares = drawn.float().mean(dim=(1, 2, 3))
    # what 4000 masks of 256 x 512 pixels had: 0.251 +- 0.069, from 0.085 to 0.454
    assert float(shares.mean()) == pytest.approx(0.251, abs=0.006)
    assert float(shares.std()) == pytest.approx(0.069, abs=0.006)
    assert 0.06 < float(shares.min()) < 0.1 and 0.44 < float(shares.max()) < 0.5


def test_every_place_is_reached_alike_from_all_sides():
    often = masks(4000, size=(16, 16)).float().mean(dim=(0, 1))
    assert often.min() > 0
    torch.testing.assert_close(often, often.flip(0), rtol=0, atol=0.05)
    torch.testing.assert_close(often, often.flip(1), rtol=0, atol=0.05)


def test_one_box_is_a_rectangle_of_its_area():
    for mask in masks(200, boxes=1)[:, 0]:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        assert mask[int(rows.min()) : int(rows.max()) + 1, int(columns.min()) : int(columns.max()) + 1].all()
        assert 0.24 < float(mask.float().mean()) < 0.51  # 0.25 to 0.5, but for rounded sides


def test_where_two_boxes_overlap_the_mask_is_off():
    # Two boxes, each with sides of 0.71 of the image's, always share its centre.
    drawn = masks(50, size=(20, 20), boxes=2, area=(1, 1))
    assert not drawn[..., 10, 10].any() and drawn.flatten(1).any(dim=1).sum() > 40


def test_the_seed_tells_the_masks():
    assert torch.equal(masks(8, seed=5), masks(8, seed=5))
    assert not torch.equal(masks(8, seed=5), masks(8, seed=6))
    assert len({mask.numpy().tobytes() for mask in masks(8)}) == 8


@pytest.mark.parametrize("options", [{"boxes": 0}, {"area": (0.0, 0.5)}, {"area": (0.6, 0.5)}, {"area": (0.5, 1.5)}])
def test_unfit_arguments(options):
    with pytest.raises(ValueError, match="expected boxes"):
        BoxCutMixMask(**options)
