from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from common.losses import MarginalLoss, merge_undrawn

CHANNELS, SIZE = 5, (3, 2, 4)
# Background's own column does not matter: one is False here.
DRAWN = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 0]], dtype=torch.bool)


def logits_of(batch: int = len(DRAWN), seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2


def labels_of(batch: int = len(DRAWN), seed: int = 0) -> torch.Tensor:
    """Random labels that hold every channel, undrawn ones included."""
    return torch.randint(0, CHANNELS, (batch, 1, *SIZE), generator=torch.Generator().manual_seed(seed))


def formula(logits: torch.Tensor, label: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """The marginal loss, voxel by voxel: -log of the sum of the probabilities that the label map allows."""
    probability, terms = logits.softmax(1), []
    for case in range(len(logits)):
        undrawn = [c for c in range(1, CHANNELS) if not drawn[case, c]]
        for place in torch.cartesian_prod(*[torch.arange(n) for n in SIZE]).tolist():
            target = int(label[case, 0][tuple(place)])
            allowed = [0, *undrawn] if target in (0, *undrawn) else [target]
            terms.append(-probability[(case, allowed, *place)].sum().log())
    return torch.stack(terms).mean()


def gradient(loss, logits: torch.Tensor) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf), leaf)[0]


class TestMergeUndrawn:
    def test_background_becomes_the_sum(self):
        logits = logits_of()
        before, after = logits.softmax(1), merge_undrawn(logits, DRAWN).softmax(1)
        for case in range(len(DRAWN)):
            kept = [c for c in range(1, CHANNELS) if DRAWN[case, c]]
            dropped = [c for c in range(1, CHANNELS) if not DRAWN[case, c]]
            assert torch.allclose(after[case, 0], before[case, [0, *dropped]].sum(0))
            assert torch.allclose(after[case, kept], before[case, kept])
            assert not after[case, dropped].any()

    def test_everything_drawn_changes_nothing(self):
        logits = logits_of()
        assert torch.allclose(merge_undrawn(logits, torch.ones(4, CHANNELS, dtype=torch.bool)), logits)

    def test_flags_are_left_alone_and_may_be_numbers(self):
        drawn = DRAWN.clone()
        merged = merge_undrawn(logits_of(), drawn)
        assert torch.equal(drawn, DRAWN)
        assert torch.equal(merge_undrawn(logits_of(), DRAWN.int()), merged)

    @pytest.mark.parametrize("size", [(), (6,), (2, 3), (2, 3, 4)])
    def test_any_number_of_axes(self, size):
        logits = torch.randn(4, CHANNELS, *size)
        merged = merge_undrawn(logits, DRAWN)
        assert merged.shape == logits.shape
        assert torch.allclose(merged.softmax(1)[2, 0], torch.ones(size))  # nothing drawn: all is background

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_large_logits_stay_finite(self, dtype):
        logits = (logits_of() * 1000).to(dtype)
        merged = merge_undrawn(logits, DRAWN)
        assert merged.isfinite().all() and merged.float().softmax(1).isfinite().all()


class TestSoftmaxForm:
    def test_everything_drawn_is_cross_entropy(self):
        logits, label = logits_of(dtype=torch.float32), labels_of()
        wanted = F.cross_entropy(logits, label[:, 0])
        everything = torch.ones(4, CHANNELS, dtype=torch.bool)
        assert torch.allclose(MarginalLoss()(logits, {"label": label, "drawn": everything}), wanted)
        assert torch.allclose(MarginalLoss()(logits, label), wanted)

    @pytest.mark.parametrize("case", range(len(DRAWN)))
    def test_value_is_the_formula(self, case):
        logits, label, drawn = logits_of()[case : case + 1], labels_of()[case : case + 1], DRAWN[case : case + 1]
        found = MarginalLoss()(logits, {"label": label, "drawn": drawn})
        assert float(found) == pytest.approx(float(formula(logits, label, drawn)), rel=1e-5, abs=1e-6)

    def test_gradient_is_the_formulas(self):
        logits, label = logits_of(), labels_of()
        found = gradient(lambda x: MarginalLoss()(x, {"label": label, "drawn": DRAWN}), logits)
        wanted = gradient(lambda x: formula(x, label, DRAWN), logits)
        assert torch.allclose(found, wanted, atol=1e-7)
        assert wanted.abs().max() > 1e-3  # there is something to compare

    def test_gradient_is_the_slope(self):
        logits, label, h = logits_of(), labels_of(), 1e-5
        found = gradient(lambda x: MarginalLoss()(x, {"label": label, "drawn": DRAWN}), logits).flatten()
        for index in range(0, logits.numel(), 7):
            step = torch.zeros(logits.numel(), dtype=torch.float64)
            step[index] = h
            step = step.reshape(logits.shape)
            slope = (formula(logits + step, label, DRAWN) - formula(logits - step, label, DRAWN)) / (2 * h)
            assert float(found[index]) == pytest.approx(float(slope), abs=1e-6)

    def test_merged_cross_entropy_in_double_precision(self):
        label = labels_of()[:, 0].where(DRAWN.clone().index_fill(1, torch.tensor(0), True)
                                        .gather(1, labels_of().flatten(1)).reshape(4, *SIZE), 0)  # fmt: skip
        logits = logits_of().requires_grad_()
        assert torch.autograd.gradcheck(lambda x: F.cross_entropy(merge_undrawn(x, DRAWN), label), logits)

    def test_background_voxels_never_push_an_undrawn_structure_down(self):
        logits, label = logits_of(1), torch.zeros(1, 1, *SIZE, dtype=torch.long)
        drawn = torch.tensor([[True, True, False, True, False]])
        slope = gradient(lambda x: MarginalLoss()(x, {"label": label, "drawn": drawn}), logits)
        assert (slope[:, [2, 4]] < 0).all()  # descent raises undrawn structures ...
        assert (slope[:, 0] < 0).all()  # ... and the background ...
        assert (slope[:, [1, 3]] > 0).all()  # ... and lowers what was drawn and is not there
        probability, count = logits.softmax(1), label.numel()
        allowed = probability[:, [0, 2, 4]].sum(1, keepdim=True)
        wanted = probability[:, [2, 4]] * (1 - 1 / allowed) / count
        assert torch.allclose(slope[:, [2, 4]], wanted, atol=1e-8)

    def test_an_undrawn_structure_is_punished_where_something_drawn_lies(self):
        logits, label = logits_of(1), torch.ones(1, 1, *SIZE, dtype=torch.long)
        drawn = torch.tensor([[True, True, False, True, False]])
        slope = gradient(lambda x: MarginalLoss()(x, {"label": label, "drawn": drawn}), logits)
        probability = logits.softmax(1)
        assert torch.allclose(slope[:, [0, 2, 3, 4]], probability[:, [0, 2, 3, 4]] / label.numel(), atol=1e-8)
        assert (slope[:, 1] < 0).all()

    @pytest.mark.parametrize("form", ["softmax", "binary"])
    def test_a_voxel_of_an_undrawn_structure_counts_as_background(self, form):
        logits, drawn = logits_of(1), torch.tensor([[True, True, False, True, False]])
        label = labels_of(1, seed=4)
        blanked = label.masked_fill((label == 2) | (label == 4), 0)
        assert not torch.equal(label, blanked)
        loss = MarginalLoss(form, dice_weight=0.5)
        assert torch.equal(
            loss(logits, {"label": label, "drawn": drawn}), loss(logits, {"label": blanked, "drawn": drawn})
        )

    def test_nothing_drawn_teaches_nothing(self):
        logits, label = logits_of(1), labels_of(1)
        nothing = torch.zeros(1, CHANNELS, dtype=torch.bool)
        for loss in (MarginalLoss(), MarginalLoss("binary"), MarginalLoss(dice_weight=1.0)):
            slope = gradient(lambda x, loss=loss: loss(x, {"label": label, "drawn": nothing}), logits)
            assert torch.allclose(slope, torch.zeros_like(slope), atol=1e-7)


@pytest.mark.parametrize("form", ["softmax", "binary"])
def test_a_mixed_batch_is_the_mean_of_its_cases(form):
    logits, label, loss = logits_of(), labels_of(), MarginalLoss(form)
    apart = [loss(logits[i : i + 1], {"label": label[i : i + 1], "drawn": DRAWN[i : i + 1]}) for i in range(len(DRAWN))]
    together = loss(logits, {"label": label, "drawn": DRAWN})
    assert torch.allclose(together, torch.stack(apart).mean())
    assert len({round(float(value), 4) for value in apart}) == len(DRAWN)


class TestBinaryForm:
    def test_is_the_papers_formula(self):
        # -1/C sum_c [y_c log p_c + (1 - y_c) log(1 - p_c)], then the mean over the voxels
        logits, label = logits_of(), labels_of()
        p = logits.softmax(1)
        y = F.one_hot(label[:, 0], CHANNELS).movedim(-1, 1).double()
        wanted = -((y * p.log() + (1 - y) * (1 - p).log()).sum(1) / CHANNELS).mean()
        assert float(MarginalLoss("binary")(logits, label)) == pytest.approx(float(wanted), rel=1e-5)

    def test_by_hand(self):
        logits = torch.tensor([[0.5, 0.3, 0.2]]).log().reshape(1, 3, 1)
        label = torch.tensor([[[1]]])
        everything = MarginalLoss("binary")(logits, label)
        assert float(everything) == pytest.approx(-(torch.tensor([0.3, 0.5, 0.8]).log().sum() / 3).item())
        # the third structure is not drawn: its 0.2 goes to the background, and it asks nothing itself
        target = {"label": label, "drawn": torch.tensor([[True, True, False]])}
        assert float(MarginalLoss("binary")(logits, target)) == pytest.approx(
            -(torch.tensor([0.3, 0.3]).log().sum() / 3).item()
        )

    def test_undrawn_structures_are_not_pushed_down_by_background(self):
        logits, label = logits_of(1), torch.zeros(1, 1, *SIZE, dtype=torch.long)
        target = {"label": label, "drawn": torch.tensor([[True, True, False, True, False]])}
        slope = gradient(lambda x: MarginalLoss("binary")(x, target), logits)
        assert (slope[:, [0, 2, 4]] < 0).all() and slope[:, [1, 3]].sum() > 0

    def test_runs_under_autocast(self, monkeypatch):
        logits, label = logits_of(dtype=torch.float32), labels_of()
        outside, original = MarginalLoss("binary", 1.0)(logits, label), F.binary_cross_entropy

        def as_on_cuda(*args, **kwargs):
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("binary_cross_entropy is unsafe to autocast")  # what CUDA says
            return original(*args, **kwargs)

        monkeypatch.setattr(F, "binary_cross_entropy", as_on_cuda)
        with torch.autocast("cpu", dtype=torch.float16):
            assert torch.allclose(MarginalLoss("binary", 1.0)(logits, label), outside)


class TestDice:
    @staticmethod
    def term(logits, target) -> torch.Tensor:
        return MarginalLoss(dice_weight=1.0)(logits, target) - MarginalLoss()(logits, target)

    def test_by_hand(self):
        # one case of four voxels, probabilities of background, A, B, C
        probability = torch.tensor(
            [[0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.1, 0.8, 0.05, 0.05], [0.1, 0.1, 0.7, 0.1]]
        )
        logits = probability.log().T[None]
        label = torch.tensor([[[0, 1, 1, 2]]])
        dice_a = 2 * (0.6 + 0.8) / (1.6 + 2)
        dice_b = 2 * 0.7 / (0.95 + 1)
        # C is drawn but not there: it is left out
        found = self.term(logits, {"label": label, "drawn": torch.ones(1, 4, dtype=torch.bool)})
        assert float(found) == pytest.approx(1 - (dice_a + dice_b) / 2, abs=1e-5)
        # B is not drawn: its voxel is background, and only A is scored
        found = self.term(logits, {"label": label, "drawn": torch.tensor([[True, True, False, True]])})
        assert float(found) == pytest.approx(1 - dice_a, abs=1e-5)

    def test_weight_scales_it(self):
        logits, target = logits_of(), {"label": labels_of(), "drawn": DRAWN}
        plain, half = MarginalLoss()(logits, target), MarginalLoss(dice_weight=0.5)(logits, target)
        assert float(half - plain) == pytest.approx(0.5 * float(self.term(logits, target)), abs=1e-6)
        assert float(half) > float(plain)

    def test_is_taken_over_the_batch_and_over_the_cases_that_drew_the_structure(self):
        logits, label = logits_of(2), labels_of(2)
        drawn = torch.tensor([[True] * 5, [True, True, False, False, True]])
        p = torch.stack([merge_undrawn(logits[i : i + 1], drawn[i : i + 1]).softmax(1)[0] for i in range(2)])
        scores = []
        for c in range(1, CHANNELS):
            cases = [i for i in range(2) if drawn[i, c]]
            wanted = (label[cases, 0] == c).double()
            assert wanted.any()
            scores.append(2 * (p[cases, c] * wanted).sum() / (p[cases, c].sum() + wanted.sum()))
        found = self.term(logits, {"label": label, "drawn": drawn})
        assert float(found) == pytest.approx(1 - float(sum(scores)) / len(scores), abs=1e-5)

    def test_nothing_present_costs_nothing(self):
        logits, label = logits_of(1), torch.zeros(1, 1, *SIZE, dtype=torch.long)
        assert float(self.term(logits, {"label": label, "drawn": DRAWN[:1]})) == 0

    def test_perfect_and_hopeless(self):
        label = labels_of(1)
        logits = F.one_hot(label[:, 0], CHANNELS).movedim(-1, 1).double() * 60
        target = {"label": label, "drawn": torch.ones(1, CHANNELS, dtype=torch.bool)}
        assert float(self.term(logits, target)) == pytest.approx(0, abs=1e-5)
        assert float(self.term(logits.roll(1, dims=1), target)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("form", ["softmax", "binary"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(form, dtype):
    logits, target = (logits_of() * 300).to(dtype), {"label": labels_of(), "drawn": DRAWN}
    loss = MarginalLoss(form, dice_weight=1.0)
    found = loss(logits, target)
    assert found.dtype == torch.float32 and found.isfinite()
    assert torch.equal(found, loss(logits.float(), target))
    assert gradient(lambda x: loss(x, target), logits).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int32])
def test_label_of_any_type(dtype):
    logits, target = logits_of(), {"label": labels_of(), "drawn": DRAWN}
    wanted = MarginalLoss()(logits, target)
    assert torch.equal(MarginalLoss()(logits, target | {"label": target["label"].to(dtype)}), wanted)


class TestErrors:
    @pytest.mark.parametrize(
        "shape", [(4, 3, 2, 4), (4, 1, 3, 2, 5), (4, 2, 3, 2, 4), (3, 1, 3, 2, 4)], ids=lambda shape: str(len(shape))
    )
    def test_label_shape(self, shape):
        message = f"expected a label of shape (4, 1, 3, 2, 4) for logits of shape (4, 5, 3, 2, 4), got {shape}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            MarginalLoss()(logits_of(), torch.zeros(shape))

    @pytest.mark.parametrize("shape", [(4, 4), (1, 5), (5,)])
    def test_drawn_shape(self, shape):
        message = f"expected `drawn` of shape (4, 5), got {shape}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            MarginalLoss()(logits_of(), {"label": labels_of(), "drawn": torch.ones(shape, dtype=torch.bool)})

    def test_form(self):
        with pytest.raises(ValueError, match=r"^form must be 'softmax' or 'binary', got 'focal'$"):
            MarginalLoss("focal")
