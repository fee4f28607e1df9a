"""Several networks' probabilities, averaged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from monai.inferers import Inferer

__all__ = ["EnsembleInferer"]


class EnsembleInferer(Inferer):
    """Mean of what an inferer gets from each of several networks, such as those of the folds of a cross-validation.

    The input is preprocessed once for all of them. One result and the running mean are in memory at a time.

    Source: the authors' program of Huang et al., "Semi-supervised hybrid spine network for segmentation of spine MR
    images", https://arxiv.org/abs/2203.12151, averages the folds' probabilities.

    Args:
        inferer: maps an input and a network to probabilities, as :class:`common.inferers.HybridInferer` does; the mean
            of logits would be something else.
        networks: the members, in evaluation mode; iterated anew for each input, so they may also be loaded one after
            another (:class:`common.handlers.EnsembleCheckpointLoader`).
    """

    def __init__(self, inferer: Inferer, networks: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self.inferer, self.networks = inferer, networks

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segment a batch.

        Args:
            inputs: what ``inferer`` takes.
            network: not used; an engine hands it on. The members are called in its place.
            args: further arguments of ``inferer``.
            kwargs: the same, by name.

        Returns:
            Mean of the members' probabilities.

        Raises:
            ValueError: there are no members.
        """
        total, count = None, 0
        for member in self.networks:
            found = self.inferer(inputs, member, *args, **kwargs)
            total = found.clone() if total is None else total.add_(found)
            del found  # a gigabyte, perhaps, that the next member needs
            count += 1
        if total is None:
            raise ValueError("an ensemble needs at least one network")
        return total.div_(count)
