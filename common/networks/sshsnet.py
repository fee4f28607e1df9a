"""SSHSNet: a pair of 2D networks and a 3D network that takes in what they say, as one."""

from __future__ import annotations

import torch
from torch import nn

from common.networks.blocks import check_input
from common.networks.deeplabv3plus import DualDeepLab
from common.networks.hybrid_net3d import HybridNet3D
from common.networks.slice_context import crop_maps, crop_probabilities, halve_in_plane, slice_triples

__all__ = ["STAGES", "SSHSNet"]

STAGES = ("stage1", "stage2")


class SSHSNet(nn.Module):
    """Semi-supervised hybrid spine network: both stages in one.

    Stage 1, a pair of 2D networks, sees each slice of a window with its two neighbours at half the in-plane size.
    Stage 2, a 3D network, sees patches of the window, with the mean of the pair's probabilities and both feature maps
    of the same place, cropped and enlarged. What stage 1 says of a window, its context, is computed once for all
    patches of the window:

    - :meth:`context`: the context of a window;
    - :meth:`crop`: the context of patches of it;
    - :meth:`segment`: stage 2 on patches and their part of the context.

    :meth:`forward` takes the window for one patch, for tools that know networks of one input only. The paper's results
    come of patches of 192 x 192 x 12 in windows of 512 x 1024 x 12, whose probabilities an inferer puts together; a
    network trained on patches has not seen means and attention over a whole window.

    Stage 1 is frozen: :meth:`context` computes no gradient, and :meth:`train` leaves it in evaluation mode. It is
    trained by itself, and stage 2 by :meth:`segment`, or by itself on what :meth:`crop` gives.

    Which stages have been trained is kept with the weights (buffer ``stages_trained``), so that random weights are not
    taken for trained ones.

    Where the paper is silent the authors' program is followed, with these exceptions and choices:

    - It halves the whole volume for training and each window for inference. Here a window can be cut out of a volume
      that was halved once (``halved``), so that both are the same; otherwise :meth:`context` halves the window.
    - Patches may start anywhere. Feature maps are interpolated where the patch lies; that program rounds the starts
      down to multiples of 4 voxels there (``floor_starts``), and the maps lie up to 3 voxels beside their patch. Where
      starts are multiples of 4 both are the same.
    - Probabilities are repeated twofold, as there, or interpolated linearly (``probability_mode``).

    Source: "Semi-supervised hybrid spine network for segmentation of spine MR images", Computerized Medical Imaging and
    Graphics 107 (2023) 102245, https://arxiv.org/abs/2203.12151, and the authors' program. 90,439,679 parameters with
    the default stages.

    Args:
        stage1: the pair of 2D networks; ``None`` for the paper's.
        stage2: the 3D network; ``None`` for the paper's.
        slices_at_once: how many slices of each window go through stage 1 at a time. ``None``: one on a CPU, where that
            takes half the time of all at once, and all elsewhere.
        probability_mode: ``"nearest"`` or ``"linear"``.
        floor_starts: round the patches' starts down to multiples of 4 voxels where feature maps are cropped.

    Raises:
        ValueError: ``probability_mode`` is another one, ``slices_at_once`` is not positive, or the second stage does
            not take what the first gives.

    Shapes:
        windows ``(B, 1, H, W, D)``: front to back, head to foot, slices; H and W multiples of 32, any D. Output logits
        ``(B, classes, H, W, D)``.
    """

    def __init__(
        self,
        stage1: DualDeepLab | None = None,
        stage2: HybridNet3D | None = None,
        slices_at_once: int | None = None,
        probability_mode: str = "nearest",
        floor_starts: bool = False,
    ) -> None:
        super().__init__()
        if probability_mode not in ("nearest", "linear"):
            raise ValueError(f"SSHSNet enlarges probabilities by 'nearest' or 'linear', got {probability_mode!r}")
        if slices_at_once is not None and slices_at_once < 1:
            raise ValueError(f"SSHSNet expects `slices_at_once` to be positive, got {slices_at_once}")
        self.stage1 = (DualDeepLab() if stage1 is None else stage1).eval()
        self.stage2 = HybridNet3D() if stage2 is None else stage2
        if self.stage1.feature_channels != self.stage2.map_channels:
            raise ValueError(
                f"SSHSNet's second stage was built for feature maps of {self.stage2.map_channels} channels, its first "
                f"gives {self.stage1.feature_channels}: pass it `map_channels`"
            )
        self.slices_at_once = slices_at_once
        self.probability_mode = probability_mode
        self.floor_starts = floor_starts
        # 1 or 0: no booleans, as federated learning takes differences and means of all that a network holds.
        self.register_buffer("stages_trained", torch.zeros(len(STAGES)))

    def mark_trained(self, stage: str) -> None:
        """Note that a stage (one of ``STAGES``) has been trained."""
        self.stages_trained[STAGES.index(stage)] = 1

    def untrained(self) -> list[str]:
        """Return the stages that have not been trained."""
        return [stage for stage in STAGES if self.stages_trained[STAGES.index(stage)] < 0.5]

    def train(self, mode: bool = True) -> SSHSNet:
        """Set the mode of the second stage; the first stays in evaluation mode."""
        super().train(mode)
        self.stage1.eval()
        return self

    @torch.jit.export
    def context(
        self,
        window: torch.Tensor,
        before: torch.Tensor | None = None,
        after: torch.Tensor | None = None,
        halved: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute what stage 1 says of windows, without gradient.

        Args:
            window: normalized intensities ``(B, 1, H, W, D)``, slices last; H and W multiples of 32.
            before: the slice before the window's first, ``(B, 1, H, W, 1)``; ``None`` at the volume's end, where the
                first slice stands for it.
            after: the slice after the window's last, as ``before``.
            halved: window, ``before`` and ``after`` come at half their in-plane size, ``(B, 1, H / 2, W / 2, ...)``,
                from a volume that :func:`common.networks.slice_context.halve_in_plane` has halved.

        Returns:
            Probabilities ``(B, classes, H / 2, W / 2, D)`` and feature maps ``(B, channels, H / 8, W / 8, D)``.

        Raises:
            ValueError: a shape is another one.
        """
        multiple = 16 if halved else 32
        check_input(window, "SSHSNet", 1, [multiple, multiple, 1])
        for neighbour in (before, after):
            if neighbour is not None and neighbour.shape != window[..., :1].shape:
                raise ValueError(
                    f"SSHSNet expects one slice before and after a window of shape {list(window.shape)}, "
                    f"got shape {list(neighbour.shape)}"
                )
        with torch.no_grad():
            if not halved:
                window = halve_in_plane(window)
                before = None if before is None else halve_in_plane(before)
                after = None if after is None else halve_in_plane(after)
            triples = slice_triples(window, before, after)
            slices = triples.shape[1]
            step = self.slices_at_once
            if step is None:
                step = 1 if window.device.type == "cpu" else slices
            probabilities: list[torch.Tensor] = []
            maps: list[torch.Tensor] = []
            for start in range(0, slices, step):
                some = triples[:, start : start + step]
                said = self.stage1.context(some.flatten(0, 1))
                probabilities.append(said[0].unflatten(0, some.shape[:2]))
                maps.append(said[1].unflatten(0, some.shape[:2]))
        # (B, D, C, h, w) -> (B, C, h, w, D)
        return torch.cat(probabilities, dim=1).permute(0, 2, 3, 4, 1), torch.cat(maps, dim=1).permute(0, 2, 3, 4, 1)

    @torch.jit.export
    def crop(
        self, context: tuple[torch.Tensor, torch.Tensor], boxes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cut the context of patches out of that of their windows.

        Args:
            context: what :meth:`context` returned for B windows.
            boxes: integers ``(K, 4)``: start and stop along H, start and stop along W of each patch within its window,
                in the window's voxels; all of one size, a multiple of 16. K is a multiple of B, and the patches of one
                window follow each other, in the order of the windows.

        Returns:
            Probabilities ``(K, classes, h, w, D)`` and feature maps ``(K, channels, h / 4, w / 4, D)``, as stage 2
            takes them.

        Raises:
            ValueError: the boxes are not as said, or reach beyond the window.
        """
        probabilities, maps = context
        windows, height, width = probabilities.shape[0], 2 * probabilities.shape[2], 2 * probabilities.shape[3]
        if boxes.dim() != 2 or boxes.shape[1] != 4 or boxes.shape[0] == 0 or boxes.shape[0] % windows != 0:
            raise ValueError(
                f"SSHSNet expects boxes of shape (patches, 4), as many for each of {windows} windows, "
                f"got shape {list(boxes.shape)}"
            )
        rows: list[list[int]] = boxes.tolist()
        size = [rows[0][1] - rows[0][0], rows[0][3] - rows[0][2]]
        patches = len(rows) // windows
        cropped: list[torch.Tensor] = []
        cropped_maps: list[torch.Tensor] = []
        for i, row in enumerate(rows):
            inside = row[0] >= 0 and row[1] <= height and row[2] >= 0 and row[3] <= width
            if not inside or row[1] - row[0] != size[0] or row[3] - row[2] != size[1]:
                raise ValueError(
                    f"SSHSNet expects boxes of one size within windows of {height} x {width} voxels, "
                    f"got {row} beside {rows[0]}"
                )
            window = i // patches
            part = self._crop(probabilities[window : window + 1], maps[window : window + 1], [row[0], row[2]], size)
            cropped.append(part[0])
            cropped_maps.append(part[1])
        return torch.cat(cropped), torch.cat(cropped_maps)

    @torch.jit.export
    def segment(
        self, patches: torch.Tensor, context: tuple[torch.Tensor, torch.Tensor], boxes: torch.Tensor
    ) -> torch.Tensor:
        """Segment patches of windows whose context is known.

        Args:
            patches: normalized intensities ``(K, 1, h, w, D)`` of all slices of their windows.
            context: what :meth:`context` returned for the windows.
            boxes: where the patches lie, see :meth:`crop`.

        Returns:
            Logits ``(K, classes, h, w, D)``.

        Raises:
            ValueError: see :meth:`crop` and :meth:`common.networks.hybrid_net3d.HybridNet3D.forward`.
        """
        probabilities, maps = self.crop(context, boxes)
        return self.stage2(patches, probabilities, maps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Segment windows as if each were one patch.

        Args:
            x: normalized intensities ``(B, 1, H, W, D)``, slices last; H and W multiples of 32. The first and the last
                slice are their own neighbours.

        Returns:
            Logits ``(B, classes, H, W, D)``; softmax over the channels makes them probabilities.

        Raises:
            ValueError: the input's shape is another one.
        """
        # TorchScript does not know the defaults of an exported method.
        context = self.context(x, before=None, after=None, halved=False)
        probabilities, maps = self._crop(context[0], context[1], [0, 0], [x.shape[2], x.shape[3]])
        return self.stage2(x, probabilities, maps)

    def _crop(
        self, probabilities: torch.Tensor, maps: torch.Tensor, starts: list[int], size: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return (
            crop_probabilities(probabilities, starts, size, self.probability_mode),
            crop_maps(maps, starts, size, self.floor_starts),
        )
