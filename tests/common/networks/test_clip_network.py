"""What all networks over clips promise in common."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks.clip_network import ClipNetwork
from common.networks.clip_unet import ClipUNet
from common.networks.funet import FUnet
from common.networks.pnsnet import PNSNet

SIZE = (32, 48)


@pytest.fixture(params=["FUnet", "FUnet on features", "ClipUNet", "PNSNet"])
def network(request) -> ClipNetwork:
    torch.manual_seed(0)
    common = {"frames": 3, "spatial_size": SIZE}
    if request.param == "PNSNet":
        network = PNSNet(**common)
    elif request.param == "ClipUNet":
        network = ClipUNet(**common, features=(8, 16))
    else:
        target = "feature" if "features" in request.param else "logit"
        network = FUnet(**common, unet_features=(8, 16), ifa_target=target)
    for module in network.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0  # it would draw anew for every copy of a frame
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network.requires_grad_(False)(torch.randn(2, 3, 3, *SIZE))  # running statistics as after a training
    return network


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_frames_is_clips_of_the_same_frame(network: ClipNetwork, training: bool) -> None:
    if training and getattr(network, "weigh_feature", False):
        pytest.skip("weighed features are normalized over the frames of the clip")
    network.train(training)
    frames = torch.randn(2, 3, *SIZE)
    clips = frames.unsqueeze(1).expand(-1, 3, -1, -1, -1)
    expected = network(clips)[:, -1]
    torch.testing.assert_close(network(frames), expected, rtol=1e-3, atol=1e-4)


def test_without_frame_weights_frames_are_alone(network: ClipNetwork) -> None:
    network.eval()
    frames = torch.randn(4, 3, *SIZE)
    expected = network(frames, frame_weights=False)
    for clips in (frames.unsqueeze(0), frames.unsqueeze(1), frames.unflatten(0, (2, 2))):
        found = network(clips, frame_weights=False)
        assert found.shape == (*clips.shape[:2], 1, *SIZE)
        torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_without_frame_weights_what_couples_frames_gets_no_gradient(network: ClipNetwork) -> None:
    network.train().requires_grad_(True)
    network(torch.randn(2, 3, *SIZE), frame_weights=False).sum().backward()
    without = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is None}
    expected = {"FUnet": {"ifa"}, "ClipUNet": {"ifa", "low_rfb"}, "PNSNet": {"first", "second"}}
    assert without == expected[network.name]


def test_the_last_frames_only(network: ClipNetwork) -> None:
    network.eval()
    clip = torch.randn(1, 3, 3, *SIZE)
    memory, current = network.encode_frame(clip[0])
    found = network.decode(memory[None], current[None, -2:], *SIZE)
    torch.testing.assert_close(found, network(clip)[:, -2:], rtol=1e-4, atol=1e-5)
