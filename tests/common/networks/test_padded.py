from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.networks import Padded


def test_zeros_at_the_far_ends_and_the_inputs_size_again():
    blur = nn.Conv3d(1, 1, 3, padding=1)
    x = torch.randn(2, 1, 5, 8, 6)
    padded = F.pad(x, (0, 2, 0, 0, 0, 3))
    torch.testing.assert_close(Padded(blur, (8, 4, 4))(x), blur(padded)[:, :, :5, :8, :6])
