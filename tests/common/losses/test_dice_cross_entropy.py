from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from common.losses.dice_cross_entropy import MarginalDiceCELoss

CHANNELS, SIZE = 5, (6, 4)
DRAWN = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0], [0, 0, 0, 1, 0]], dtype=torch.bool)
LOSS = MarginalDiceCELoss()


def logits_of(channels: int = CHANNELS) -> torch.Tensor:
    return torch.randn(len(DRAWN), channels, *SIZE, generator=torch.Generator().manual_seed(0)) * 2


def labels_of() -> torch.Tensor:
    """Random labels that hold every channel, undrawn ones included."""
    return torch.randint(0, CHANNELS, (len(DRAWN), 1, *SIZE), generator=torch.Generator().manual_seed(1))


def formula(probability: torch.Tensor, label: torch.Tensor) -> float:
    """1 - mean over cases and classes of (2 overlap + 1) / (sum + 1), plus the mean of -log p."""
    dices, terms = [], []
    for p, y in zip(probability.double(), label[:, 0], strict=True):
        for channel in range(probability.shape[1]):
            wanted = (y == channel).double()
            dices.append((2 * (p[channel] * wanted).sum() + 1) / (p[channel].sum() + wanted.sum() + 1))
        terms.append(-p.gather(0, y[None]).log())
    return float(1 - torch.stack(dices).mean() + torch.stack(terms).mean())


@pytest.mark.parametrize("as_drawn", [False, True], ids=["plain label", "all drawn"])
def test_with_everything_drawn_it_is_monais_loss(as_drawn):
    label = labels_of()
    target = {"label": label, "drawn": torch.ones(len(label), CHANNELS, dtype=torch.bool)} if as_drawn else label
    monai = DiceCELoss(include_background=True, to_onehot_y=True, softmax=True, smooth_nr=1.0, smooth_dr=1.0)
    assert torch.equal(LOSS(logits_of(), target), monai(logits_of(), label))


def test_formula():
    assert float(LOSS(logits_of(), labels_of())) == pytest.approx(
        formula(logits_of().softmax(1), labels_of()), abs=1e-6
    )


def test_what_was_not_drawn_counts_as_background():
    probability, label = logits_of().softmax(1), labels_of()
    for case, row in enumerate(DRAWN):
        for channel in (~row).nonzero()[:, 0].tolist():
            if channel:
                probability[case, 0] += probability[case, channel]
                probability[case, channel] = 0
                label[case][label[case] == channel] = 0
    found = LOSS(logits_of(), {"label": labels_of(), "drawn": DRAWN})
    assert float(found) == pytest.approx(formula(probability, label), abs=1e-6)


def test_gradients_do_not_ask_which_undrawn_structure_it_is():
    logits = logits_of().requires_grad_()
    LOSS(logits, {"label": torch.zeros_like(labels_of()), "drawn": DRAWN}).backward()
    merged = logits.grad[2, [0, 1, 2, 4]]  # of the third case, structure 3 alone was drawn
    share = logits.detach()[2, [0, 1, 2, 4]].softmax(0)
    torch.testing.assert_close(merged, merged.sum(0) * share, rtol=1e-4, atol=1e-7)
    assert logits.grad[2].abs().max() > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    half = logits_of().to(dtype)
    assert torch.equal(
        LOSS(half, {"label": labels_of(), "drawn": DRAWN}), LOSS(half.float(), {"label": labels_of(), "drawn": DRAWN})
    )


def test_unfit_shapes():
    with pytest.raises(ValueError, match="shape"):
        LOSS(logits_of(), labels_of()[:, 0])
