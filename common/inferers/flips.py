"""The mean of what an inferer says of an input and of its mirror image."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from torch.nn.functional import log_softmax, logsigmoid

__all__ = ["FlipInferer", "mean_of", "with_flips"]

_KINDS = ("probabilities", "softmax", "sigmoid")


def mean_of(one: torch.Tensor, other: torch.Tensor, kind: str) -> torch.Tensor:
    """Average the probabilities of two results; where these are logits, give the logits of the average.

    What comes behind an inferer then need not know of it. The logits are computed without the probabilities, which
    would be rounded to 0 and 1.

    Args:
        one: ``(B, C, ...)``, floating point.
        other: likewise; overwritten where ``kind`` is ``probabilities``, as a volume's may take a gigabyte.
        kind: what both are: ``probabilities``, logits of classes that exclude each other (``softmax``, over the
            channels), or logits each of which stands for itself (``sigmoid``).

    Returns:
        The same kind.
    """
    if kind == "softmax":
        return torch.logaddexp(log_softmax(one, dim=1), log_softmax(other, dim=1)) - math.log(2)
    if kind == "sigmoid":
        present, absent = (torch.logaddexp(logsigmoid(sign * one), logsigmoid(sign * other)) for sign in (1, -1))
        return present - absent
    return other.add_(one).div_(2)


class FlipInferer(Inferer):
    """Mean of the probabilities of an input and, flipped back, of its mirror image.

    It takes twice the time. One axis only, which is where the mirror image of what was learned is likely too:

    - in MR of the spine the patient's left and right, for names depend on above and below, and a spine has a front and
      a back. That is the axis across the slices: the first of SAFNet's grid (D, H, W: to the right, feet, back), axis
      -3, and the last of SSHSNet's (to the back, feet, right), axis -1;
    - in video the picture's left and right, the last axis of frames (..., C, H, W), the same for all frames of a clip.

    MONAI's ``TestTimeAugmentation`` is for something else: it draws random transforms of a data set's items anew, and
    averages what is left of them after their inverse, outside of the engines.

    Args:
        inferer: maps an input and a network to ``(B, C, ...)``, with the input's axes at the end.
        axis: which is flipped, negative: counted from the end, where results have the input's axes.
        kind: what the inferer gives, see :func:`mean_of`.

    Raises:
        ValueError: the axis is counted from the beginning, or the kind is unknown.
    """

    def __init__(self, inferer: Inferer, axis: int, kind: str) -> None:
        super().__init__()
        if axis >= 0:
            raise ValueError(f"an axis is counted from the end, such as -1, got {axis}")
        if kind not in _KINDS:
            raise ValueError(f"a result is one of {', '.join(_KINDS)}, got {kind!r}")
        self.inferer, self.axis, self.kind = inferer, axis, kind

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Segment a batch twice.

        Args:
            inputs: what ``inferer`` takes.
            network: likewise.
            args: further arguments of ``inferer``.
            kwargs: the same, by name.

        Returns:
            What ``inferer`` gives, with the geometry that it has without flips.
        """
        found = self.inferer(inputs, network, *args, **kwargs)
        mirrored = self.inferer(inputs.flip(self.axis), network, *args, **kwargs)
        plain = [result.as_subclass(torch.Tensor) for result in (found, mirrored.flip(self.axis))]
        return convert_to_dst_type(mean_of(*plain, self.kind), found)[0]


def with_flips(inferer: Inferer, flips: bool, axis: int, kind: str) -> Inferer:
    """Return a :class:`FlipInferer` where flips are wanted, else the inferer itself, for a configuration's switch.

    Args:
        inferer: see :class:`FlipInferer`.
        flips: whether they are wanted.
        axis: see :class:`FlipInferer`.
        kind: likewise.
    """
    return FlipInferer(inferer, axis, kind) if flips else inferer
