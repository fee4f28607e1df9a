"""Two stages over a volume: 2D on the slices of large windows, then 3D on the patches of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

import torch
from monai.data.utils import dense_patch_slices
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from torch.nn.functional import interpolate, max_pool3d, pad

from common.errors import InputError

__all__ = ["HybridInferer", "HybridNetwork"]

Context = tuple[torch.Tensor, torch.Tensor]
Start = tuple[int, int, int]

FAITHFUL, FAST = "faithful", "fast"
# Of the sizes below; those of other sizes are in proportion.
_STRIDES = {FAITHFUL: ((100, 100, 6), (81, 81, 1)), FAST: ((384, 768, 10), (144, 144, 1))}
_WINDOW, _PATCH = (512, 1024, 12), (192, 192, 12)
# Stage 1's maps have a quarter of a window's resolution: patches that start at a multiple lie on them exactly.
_MAP_STRIDE = 4
# Share of the spine that each end of a window may lose: what stage 1 sees elsewhere does not move the window there.
_TAIL = 0.005


class HybridNetwork(Protocol):
    """What a network of two stages offers so that stage 1 is computed once for all patches of a window.

    ``context`` maps windows ``(B, 1, H, W, D)``, with any number of slices, to stage 1's class probabilities
    ``(B, C, h, w, D)`` and its feature maps, both of lower resolution in a slice and D slices deep; ``before`` and
    ``after`` are the slices next to the windows, ``(B, 1, H, W, 1)``, None where the volume ends, and ``halved`` is
    False here. ``segment`` maps patches ``(N, 1, ...)`` of one window, that window's context (``B`` = 1) and their
    places in it to logits ``(N, C, ...)``. A place is a row ``(H start, H stop, W start, W stop)`` of an int64 tensor
    ``(N, 4)``, in voxels of the window; the context has the patches' slices already.
    """

    def context(
        self, window: torch.Tensor, before: torch.Tensor | None, after: torch.Tensor | None, halved: bool
    ) -> Context:
        """Compute what stage 1 knows of windows."""

    def segment(self, patches: torch.Tensor, context: Context, boxes: torch.Tensor) -> torch.Tensor:
        """Compute the logits of patches."""


class HybridInferer(Inferer):
    """Class probabilities of whole volumes by a network of two stages.

    Windows slide over the volume and patches over each window; a start that would lead beyond the border is moved back
    to it. A voxel's probabilities are the mean over all patches of all windows that hold it, all with the same weight.
    Stage 1 sees slices with their two neighbours: it is run once for each place of a window in the plane, on all slices
    there are, and windows that differ in their slices alone share what it found. A volume smaller than a window is
    padded to it, in the plane with ``padding_value`` and along the slices with copies of the outermost ones, on both
    sides alike (the odd voxel at the end), and the result is cropped back.

    ``mode="faithful"`` goes over all windows and patches, as the authors' program does. ``mode="fast"`` is ours:

    1. stage 1 on ``scout_slices`` slices spread over the volume, in windows that hardly overlap, tells where the spine
       lies;
    2. one window in the plane is placed round it (more where it does not fit into one) and stage 1 run there;
    3. patches are placed along what it takes for spine: rows of patches along W, the slices of each row, the columns of
       each of these along H, each centred where one suffices, at strides no larger than those given.

    Where no patch lies, stage 1's own probabilities stand, and background with certainty outside of the windows.

    A network without ``context`` and ``segment``, which maps patches to logits, may stand in the place of one of two
    stages; it gets all windows' patches in both modes.

    Source: Huang et al., "Semi-supervised hybrid spine network for segmentation of spine MR images",
    https://arxiv.org/abs/2203.12151. The paper is silent on the strides and on the blending: windows of 512 x 1024 x 12
    voxels at strides (100, 100, 6) and patches of 192 x 192 x 12 at (81, 81, 1) with uniform weights are those of the
    authors' program. It halves each window for stage 1, and so does the network here (``halved`` is False): windows may
    start at odd voxels, which a volume that was halved once does not have.

    Args:
        window_size: of a window, in voxels along H, W and D.
        window_strides: from a window to the next; None: (100, 100, 6), and (384, 768, 10) in fast mode, where they are
            the largest allowed; for windows of another size, in proportion to it.
        patch_size: of a patch, with all slices of a window.
        patch_strides: from a patch to the next in its window; None: (81, 81, 1), and (144, 144, 1) in fast mode, where
            they are the largest allowed; for patches of another size, in proportion to it. The third moves nothing, as
            patches have all slices of a window.
        batch_size: how many patches the network gets at once.
        mode: ``faithful`` or ``fast``.
        scout_slices: in fast mode, how many slices are searched for the spine.
        min_spine: in fast mode, the least probability, by stage 1, of a voxel not being background for it to need a
            patch.
        margin: in fast mode, by how many voxels in the plane the patches reach beyond these, where the window does.
        padding_value: what the plane is padded with.
        dtype: the type of autocast; float32 switches it off.
        device: where results are stitched together; None: where the volume is.

    Raises:
        InputError: a size or stride is not positive, a stride is larger than what it moves, a patch does not fit into a
            window or has fewer slices, or the mode is unknown.
    """

    def __init__(
        self,
        window_size: Sequence[int] = _WINDOW,
        window_strides: Sequence[int] | None = None,
        patch_size: Sequence[int] = _PATCH,
        patch_strides: Sequence[int] | None = None,
        batch_size: int = 20,
        mode: str = FAITHFUL,
        scout_slices: int = 5,
        min_spine: float = 0.1,
        margin: int = 12,
        padding_value: float = 0.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if mode not in _STRIDES:
            raise InputError(f"--mode {mode}", "is not known", f"choose one of {', '.join(_STRIDES)}")
        self.mode = mode
        self.window_size, self.patch_size = _triple(window_size, "window_size"), _triple(patch_size, "patch_size")
        if any(p > w for p, w in zip(self.patch_size, self.window_size, strict=True)) or (
            self.patch_size[2] != self.window_size[2]
        ):
            raise InputError(
                f"--patch_size {_words(patch_size)}",
                f"is larger than a window ({_words(window_size)}), or has other slices",
                "pass one that fits into a window and has all of its slices",
            )
        of_windows, of_patches = (
            _in_proportion(strides, sizes, given)
            for strides, sizes, given in zip(
                _STRIDES[mode], (_WINDOW, _PATCH), (self.window_size, self.patch_size), strict=True
            )
        )
        self.window_strides = _strides(window_strides, of_windows, self.window_size, "window_strides")
        self.patch_strides = _strides(patch_strides, of_patches, self.patch_size, "patch_strides")
        least = {"batch_size": (batch_size, 1), "scout_slices": (scout_slices, 1), "margin": (margin, 0)}
        for name, (value, smallest) in least.items():
            if not isinstance(value, int) or value < smallest:
                raise InputError(f"--{name} {value}", "is too small or no whole number", f"pass {smallest} or more")
        self.batch_size, self.scout_slices, self.min_spine, self.margin = batch_size, scout_slices, min_spine, margin
        self.padding_value, self.dtype, self.device = padding_value, dtype, device

    @torch.no_grad()
    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Segment volumes.

        Args:
            inputs: ``(B, 1, H, W, D)``, preprocessed as in training; H from front to back, W from above to below.
            network: a :class:`HybridNetwork`, or one that maps patches to logits; in evaluation mode.
            args: further arguments of ``segment`` or of the ordinary network.
            kwargs: the same, by name.

        Returns:
            Probabilities ``(B, C, H, W, D)`` in float32 (no logits); their sum over the classes is 1.

        Raises:
            ValueError: the input has another rank or number of channels.
        """
        if inputs.ndim != 5 or inputs.shape[1] != 1:
            raise ValueError(f"expected volumes (B, 1, H, W, D), got shape {list(inputs.shape)}")
        if not hasattr(network, "context"):
            network = getattr(network, "module", network)  # as distributed training wraps it
        with torch.autocast(inputs.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            # A MetaTensor would see to its metadata at every operation of both stages.
            volumes = inputs.as_subclass(torch.Tensor).split(1)
            results = [_Volume(self, one, network, args, kwargs).segment() for one in volumes]
        found = torch.cat(results) if len(results) > 1 else results[0]  # a copy would be a gigabyte
        return convert_to_dst_type(found, inputs, dtype=torch.float32, device=found.device)[0]


class _Volume:
    """One volume on its way through the stages: what is known of it, and the sums over its patches."""

    def __init__(
        self, settings: HybridInferer, volume: torch.Tensor, network: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> None:
        self.settings, self.network, self.args, self.kwargs = settings, network, args, kwargs
        self.two_stages = hasattr(network, "context") and hasattr(network, "segment")
        self.device = volume.device if settings.device is None else torch.device(settings.device)
        self.volume, self.inside = _padded(volume, settings.window_size, settings.padding_value)
        self.size = tuple(self.volume.shape[2:])
        self.sums: torch.Tensor | None = None
        self.counts = torch.zeros(self.size, dtype=torch.int32, device=self.device)

    def segment(self) -> torch.Tensor:
        """Return the probabilities, ``(1, C, H, W, D)``."""
        guided = self.two_stages and self.settings.mode == FAST
        known: list[tuple[tuple[slice, slice], torch.Tensor]] = []
        for plane in self._planes_round_the_spine() if guided else self._all_planes():
            window = self.volume[:, :, *plane]
            # All positional: exported methods have no defaults in TorchScript.
            context = self.network.context(window, None, None, False) if self.two_stages else None
            if guided:
                known.append((plane, context[0]))
            starts = self._patches_round_the_spine(context[0]) if guided else self._all_patches()
            for batch in _batches(starts, self.settings.batch_size):
                self._add(plane, batch, self._probabilities(window, context, batch))
        for plane, probabilities in known:
            self._fill(plane, probabilities)
        if guided:
            self._fill_with_background()
        result = self.sums.div_(self.counts)
        return result[:, :, *self.inside]

    def _probabilities(self, window: torch.Tensor, context: Context | None, starts: list[Start]) -> torch.Tensor:
        height, width, depth = self.settings.patch_size
        patches = torch.cat([window[:, :, x : x + height, y : y + width, z : z + depth] for x, y, z in starts])
        if context is None:
            logits = self.network(patches, *self.args, **self.kwargs)
        else:
            # All patches of a batch begin at the same slice.
            slices = slice(starts[0][2], starts[0][2] + depth)
            boxes = torch.tensor([(x, x + height, y, y + width) for x, y, _ in starts], device=patches.device)
            probabilities, maps = context
            logits = self.network.segment(
                patches, (probabilities[..., slices], maps[..., slices]), boxes, *self.args, **self.kwargs
            )
        return logits.float().softmax(dim=1).to(self.device)

    def _add(self, plane: tuple[slice, slice], starts: list[Start], probabilities: torch.Tensor) -> None:
        height, width, depth = self.settings.patch_size
        self._allocate(probabilities.shape[1])
        for (x, y, z), one in zip(starts, probabilities, strict=True):
            x, y = x + plane[0].start, y + plane[1].start
            box = (slice(x, x + height), slice(y, y + width), slice(z, z + depth))
            self.sums[0][:, *box] += one
            self.counts[box] += 1

    def _allocate(self, num_classes: int) -> None:
        if self.sums is None:
            self.sums = torch.zeros(1, num_classes, *self.size, device=self.device)

    # -------------------------------------------------------------------------------------------- the authors' windows

    def _all_planes(self) -> list[tuple[slice, slice]]:
        settings = self.settings
        return dense_patch_slices(self.size[:2], settings.window_size[:2], settings.window_strides[:2])

    def _all_patches(self) -> list[Start]:
        """Return the starts of patches in a window with all slices, by their first slice.

        A window as deep as its patches has them at its first slice only; so the windows' strides decide.
        """
        settings = self.settings
        plane = dense_patch_slices(settings.window_size[:2], settings.patch_size[:2], settings.patch_strides[:2])
        depth = dense_patch_slices(self.size[2:], settings.window_size[2:], settings.window_strides[2:])
        return [(x.start, y.start, z.start) for (z,) in depth for x, y in plane]

    # ----------------------------------------------------------------------------------------------- round the spine

    def _planes_round_the_spine(self) -> list[tuple[slice, slice]]:
        settings = self.settings
        height, width, _ = settings.window_size
        if self.size[:2] == (height, width):
            return [(slice(0, height), slice(0, width))]
        count, depth = min(settings.scout_slices, self.size[2]), self.size[2]
        scouts = torch.tensor([(2 * number + 1) * depth // (2 * count) for number in range(count)])
        spine = torch.zeros(self.size[:2], device=self.volume.device)
        for plane in dense_patch_slices(self.size[:2], (height, width), (height, width)):
            window = self.volume[0, 0][plane]
            before, slices, after = (
                # (H, W, slices) -> (slices, 1, H, W, 1): windows of one slice each
                window[..., (scouts + step).clamp(0, depth - 1)].permute(2, 0, 1)[:, None, ..., None]
                for step in (-1, 0, 1)
            )
            probabilities, _ = self.network.context(slices, before, after, False)
            seen = (probabilities[:, :1, ..., 0].float() < 0.5).float().amax(dim=0, keepdim=True)
            here = spine[plane]
            torch.maximum(here, interpolate(seen, (height, width))[0, 0], out=here)
        extents = [_extent(spine.sum(dim=1 - axis), _TAIL) for axis in (0, 1)]
        starts = [
            # Where nothing looks like a spine, the middle is as good a guess as any.
            _cover(extent or (size // 2, size // 2), length, stride, size, _MAP_STRIDE)
            for extent, length, stride, size in zip(
                extents, (height, width), settings.window_strides, self.size, strict=False
            )
        ]
        return [(slice(x, x + height), slice(y, y + width)) for x in starts[0] for y in starts[1]]

    def _patches_round_the_spine(self, probabilities: torch.Tensor) -> list[Start]:
        """Return the starts of patches that cover what stage 1 takes for spine, by their first slice."""
        settings = self.settings
        height, width, _ = settings.window_size
        spine = (probabilities[:, :1].float() <= 1 - settings.min_spine).float()
        h, w = (math.ceil(settings.margin * spine.shape[2 + axis] / settings.window_size[axis]) for axis in (0, 1))
        spine = max_pool3d(max_pool3d(spine, (2 * h + 1, 1, 1), 1, (h, 0, 0)), (1, 2 * w + 1, 1), 1, (0, w, 0))
        spine = interpolate(spine, (height, width, spine.shape[-1]))[0, 0] > 0
        strides, aligned = (*settings.patch_strides[:2], settings.window_strides[2]), (_MAP_STRIDE, _MAP_STRIDE, 1)

        def cover(part: torch.Tensor, axis: int) -> list[int]:
            extent = _extent(part.sum(dim=[other for other in range(3) if other != axis]))
            if extent is None:
                return []
            return _cover(extent, settings.patch_size[axis], strides[axis], part.shape[axis], aligned[axis])

        starts = []
        for y in cover(spine, 1):
            row = spine[:, y : y + settings.patch_size[1]]
            for z in cover(row, 2):
                starts.extend((x, y, z) for x in cover(row[..., z : z + settings.patch_size[2]], 0))
        return sorted(starts, key=lambda start: start[2])

    def _fill(self, plane: tuple[slice, slice], probabilities: torch.Tensor) -> None:
        """Put stage 1's probabilities where no patch was."""
        self._allocate(probabilities.shape[1])
        empty = self.counts[plane] == 0
        for channel in range(probabilities.shape[1]):  # one by one: all at full size would take as much as the result
            full = interpolate(probabilities[:, channel : channel + 1].float(), tuple(empty.shape))[0, 0]
            here = self.sums[0, channel][plane]
            torch.where(empty, full.to(self.device), here, out=here)
        self.counts[plane].clamp_(min=1)

    def _fill_with_background(self) -> None:
        self.sums[0, 0].masked_fill_(self.counts == 0, 1.0)
        self.counts.clamp_(min=1)


def _words(values: object) -> str:
    return str(values).replace(" ", "")


def _triple(values: Sequence[int], name: str) -> tuple[int, int, int]:
    if not isinstance(values, Sequence) or len(values) != 3 or any(type(v) is not int or v < 1 for v in values):
        raise InputError(f"--{name} {_words(values)}", "is no list of 3 whole numbers above 0", 'pass "[512,1024,12]"')
    return tuple(values)


def _in_proportion(strides: tuple[int, ...], sizes: tuple[int, ...], given: tuple[int, ...]) -> tuple[int, ...]:
    """Return what strides of the paper's sizes are of others."""
    return tuple(max(stride * new // size, 1) for stride, size, new in zip(strides, sizes, given, strict=True))


def _strides(
    given: Sequence[int] | None, default: tuple[int, int, int], size: tuple[int, int, int], name: str
) -> tuple[int, int, int]:
    if given is None:
        return default
    strides = _triple(given, name)
    if any(stride > length for stride, length in zip(strides, size, strict=True)):
        raise InputError(f"--{name} {_words(given)}", "leave gaps", f"pass at most {_words(list(size))}")
    return strides


def _padded(volume: torch.Tensor, least: Sequence[int], value: float) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """Pad a volume to at least a size; tell where in the result it lies."""
    before, after, inside = [], [], []
    for length, wanted in zip(volume.shape[2:], least, strict=True):
        missing = max(wanted - length, 0)
        before.append(missing // 2)
        after.append(missing - missing // 2)
        inside.append(slice(missing // 2, missing // 2 + length))
    if before[2] or after[2]:
        volume = pad(volume, (before[2], after[2], 0, 0, 0, 0), mode="replicate")
    volume = pad(volume, (0, 0, before[1], after[1], before[0], after[0]), value=value)
    return volume, tuple(inside)


def _extent(profile: torch.Tensor, tail: float = 0.0) -> tuple[int, int] | None:
    """Return where a profile is positive, from the first to behind the last, but for a share of its sum at each end."""
    share = profile.double().cumsum(0)
    total = float(share[-1])
    if total <= 0:
        return None
    within = (share > tail * total) & (share - profile < (1 - tail) * total)
    places = (within & (profile > 0)).nonzero()
    return int(places[0]), int(places[-1]) + 1


def _cover(extent: tuple[int, int], length: int, stride: int, size: int, align: int = 1) -> list[int]:
    """Return evenly spaced starts of pieces that cover an extent within ``size``; one centred piece where it suffices.

    Starts are multiples of ``align``, where the border lets them, and no further apart than ``stride``.
    """
    first, last = extent
    centred = round((first + last - length) / 2 / align) * align
    if centred <= first and last <= centred + length:
        starts = [centred]
    else:
        begin, end = first // align, math.ceil((last - length) / align)
        count = math.ceil((end - begin) / max(stride // align, 1)) + 1
        starts = [align * (begin + (end - begin) * number // (count - 1)) for number in range(count)]
    return sorted({min(max(start, 0), size - length) for start in starts})


def _batches(starts: list[Start], size: int) -> Iterator[list[Start]]:
    """Divide starts, sorted by their slice, into batches of one slice each."""
    for _, same in groupby(starts, key=lambda start: start[2]):
        group = list(same)
        yield from (group[first : first + size] for first in range(0, len(group), size))
