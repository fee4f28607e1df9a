"""What each process of test_cross_pseudo_supervision.py does: ``cross_pseudo_worker.py OUT``; and what it shares."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from monai.data import DataLoader, Dataset
from torch import nn

from common.data.unlabelled_pairs import UnlabelledPairs
from common.engines import join_ranks, leave_ranks, local_batch_size
from common.engines.cross_pseudo_supervision import CrossPseudoSupervisionTrainer
from common.losses.dice_cross_entropy import MarginalDiceCELoss
from common.transforms.box_cutmix import BoxCutMixMask

BATCH, CLASSES, SIZE, EPOCHS = 4, 3, 16, 2


class Dual(nn.Module):
    """Two small networks, drawn from the seed; their forward pass gives the mean of the probabilities."""

    def __init__(self, dropout: float = 0.0, norm: bool = True, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.branch1, self.branch2 = (
            nn.Sequential(
                nn.Conv2d(1, 8, 3, padding=1),
                nn.BatchNorm2d(8) if norm else nn.Identity(),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Conv2d(8, CLASSES, 3, padding=1),
            )
            for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.branch1(x).softmax(dim=1) + self.branch2(x).softmax(dim=1)) / 2


def cases(count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Noisy images with a bright square and a brighter one: structures 1 and 2."""
    generator = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(count):
        label = torch.zeros(1, SIZE, SIZE, dtype=torch.long)
        for value in (1, 2):
            top, left = torch.randint(0, SIZE - 6, (2,), generator=generator).tolist()
            label[:, top : top + 6, left : left + 6] = value
        items.append({"image": label + 0.5 * torch.randn(1, SIZE, SIZE, generator=generator), "label": label})
    return items


def training(
    network: Dual, labelled: DataLoader, unlabelled: UnlabelledPairs | None, epochs: int = EPOCHS, **options: Any
) -> CrossPseudoSupervisionTrainer:
    """A trainer with an Adam for each branch."""
    optimizers = [torch.optim.Adam(branch.parameters(), lr=1e-2) for branch in (network.branch1, network.branch2)]
    options = {"device": "cpu", "optimizers": optimizers, "loss_function": MarginalDiceCELoss()} | options
    return CrossPseudoSupervisionTrainer(
        max_epochs=epochs,
        train_data_loader=labelled,
        unlabelled=unlabelled,
        network=network,
        **{"decollate": False} | options,
    )


class NotedMasks(BoxCutMixMask):
    """Masks as they are drawn, all of which are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[torch.Tensor] = []

    def __call__(self, count: int, size: Sequence[int]) -> torch.Tensor:
        self.drawn.append(super().__call__(count, size))
        return self.drawn[-1]


def shared_training(ranks: int = 1, rank: int = 0, norm: bool = False) -> CrossPseudoSupervisionTrainer:
    """A training by several processes.

    There is one unlabelled image only: whatever they draw, all have the same. So if nothing is normalized by a batch,
    the number of processes does not matter.
    """
    data = Dataset(cases(2 * BATCH))
    sampler = torch.utils.data.DistributedSampler(data, ranks, rank, shuffle=False)
    share = local_batch_size(BATCH) if ranks > 1 else BATCH
    loader = DataLoader(data, batch_size=share, sampler=sampler)
    pairs = UnlabelledPairs(Dataset(cases(1, seed=1)), share)
    network = Dual(norm=norm, seed=rank)  # processes share the first one's
    return training(network, loader, pairs, distributed=ranks > 1, cutmix=NotedMasks())


def main(out: Path) -> None:
    """Save what comes of a training, without and with batch normalization, and the masks that were drawn."""
    rank = join_ranks()
    found: dict[str, Any] = {}
    for norm in (False, True):
        trainer = shared_training(dist.get_world_size(), rank, norm)
        trainer.run()
        found["norm" if norm else "plain"] = {k: value.detach() for k, value in trainer.network.named_parameters()}
        found["masks"] = torch.cat(trainer.cutmix.drawn)
    torch.save(found, out / f"rank{rank}.pt")
    dist.barrier()
    leave_ranks()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
