"""Recorded videos, be they files or folders of frames."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from common.data.video.frame_folder import FrameFolder, frame_files
from common.data.video.frame_image import FRAME_SUFFIXES
from common.data.video.frames import Frame, FrameSource, natural_key
from common.data.video.still_pictures import StillPictures
from common.data.video.video_file import VideoFile, read_video_frames
from common.data.video.video_stream import VIDEO_SUFFIXES
from common.errors import InputError

__all__ = ["list_sources", "open_source", "read_frames"]

_REMEDY = f"pass a video ({' '.join(VIDEO_SUFFIXES)}) or a folder of frames ({' '.join(FRAME_SUFFIXES)})"


def open_source(path: str | os.PathLike, frame_rate: float | None = None, still: bool = False) -> FrameSource:
    """Open a video file or a folder of frames.

    Args:
        path: the file or folder.
        frame_rate: frames per second of a folder (30 where None); a video file has its own times.
        still: frames are looked at one by one: pictures are opened as
            :class:`common.data.video.still_pictures.StillPictures`, a single one too.

    Raises:
        InputError: there is no such thing, or it cannot be used.
    """
    if not _holds_pictures(path, still):
        return VideoFile(path)
    return StillPictures(path, frame_rate) if still else FrameFolder(path, frame_rate)


def read_frames(path: str | os.PathLike, indices: Sequence[int], frame_rate: float | None = None) -> list[Frame]:
    """Read frames by their numbers, exactly those that iterating over the source gives.

    Args:
        path: a video file or a folder of frames.
        indices: numbers from 0, in any order.
        frame_rate: frames per second of a folder (30 where None).

    Returns:
        The frames, in the order of ``indices``.

    Raises:
        InputError: the source cannot be used, or has no such frame.
    """
    if not _holds_pictures(path):
        return read_video_frames(path, indices)
    return FrameFolder(path, frame_rate).read(indices)


def list_sources(path: str | os.PathLike, still: bool = False) -> list[Path]:
    """Return the videos in a place.

    Args:
        path: a video, a folder of frames, or a folder that holds such at any depth; hidden files and folders are left
            out, links to folders are not followed.
        still: the path may be a single picture, too.

    Returns:
        The paths, each folder before what is in it, ``case2`` before ``case10``.

    Raises:
        InputError: there is none, or a folder cannot be read.
    """
    if not _holds_pictures(path, still) or Path(path).is_file():
        return [Path(path)]
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise InputError(error.filename, f"cannot be read ({error.strerror})", "grant read access") from error

    for name, folders, files in os.walk(path, onerror=refuse):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        folder = Path(name)
        if frame_files(folder):
            found.append(folder)
        found += [folder / file for file in files if Path(file).suffix.lower() in VIDEO_SUFFIXES and file[0] != "."]
    if not found:
        raise InputError(path, "holds no video and no frames", _REMEDY)
    return sorted(found, key=natural_key)


def _holds_pictures(path: str | os.PathLike, still: bool = False) -> bool:
    """Return True for a folder, and a picture where that is allowed; False for a file with a video's suffix.

    All else is refused.
    """
    place = Path(path)
    if place.is_dir():
        return True
    if place.suffix.lower() in FRAME_SUFFIXES and place.is_file():
        if still:
            return True
        raise InputError(path, "is a single frame", "pass the folder that it is in")
    if not place.exists():
        raise InputError(path, "does not exist", _REMEDY)
    if place.suffix.lower() not in VIDEO_SUFFIXES:
        raise InputError(path, "is no video by its name", _REMEDY)
    return False
