"""Semi-supervised training of two networks, each of which learns from what the other one says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ignite.engine import Engine, Events
from monai.engines import Trainer, default_prepare_batch
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer, SimpleInferer
from monai.utils.enums import CommonKeys
from torch import nn

from common.data.unlabelled_pairs import UnlabelledPairs
from common.engines.distributed import distribute
from common.errors import InputError
from common.transforms.box_cutmix import BoxCutMixMask

__all__ = ["CrossPseudoSupervisionTrainer"]

_NOT_COUNTED = -100  # what PyTorch's cross-entropy passes over


class _SeveralBatches(nn.Module):
    """A network that takes several batches in one call, as DistributedDataParallel wants it before each backward pass.

    Each batch is normalized by its own statistics; the outputs are concatenated.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *batches: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.network(batch) for batch in batches])


class CrossPseudoSupervisionTrainer(Trainer):
    """Train two branches on labelled images, and each on the other's hard pseudo-labels of unlabelled ones.

    In each step there are a labelled batch and two unlabelled ones, u0 and u1. Both branches segment u0 and u1 without
    gradient; these results are put together by a CutMix mask, and their argmax is the pseudo-label of the image that is
    put together of u0 and u1 in the same way. Then both branches segment that image and the labelled batch:

        loss = sum over both branches: loss_function(labelled) + cps_weight * cross_entropy(mixed, other's pseudo-label)

    The branches have an optimiser each, and the norm of each one's gradient is limited. As no gradient goes from one to
    the other, each has its backward pass before the other's forward pass, which needs half the memory of one backward
    pass through both. Without unlabelled data, both learn from the labels alone, in the same steps.

    ``engine.state.output`` has ``image`` and ``label`` of the labelled batch, ``loss``, and its parts, both summed over
    the branches: ``supervised`` and ``cps`` (without the weight). Choose the weights by the Dice of the mean of both
    branches' probabilities (the network's own output): the next stage uses both. The authors' program chose by that of
    one branch.

    Unlabelled images and masks depend on ``seed``, epoch and rank alone; for all other random numbers
    :class:`common.handlers.EpochSeed` does the same, so that a resumed training equals an uninterrupted one.

    Source: Chen et al., "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", 2021,
    https://arxiv.org/abs/2106.01226, section 3; "Semi-supervised hybrid spine network for segmentation of spine MR
    images" (SSHSNet), 2022, https://arxiv.org/abs/2203.12151. The defaults are as in the latter's authors' program:
    pseudo-labels are made in training mode (batch statistics, dropout) and all of them count, with the full weight from
    the first step.

    Args:
        device: where to run.
        max_epochs: an epoch is one pass through the labelled data.
        train_data_loader: the labelled data.
        unlabelled: the unlabelled data; None, or one without items, trains on the labelled data alone.
        network: has two networks, ``branch1`` and ``branch2``, which map images to logits ``(B, C, H, W)``.
        optimizers: of the first and of the second branch.
        loss_function: of logits and what ``prepare_batch`` gives as label.
        cps_weight: of the cross pseudo supervision.
        confidence_threshold: pixels whose pseudo-label has a lower probability do not count; the sum over the others is
            divided by the number of all pixels (Sohn et al., "FixMatch", 2020, https://arxiv.org/abs/2001.07685,
            equation 4). 0: all count.
        ramp_up_epochs: number of epochs in which the weight rises to ``cps_weight``, as exp(-5 (1 - t)^2) (Laine and
            Aila, "Temporal ensembling for semi-supervised learning", 2017, https://arxiv.org/abs/1610.02242). 0: none.
        teacher_eval: make pseudo-labels in evaluation mode.
        gradient_norm: bound of the 2-norm of each branch's gradient; for fp16 of the gradient proper, not the scaled.
        cutmix: draws the masks.
        seed: the run's seed.
        distributed: share the gradients with other processes (:func:`common.engines.distribute`).
        inferer: how a branch is called.
        prepare_batch: takes image and label from a labelled batch.
        non_blocking: whether batches are copied to the device asynchronously.
        train_handlers: handlers with an ``attach`` method.
        amp: fp16 with a gradient scaler, one for both branches.
        to_kwargs: further arguments of ``prepare_batch``.
        amp_kwargs: further arguments of ``torch.autocast``.
        decollate: hand batch and output to the handlers as lists of items, as MONAI's handlers expect them; scalars,
            the loss among them, then stand in each item, as plain numbers.

    Raises:
        InputError: the labelled data have no batch, or ``distributed`` without several processes.
        ValueError: there are not two optimisers, or the bound of the gradient is not above 0.

    Shapes:
        images ``(B, channels, H, W)``, labels ``(B, 1, H, W)``; unlabelled images have the labelled ones' size.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable,
        unlabelled: UnlabelledPairs | None,
        network: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        loss_function: Callable[[torch.Tensor, Any], torch.Tensor],
        cps_weight: float = 1.0,
        confidence_threshold: float = 0.0,
        ramp_up_epochs: int = 0,
        teacher_eval: bool = False,
        gradient_norm: float = 12.0,
        cutmix: BoxCutMixMask | None = None,
        seed: int = 0,
        distributed: bool = False,
        inferer: Inferer | None = None,
        prepare_batch: Callable = default_prepare_batch,
        non_blocking: bool = False,
        train_handlers: Sequence[Any] | None = None,
        amp: bool = False,
        to_kwargs: dict[str, Any] | None = None,
        amp_kwargs: dict[str, Any] | None = None,
        decollate: bool = True,
    ) -> None:
        if len(optimizers) != 2:
            raise ValueError(f"expected an optimiser for each of two branches, got {len(optimizers)}")
        if not float(gradient_norm) > 0:
            raise ValueError(f"the bound of a gradient must be above 0, got {gradient_norm}")
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            non_blocking=non_blocking,
            prepare_batch=prepare_batch,
            handlers=train_handlers,
            amp=amp,
            decollate=decollate,
            to_kwargs=to_kwargs,
            amp_kwargs=amp_kwargs,
        )
        if self.state.epoch_length == 0:
            problem = "is larger than the number of labelled scans"
            raise InputError("--batch_size", problem, "pass a smaller one, or more labelled scans")
        self.network, self.optimizers, self.loss_function = network, list(optimizers), loss_function
        self.unlabelled = unlabelled if unlabelled is not None and len(unlabelled) else None
        self.cps_weight, self.ramp_up_epochs = float(cps_weight), int(ramp_up_epochs)
        self.confidence_threshold, self.teacher_eval = float(confidence_threshold), bool(teacher_eval)
        self.gradient_norm, self.seed = float(gradient_norm), int(seed)
        self.cutmix = BoxCutMixMask() if cutmix is None else cutmix
        self.inferer = SimpleInferer() if inferer is None else inferer
        self._branches = [network.branch1, network.branch2]
        students = [_SeveralBatches(branch) for branch in self._branches]
        self._students = [distribute(student, self.state.device) if distributed else student for student in students]
        if self.unlabelled is not None:
            self.add_event_handler(Events.EPOCH_STARTED, self._begin_epoch)
            # Part of getting a step's batch, to ignite and to whatever measures that.
            self.add_event_handler(Events.GET_BATCH_STARTED, self._get_pair)

    def weight_of(self, epoch: int) -> float:
        """Return the weight of the cross pseudo supervision in an epoch, counted from 1."""
        left = 1 - min(1.0, (epoch - 1) / self.ramp_up_epochs) if self.ramp_up_epochs else 0.0
        return self.cps_weight * math.exp(-5 * left**2)

    def _begin_epoch(self, engine: Engine) -> None:
        epoch = np.random.SeedSequence([self.seed, self.state.epoch, self.state.rank])
        # Of children, as EpochSeed takes the parent's own number.
        for_images, for_masks = (int(child.generate_state(1)[0]) for child in epoch.spawn(2))
        self._pairs = self.unlabelled.epoch(self.state.epoch_length, for_images)
        self.cutmix.set_random_state(seed=for_masks)

    def _get_pair(self, engine: Engine) -> None:
        self._pair = next(self._pairs)

    def _iteration(self, engine: Trainer, batchdata: Mapping[str, Any]) -> dict[str, Any]:
        image, target = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        self.network.train()
        mixed, pseudo = (None, None) if self.unlabelled is None else self._teach()
        loss, supervised, cps = (torch.zeros((), device=image.device) for _ in range(3))
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        for own, student in enumerate(self._students):
            of_labels, of_pseudo = self._losses(
                student, image, target, mixed, None if pseudo is None else pseudo[1 - own]
            )
            of_branch = of_labels + self.weight_of(self.state.epoch) * of_pseudo
            (of_branch if self.scaler is None else self.scaler.scale(of_branch)).backward()
            loss += of_branch.detach()
            supervised += of_labels.detach()
            cps += of_pseudo.detach()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self._step()
        output = {CommonKeys.IMAGE: image, CommonKeys.LABEL: target, CommonKeys.LOSS: loss}
        engine.state.output = output | {"supervised": supervised, "cps": cps}
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _losses(
        self,
        student: nn.Module,
        image: torch.Tensor,
        target: Any,
        mixed: torch.Tensor | None,
        pseudo: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a branch's losses on the labelled and on the mixed images; 0 where there are none of the latter."""
        if mixed is None:
            logits = self._logits(student, image)
            return self.loss_function(logits, target), logits.new_zeros(())
        # The labelled batch goes last: it has the last word on the running statistics.
        of_mixed, of_labelled = self._logits(student, mixed, image).split([len(mixed), len(image)])
        pixels = F.cross_entropy(of_mixed, pseudo, reduction="none", ignore_index=_NOT_COUNTED)
        return self.loss_function(of_labelled, target), pixels.mean()

    @torch.no_grad()
    def _teach(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return mixed images (B, channels, H, W) and each branch's pseudo-labels of them (B, H, W)."""
        first, second = (self._image(batch) for batch in self._pair)
        mask = self.cutmix(len(first), first.shape[2:]).to(first.device)
        pseudo = []
        for branch in self._branches:
            branch.train(not self.teacher_eval)
            of_first, of_second = self._logits(branch, first), self._logits(branch, second)
            logits = torch.where(mask, of_second, of_first)
            labels = logits.argmax(dim=1)
            if self.confidence_threshold:
                labels[logits.softmax(dim=1).amax(dim=1) < self.confidence_threshold] = _NOT_COUNTED
            branch.train()
            pseudo.append(labels)
        return torch.where(mask, second, first), pseudo

    def _image(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        image = batch[CommonKeys.IMAGE]
        plain = image.as_tensor() if hasattr(image, "as_tensor") else image
        return plain.to(self.state.device, non_blocking=self.non_blocking)

    def _logits(self, branch: nn.Module, *images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.state.device.type, enabled=self.amp, **self.amp_kwargs):
            return self.inferer(images[0], branch, *images[1:]).float()

    def _step(self) -> None:
        for branch, optimizer in zip(self._branches, self.optimizers, strict=True):
            if self.scaler is not None:
                self.scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(branch.parameters(), self.gradient_norm)
            if self.scaler is None:
                optimizer.step()
            else:
                self.scaler.step(optimizer)
        if self.scaler is not None:
            self.scaler.update()
