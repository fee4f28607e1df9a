"""What each process of test_distributed.py does: ``rank_worker.py OUT NORM DICE_WEIGHT``."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import torch

from common.engines import distribute, join_ranks, leave_ranks, local_batch_size
from common.losses import MarginalLoss
from common.networks import SAFNet

BATCH, CLASSES, STEPS = 4, 18, 3


def batch() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The same global batch everywhere; its cases have drawn different structures, and different amounts of them."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(BATCH, 1, 2, 32, 16, generator=generator)
    label = torch.randint(0, CLASSES, (BATCH, 1, 2, 32, 16), generator=generator)
    for case in range(BATCH):
        label[case, :, :, : 6 * case] = 0
    drawn = torch.zeros(BATCH, CLASSES, dtype=torch.bool)
    for case in range(BATCH):
        drawn[case, : 3 + 5 * case] = True
    return image, {"label": label, "drawn": drawn}


def network(norm: str) -> torch.nn.Module:
    """A small SAFNet, the same everywhere."""
    torch.manual_seed(1)
    net = SAFNet(features=(8, 8, 16), norm=norm)
    return net.train() if norm == "instance" else net.eval()


def gradients(net: torch.nn.Module, part: slice, dice_weight: float) -> dict[str, torch.Tensor]:
    """Gradients of the loss of a part of the batch."""
    image, target = batch()
    loss = MarginalLoss(dice_weight=dice_weight)(net(image[part]), {key: value[part] for key, value in target.items()})
    net.zero_grad()
    loss.backward()
    plain = getattr(net, "module", net)
    return {name: parameter.grad.clone() for name, parameter in plain.named_parameters()}


def gloo_threads() -> int | None:
    """How many threads gloo has in this process; None where the system does not tell."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return None
    names = []
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            names.append((task / "comm").read_text(encoding="utf-8"))
    return sum("gloo" in name for name in names)


def main(out: Path, norm: str, dice_weight: float) -> None:
    """Save this process's gradients, its parameters after three steps, and its threads before and after it left."""
    rank = join_ranks()
    net = distribute(network(norm), "cpu")
    share = local_batch_size(BATCH)
    part = slice(rank * share, (rank + 1) * share)
    found = {"gradients": gradients(net, part, dice_weight)}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(STEPS):
        gradients(net, part, dice_weight)
        optimizer.step()
    found["parameters"] = {name: value.detach() for name, value in net.module.named_parameters()}
    found["threads"] = [gloo_threads()]
    leave_ranks()
    end = time.monotonic() + 10
    while gloo_threads() and time.monotonic() < end:  # the system may list a thread a little longer than it lives
        time.sleep(0.01)
    found["threads"].append(gloo_threads())
    torch.save(found, out / f"rank{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
