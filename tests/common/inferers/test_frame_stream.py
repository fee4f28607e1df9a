from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from common.inferers.frame_stream import FrameStream
from common.networks.clip_unet import ClipUNet
from common.networks.funet import FUnet
from common.networks.pnsnet import PNSNet

SIZE = (32, 48)
SMALL = {"frames": 3, "spatial_size": SIZE}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "FUnet": lambda: FUnet(**SMALL, unet_features=(8, 16)),
    "FUnet of 5": lambda: FUnet(frames=5, spatial_size=SIZE, unet_features=(8, 16)),
    "FUnet on features": lambda: FUnet(**SMALL, unet_features=(8, 16), ifa_target="feature"),
    "FUnet without IFA": lambda: FUnet(**SMALL, unet_features=(8, 16), use_ifa=False),
    "ClipUNet": lambda: ClipUNet(**SMALL, features=(8, 16, 32)),
    "PNSNet": lambda: PNSNet(**SMALL),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network in double precision: what does not agree then, differs by more than rounding."""
    torch.manual_seed(0)
    network = NETWORKS[name]().to(dtype).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(torch.randn(2, network.frames, 3, *SIZE, dtype=dtype))  # running statistics as after a training
    return network.eval()


def frames(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, 3, *SIZE, dtype=dtype, generator=torch.Generator().manual_seed(1))


def by_clips(network: nn.Module, video: torch.Tensor, **kwargs: object) -> torch.Tensor:
    """Each frame as the last of its clip; before the first there are copies of it."""
    length = network.frames
    video = torch.cat([video[:1].expand(length - 1, -1, -1, -1), video])
    clips = torch.stack([video[i : i + length] for i in range(len(video) - length + 1)])
    return network(clips, **kwargs)[:, -1].sigmoid().float()


def streamed(stream: FrameStream, video: torch.Tensor) -> torch.Tensor:
    return torch.stack([stream.push(frame) for frame in video])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_stream_is_the_last_frame_of_each_clip(name: str) -> None:
    network, video = make(name), frames(7)
    expected = by_clips(network, video)
    found = streamed(FrameStream(network), video)
    assert found.shape == (7, 1, *SIZE)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["FUnet", "PNSNet"])
def test_earlier_frames_matter_until_reset(name: str) -> None:
    network, video = make(name), frames(4)
    stream = FrameStream(network)
    first = streamed(stream, video)
    again = streamed(stream, video)
    assert (again[0] - first[0]).abs().max() > 1e-4
    stream.reset()
    assert torch.equal(streamed(stream, video), first)


def test_each_frame_is_encoded_once() -> None:
    network, seen = make("FUnet"), []
    network.features.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    video = frames(5)
    streamed(FrameStream(network), video)
    assert torch.equal(torch.cat(seen), video)


def test_fast_mode_gives_the_same_masks() -> None:
    network, video = make("FUnet"), frames(5)
    fast, full = (streamed(FrameStream(network, use_ifa=use_ifa), video) for use_ifa in (False, True))
    torch.testing.assert_close(fast, by_clips(network, video, frame_weights=False), rtol=0, atol=1e-6)
    assert torch.equal(fast > 0.5, full > 0.5) and (fast > 0.5).any() and (fast < 0.5).any()
    assert not torch.allclose(fast, full, atol=1e-3)


@pytest.mark.parametrize("as_list", [False, True])
def test_networks_without_memory(as_list: bool) -> None:
    class Plain(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
            assert not self.training
            return [x, x[:, :1]] if as_list else x[:, :1]

    video = frames(3)
    torch.testing.assert_close(streamed(FrameStream(Plain()), video), video[:, :1].sigmoid().float())


def test_torchscript() -> None:
    network, video = make("FUnet"), frames(4)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(streamed(FrameStream(scripted), video), by_clips(network, video), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_lower_precision(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    network, video = NETWORKS["FUnet"]().eval(), frames(4, torch.float32)
    found = streamed(FrameStream(network, dtype=dtype), video)
    assert found.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(found, by_clips(network, video), rtol=0, atol=tolerance)


def test_a_network_in_training_mode_is_put_into_evaluation_mode() -> None:
    network, video = make("FUnet"), frames(2)
    expected = by_clips(network, video)
    torch.testing.assert_close(streamed(FrameStream(network.train()), video), expected, rtol=0, atol=1e-6)


def test_logits() -> None:
    network, frame = make("FUnet"), frames(1)[0]
    logits = FrameStream(network).push(frame, logits=True)
    assert logits.min() < 0
    assert torch.equal(logits.sigmoid(), FrameStream(network).push(frame))


def test_the_caller_may_change_the_result() -> None:
    stream, video = FrameStream(make("FUnet").requires_grad_(True)), frames(2)
    probability = stream.push(video[0])
    assert not probability.requires_grad
    probability.mul_(0)
    assert stream.push(video[1]).any()


def test_wrong_frames() -> None:
    stream, frame = FrameStream(make("FUnet")), frames(1)[0]
    with pytest.raises(ValueError, match=r"frames of shape \(channels, H, W\), got shape \[1, 3, 32, 48\]"):
        stream.push(frame[None])
    expected = stream.push(frame)
    with pytest.raises(ValueError, match=r"have one shape, got \[3, 48, 48\] after \[3, 32, 48\]; call reset\(\)"):
        stream.push(torch.zeros(3, 48, 48, dtype=torch.float64))
    assert torch.equal(stream.push(frame), expected)
    stream.reset()
    assert stream.push(torch.zeros(3, 48, 48, dtype=torch.float64)).shape == (1, 48, 48)
