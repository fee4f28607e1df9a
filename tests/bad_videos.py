"""Videos that cannot be read, or not to their end, and what a user reads of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.video_files import SIZE, cut, pictures, write_size_change, write_sound, write_video


@dataclass(frozen=True)
class BadVideo:
    """A video that cannot be read to its end.

    Args:
        name: of its file or folder.
        write: how it is made at a path.
        problem: what the line says of it.
        readable: whether there are frames before what is wrong.
    """

    name: str
    write: Callable[[Path], object]
    problem: str
    readable: bool = False

    def make(self, folder: Path) -> Path:
        """Write it into a folder and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        self.write(folder / self.name)
        return folder / self.name


def _cut_off(path: Path) -> None:
    cut(write_video(path, pictures(40), options={"g": "5"}), 0.5)


def _with_a_broken_frame(folder: Path) -> None:
    folder.mkdir()
    for index, picture in enumerate(pictures(5)):
        Image.fromarray(picture).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])


BAD_VIDEOS = {
    "empty": BadVideo("empty.mp4", Path.touch, "is empty (0 bytes)"),
    "noise": BadVideo(
        "noise.avi", lambda path: path.write_bytes(np.random.default_rng(0).bytes(9000)), "is no video, or damaged"
    ),
    "sound": BadVideo("sound.mp4", write_sound, "holds no pictures, only sound or data"),
    "cut off": BadVideo("cut.mkv", _cut_off, "is cut off after", readable=True),
    "sizes": BadVideo(
        "sizes.mkv",
        lambda path: write_size_change(path, [SIZE] * 4 + [(32, 40)] * 2),
        "changes its size at frame 000004: 40 x 32 after 64 x 48",
        readable=True,
    ),
    "broken frame": BadVideo("broken", _with_a_broken_frame, "cannot be read as a picture", readable=True),
}
