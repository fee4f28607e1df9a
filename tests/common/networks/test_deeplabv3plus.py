from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.networks.deeplabv3plus import DeepLabV3Plus2D, DualDeepLab
from tests.common.networks.network_test_base import NetworkTests, Shape
from tests.common.networks.published_se_resnext import published_weights

SMALL = {"layers": (1, 1, 1, 1), "width": 1 / 8}


def wrong_input(*shape: int):
    return lambda: torch.zeros(shape), rf"expects an input of shape \(batch, 3, .*\[16, 16\], got shape.*{shape[-1]}\]"


class _DeepLabTests(NetworkTests):
    input_shapes = ((3, 48, 32), (3, 32, 64))
    wrong_inputs = (wrong_input(2, 3, 32, 40), wrong_input(2, 1, 32, 32), wrong_input(3, 32, 32))
    # The image-level branch is normalized over the batch: of two examples it would give signs.
    training_batch = 4
    network_class: type[nn.Module]

    def make_network(self, **kwargs: object) -> nn.Module:
        return self.network_class(**{**SMALL, **kwargs})

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (20, *input_shape[1:])


class TestDeepLabV3Plus2D(_DeepLabTests):
    network_class = DeepLabV3Plus2D
    parameter_count = 189_756

    def test_size_of_the_paper(self) -> None:
        with torch.device("meta"):
            network = DeepLabV3Plus2D().eval()
            logits, features = network.features(torch.empty(1, 3, 256, 512))
        counts = [sum(p.numel() for p in m.parameters()) for m in (network, network.encoder, network.decoder)]
        assert counts == [28_685_332, 25_510_896, 3_169_296]
        assert sum(p.numel() for p in network.head.parameters()) == 5_140
        assert (logits.shape, features.shape) == ((1, 20, 256, 512), (1, 256, 64, 128))

    def test_features(self) -> None:
        network, x = self.evaluation_network(), self.make_input((3, 48, 32))
        with torch.no_grad():
            logits, features = network.features(x)
            expected = F.interpolate(network.head(features), scale_factor=4, mode="bilinear", align_corners=True)
            torch.testing.assert_close(logits, expected)
            torch.testing.assert_close(network(x), logits, rtol=0, atol=0)
        assert features.shape == (1, network.feature_channels, 12, 8) == (1, 32, 12, 8)

    def test_scripted_network_has_features(self) -> None:
        network, x = self.evaluation_network(), self.make_input((3, 48, 32))
        with torch.no_grad():
            self.assert_same(torch.jit.script(network).features(x), network.features(x))

    def test_initialization(self) -> None:
        torch.manual_seed(0)
        network = DeepLabV3Plus2D(width=1 / 4, layers=SMALL["layers"])
        convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 2000]
        found = [m.weight.std().item() * math.sqrt(m.weight[0].numel()) for m in convolutions]
        assert found == pytest.approx([math.sqrt(2)] * len(found), rel=0.06)
        norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)

    @pytest.mark.parametrize(("channels", "classes"), [(1, 2), (5, 3)])
    def test_other_numbers_of_channels_and_classes(self, channels: int, classes: int) -> None:
        network = self.make_network(in_channels=channels, num_classes=classes).eval()
        with torch.no_grad():
            assert network(torch.zeros(1, channels, 32, 32)).shape == (1, classes, 32, 32)


class TestDualDeepLab(_DeepLabTests):
    network_class = DualDeepLab
    parameter_count = 2 * 189_756

    def test_size_of_the_paper(self) -> None:
        with torch.device("meta"):
            network = DualDeepLab().eval()
            probabilities, maps = network.context(torch.empty(1, 3, 256, 512))
        assert sum(p.numel() for p in network.parameters()) == 57_370_664
        assert (probabilities.shape, maps.shape) == ((1, 20, 256, 512), (1, 512, 64, 128))

    def test_context(self) -> None:
        network, x = self.evaluation_network(), self.make_input((3, 48, 32), batch=2)
        with torch.no_grad():
            probabilities, maps = network.context(x)
            branches = [branch.features(x) for branch in (network.branch1, network.branch2)]
            expected = torch.stack([logits.softmax(1) for logits, _ in branches]).mean(0)
            torch.testing.assert_close(probabilities, expected)
            torch.testing.assert_close(maps, torch.cat([features for _, features in branches], 1), rtol=0, atol=0)
            torch.testing.assert_close(network(x), probabilities, rtol=0, atol=0)
        torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 48, 32))
        assert maps.shape[1] == network.feature_channels

    def test_scripted_network_has_context(self) -> None:
        network, x = self.evaluation_network(), self.make_input((3, 48, 32))
        with torch.no_grad():
            self.assert_same(torch.jit.script(network).context(x), network.context(x))

    def test_branches_start_from_different_numbers(self) -> None:
        assert not _same_convolutions(*self._parts(self.make_network(), "encoder", "decoder", "head"))

    def test_pretrained_encoders_are_the_same_and_nothing_else(self, tmp_path) -> None:
        path = tmp_path / "weights.pth"
        torch.save(published_weights(SMALL["layers"]), path)
        network = DualDeepLab(layers=SMALL["layers"], pretrained_path=path)
        first, second = self._parts(network, "encoder")
        assert _same_convolutions(first, second) == [n for n, p in first.named_parameters() if p.dim() == 4]
        assert not _same_convolutions(*self._parts(network, "decoder", "head"))
        torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)

    def test_no_pretrained_weights(self, tmp_path) -> None:
        with pytest.raises(ValueError, match=r"nowhere.pth: there is no such file; expected the state dict of SE-Res"):
            self.make_network(pretrained_path=tmp_path / "nowhere.pth")

    def _parts(self, network: DualDeepLab, *names: str) -> list[nn.Module]:
        """The named parts of each branch as one module."""
        branches = (network.branch1, network.branch2)
        return [nn.ModuleDict({name: getattr(branch, name) for name in names}) for branch in branches]


def _same_convolutions(first: nn.Module, second: nn.Module) -> list[str]:
    """Names of the convolutions' weights that are equal."""
    other = dict(second.named_parameters())
    return [name for name, p in first.named_parameters() if p.dim() == 4 and torch.equal(p, other[name])]
