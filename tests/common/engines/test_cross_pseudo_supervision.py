from __future__ import annotations

import copy
import csv
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import CheckpointSaver, LrScheduleHandler, StatsHandler
from monai.inferers import SimpleInferer
from monai.transforms import Compose, RandGaussianNoised

from common.data.unlabelled_pairs import UnlabelledPairs
from common.engines import PreparePartialLabelBatch, make_schedule
from common.engines.cross_pseudo_supervision import CrossPseudoSupervisionTrainer
from common.errors import InputError
from common.handlers import EpochSeed, Progress, TrainingRecorder
from common.inferers import AutocastInferer
from common.losses.dice_cross_entropy import MarginalDiceCELoss
from tests.common.engines.cross_pseudo_worker import (
    BATCH,
    CLASSES,
    EPOCHS,
    Dual,
    NotedMasks,
    cases,
    shared_training,
    training,
)

ROOT = Path(__file__).resolve().parents[3]
LABELLED, UNLABELLED = 8, 12  # two steps an epoch


def labelled(**options) -> DataLoader:
    return DataLoader(Dataset(cases(LABELLED)), batch_size=BATCH, drop_last=True, **options)


def unlabelled() -> UnlabelledPairs:
    return UnlabelledPairs(Dataset([{"image": case["image"]} for case in cases(UNLABELLED, seed=1)]), BATCH)


def parameters(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def outputs(trainer: CrossPseudoSupervisionTrainer) -> list[dict[str, float]]:
    """Run it; return loss and parts of each step."""
    found: list[dict[str, float]] = []

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        found.append({name: float(engine.state.output[name]) for name in ("loss", "supervised", "cps")})

    trainer.run()
    return found


class NotedPasses(SimpleInferer):
    """Calls the network and keeps all passes: how many batches went in, what came out, and in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[int, torch.Tensor, bool]] = []

    def __call__(self, inputs, network, *args, **kwargs):
        result = network(inputs, *args, **kwargs)
        self.passes.append((1 + len(args), result, network.training))
        return result


class NotedPairs(UnlabelledPairs):
    """Unlabelled data that keep what was drawn."""

    def epoch(self, steps, seed):
        for pair in super().epoch(steps, seed):
            self.drawn = [*getattr(self, "drawn", []), [batch["image"] for batch in pair]]
            yield pair


def written_out(network: Dual, steps: list[tuple], weight: float, bound: float) -> list[dict[str, float]]:
    """The method in plain form, with one backward pass through everything; trains the network."""
    branches = [network.branch1, network.branch2]
    optimizers = [torch.optim.Adam(branch.parameters(), lr=1e-2) for branch in branches]
    dice_ce, found = MarginalDiceCELoss(), []
    for (first, second), mask, batch in steps:
        share = mask.float()
        with torch.no_grad():
            on_first, on_second = ([branch(x) for branch in branches] for x in (first, second))
        pseudo = [(a * (1 - share) + b * share).argmax(1) for a, b in zip(on_first, on_second, strict=True)]
        mixed = first * (1 - share) + second * share
        students = [branch(mixed) for branch in branches]
        cps = F.cross_entropy(students[0], pseudo[1]) + F.cross_entropy(students[1], pseudo[0])
        supervised = sum(dice_ce(branch(batch["image"]), batch["label"]) for branch in branches)
        loss = supervised + weight * cps
        network.zero_grad()
        loss.backward()
        for branch, optimizer in zip(branches, optimizers, strict=True):
            torch.nn.utils.clip_grad_norm_(branch.parameters(), bound)
            optimizer.step()
        found.append({"loss": float(loss), "supervised": float(supervised), "cps": float(cps)})
    return found


@pytest.mark.parametrize(("weight", "bound"), [(1.0, 12.0), (0.3, 0.1)])
def test_numbers_are_those_of_the_method_written_out(weight, bound):
    network = Dual()
    plain, pairs, masks = copy.deepcopy(network), NotedPairs(unlabelled().dataset, BATCH), NotedMasks()
    options = {"cps_weight": weight, "gradient_norm": bound, "cutmix": masks}
    found = outputs(training(network, labelled(), pairs, **options))
    batches = list(labelled()) * EPOCHS
    wanted = written_out(plain, list(zip(pairs.drawn, masks.drawn, batches, strict=True)), weight, bound)
    assert len(found) == 4 and [step["cps"] > 0.1 for step in found] == [True] * 4
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    for name, value in plain.state_dict().items():  # running statistics too
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


class TestPasses:
    def test_teachers_have_no_gradient_and_students_do(self):
        passes = NotedPasses()
        training(Dual(), labelled(), unlabelled(), epochs=1, inferer=passes).run()
        step = [(batches, result.requires_grad) for batches, result, _ in passes.passes[: len(passes.passes) // 2]]
        # u0 and u1 by both branches; then mixed and labelled images in one call of each branch
        assert step == [(1, False)] * 4 + [(2, True)] * 2

    def test_both_branches_learn_from_pseudo_labels_alone(self):
        network = Dual()
        before = [parameters(branch) for branch in (network.branch1, network.branch2)]
        training(
            network, labelled(), unlabelled(), epochs=1, loss_function=lambda logits, label: 0 * logits.sum()
        ).run()
        for old, branch in zip(before, (network.branch1, network.branch2), strict=True):
            assert (parameters(branch) - old).abs().max() > 1e-3

    @pytest.mark.parametrize(("teacher_eval", "counted"), [(False, 4), (True, 2)])
    def test_teachers_mode(self, teacher_eval, counted):
        network, passes = Dual(), NotedPasses()
        training(network, labelled(), unlabelled(), epochs=1, inferer=passes, teacher_eval=teacher_eval).run()
        assert {(batches, mode) for batches, _, mode in passes.passes} == {(1, not teacher_eval), (2, True)}
        # the batches that count in the running statistics, each step
        assert network.branch1[1].num_batches_tracked == network.branch2[1].num_batches_tracked == 2 * counted

    def test_a_validation_leaves_no_evaluation_mode_behind(self):
        network = Dual()
        trainer = training(network, labelled(), None)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: network.eval())
        trainer.run()
        assert network.branch1[1].num_batches_tracked == network.branch2[1].num_batches_tracked == 2 * EPOCHS


class TestOptions:
    def test_threshold_counts_confident_pixels_only(self):
        def cps(threshold: float) -> float:
            return outputs(training(Dual(), labelled(), unlabelled(), confidence_threshold=threshold))[0]["cps"]

        every, some = cps(0.0), cps(0.45)
        assert cps(1 / CLASSES - 0.01) == every > some > cps(0.6) >= cps(1.0) == 0

    def test_ramp_up(self):
        trainer = training(Dual(), labelled(), unlabelled(), epochs=4, cps_weight=2.0, ramp_up_epochs=2)
        weights = [(step["loss"] - step["supervised"]) / step["cps"] for step in outputs(trainer)]
        wanted = [2 * math.exp(-5), 2 * math.exp(-1.25), 2, 2]
        assert weights == pytest.approx(np.repeat(wanted, 2), rel=1e-3)

    def test_no_ramp_up(self):
        trainer = training(Dual(), labelled(), unlabelled(), cps_weight=0.5)
        assert [trainer.weight_of(epoch) for epoch in (1, 2, 9)] == [0.5] * 3

    def test_each_branch_has_a_bound_of_its_own(self):
        norms = []
        network = Dual()
        trainer = training(network, labelled(), unlabelled(), gradient_norm=0.01)

        @trainer.on(Events.ITERATION_COMPLETED)
        def note(engine):
            for branch in (network.branch1, network.branch2):
                norms.append(math.hypot(*(float(value.grad.norm()) for value in branch.parameters())))

        trainer.run()
        assert norms == pytest.approx([0.01] * 8, rel=1e-3)

    def test_partial_labels(self):
        items = [case | {"drawn": torch.tensor([True, True, False])} for case in cases(LABELLED)]
        loader = DataLoader(Dataset(items), batch_size=BATCH)
        network = Dual()
        outputs(training(network, loader, unlabelled(), epochs=1, prepare_batch=PreparePartialLabelBatch()))
        whole = Dual()
        outputs(training(whole, labelled(), unlabelled(), epochs=1))
        assert not torch.allclose(parameters(network), parameters(whole))

    @pytest.mark.parametrize("options", [{"optimizers": []}, {"gradient_norm": 0.0}])
    def test_unfit(self, options):
        with pytest.raises(ValueError, match=r"expected an optimiser|above 0"):
            training(Dual(), labelled(), None, **options)

    def test_too_few_labelled_scans(self):
        loader = DataLoader(Dataset(cases(BATCH - 1)), batch_size=BATCH, drop_last=True)
        with pytest.raises(InputError, match=r"^--batch_size: is larger than the number of labelled scans; pass"):
            training(Dual(), loader, None)


class TestLearning:
    def test_the_loss_falls(self):
        found = outputs(training(Dual(dropout=0.1), labelled(), unlabelled(), epochs=20))
        first, last = found[0], found[-1]
        assert last["loss"] < 0.5 * first["loss"] and last["supervised"] < 0.6 * first["supervised"]

    def test_unlabelled_images_make_a_difference(self):
        semi, alone = Dual(), Dual()
        training(semi, labelled(), unlabelled()).run()
        training(alone, labelled(), None).run()
        assert (parameters(semi) - parameters(alone)).abs().max() > 1e-3

    @pytest.mark.parametrize("none", [None, UnlabelledPairs([], BATCH)], ids=["none", "an empty list"])
    def test_without_unlabelled_images_each_branch_is_trained_as_by_monai(self, none):
        network = Dual()
        alone = copy.deepcopy(network)
        found = outputs(training(network, labelled(), none, gradient_norm=1e6))
        assert all(step["cps"] == 0 and step["loss"] == step["supervised"] > 0 for step in found)
        for branch in (alone.branch1, alone.branch2):
            SupervisedTrainer(
                device="cpu",
                max_epochs=EPOCHS,
                train_data_loader=labelled(),
                network=branch,
                optimizer=torch.optim.Adam(branch.parameters(), lr=1e-2),
                loss_function=MarginalDiceCELoss(),
                decollate=False,
            ).run()
        assert torch.equal(parameters(network), parameters(alone))

    def test_labelled_batches_are_the_same_with_and_without_unlabelled_images(self):
        def seen(pairs: UnlabelledPairs | None) -> torch.Tensor:
            data = Dataset(cases(LABELLED), Compose([RandGaussianNoised("image", prob=1.0)]))
            loader = DataLoader(data, batch_size=BATCH, shuffle=True)
            trainer, images = training(Dual(dropout=0.5), loader, pairs, train_handlers=[EpochSeed(0, data)]), []
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED, lambda engine: images.append(engine.state.output["image"])
            )
            trainer.run()
            return torch.stack(images)

        assert torch.equal(seen(unlabelled()), seen(None))


class TestPrecision:
    def test_bfloat16_gradients_reach_the_students(self):
        exact, rounded = Dual(), Dual()
        training(exact, labelled(), unlabelled(), epochs=1).run()
        training(rounded, labelled(), unlabelled(), epochs=1, inferer=AutocastInferer(torch.bfloat16)).run()
        cached = Dual()
        training(cached, labelled(), unlabelled(), epochs=1, amp=True).run()  # on a CPU, MONAI's scaler is idle
        begin = parameters(Dual())
        for other in (rounded, cached):
            moved, wanted = parameters(other) - begin, parameters(exact) - begin
            assert float(torch.cosine_similarity(moved, wanted, dim=0)) > 0.8
            assert float(torch.cosine_similarity(moved, wanted, dim=0)) < 1

    def test_one_scaler_serves_both_branches(self):
        def train(scale: float | None) -> torch.Tensor:
            network = Dual()
            trainer = training(network, labelled(), unlabelled(), gradient_norm=0.1)
            if scale is not None:
                scaler = torch.amp.GradScaler("cpu", init_scale=scale)
                trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", scaler))
            trainer.run()
            return parameters(network)

        torch.testing.assert_close(train(2.0**10), train(None), rtol=0, atol=1e-5)

    def test_a_branch_whose_gradient_overflows_waits(self):
        network = Dual()
        before = [parameters(branch) for branch in (network.branch1, network.branch2)]
        trainer = training(network, labelled(), unlabelled(), epochs=1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        trainer.add_event_handler(Events.STARTED, lambda engine: setattr(engine, "scaler", scaler))
        network.branch1[0].weight.register_hook(lambda gradient: gradient * math.inf)
        trainer.run()
        assert torch.equal(parameters(network.branch1), before[0])
        assert (parameters(network.branch2) - before[1]).abs().max() > 1e-3
        assert scaler.get_scale() == 1024 / 2**2  # halved in each of two steps


def recorded_training(folder: Path, epochs: int, stop_after: int | None = None, resume: bool = False) -> Dual:
    """A training with all that draws: shuffles, augmentations of both kinds of data, masks, dropout; and its handlers.

    Args:
        folder: its output.
        epochs: how many it is to have.
        stop_after: the epoch behind which it is interrupted.
        resume: go on.
    """
    random.seed(), np.random.seed(), torch.seed()  # as a new process
    network = Dual(dropout=0.5)
    labelled_data, unlabelled_data = (
        Dataset(cases(count, seed), Compose([RandGaussianNoised("image", prob=0.5)]))
        for count, seed in ((LABELLED, 0), (UNLABELLED, 1))
    )
    optimizers = [torch.optim.Adam(branch.parameters(), lr=1e-2) for branch in (network.branch1, network.branch2)]
    schedules = [make_schedule("multistep", one, epochs, factor=0.1, milestones=[2]) for one in optimizers]
    state = {"optimizer": optimizers[0], "optimizer2": optimizers[1]}
    state |= {"lr_scheduler": schedules[0], "lr_scheduler2": schedules[1]}
    handlers = [
        EpochSeed(0, labelled_data),
        Progress("training"),
        *(LrScheduleHandler(schedule, print_lr=False) for schedule in schedules),
        TrainingRecorder(folder, network, state, resume=resume),
    ]
    trainer = training(
        network,
        DataLoader(labelled_data, batch_size=BATCH, shuffle=True),
        UnlabelledPairs(unlabelled_data, BATCH),
        epochs,
        optimizers=optimizers,
        train_handlers=handlers,
    )
    if stop_after is not None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
    trainer.run()
    return network


class TestResume:
    @pytest.fixture(scope="class")
    @staticmethod
    def whole(tmp_path_factory) -> tuple[Path, Dual]:
        folder = tmp_path_factory.mktemp("whole")
        return folder, recorded_training(folder, 4)

    @pytest.mark.parametrize("stop_after", [1, 3])
    def test_a_resumed_training_equals_an_uninterrupted_one(self, tmp_path, whole, stop_after):
        recorded_training(tmp_path, 4, stop_after)
        resumed = recorded_training(tmp_path, 4, resume=True)
        for name, value in whole[1].state_dict().items():
            assert torch.equal(resumed.state_dict()[name], value), name
        assert (tmp_path / "history.csv").read_bytes() == (whole[0] / "history.csv").read_bytes()

    def test_rates_in_the_history(self, whole):
        with open(whole[0] / "history.csv", newline="", encoding="utf-8") as file:
            rates = [float(row["lr"]) for row in csv.DictReader(file)]
        assert rates == pytest.approx([1e-2, 1e-3, 1e-3, 1e-3])  # as each epoch left them


class TestRandomNumbers:
    def test_masks_differ_by_epoch_and_seed(self):
        def masks(seed: int) -> list[bytes]:
            noted = NotedMasks()
            training(Dual(), labelled(), unlabelled(), cutmix=noted, seed=seed).run()
            return [drawn.numpy().tobytes() for drawn in noted.drawn]

        first = masks(0)
        assert masks(0) == first and len(set(first)) == 2 * EPOCHS
        assert not set(masks(1)) & set(first)

    def test_unlabelled_images_differ_by_epoch(self):
        pairs = NotedPairs(unlabelled().dataset, BATCH)
        training(Dual(), labelled(), pairs).run()
        assert len({torch.stack(pair).numpy().tobytes() for pair in pairs.drawn}) == 2 * EPOCHS


def test_monais_handlers(tmp_path, capsys):
    network = Dual()
    stats = StatsHandler(
        name="steps", output_transform=lambda output: {name: output[name] for name in ("loss", "supervised", "cps")}
    )
    saver = CheckpointSaver(str(tmp_path), {"model": network}, save_final=True, final_filename="final.pt")
    training(network, labelled(), unlabelled(), train_handlers=[stats, saver]).run()
    lines = [line for line in capsys.readouterr().out.splitlines() if "Iter:" in line]
    assert len(lines) == 2 * EPOCHS and all(re.search(r"cps: .* loss: .* supervised: ", line) for line in lines)
    saved = torch.load(tmp_path / "final.pt", weights_only=True)
    assert torch.equal(saved["branch2.0.weight"], network.branch2[0].weight)


class TestSeveralProcesses:
    @pytest.fixture(scope="class")
    @staticmethod
    def ranks(tmp_path_factory):
        """What two processes found."""
        out = tmp_path_factory.mktemp("ranks")
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command += ["-m", "tests.common.engines.cross_pseudo_worker", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
        return [torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in range(2)]

    @pytest.mark.parametrize("kind", ["plain", "norm"])
    def test_parameters_stay_equal(self, ranks, kind):
        assert all(torch.equal(value, ranks[1][kind][name]) for name, value in ranks[0][kind].items())
        assert any(
            not torch.equal(value, ranks[0][kind][name]) for name, value in Dual(norm=kind == "norm").named_parameters()
        )

    def test_they_are_those_of_one_process(self, ranks):
        alone = shared_training()
        alone.run()
        for name, value in alone.network.named_parameters():
            torch.testing.assert_close(ranks[0]["plain"][name], value, rtol=0, atol=1e-5, msg=name)

    def test_each_process_draws_for_itself(self, ranks):
        assert ranks[0]["masks"].shape == ranks[1]["masks"].shape
        assert not torch.equal(ranks[0]["masks"], ranks[1]["masks"])

    def test_one_process_alone_is_refused(self, monkeypatch):
        monkeypatch.delenv("RANK", raising=False)
        with pytest.raises(InputError, match="needs several processes"):
            training(Dual(), labelled(), unlabelled(), distributed=True)
