from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.data.video.frame_image import read_image
from common.errors import InputError
from tests.video_files import write_tiff

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 9, 3), np.uint8)
GREY = RGB[..., :1]
WIDE = RNG.integers(0, 65536, (7, 9, 4), np.uint16)


def write_png_16(path, values):
    """Write a 16-bit PNG by hand."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return path


def to_8_bit(values: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.round(values[..., :3] / 257), (*values.shape[:2], 3))


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 3, axis=-1)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".webp", ".PNG"])
def test_rgb_is_read_as_it_is(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    image = read_image(save(tmp_path / f"a{suffix}", RGB, **options))
    assert image.dtype == np.uint8 and image.flags.c_contiguous and image.flags.writeable
    np.testing.assert_array_equal(image, RGB)


def test_jpeg_is_read_within_its_loss(tmp_path):
    smooth = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[:, None], 64, axis=1)
    smooth = np.stack([smooth, smooth.T, 255 - smooth], axis=-1)
    for mode in ("RGB", "CMYK"):
        image = read_image(save(tmp_path / "a.jpg", smooth, mode, quality=98))
        assert np.abs(image.astype(int) - smooth).mean() < 2


@pytest.mark.parametrize(
    ("file", "mode"),
    [(f"a{suffix}", mode) for suffix in (".png", ".tif") for mode in ("L", "LA", "RGBA", "P", "1")]
    + [("a.tif", "CMYK")],
)
def test_other_modes_become_rgb(tmp_path, file, mode):
    expected = np.array(Image.fromarray(RGB).convert(mode).convert("RGB"))
    np.testing.assert_array_equal(read_image(save(tmp_path / file, RGB, mode)), expected)


def test_transparency_is_dropped_and_not_blended(tmp_path):
    path = save(tmp_path / "a.png", np.concatenate([RGB, RNG.integers(0, 256, (7, 9, 1), np.uint8)], axis=-1))
    np.testing.assert_array_equal(read_image(path), RGB)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_is_divided_by_257(tmp_path, channels):
    colours = channels - (channels + 1) % 2  # the last of 2 and of 4 is transparency
    path = write_png_16(tmp_path / "a.png", WIDE[..., :channels])
    np.testing.assert_array_equal(read_image(path), to_8_bit(WIDE[..., :colours]))


PLANES = np.moveaxis(RGB, -1, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("array", "meaning", "tags", "expected"),
    [
        (RGB, 2, {}, RGB),
        (PLANES, 2, {284: 2}, RGB),
        (GREY, 1, {}, grey(GREY)),
        (GREY, 0, {}, grey(255 - GREY)),
        (WIDE[..., :1], 1, {}, to_8_bit(WIDE[..., :1])),
        (WIDE[..., :3], 2, {}, to_8_bit(WIDE)),
        (np.moveaxis(WIDE[..., :3], -1, 0), 2, {284: 2}, to_8_bit(WIDE)),
        (np.concatenate([RGB, GREY], axis=-1), 2, {338: 2}, RGB),
        (np.concatenate([RGB, GREY], axis=-1), 2, {338: 0}, RGB),
    ],
    ids=["rgb", "planes", "grey", "white is 0", "16", "rgb 16", "16-bit planes", "rgba", "rgbx"],
)
def test_plain_tiffs_are_read_rightly(tmp_path, array, meaning, tags, expected, order):
    np.testing.assert_array_equal(read_image(write_tiff(tmp_path / "a.tif", array, meaning, tags, order)), expected)


@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "tiff_deflate"])
def test_packed_tiffs_are_read_rightly(tmp_path, packing):
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.tif", RGB, compression=packing)), RGB)


@pytest.mark.parametrize(
    ("array", "meaning", "tags"),
    [
        (RGB, 6, {}),
        (RGB, 8, {}),
        (GREY.astype(np.int8), 1, {339: 2}),
        (GREY.astype(np.float32), 1, {339: 3}),
        (GREY.astype(np.uint32), 1, {}),
        (RGB, 2, {259: 6}),
    ],
    ids=["YCbCr", "L*a*b*", "signed", "float", "32", "old JPEG"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_without_a_certain_meaning_are_refused(tmp_path, array, meaning, tags, order):
    path = write_tiff(tmp_path / "12.tif", array, meaning, tags, order)
    with pytest.raises(InputError, match=r"/12\.tif: [^\n]+; (save it as an 8-bit PNG in RGB|replace or remove it)$"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_on_their_side_are_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {
        **{1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1)},
        **{6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90},
    }
    for file in ("a.png", "a.tif"):
        image = read_image(save(tmp_path / file, RGB, exif=exif))
        np.testing.assert_array_equal(image, turns[orientation](RGB))


def test_files_that_are_no_frame_get_a_line(tmp_path):
    whole = save(tmp_path / "whole.png", RGB).read_bytes()
    save(tmp_path / "whole.jpg", np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    several = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for file, kind in (("pages.tif", "TIFF"), ("moving.png", "PNG"), ("moving.webp", "WEBP")):
        several[0].save(tmp_path / file, format=kind, save_all=True, append_images=several[1:])
    (tmp_path / "cut.png").write_bytes(whole[:-40])
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-400])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("text", encoding="utf-8")
    (tmp_path / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", encoding="utf-8")
    (tmp_path / "folder.png").mkdir()
    save(tmp_path / "float.tif", RGB[..., 0].astype(np.float32))
    problems = {
        "none.png": "cannot be read as a picture (No such file or directory)",
        "empty.png": "is empty (0 bytes)",
        "pages.tif": "holds 2 pictures in one file",
        "moving.png": "holds 2 pictures in one file",
        "moving.webp": "holds 2 pictures in one file",
        "cut.png": "cannot be read as a picture (",
        "cut.jpg": "cannot be read as a picture (image file is truncated",
        "text.png": "cannot be read as a picture (cannot identify image file",
        "script.png": "cannot be read as a picture (cannot identify image file",
        "folder.png": "cannot be read as a picture (Is a directory)",
        "float.tif": "has no plain grey or RGB values (F)",
    }
    for file, problem in problems.items():
        with pytest.raises(InputError) as caught:
            read_image(tmp_path / file)
        assert str(caught.value).startswith(f"{tmp_path / file}: {problem}"), caught.value
        assert "\n" not in str(caught.value)
