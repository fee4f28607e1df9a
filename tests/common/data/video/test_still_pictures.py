from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.video.frame_image import read_image
from common.data.video.picture_size import picture_size
from common.data.video.still_pictures import StillPictures
from common.errors import InputError
from tests.common.data.video.dataset_files import picture, write_picture

ON_ITS_SIDE = Image.Exif()
ON_ITS_SIDE[0x0112] = 6


def write_turned_late(path: Path) -> Path:
    """Write a PNG whose note that it lies on its side comes after its pixels."""
    write_picture(path, picture(0))
    data, note = path.read_bytes(), b"eXIf" + ON_ITS_SIDE.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    path.write_bytes(data[:-12] + chunk + data[-12:])  # before the end, which has 12 bytes
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_size_is_that_of_the_picture_that_is_read(tmp_path, suffix, turned):
    if turned and suffix == "bmp":
        pytest.skip("a BMP says nothing of how it lies")
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(5, (16, 24))).save(path, **({"exif": ON_ITS_SIDE} if turned else {}))
    assert picture_size(path) == read_image(path).shape[:2] == ((24, 16) if turned else (16, 24))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16"])
def test_the_size_of_pictures_of_all_kinds(tmp_path, mode):
    image = Image.fromarray(np.full((16, 24), 700, np.uint16)) if mode == "I;16" else Image.new(mode, (24, 16))
    image.save(tmp_path / "a.png")
    assert picture_size(tmp_path / "a.png") == read_image(tmp_path / "a.png").shape[:2] == (16, 24)


@pytest.mark.parametrize("content", [b"", b"no picture", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", None], ids=str)
def test_what_has_no_size(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    assert picture_size(tmp_path / "a.png") is None


def test_pictures_of_one_size(tmp_path):
    for index in (10, 9):
        write_picture(tmp_path / f"{index}.png", picture(index))
    (tmp_path / "11.png").touch()
    with StillPictures(tmp_path) as source:
        assert [(frame.name, frame.index) for frame in source] == [("9", 0), ("10", 1)]
        assert (source.size, source.sizes_differ, source.frame_count, source.is_video) == ((16, 24), False, 3, False)
        assert list(source.unreadable) == [tmp_path / "11.png"]
        assert "is empty" in str(source.unreadable[tmp_path / "11.png"])
        write_picture(tmp_path / "9.png", picture(9, (20, 20)))
        assert [frame.name for frame in source] == ["10"]  # the size counts that it had when the source was opened
        assert len(source.unreadable) == 2


def test_pictures_of_different_sizes(tmp_path):
    sizes = [(16, 24), (24, 16), (16, 24)]
    for index, size in enumerate(sizes):
        write_picture(tmp_path / f"{index}.png", picture(index, size))
    with StillPictures(tmp_path, frame_rate=4) as source:
        assert source.size is None and source.sizes_differ
        found = list(source)
    assert [frame.image.shape[:2] for frame in found] == sizes and [frame.time for frame in found] == [0, 0.25, 0.5]
    assert not source.unreadable


def test_a_picture_that_is_turned_by_a_note_behind_its_pixels(tmp_path):
    path = write_turned_late(tmp_path / "a.png")
    assert read_image(path).shape[:2] == (24, 16) and picture_size(path) == (16, 24)
    with StillPictures(path) as source:
        assert not list(source)
    assert "is not of the size that its header states; save it anew" in str(source.unreadable[path])


def test_nothing_that_could_be_read(tmp_path):
    with pytest.raises(InputError, match="holds no frames"):
        StillPictures(tmp_path)
    (tmp_path / "a.png").touch()
    with StillPictures(tmp_path) as source:
        assert not list(source)
    assert source.size is None and not source.sizes_differ and len(source.unreadable) == 1
    with pytest.raises(ValueError, match="a frame rate is positive"):
        StillPictures(tmp_path, frame_rate=0)
