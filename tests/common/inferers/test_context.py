from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.inferers import ContextInferer


class Halves(nn.Module):
    """Says of each 2 x 2 pixels how bright they are on the mean: probabilities of two classes at half the size."""

    def context(self, window, before, after, halved):
        assert before is None and after is None and not halved
        assert window.shape[2] % 32 == 0 and window.shape[3] % 32 == 0
        bright = nn.functional.avg_pool3d(window, (2, 2, 1))
        return torch.cat([1 - bright, bright], dim=1), torch.zeros(1)


@pytest.mark.parametrize("size", [(32, 64, 5), (40, 70, 3)])
def test_probabilities_have_the_volumes_size(size):
    volume = torch.linspace(0, 1, size[1])[None, None, None, :, None].expand(1, 1, *size).contiguous()
    found = ContextInferer()(volume, Halves())
    assert found.shape == (1, 2, *size)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(1, *size))
    inner = slice(2, 30)
    torch.testing.assert_close(found[0, 1, inner, inner], volume[0, 0, inner, inner], rtol=0, atol=1e-5)


def test_geometry_is_handed_on():
    volume = MetaTensor(torch.rand(1, 1, 32, 32, 2), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))
    found = ContextInferer()(volume, Halves())
    np.testing.assert_array_equal(found.affine, volume.affine)
