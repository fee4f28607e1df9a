from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from torch import nn

from common.inferers.gated import GatedInferer, GatedRun
from common.networks.two_stage import CLOSED_LOGIT, TwoStage

OPEN, CLOSED = 0.9, 0.1


class Brightness(nn.Module):
    """A classifier that is sure of bright frames."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * (x.mean(dim=[1, 2, 3]) - 0.5)[:, None]


class Constant(nn.Module):
    """A classifier whose logit is always the same, in half precision as under autocast."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((len(x), 1), self.logit, dtype=torch.bfloat16)


def segmenter() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 1, 3, padding=1)


def two_stage(always_segment: bool = False) -> TwoStage:
    return TwoStage(
        Brightness(), segmenter(), classifier_size=(8, 8), segmenter_size=(16, 16), always_segment=always_segment
    ).eval()


def record_outputs(module: nn.Module) -> list[torch.Tensor]:
    """Return a list that will hold what the module gives, call by call."""
    seen: list[torch.Tensor] = []
    module.register_forward_hook(lambda m, args, output: seen.append(output))
    return seen


def frames(*brightness: float) -> torch.Tensor:
    noise = torch.rand((len(brightness), 3, 12, 20), generator=torch.Generator().manual_seed(0))
    return 0.2 * (noise - 0.5) + torch.tensor(brightness)[:, None, None, None]


@torch.no_grad()
def infer(x: torch.Tensor, network: nn.Module, **kwargs: object) -> tuple[torch.Tensor, GatedRun]:
    inferer = GatedInferer(**kwargs)
    assert inferer.last is None
    logits = inferer(x, network)
    return logits, inferer.last


@pytest.mark.parametrize("shape", [(6,), (1, 6), (2, 3)], ids=str)
def test_frames_and_clips(shape: tuple[int, ...]) -> None:
    network, x = two_stage(), frames(OPEN, CLOSED, CLOSED, OPEN, OPEN, CLOSED)
    seen = record_outputs(network.segmenter)
    logits, run = infer(x.reshape(*shape, 3, 12, 20), network)
    assert [len(part) for part in seen] == [3]
    assert logits.shape == (*shape, 1, 12, 20)
    with torch.no_grad():
        torch.testing.assert_close(logits.flatten(0, -4), network(x))
        torch.testing.assert_close(run.p_present.flatten(), network.gate(x))
    assert run.p_present.dtype == torch.float32
    for part in (run.passes, run.seg_ran):
        assert torch.equal(part, torch.tensor([1, 0, 0, 1, 1, 0]).bool().reshape(shape))
    assert run.ms_classifier > 0 and run.ms_segmenter > 0


def test_nothing_passes() -> None:
    network = two_stage()
    seen = record_outputs(network.segmenter)
    logits, run = infer(frames(CLOSED, CLOSED), network)
    assert seen == [] and (logits == CLOSED_LOGIT).all()
    assert not run.seg_ran.any() and run.ms_segmenter == 0 and run.ms_classifier > 0


def test_ungated() -> None:
    network, x = two_stage(), frames(OPEN, CLOSED)
    seen = record_outputs(network.segmenter)
    logits, run = infer(x, network, ungated=True)
    assert [len(part) for part in seen] == [2]
    assert run.seg_ran.all() and run.passes.tolist() == [True, False] and run.p_present[1] < 0.5
    with torch.no_grad():
        torch.testing.assert_close(logits, network.segment(x))


def test_a_network_that_always_segments() -> None:
    network, x = two_stage(always_segment=True), frames(OPEN, CLOSED)
    seen = record_outputs(network.segmenter)
    logits, run = infer(x, network)
    assert [len(part) for part in seen] == [2] and run.seg_ran.all() and run.passes.tolist() == [True, False]
    torch.testing.assert_close(logits, infer(x, two_stage())[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_batching_makes_no_difference(dtype: torch.dtype) -> None:
    """As one batch, one by one, with others, in another order: the same of each frame."""
    network = two_stage().to(dtype)
    x = frames(OPEN, CLOSED, 0.45, 0.55, OPEN, CLOSED, 0.51).to(dtype)
    whole, run = infer(x, network)
    assert run.passes.tolist() == [True, False, False, True, True, False, True]
    order = torch.tensor([3, 6, 0, 5, 2, 4, 1])
    for parts in (torch.arange(7).split(1), torch.arange(7).split([2, 5]), order.split([3, 1, 3]), (order,)):
        for part in parts:
            logits, part_run = infer(x[part], network)
            torch.testing.assert_close(logits, whole[part], rtol=0, atol=1e-6)
            torch.testing.assert_close(part_run.p_present, run.p_present[part], rtol=0, atol=1e-6)
            assert torch.equal(part_run.passes, run.passes[part]) and torch.equal(part_run.seg_ran, run.seg_ran[part])


def test_a_frame_at_the_threshold_passes() -> None:
    network, x = two_stage(), frames(0.4, 0.6, 0.7)
    network.threshold = infer(x, network)[1].p_present[1].item()
    assert infer(x, network)[1].passes.tolist() == [False, True, True]


def test_the_gate_is_decided_in_single_precision() -> None:
    """A probability of 0.50005 is 0.5 in bfloat16, which would not do for a threshold between the two."""
    network = two_stage()
    network.classifier = Constant(0.0002)
    network.threshold = 0.50002
    seen = record_outputs(network.segmenter)
    logits, run = infer(frames(OPEN), network, dtype=torch.bfloat16)
    assert seen[0].dtype == torch.bfloat16 and logits.dtype == torch.float32
    assert run.p_present.item() == pytest.approx(0.50005, abs=1e-6) and run.passes.all()


def test_the_scripted_network() -> None:
    network, x = two_stage(), frames(OPEN, CLOSED)
    scripted = torch.jit.script(network)
    for ungated in (False, True):
        logits, run = infer(x, scripted, ungated=ungated)
        expected, expected_run = infer(x, network, ungated=ungated)
        torch.testing.assert_close(logits, expected)
        assert torch.equal(run.passes, expected_run.passes) and torch.equal(run.seg_ran, expected_run.seg_ran)


@pytest.mark.parametrize("ungated", [False, True])
def test_an_ordinary_network_in_its_place(ungated: bool) -> None:
    network, x = segmenter(), frames(OPEN, CLOSED)
    logits, run = infer(x[None], network, ungated=ungated)
    assert logits.shape == (1, 2, 1, 12, 20)
    torch.testing.assert_close(logits[0], network(x).detach())
    assert run.p_present.tolist() == [[1, 1]] and run.passes.all() and run.seg_ran.all()
    assert run.ms_classifier == 0 and run.ms_segmenter > 0


def test_an_ordinary_network_takes_more_arguments() -> None:
    def network(x: torch.Tensor, shift: float, factor: float) -> torch.Tensor:
        return x[:, :1] * factor + shift

    x = frames(OPEN)
    found = GatedInferer(arguments={"factor": 2.0})(x, network, 1.0)
    torch.testing.assert_close(found, x[:, :1] * 2 + 1)


def test_metadata_stay() -> None:
    x = MetaTensor(frames(OPEN, CLOSED), meta={"name": ["a", "b"]})
    x.is_batch = True
    logits, run = infer(x, two_stage())
    assert [item.meta["name"] for item in decollate_batch(logits)] == ["a", "b"]
    assert not any(isinstance(part, MetaTensor) for part in (run.p_present, run.passes, run.seg_ran))
    torch.testing.assert_close(logits.as_tensor(), infer(x.as_tensor(), two_stage())[0])


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 1, 3, 8, 8)], ids=str)
def test_another_rank(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected frames \(B, 3, H, W\) or clips \(B, T, 3, H, W\), got shape"):
        GatedInferer()(torch.zeros(shape), two_stage())


class Right(nn.Module):
    """A classifier that looks at the right half alone."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * (x[..., x.shape[-1] // 2 :].mean(dim=[1, 2, 3]) - 0.5)[:, None]


@pytest.mark.parametrize("always_segment", [False, True])
@pytest.mark.parametrize("ungated", [False, True])
def test_flips(ungated: bool, always_segment: bool) -> None:
    """The gate is decided once, on the mean of both; the masks are the mean of both."""
    network = two_stage(always_segment)
    network.classifier = Right()
    x = frames(CLOSED, CLOSED, OPEN)
    x[0, ..., :10] += 1.0  # bright on the left: the classifier sees it in the mirror only, and then it is sure
    logits, run = infer(x, network, flips=True, ungated=ungated)
    with torch.no_grad():
        both = [(network.gate(shown), network.segment(shown)) for shown in (x, x.flip(-1))]
    torch.testing.assert_close(run.p_present, (both[0][0] + both[1][0]) / 2)
    assert both[0][0][0] < 0.5 < run.p_present[0] and run.passes.tolist() == [True, False, True]
    assert run.seg_ran.tolist() == ([True] * 3 if ungated or always_segment else [True, False, True])
    wanted = (both[0][1].sigmoid() + both[1][1].flip(-1).sigmoid()) / 2
    shown = torch.ones(3, dtype=torch.bool) if ungated else run.passes
    torch.testing.assert_close(logits[shown].sigmoid(), wanted[shown])
    assert not torch.allclose(wanted, both[0][1].sigmoid(), atol=1e-3)
    assert (logits[~shown] == CLOSED_LOGIT).all()


def test_flips_of_an_ordinary_network() -> None:
    network, x = segmenter(), frames(OPEN, CLOSED)
    logits, run = infer(x[None], network, flips=True)
    wanted = (network(x).sigmoid() + network(x.flip(-1)).flip(-1).sigmoid()) / 2
    torch.testing.assert_close(logits[0].sigmoid(), wanted)
    assert run.passes.all()
