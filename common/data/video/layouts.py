"""The ways in which data sets of annotated video lie in folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from common.data.video.frame_folder import frame_files
from common.data.video.frame_image import FRAME_SUFFIXES
from common.data.video.frames import natural_key
from common.data.video.source import open_source
from common.data.video.video_stream import VIDEO_SUFFIXES
from common.errors import InputError

__all__ = ["FrameReference", "VideoSequence", "sequences_in"]

# A picture file, or a video file and the number of the frame from 0.
FrameReference = str | tuple[str, int]

# Ours, and PNS-Net's.
_FOLDERS = (("frames", "masks"), ("Frame", "GT"))
_CLINICDB = ("Original", "Ground Truth")


@dataclass(frozen=True)
class VideoSequence:
    """Consecutive frames of one recording, each with its mask.

    Args:
        id: unique in the data set.
        place: the folder or file with the frames.
        frames: where each frame is, in time order.
        masks: where each frame's mask is.
        subject: who was recorded; the id where that is not known.
        part: ``train``, ``validation`` or ``test``, where that is laid down.
        frame_rate: frames per second, where known.
        present: for each frame whether what is to be segmented can be seen, where that is stated.
    """

    id: str
    place: Path
    frames: tuple[FrameReference, ...]
    masks: tuple[FrameReference, ...]
    subject: str
    part: str | None = None
    frame_rate: float | None = None
    present: tuple[bool, ...] | None = None


def sequences_in(root: Path) -> list[VideoSequence]:
    """Find the sequences of a folder by its layout, the first of these that fits.

    ============================================  ======================================================================
    ``Original/N.tif``, ``Ground Truth/N.tif``    CVC-ClinicDB as published: 612 numbered frames of 29 sequences, with
                                                  the parts of PNS-Net (Ji et al., MICCAI 2021; 18, 6 and 5 sequences)
    ``videos/NAME.mp4``, ``masks/NAME.mp4``       a mask video, or a folder of masks, for each video
    ``frames/NAME/*.png``, ``masks/NAME/*.png``   the same with folders of frames (or ``Frame/``, ``GT/``)
    ``frames/N.png``, ``masks/N.png``             numbered frames of one stream; a hole in the numbers begins a new
                                                  sequence. Where they reach into the published validation and test
                                                  ranges of the spinal nerve data (FUnet), these make the parts and
                                                  bound the sequences
    ``images/NAME.jpg``, ``masks/NAME.png``       single images, each a sequence of one frame
    ``SEQ/frames/*.png``, ``SEQ/masks/*.png``     a folder for each sequence (or ``Frame/``, ``GT/``)
    ============================================  ======================================================================

    Pictures may be of any of ``FRAME_SUFFIXES``; a mask bears its frame's name, but for the suffix.

    Args:
        root: the folder.

    Raises:
        InputError: none fits, or a frame lacks its mask or a mask its frame.
    """
    if (root / _CLINICDB[0]).is_dir():
        return _clinicdb(root)
    for frames, masks in (("videos", "masks"), *_FOLDERS, ("images", "masks")):
        if (root / frames).is_dir():
            if not (root / masks).is_dir():
                raise InputError(root, f"has {frames}/ but no {masks}/", "see 'Train on your own data' in the README")
            return _LAYOUTS[frames](root / frames, root / masks)
    return _folders(root)


def _pairs(frames: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    """Return the frames of a folder in their order, and the mask of each by its name."""
    frame_of = {path.stem: path for path in frame_files(frames)}
    mask_of = {path.stem: path for path in frame_files(masks)}
    for stem, path in frame_of.items():
        if stem not in mask_of:
            raise InputError(path, f"has no mask {masks / stem}.*", "add it or move the frame away")
    for stem, path in mask_of.items():
        if stem not in frame_of:
            raise InputError(path, f"has no frame {frames / stem}.*", "add it or move the mask away")
    if not frame_of:
        raise InputError(frames, f"holds no frames ({' '.join(FRAME_SUFFIXES)})", "put them there")
    return list(frame_of.values()), [mask_of[stem] for stem in frame_of]


def _sequence(name: str, place: Path, frames: list[Path], masks: list[Path], **more: Any) -> VideoSequence:
    return VideoSequence(name, place, tuple(map(str, frames)), tuple(map(str, masks)), **{"subject": name} | more)


def _visible(folder: Path) -> list[Path]:
    paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(paths, key=lambda path: natural_key(Path(path.name)))


def _folders(root: Path) -> list[VideoSequence]:
    sequences = []
    for folder in filter(Path.is_dir, _visible(root)):
        for frames, masks in _FOLDERS:
            if (folder / frames).is_dir():
                if not (folder / masks).is_dir():
                    raise InputError(folder, f"has {frames}/ but no {masks}/", "add the masks or move the folder away")
                sequences.append(_sequence(folder.name, folder, *_pairs(folder / frames, folder / masks)))
                break
    if not sequences:
        raise InputError(root, "holds no video sequences", "see 'Train on your own data' in the README")
    return sequences


def _single_images(images: Path, masks: Path) -> list[VideoSequence]:
    return [_sequence(image.stem, image, [image], [mask]) for image, mask in zip(*_pairs(images, masks), strict=True)]


def _frames_or_folders(frames: Path, masks: Path) -> list[VideoSequence]:
    return _numbered(frames, masks) if frame_files(frames) else _by_name(frames, masks)


def _by_name(videos: Path, masks: Path) -> list[VideoSequence]:
    """Pair videos (files or folders of frames) with mask videos of the same name."""
    video_of, mask_of = ({_stem(path): path for path in _videos(folder)} for folder in (videos, masks))
    for names, others, folder, what in ((video_of, mask_of, masks, "masks"), (mask_of, video_of, videos, "video")):
        for name, path in names.items():
            if name not in others:
                raise InputError(path, f"has no {what} {folder / name}", "add it or move this away")
    if not video_of:
        raise InputError(videos, f"holds no videos ({' '.join(VIDEO_SUFFIXES)}) or folders of frames", "put them there")
    return [_video_pair(name, video, mask_of[name]) for name, video in video_of.items()]


def _videos(folder: Path) -> Iterator[Path]:
    seen: dict[str, Path] = {}
    for path in _visible(folder):
        if path.is_dir() or path.suffix.lower() in VIDEO_SUFFIXES:
            if (first := seen.setdefault(_stem(path), path)) != path:
                raise InputError(path, f"has the same name as {first.name}", "rename one of them")
            yield path


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _video_pair(name: str, video: Path, masks: Path) -> VideoSequence:
    if video.is_dir() and masks.is_dir():
        return _sequence(name, video, *_pairs(video, masks))
    frames, drawn = _references(video), _references(masks)
    if len(frames) != len(drawn):  # what a file states may be an estimate: now the frames that can be read count
        frames, drawn = _references(video, decode=True), _references(masks, decode=True)
    if len(frames) != len(drawn):
        problem = f"has {len(frames)} frames, but its masks {masks} are {len(drawn)}"
        raise InputError(video, problem, "give each frame one mask")
    rate = None if video.is_dir() else open_source(video).frame_rate
    return VideoSequence(name, video, frames, drawn, name, frame_rate=rate)


def _references(path: Path, decode: bool = False) -> tuple[FrameReference, ...]:
    if path.is_dir():
        return tuple(map(str, frame_files(path)))
    with open_source(path) as source:
        count = source.frame_count
        if decode or count is None:
            count = sum(1 for _ in source)
    return tuple((str(path), index) for index in range(count))


@cache
def _published() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("published_splits.json").read_text(encoding="utf-8"))


def _numbers(frames: list[Path]) -> dict[int, int]:
    """Return the position of each frame by the last number in its name."""
    positions: dict[int, int] = {}
    for position, path in enumerate(frames):
        found = re.search(r"(\d+)\D*$", path.stem)
        if found is None:
            raise InputError(path, "has no number in its name", "number the frames of a stream in their order")
        first = positions.setdefault(int(found[1]), position)
        if first != position:
            raise InputError(path, f"has the same number as {frames[first].name}", "number each frame once")
    return positions


def _clinicdb(root: Path) -> list[VideoSequence]:
    frames, masks = _pairs(*(root / name for name in _CLINICDB))
    positions, sequences = _numbers(frames), []
    for number, (first, last, part) in enumerate(_published()["cvc_clinicdb"]["sequences"], start=1):
        chosen = [positions.pop(frame) for frame in range(first, last + 1) if frame in positions]
        if chosen:
            chosen_frames, chosen_masks = ([paths[i] for i in chosen] for paths in (frames, masks))
            sequences.append(_sequence(f"{number:02d}", root / _CLINICDB[0], chosen_frames, chosen_masks, part=part))
    if positions:
        problem = "is not among the frames 1 to 612 of CVC-ClinicDB"
        raise InputError(
            frames[min(positions.values())], problem, "move it away, or name the folders frames/ and masks/"
        )
    return sequences


def _numbered(frames: Path, masks: Path) -> list[VideoSequence]:
    paths, mask_paths = _pairs(frames, masks)
    positions = _numbers(paths)
    ranges = _published()["spinal_nerve"]["ranges"]
    range_of = {
        number: at for number in positions for at, (first, last, _) in enumerate(ranges) if first <= number <= last
    }
    published = {ranges[at][2] for at in range_of.values()} == {"validation", "test"}
    runs: list[list[int]] = []
    for number in sorted(positions):
        if not runs or runs[-1][-1] != number - 1 or (published and range_of.get(number) != range_of.get(number - 1)):
            runs.append([])
        runs[-1].append(number)
    sequences = []
    for run in runs:
        chosen = [positions[number] for number in run]
        name = f"{paths[chosen[0]].stem}-{paths[chosen[-1]].stem}"
        # All are from one recording, so that no split by subject can be made of them.
        sequence = _sequence(name, frames, *([p[i] for i in chosen] for p in (paths, mask_paths)), subject="recording")
        if published:
            part = ranges[range_of[run[0]]][2] if run[0] in range_of else "train"
            sequence = replace(sequence, subject=name, part=part)
        sequences.append(sequence)
    return sequences


_LAYOUTS = {
    "videos": _by_name, "frames": _frames_or_folders, "Frame": _frames_or_folders, "images": _single_images
}  # fmt: skip
