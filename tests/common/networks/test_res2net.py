from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from common.networks.res2net import Res2Net50, Res2NetBlock


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    """A file with the published weights' layout, and its contents; layer4 and fc are stubs, as they are passed over."""
    torch.manual_seed(1)
    weights = {name: torch.randn(value.shape) for name, value in Res2Net50().state_dict().items()}
    weights = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    path = tmp_path_factory.mktemp("weights") / "res2net50.pth"
    torch.save({**weights, "layer4.0.conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1000)}, path)
    return path, weights


@pytest.mark.parametrize(
    ("args", "parameters"), [((3,), 8_671_048), ((4,), 23_669_352), ((4, 1000), 25_718_352)], ids=str
)
def test_parameters(args: tuple, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in Res2Net50(*args).parameters()) == parameters


def test_names_are_those_of_the_published_weights() -> None:
    with torch.device("meta"):
        names = Res2Net50(4, 1000).state_dict().keys()
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    expected = [f"conv1.{i}.weight" for i in (0, 3, 6)]
    expected += [f"{bn}.{n}" for bn in ("conv1.1", "conv1.4", "bn1") for n in norm]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in (f"layer{stage}.{i}" for i in range(blocks)):
            expected += [f"{block}.{conv}.weight" for conv in ("conv1", "convs.0", "convs.1", "convs.2", "conv3")]
            expected += [f"{block}.{bn}.{n}" for bn in ("bn1", "bns.0", "bns.1", "bns.2", "bn3") for n in norm]
        expected += [f"layer{stage}.0.downsample.1.weight", *(f"layer{stage}.0.downsample.2.{n}" for n in norm)]
    assert sorted(names) == sorted([*expected, "fc.weight", "fc.bias"])


@pytest.mark.parametrize(
    ("size", "sizes"),
    [((256, 448), [(64, 112), (32, 56), (16, 28), (8, 14)]), ((70, 33), [(18, 9), (9, 5), (5, 3), (3, 2)])],
)
def test_shapes(size: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    with torch.device("meta"):
        network, x = Res2Net50(4, 7), torch.empty(2, 3, *size)
    expected = [(2, channels, *size) for channels, size in zip((256, 512, 1024, 2048), sizes, strict=True)]
    assert [tuple(m.shape) for m in network(x)] == expected
    assert network.classify(x).shape == (2, 7)


@pytest.mark.parametrize("args", [(2,), (5,), (3, 1000)])
def test_wrong_arguments(args: tuple) -> None:
    with pytest.raises(ValueError, match="`stages` to be 3 or 4"):
        Res2Net50(*args)


@pytest.mark.parametrize(("stride", "first"), [(1, False), (1, True), (2, True)])
def test_block_reference(stride: int, first: bool) -> None:
    torch.manual_seed(0)
    block = Res2NetBlock(256, 64, stride, first).train()
    x = torch.randn(2, 256, 7, 9)
    with torch.no_grad():
        block(x)  # so that the running statistics are not those of a new block
        block.eval()
        state = block.state_dict()

        def conv_norm(x: torch.Tensor, conv: str, bn: str, **kwargs: int) -> torch.Tensor:
            norm = [state[f"{bn}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
            return F.batch_norm(F.conv2d(x, state[f"{conv}.weight"], **kwargs), *norm)

        g = conv_norm(x, "conv1", "bn1").relu().split(26, dim=1)
        f = [lambda x, i=i: conv_norm(x, f"convs.{i}", f"bns.{i}", stride=stride, padding=1).relu() for i in range(3)]
        if first:
            y = [f[0](g[0]), f[1](g[1]), f[2](g[2]), F.avg_pool2d(g[3], 3, stride, 1)]
            pooled = F.avg_pool2d(x, stride, stride, ceil_mode=True, count_include_pad=False)
            shortcut = conv_norm(pooled, "downsample.1", "downsample.2")
        else:
            y = [f[0](g[0])]
            y += [f[1](y[0] + g[1])]
            y += [f[2](y[1] + g[2]), g[3]]
            shortcut = x
        expected = (conv_norm(torch.cat(y, 1), "conv3", "bn3") + shortcut).relu()
        torch.testing.assert_close(block(x), expected)


class TestImageNetWeights:
    def test_are_loaded(self, published) -> None:
        path, weights = published
        network = Res2Net50()
        network.load_imagenet(path)
        state = network.state_dict()
        assert all(torch.equal(state[name], value) for name, value in weights.items())
        assert len(weights) == len([name for name in state if not name.endswith("num_batches_tracked")])

    def test_that_do_not_fit_are_refused_whole(self, published, tmp_path) -> None:
        _, weights = published
        path = tmp_path / "other.pth"
        network = Res2Net50()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        first = {"conv1.0.weight": weights["conv1.0.weight"]}
        for change in ({"bn1.weight": torch.zeros(65)}, {"layer5.weight": torch.zeros(1)}, None):
            torch.save({**weights, **change} if change else first, path)
            with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: does not fit .*; expected .*[^\n]$"):
                network.load_imagenet(path)
        torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)

    def test_fourth_stage_must_be_there_where_it_is_built(self, published) -> None:
        path, _ = published
        with torch.device("meta"):
            network = Res2Net50(4)
        with pytest.raises(ValueError, match=r"does not fit .*layer4"):
            network.load_imagenet(path)

    def test_of_no_file(self, tmp_path) -> None:
        path = tmp_path / "nowhere.pth"
        with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: there is no such file; expected"):
            Res2Net50().load_imagenet(path)

    @pytest.mark.parametrize("content", [b"", b"<html>not found</html>\n" * 40, os.urandom(500)])
    def test_of_another_file(self, tmp_path, content: bytes) -> None:
        path = tmp_path / "page.pth"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: is not a file of weights .*; expected"):
            Res2Net50().load_imagenet(path)

    @pytest.mark.parametrize("content", [[torch.zeros(1)], {"epoch": 3}, torch.zeros(2)])
    def test_of_other_contents(self, tmp_path, content: object) -> None:
        path = tmp_path / "list.pth"
        torch.save(content, path)
        with pytest.raises(ValueError, match="holds something else than tensors by name; expected"):
            Res2Net50().load_imagenet(path)

    def test_run_no_code(self, tmp_path) -> None:
        path, trace = tmp_path / "evil.pth", tmp_path / "trace"

        class Evil:
            def __reduce__(self) -> tuple:
                return os.mkdir, (str(trace),)

        torch.save({"conv1.0.weight": Evil()}, path)
        with pytest.raises(ValueError, match="is not a file of weights"):
            Res2Net50().load_imagenet(path)
        assert not trace.exists()
