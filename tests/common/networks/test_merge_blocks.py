from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.merge_blocks import AttentionMerge, StandardMerge


def deep_and_skip() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((2, 8, 3, 4), generator=generator), torch.randn((2, 4, 6, 8), generator=generator)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def test_standard_merge() -> None:
    merge, (deep, skip) = StandardMerge(4, 8).eval(), deep_and_skip()
    merged = merge(deep, skip)
    assert merged.shape[1] == merge.out_channels == 8
    torch.testing.assert_close(merged, torch.cat([skip, merge.conv(doubled(deep))], dim=1))


@pytest.mark.parametrize(("bias", "attention"), [(50.0, 1.0), (0.0, 0.5), (-50.0, 0.0)])
def test_attention_weighs_the_skip_only(bias: float, attention: float) -> None:
    merge, (deep, skip) = AttentionMerge(4, 8, 2), deep_and_skip()
    nn.init.zeros_(merge.psi.weight)
    nn.init.constant_(merge.psi.bias, bias)
    merged = merge(deep, skip)
    assert merged.shape[1] == merge.out_channels == 12
    torch.testing.assert_close(merged, torch.cat([attention * skip, doubled(deep)], dim=1))


@pytest.mark.parametrize("which", [0, 1], ids=["deep", "skip"])
def test_attention_depends_on_both_maps(which: int) -> None:
    torch.manual_seed(0)
    merge, maps, seen = AttentionMerge(4, 8, 16), list(deep_and_skip()), []
    merge.psi.register_forward_hook(lambda m, i, o: seen.append(o))
    merge(*maps)
    maps[which] = maps[which] + 1
    merge(*maps)
    assert seen[0].shape == (2, 1, 6, 8)
    assert not torch.allclose(*seen)
