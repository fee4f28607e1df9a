from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from common.networks.normalized_self_attention import NormalizedSelfAttention


def reference(block: NormalizedSelfAttention, maps: torch.Tensor) -> torch.Tensor:
    """Position by position, score by score."""
    clips, frames, channels, height, width = maps.shape
    out = torch.zeros_like(maps)
    gate = torch.zeros(clips, frames, 1, height, width)
    for b in range(clips):
        q, k, v = (layer(maps[b]) for layer in (block.query, block.key, block.value))
        for head, dilation in enumerate((1, 3, 5, 7)):
            part = slice(head * channels // 4, (head + 1) * channels // 4)
            qn = F.layer_norm(q[:, part], (channels // 4, height, width), block.norm.weight, block.norm.bias)
            for t in range(frames):
                for y in range(height):
                    for x in range(width):
                        scores, sum_of_values = [], 0
                        for u in range(frames):
                            for dy in range(-3, 4):
                                for dx in range(-3, 4):
                                    yy, xx = y + dy * dilation, x + dx * dilation
                                    if not (0 <= yy < height and 0 <= xx < width):
                                        scores.append(torch.tensor(0.0))
                                        continue
                                    scores.append((qn[t, :, y, x] * k[u, part, yy, xx]).sum() / (channels // 4) ** 0.5)
                                    sum_of_values = sum_of_values + scores[-1] * v[u, part, yy, xx]
                        out[b, t, part, y, x] = sum_of_values
                        strongest = torch.stack(scores).softmax(0).max()
                        gate[b, t, 0, y, x] = torch.maximum(gate[b, t, 0, y, x], strongest)
        out[b] = block.project(out[b])
    return out * gate


def make(*args: object) -> NormalizedSelfAttention:
    torch.manual_seed(0)
    block = NormalizedSelfAttention(*args).requires_grad_(False)
    block.norm.weight.uniform_(0.5, 2)
    block.norm.bias.uniform_(-1, 1)
    return block


def test_parameters() -> None:
    assert sum(p.numel() for p in make(32, (16, 28)).parameters()) == 11_264


def test_reference() -> None:
    block, maps = make(8, (5, 6)), torch.randn(1, 2, 8, 5, 6)
    torch.testing.assert_close(block(maps), reference(block, maps), rtol=1e-4, atol=1e-5)


def test_clips_are_independent_and_of_any_length() -> None:
    block = make(8, (5, 6))
    for frames in (1, 4):
        maps = torch.randn(2, frames, 8, 5, 6)
        torch.testing.assert_close(block(maps), torch.cat([block(maps[:1]), block(maps[1:])]))


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"built for maps of \[5, 6\] positions, got \[6, 6\]"):
        make(8, (5, 6))(torch.zeros(1, 2, 8, 6, 6))


def test_gate_of_low_precision_is_finite() -> None:
    block, maps = make(8, (5, 6)), 20 * torch.randn(1, 2, 8, 5, 6)
    with torch.autocast("cpu", dtype=torch.float16):
        assert block(maps).isfinite().all()
