from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
import torch
from monai.networks.nets import SEResNext50, senet
from torch import nn

from common.networks.se_resnext import SEResNeXt2D, SEResNeXt3D, scale_channels
from tests.common.networks.published_se_resnext import published_weights

ONE_BLOCK = (1, 1, 1, 1)
CHANNELS = (64, 256, 512, 1024, 2048)
# Class, input shape of one example.
SMALL = [(SEResNeXt2D, (3, 64, 32)), (SEResNeXt3D, (21, 64, 32, 3))]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "se_resnext50.pth"
    torch.save(published_weights(ONE_BLOCK), path)
    return path


@pytest.mark.parametrize(
    ("network_class", "shape", "parameters", "sizes"),
    [
        (SEResNeXt2D, (3, 256, 512), 25_510_896, [(128, 256), (64, 128), (32, 64), (16, 32), (16, 32)]),
        (
            SEResNeXt3D,
            (21, 192, 192, 12),
            27_336_816,
            [(96, 96, 12), (48, 48, 12), (24, 24, 12), (12, 12, 12), (12, 12, 12)],
        ),
    ],
)
def test_parameters_and_shapes_of_the_paper(network_class, shape, parameters: int, sizes: list) -> None:
    with torch.device("meta"):
        network, x = network_class(), torch.empty(2, *shape)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert network.channels == list(CHANNELS)
    expected = [(2, channels, *size) for channels, size in zip(CHANNELS, sizes, strict=True)]
    assert [tuple(m.shape) for m in network(x)] == expected


def test_parameters_of_each_stage_in_3d() -> None:
    with torch.device("meta"):
        n = SEResNeXt3D()
    counts = [sum(p.numel() for p in m.parameters()) for m in (n.layer0, n.layer1, n.layer2, n.layer3, n.layer4)]
    assert counts == [65_984, 231_216, 1_330_304, 7_815_552, 17_893_760]


@pytest.mark.parametrize(("height", "pooled"), [(64, 16), (62, 15), (60, 15), (58, 14)])
def test_pooling_rounds_up_in_2d_only(height: int, pooled: int) -> None:
    """The 2D pool neither pads nor drops what is left over; the 3D one pads: they differ where half the size is odd."""
    with torch.device("meta"):
        flat, deep = SEResNeXt2D(3, ONE_BLOCK, 1 / 16), SEResNeXt3D(1, ONE_BLOCK, 1 / 16)
        sizes = [flat(torch.empty(2, 3, height, 64))[1].shape[2], deep(torch.empty(2, 1, height, 64, 2))[1].shape[2]]
    assert sizes == [pooled, math.ceil(height / 4)]


@pytest.mark.parametrize(("width", "groups"), [(2, 32), (1, 32), (1 / 2, 16), (3 / 16, 2), (1 / 16, 2)])
def test_width_scales_all_channels(width: float, groups: int) -> None:
    with torch.device("meta"):
        networks = SEResNeXt2D(3, ONE_BLOCK, width), SEResNeXt3D(3, ONE_BLOCK, width)
    for network in networks:
        assert network.channels == [int(channels * width) for channels in CHANNELS]
        conv = network.layer1[0].conv2.conv
        assert (conv.in_channels, conv.groups) == (128 * width, groups)
        assert conv.in_channels // conv.groups >= 4


@pytest.mark.parametrize("width", [0, -1, 1 / 32, 0.3, math.nan])
def test_wrong_width(width: float) -> None:
    with pytest.raises(ValueError, match=r"`width` to be a positive multiple of 1/16, got"):
        scale_channels(64, width)


@pytest.mark.parametrize("layers", [(3, 4, 6), (1, 1, 1, 0)])
@pytest.mark.parametrize("network_class", [SEResNeXt2D, SEResNeXt3D])
def test_wrong_layers(network_class, layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"four positive numbers of blocks, got {re.escape(str(list(layers)))}"):
        network_class(layers=layers)


@pytest.mark.parametrize(("network_class", "shape"), SMALL)
def test_gradients(network_class, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = network_class(layers=ONE_BLOCK, width=1 / 8)
    sum((m * torch.randn(m.shape)).sum() for m in network(torch.randn(2, *shape))).backward()
    wrong = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    zero = [name for name, p in network.named_parameters() if name not in wrong and not p.grad.any()]
    assert (wrong, zero) == ([], [])


@pytest.mark.parametrize(("network_class", "shape"), SMALL)
def test_torchscript(network_class, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network, x, file = network_class(layers=ONE_BLOCK, width=1 / 8).eval(), torch.randn(2, *shape), io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(file)(x), network(x))


def test_no_map_is_changed_by_what_follows() -> None:
    """The activations work in place: each map must be the same as when the network ends there."""
    torch.manual_seed(0)
    n, x = SEResNeXt2D(layers=ONE_BLOCK, width=1 / 8).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = n(x)
        torch.testing.assert_close(maps[0], n.layer0(x), rtol=0, atol=0)
        torch.testing.assert_close(maps[1], n.layer1(n.pool(n.layer0(x))), rtol=0, atol=0)
        torch.testing.assert_close(maps[3], n.layer3(n.layer2(n.layer1(n.pool(n.layer0(x))))), rtol=0, atol=0)


def test_is_monais_network_at_output_stride_16(published, monkeypatch) -> None:
    """MONAI reads the same file in its own way; its last stage is then dilated here by hand."""
    monkeypatch.setattr(senet, "load_state_dict_from_url", lambda *args, **kwargs: torch.load(published))
    theirs = SEResNext50(spatial_dims=2, in_channels=3, layers=ONE_BLOCK, pretrained=True).eval()
    for block in theirs.layer4:
        conv = block.conv2.conv
        conv.stride, conv.dilation, conv.padding = (1, 1), (2, 2), (2, 2)
    theirs.layer4[0].project.conv.stride = (1, 1)

    network = SEResNeXt2D(layers=ONE_BLOCK).eval()
    network.load_imagenet(published)
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = [theirs.layer0[:3](x)]
        expected.append(theirs.layer1(theirs.layer0.pool(expected[0].clone())))
        for stage in (theirs.layer2, theirs.layer3, theirs.layer4):
            expected.append(stage(expected[-1]))
        torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_names_are_those_of_the_published_weights() -> None:
    """The file of the whole network fits, to the last tensor."""
    with torch.device("meta"):
        network = SEResNeXt2D()
    own = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(own) == len([name for name in published_weights() if not name.startswith("last_linear.")])


def test_weights_with_monais_names_are_taken_too(tmp_path) -> None:
    torch.manual_seed(0)
    theirs, network = SEResNext50(spatial_dims=2, in_channels=3, layers=ONE_BLOCK), SEResNeXt2D(layers=ONE_BLOCK)
    torch.save(theirs.state_dict(), tmp_path / "monai.pth")
    network.load_imagenet(tmp_path / "monai.pth")
    state = theirs.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("kwargs", "first"),
    [
        ({"layers": ONE_BLOCK, "in_channels": 1}, "layer0.conv1.weight"),
        ({"layers": ONE_BLOCK, "width": 1 / 16}, "layer0.bn1.bias"),
        ({"layers": (2, 1, 1, 1)}, "layer1.1.conv1.adn.N.bias"),
    ],
)
def test_weights_of_another_network_are_refused(published, kwargs: dict, first: str) -> None:
    network = SEResNeXt2D(**kwargs)
    message = rf"^{re.escape(str(published))}: does not fit .*{re.escape(first)}\); expected .*a260b3a4.pth\)$"
    with pytest.raises(ValueError, match=message):
        network.load_imagenet(published)


def test_one_slice_in_3d_is_2d() -> None:
    """In 3D a single slice is an image, where the 2D network is given the 3D one's pooling and undilated last stage."""
    torch.manual_seed(0)
    flat, deep = SEResNeXt2D(3, ONE_BLOCK, 1 / 8), SEResNeXt3D(3, ONE_BLOCK, 1 / 8)
    flat.pool = nn.MaxPool2d(3, 2, padding=1)
    flat.layer4[0].conv2.conv.dilation = flat.layer4[0].conv2.conv.padding = (1, 1)
    deep(torch.randn(2, 3, 64, 32, 2))  # so that the running statistics are not those of a new network
    state = {
        name: value[..., value.shape[-1] // 2] if value.dim() == 5 else value
        for name, value in deep.state_dict().items()
    }
    flat.load_state_dict(state)
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        found = [m.squeeze(-1) for m in deep.eval()(x[..., None])]
        torch.testing.assert_close(found, flat.eval()(x), rtol=1e-4, atol=1e-5)


def test_slices_meet_in_the_last_stage_only() -> None:
    torch.manual_seed(0)
    network, x = SEResNeXt3D(1, ONE_BLOCK, 1 / 8).eval(), torch.randn(1, 1, 32, 32, 9)
    for block in (network.layer1, network.layer2, network.layer3, network.layer4):
        nn.init.zeros_(block[0].se_layer.fc[2].weight)  # the gates see the means over all slices
    changed = x.clone()
    changed[..., 4] += 1
    with torch.no_grad():
        differences = [(a - b).abs().amax((0, 1, 2, 3)) for a, b in zip(network(x), network(changed), strict=True)]
    assert [d.nonzero().flatten().tolist() for d in differences] == [[4], [4], [4], [4], [3, 4, 5]]


def test_initialization_in_3d() -> None:
    torch.manual_seed(0)
    network = SEResNeXt3D(width=1 / 4)
    conv = network.layer4[0].conv2.conv
    assert conv.groups == 32
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (27 * 256)), rel=0.02)
    excitation = network.layer4[0].se_layer.fc[2]
    assert excitation.weight.std().item() == pytest.approx(math.sqrt(2 / 512), rel=0.02)
    assert not any(p.any() for name, p in network.named_parameters() if re.search(r"(\.fc\.\d|\.N)\.bias$", name))
