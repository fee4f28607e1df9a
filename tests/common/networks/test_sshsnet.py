from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from common.networks.deeplabv3plus import DualDeepLab
from common.networks.hybrid_net3d import HybridNet3D
from common.networks.slice_context import crop_maps, crop_probabilities, halve_in_plane
from common.networks.sshsnet import STAGES, SSHSNet
from tests.common.networks.network_test_base import NetworkTests, Shape

SMALL = {"num_classes": 3, "layers": (1, 1, 1, 1), "width": 1 / 8}

# Of two windows of 64 x 96: two patches of 32 x 32 of each.
BOXES = torch.tensor([[0, 32, 64, 96], [16, 48, 8, 40], [32, 64, 0, 32], [7, 39, 21, 53]])


def sshsnet(**kwargs: object) -> SSHSNet:
    return SSHSNet(DualDeepLab(**SMALL), HybridNet3D(map_channels=64, **SMALL), **kwargs)


def trained(**kwargs: object) -> SSHSNet:
    """In evaluation mode, with statistics that are not those of a new network and all attention switched on."""
    torch.manual_seed(0)
    network = sshsnet(**kwargs)
    network.stage1.train()(torch.randn(4, 3, 32, 32))
    network.train()
    for name, parameter in network.named_parameters():
        if name.endswith("scale"):
            torch.nn.init.constant_(parameter, 0.1)
    with torch.no_grad():
        network(volumes(4))
    return network.eval()


def volumes(batch: int = 1, slices: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 1, 64, 96, slices, generator=torch.Generator().manual_seed(seed))


def cut(x: torch.Tensor, boxes: torch.Tensor = BOXES) -> torch.Tensor:
    per_window = len(boxes) // len(x)
    return torch.stack([x[i // per_window, :, a:b, c:d] for i, (a, b, c, d) in enumerate(boxes.tolist())])


def same(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class TestSSHSNet(NetworkTests):
    input_shapes = ((1, 32, 64, 2), (1, 64, 32, 3))
    parameter_count = 629_908
    # The first stage has none; those of the second are tested below.
    test_gradients = None
    training_batch = 4
    wrong_inputs = (
        (lambda: torch.zeros(1, 64, 96, 3), r"SSHSNet expects .*\(batch, 1, 3 spatial axes\).*got shape \[1, 64, 96,"),
        (lambda: torch.zeros(1, 2, 64, 96, 3), r"SSHSNet expects .*got shape \[1, 2, 64, 96, 3\]"),
        (lambda: torch.zeros(1, 1, 64, 80, 3), r"SSHSNet expects .*multiples of \[32, 32, 1\], got shape"),
    )

    def make_network(self, **kwargs: object) -> SSHSNet:
        # A loop over slices makes a long graph.
        return sshsnet(slices_at_once=3, **kwargs)

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (3, *input_shape[1:])


def test_parameters_and_shapes_in_the_paper() -> None:
    with torch.device("meta"):
        network = SSHSNet(slices_at_once=12).eval()
        assert sum(p.numel() for p in network.parameters()) == 57_370_664 + 33_069_015
        context = network.context(torch.empty(1, 1, 512, 1024, 12))
        assert [tuple(part.shape) for part in context] == [(1, 20, 256, 512, 12), (1, 512, 64, 128, 12)]
        assert network.stage2(torch.empty(1, 1, 192, 192, 12), *_patch_context(context)).shape[1:] == (20, 192, 192, 12)


def _patch_context(context: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return crop_probabilities(context[0], [81, 810], [192, 192]), crop_maps(context[1], [81, 810], [192, 192])


class TestContext:
    def test_is_stage_1_on_each_slice_with_its_neighbours(self) -> None:
        network, x = trained(), volumes(2)
        half = halve_in_plane(x)[:, 0]
        with torch.no_grad():
            probabilities, maps = network.context(x)
            for i, neighbours in enumerate(([0, 0, 1], [0, 1, 2], [1, 2, 2])):
                expected = network.stage1.context(half[..., neighbours].permute(0, 3, 1, 2))
                same((probabilities[..., i], maps[..., i]), expected)
        assert (probabilities.shape, maps.shape) == ((2, 3, 32, 48, 3), (2, 64, 8, 12, 3))

    @pytest.mark.parametrize("slices_at_once", [1, 2, 3, 10])
    def test_slices_at_once_change_nothing(self, slices_at_once: int) -> None:
        network, x, sizes = trained(slices_at_once=3), volumes(2), []
        expected = network.context(x)
        network.slices_at_once = slices_at_once
        network.stage1.branch1.head.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
        same(network.context(x), expected)
        assert max(sizes) == 2 * min(slices_at_once, 3)
        assert sum(sizes) == 6

    @pytest.mark.parametrize("halved", [False, True])
    def test_neighbours_of_a_window_inside_its_volume(self, halved: bool) -> None:
        network, x = trained(), volumes(slices=5)
        expected = [part[..., 1:3] for part in network.context(x)]
        x = halve_in_plane(x) if halved else x
        same(list(network.context(x[..., 1:3], x[..., :1], x[..., 3:4], halved)), expected)

    def test_ends_stand_for_their_neighbours(self) -> None:
        network, x = trained(), volumes()
        same(network.context(x, x[..., :1], x[..., -1:]), network.context(x))

    @pytest.mark.parametrize(
        "wrong", [{"before": torch.zeros(1, 1, 64, 96, 2)}, {"after": torch.zeros(1, 1, 32, 48, 1)}], ids=str
    )
    def test_wrong_neighbours(self, wrong: dict) -> None:
        with pytest.raises(ValueError, match=r"expects one slice before and after a window of shape \[1, 1, 64, 96, 3"):
            sshsnet().context(volumes(), **wrong)

    def test_wrong_halved_window(self) -> None:
        with pytest.raises(ValueError, match=r"SSHSNet expects .*multiples of \[16, 16, 1\], got shape \[1, 1, 32, 40"):
            sshsnet().context(torch.zeros(1, 1, 32, 40, 3), halved=True)


class TestSegment:
    @pytest.mark.parametrize(
        ("kwargs", "mode", "floor"),
        [
            ({}, "nearest", False),
            ({"probability_mode": "linear"}, "linear", False),
            ({"floor_starts": True}, "nearest", True),
        ],
        ids=str,
    )
    def test_crop(self, kwargs: dict, mode: str, floor: bool) -> None:
        network = sshsnet(**kwargs)
        context = torch.randn(2, 3, 32, 48, 3), torch.randn(2, 64, 8, 12, 3)
        probabilities, maps = network.crop(context, BOXES)
        whole = F.interpolate(context[0], scale_factor=(2, 2, 1), mode={"linear": "trilinear"}.get(mode, mode))
        torch.testing.assert_close(probabilities, cut(whole))
        for i, (a, _, c, _) in enumerate(BOXES.tolist()):
            part = context[1][i // 2 : i // 2 + 1]
            torch.testing.assert_close(maps[i : i + 1], crop_maps(part, [a, c], [32, 32], floor))

    def test_is_stage_2_on_patches_and_their_context(self) -> None:
        network, x = trained(), volumes(2)
        with torch.no_grad():
            context = network.context(x)
            logits = network.segment(cut(x), context, BOXES)
            same(logits, network.stage2(cut(x), *network.crop(context, BOXES)))
            for i in range(4):
                alone = [part[i // 2 : i // 2 + 1] for part in context]
                same(logits[i : i + 1], network.segment(cut(x)[i : i + 1], alone, BOXES[i : i + 1]))
        assert logits.shape == (4, 3, 32, 32, 3)

    def test_stage_1_is_not_called_for_patches(self) -> None:
        network, x = trained(), volumes(2)
        context, calls = network.context(x), []
        network.stage1.branch1.head.register_forward_pre_hook(lambda m, args: calls.append(m))
        network.segment(cut(x), context, BOXES)
        assert not calls

    def test_window_as_one_patch(self) -> None:
        network, x = trained(), volumes(2)
        with torch.no_grad():
            same(network(x), network.segment(x, network.context(x), torch.tensor([[0, 64, 0, 96]] * 2)))

    def test_methods_of_the_scripted_network(self) -> None:
        network, x = trained(), volumes(2)
        scripted = torch.jit.script(network)
        with torch.no_grad():
            context = network.context(x, x[..., :1], None, False)
            same(scripted.context(x, x[..., :1], None, False), context)
            same(scripted.crop(context, BOXES), network.crop(context, BOXES))
            same(scripted.segment(cut(x), context, BOXES), network.segment(cut(x), context, BOXES))

    def test_result_under_autocast_is_near_that_in_full_precision(self) -> None:
        network, x = trained(), volumes(2)
        with torch.no_grad():
            expected = network.segment(cut(x), network.context(x), BOXES)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network.segment(cut(x), network.context(x), BOXES).float()
        assert (logits - expected).abs().max() < 0.1 * expected.abs().max()

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            ([[0, 32, 0, 32]], r"shape \(patches, 4\), as many for each of 2 windows, got shape \[1, 4\]"),
            ([[0, 0], [32, 32]], r"shape \(patches, 4\), .*got shape \[2, 2\]"),
            ([[0, 32, 0, 32], [0, 32, 0, 48]], r"one size within windows of 64 x 96 .*got \[0, 32, 0, 48\] beside"),
            ([[0, 32, 0, 32], [40, 72, 0, 32]], r"one size within windows of 64 x 96 .*got \[40, 72, 0, 32\]"),
            ([[0, 32, -8, 24], [0, 32, 0, 32]], r"one size within windows of 64 x 96 .*got \[0, 32, -8, 24\]"),
        ],
    )
    def test_wrong_boxes(self, boxes: list, message: str) -> None:
        context = torch.zeros(2, 3, 32, 48, 3), torch.zeros(2, 64, 8, 12, 3)
        with pytest.raises(ValueError, match=message):
            sshsnet().crop(context, torch.tensor(boxes))


class TestFrozenStage:
    def test_training_leaves_the_first_stage_alone(self) -> None:
        network = sshsnet().train()
        assert network.stage2.training
        assert not any(module.training for module in network.stage1.modules())
        before = {name: value.clone() for name, value in network.stage1.state_dict().items()}
        x = volumes(2)
        network.segment(cut(x), network.context(x), BOXES).square().mean().backward()
        torch.testing.assert_close(network.stage1.state_dict(), before, rtol=0, atol=0)
        assert all(p.grad is None for p in network.stage1.parameters())
        assert all(p.grad is not None for p in network.stage2.parameters())

    def test_the_first_stage_can_be_trained_by_itself(self) -> None:
        network = sshsnet()
        network.stage1.train()
        network.stage1(torch.randn(2, 3, 32, 32)).square().mean().backward()
        assert all(p.grad is not None for p in network.stage1.parameters())


class TestTrainedStages:
    def test_none_is_trained_at_first(self) -> None:
        assert sshsnet().untrained() == ["stage1", "stage2"] == list(STAGES)

    def test_is_kept_with_the_weights(self) -> None:
        network, other = sshsnet(), sshsnet()
        network.mark_trained("stage1")
        other.load_state_dict(network.state_dict())
        assert other.untrained() == ["stage2"]
        other.mark_trained("stage2")
        assert other.untrained() == []


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"probability_mode": "cubic"}, r"probabilities by 'nearest' or 'linear', got 'cubic'"),
        ({"slices_at_once": 0}, r"`slices_at_once` to be positive, got 0"),
        (
            {"stage2": HybridNet3D(**SMALL)},
            r"built for feature maps of 512 channels, its first gives 64: pass it `map_",
        ),
    ],
)
def test_wrong_arguments(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SSHSNet(**{"stage1": DualDeepLab(**SMALL), "stage2": HybridNet3D(map_channels=64, **SMALL), **kwargs})
