"""Several processes that train or evaluate together, under ``torchrun``."""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any

import torch
import torch.distributed as dist

from common.errors import InputError

__all__ = ["distribute", "join_ranks", "leave_ranks", "local_batch_size", "rank_device"]

_distributed: weakref.WeakSet[torch.nn.parallel.DistributedDataParallel] = weakref.WeakSet()


def rank_device() -> torch.device:
    """Return this process's device: its own CUDA device, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def join_ranks() -> int:
    """Join the processes that ``torchrun`` started, by NCCL on CUDA and gloo on CPU; only the first one talks.

    Returns:
        This process's rank.

    Raises:
        InputError: the program was not started by ``torchrun``.
    """
    if not dist.is_initialized():
        if "RANK" not in os.environ:
            raise InputError(
                "multi_gpu",
                "needs several processes",
                "start it with torchrun --nproc_per_node N -m monai.bundle run ...",
            )
        device = rank_device()
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo")
    if dist.get_rank() > 0:
        logging.getLogger().setLevel(logging.WARNING)
    return dist.get_rank()


def leave_ranks() -> None:
    """End the communication between the processes, once all of them are done.

    The networks of :func:`distribute` can no longer be trained; what they wrap can be used.
    """
    if not dist.is_initialized():
        return
    group = dist.group.WORLD
    dist.barrier()  # gloo aborts a process whose peer has left while it still talks
    dist.destroy_process_group()
    # Each network keeps the group, and with it gloo's threads: one that still lets go of a tensor while the interpreter
    # ends aborts the process (PyTorch's issue 190489). Python's own reference must be the last to go: it waits for the
    # threads without holding the interpreter's lock; the network's reducer holds it, and would wait for ever.
    for network in _distributed:
        network.reducer = network.logger = network.process_group = None
    _distributed.clear()
    del group


def distribute(
    network: torch.nn.Module, device: str | torch.device, find_unused_parameters: bool = False
) -> torch.nn.Module:
    """Move a network to its device and let the processes share its gradients.

    On CUDA its batch normalization counts the whole batch (SyncBatchNorm, which PyTorch has for CUDA only).

    Args:
        network: the same in every process.
        device: this process's device.
        find_unused_parameters: whether some parameters may have no part in a step, which takes time to find out.
    """
    join_ranks()
    device = torch.device(device)
    if device.type == "cuda":
        network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    network = network.to(device)
    ids: list[Any] | None = [device] if device.type == "cuda" else None
    distributed = torch.nn.parallel.DistributedDataParallel(
        network, device_ids=ids, find_unused_parameters=bool(find_unused_parameters)
    )
    _distributed.add(distributed)
    return distributed


def local_batch_size(batch_size: int) -> int:
    """Return each process's share of a batch.

    Raises:
        InputError: the batch cannot be divided evenly.
    """
    join_ranks()
    ranks = dist.get_world_size()
    if int(batch_size) % ranks:
        raise InputError(
            f"--batch_size {batch_size}", f"cannot be shared by {ranks} processes", f"pass a multiple of {ranks}"
        )
    return int(batch_size) // ranks
