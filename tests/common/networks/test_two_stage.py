from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.networks.frame_classifier import FrameClassifier
from common.networks.two_stage import CLOSED_LOGIT, TwoStage
from common.networks.unet_family import UNetFamily
from tests.common.networks.network_test_base import NetworkTests, Shape, biases_before_normalization

OPEN, CLOSED = 0.9, 0.1


class Brightness(nn.Module):
    """A classifier that is sure of bright frames, whatever their size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * (x.mean(dim=[1, 2, 3]) - 0.5)[:, None]


def frames(*brightness: float, size: tuple[int, int] = (24, 40)) -> torch.Tensor:
    noise = torch.rand((len(brightness), 3, *size), generator=torch.Generator().manual_seed(0))
    return 0.2 * (noise - 0.5) + torch.tensor(brightness)[:, None, None, None]


def two_stage(**kwargs: object) -> TwoStage:
    torch.manual_seed(0)
    segmenter = UNetFamily(features=(4, 8, 12, 16))
    segmenter(torch.rand(2, 3, 32, 32))
    return TwoStage(
        Brightness(), segmenter, **{"classifier_size": (16, 16), "segmenter_size": (32, 32), **kwargs}
    ).eval()


def record_inputs(module: nn.Module) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    module.register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    return seen


@pytest.mark.parametrize("always_segment", [False, True], ids=["gated", "always"])
@pytest.mark.parametrize("pattern", [(OPEN,), (CLOSED,), (OPEN, CLOSED, CLOSED, OPEN), (CLOSED, CLOSED)], ids=str)
def test_masks_of_the_frames_that_pass(pattern: tuple[float, ...], always_segment: bool) -> None:
    network, x = two_stage(always_segment=always_segment), frames(*pattern)
    with torch.no_grad():
        logits = network(x)
        expected = torch.full((len(x), 1, 24, 40), CLOSED_LOGIT)
        for i, brightness in enumerate(pattern):
            if brightness == OPEN:
                expected[i] = network.segment(x[i : i + 1])[0]
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_segmenter_sees_only_the_frames_that_pass() -> None:
    network, x = two_stage(), frames(CLOSED, OPEN, CLOSED, OPEN)
    seen = record_inputs(network.segmenter)
    network(x)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], F.interpolate(x[[1, 3]], (32, 32), mode="bilinear"))


def test_segmenter_is_not_called_when_none_passes() -> None:
    network = two_stage()
    seen = record_inputs(network.segmenter)
    assert (network(frames(CLOSED, CLOSED)).sigmoid() < 1e-6).all()
    assert seen == []


@pytest.mark.parametrize("chosen", [(), (1,), (0, 2), (0, 1, 2)], ids=str)
def test_segmenting_where_one_likes(chosen: tuple[int, ...]) -> None:
    network, x = two_stage(), frames(CLOSED, OPEN, CLOSED)
    seen = record_inputs(network.segmenter)
    with torch.no_grad():
        whole = network.segment(x)
        seen.clear()
        logits = network.segment_where(x, torch.tensor([i in chosen for i in range(3)]))
    assert [len(part) for part in seen] == [len(chosen)] * bool(chosen)
    for i in range(3):
        expected = whole[i] if i in chosen else torch.full((1, 24, 40), CLOSED_LOGIT)
        torch.testing.assert_close(logits[i], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "passes", [torch.ones(3), torch.ones(2) > 0, torch.ones(3, 1) > 0], ids=["dtype", "count", "rank"]
)
def test_where_is_a_boolean_for_each_frame(passes: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"^TwoStage expects a boolean for each of 3 frames, got shape"):
        two_stage().segment_where(frames(OPEN, OPEN, OPEN), passes)


def test_always_segment_calls_the_segmenter_on_all() -> None:
    network = two_stage(always_segment=True)
    seen = record_inputs(network.segmenter)
    network(frames(CLOSED, CLOSED))
    assert [len(x) for x in seen] == [2]


def test_batching_makes_no_difference() -> None:
    network, x = two_stage(), frames(OPEN, CLOSED, OPEN, OPEN, CLOSED, OPEN)
    with torch.no_grad():
        together = network(x)
        for sizes in ([1] * 6, [2, 4], [5, 1], [3, 3]):
            apart = torch.cat([network(part) for part in x.split(sizes)])
            torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)
        order = torch.tensor([4, 2, 5, 0, 3, 1])
        torch.testing.assert_close(network(x[order]), together[order], rtol=1e-5, atol=1e-5)


def test_threshold_is_the_smallest_probability_that_passes() -> None:
    network, x = two_stage(), frames(0.3, 0.5, 0.7)
    seen = record_inputs(network.segmenter)
    p = network.gate(x)
    assert p.shape == (3,)
    for threshold, passing in ((0.0, 3), (p[1].item(), 2), (p[1].item() + 1e-4, 1), (1.0, 0)):
        network.threshold = threshold
        seen.clear()
        network(x)
        assert sum(len(part) for part in seen) == passing, threshold


def test_gate_is_the_probability_of_the_classifier_at_its_size() -> None:
    network, x = two_stage(), frames(0.3, 0.7)
    seen = record_inputs(network.classifier)
    torch.testing.assert_close(network.gate(x), network.classify(x).sigmoid())
    small = F.interpolate(x, (16, 16), mode="bilinear")
    torch.testing.assert_close(seen[0], small)
    torch.testing.assert_close(network.classify(x), network.classifier(small)[:, 0])


def test_frames_of_the_right_size_are_not_interpolated() -> None:
    network, x = two_stage(classifier_size=(24, 40), segmenter_size=(24, 40)), frames(OPEN)
    seen = record_inputs(network.classifier), record_inputs(network.segmenter)
    logits = network.segment(x)
    network.gate(x)
    assert all(inputs[0] is x for inputs in seen)
    torch.testing.assert_close(logits, network.segmenter(x))


def test_result_has_the_dtype_of_the_frames() -> None:
    network = two_stage()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for pattern in ((OPEN, CLOSED), (CLOSED,)):
            x = frames(*pattern)
            assert {network(x).dtype, network.segment(x).dtype, network.gate(x).dtype} == {torch.float32}


@pytest.mark.parametrize("stage", ["classifier", "segmenter"])
def test_gradients_of_the_stage_that_is_trained(stage: str) -> None:
    """The gate, closed on all frames here, keeps none from the segmenter."""
    torch.manual_seed(0)
    network = TwoStage(
        FrameClassifier("mobilenetv3"), UNetFamily(features=(8, 16, 32, 64)), 1.0, (64, 64), (32, 32)
    ).train()
    x = frames(CLOSED, CLOSED)
    trained, other = network.classifier, network.segmenter
    step, size = network.classify, (64, 64)
    if stage == "segmenter":
        trained, other, step, size = other, trained, network.segment, (32, 32)
    may_be_zero = biases_before_normalization(trained, F.interpolate(x, size))
    step(x).square().sum().backward()
    lost = [name for name, p in trained.named_parameters() if name not in may_be_zero and not p.grad.any()]
    assert not lost, f"gradient zero: {lost}"
    assert all(p.grad is None for p in other.parameters())


@pytest.mark.parametrize("always_segment", [False, True], ids=["gated", "always"])
def test_methods_of_the_scripted_network(always_segment: bool) -> None:
    network = two_stage(always_segment=always_segment)
    scripted = torch.jit.script(network)
    for x in (frames(OPEN, CLOSED), frames(CLOSED, CLOSED)):
        with torch.no_grad():
            for name in ("classify", "gate", "segment", "forward"):
                torch.testing.assert_close(getattr(scripted, name)(x), getattr(network, name)(x))
            passes = torch.tensor([False, True])
            torch.testing.assert_close(scripted.segment_where(x, passes), network.segment_where(x, passes))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_wrong_threshold(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"^TwoStage expects a `threshold` in \[0, 1\], got"):
        two_stage(threshold=threshold)


class TestTwoStage(NetworkTests):
    input_shapes = ((3, 24, 40), (3, 50, 33))
    parameter_count = 6_536
    # The gate passes none; those of the stages are tested above.
    test_gradients = None
    wrong_inputs = (
        (lambda: torch.zeros(3, 24, 40), r"TwoStage expects frames .* got shape \[3, 24, 40\]"),
        (lambda: torch.zeros(1, 1, 24, 40), r"TwoStage expects frames .* got shape \[1, 1, 24, 40\]"),
        (lambda: torch.zeros(1, 3, 24, 40, dtype=torch.uint8), r"TwoStage expects frames .* in floating point"),
    )

    def make_network(self, **kwargs: object) -> TwoStage:
        return two_stage(**kwargs)

    def expected_output_shape(self, input_shape: Shape) -> Shape:
        return (1, *input_shape[1:])

    def make_input(self, shape: Shape, batch: int = 1, seed: int = 0) -> torch.Tensor:
        """Open and closed frames, by turns."""
        return frames(*[OPEN, CLOSED][seed % 2 :], *[OPEN, CLOSED] * batch, size=shape[1:])[:batch]

    def test_export_with_dynamic_batch(self) -> None:
        make_network = self.make_network
        self.make_network = lambda **kwargs: make_network(always_segment=True, **kwargs)
        super().test_export_with_dynamic_batch()
