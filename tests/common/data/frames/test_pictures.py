from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from common.data.frames.pictures import picture_size, read_frame, read_mask
from common.errors import InputError
from tests.common.data.video.dataset_files import drawn, picture, write_json, write_picture, write_video

HALF = drawn(12) > 0


@pytest.mark.parametrize(("value", "suffix"), [(255, "png"), (1, "png"), (38, "bmp"), (129, "png"), (255, "jpg")])
def test_foreground(tmp_path, value, suffix):
    path = write_picture(tmp_path / f"mask.{suffix}", (HALF * value).astype(np.uint8))
    assert (read_mask(str(path)) == HALF).all()


def test_palette(tmp_path):
    image = Image.fromarray(HALF.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])
    image.save(tmp_path / "mask.png")
    assert (read_mask(str(tmp_path / "mask.png")) == HALF).all()


def test_noise_of_compression_is_background(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 9, (16, 24)).astype(np.uint8)
    assert not read_mask(str(write_picture(tmp_path / "mask.jpg", noisy))).any()


def test_several_classes(tmp_path):
    classes = drawn(12) // 255 + drawn(18) // 255
    path = write_picture(tmp_path / "mask.png", classes)
    with pytest.raises(InputError) as error:
        read_mask(str(path))
    assert str(error.value) == (
        f"{path}: has 2 dark colours beside black, which does not tell what is foreground; "
        "write foreground as 255 and the rest as 0"
    )


def test_sizes(tmp_path):
    path = write_picture(tmp_path / "mask.png", drawn(3))
    assert picture_size(path) == (16, 24) and read_mask(str(path), (16, 24)).shape == (16, 24)
    with pytest.raises(InputError, match="is 24 x 16, its frame 16 x 24; draw the mask on its own frame"):
        read_mask(str(path), (24, 16))
    image = Image.fromarray(picture(0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "lying.jpg", exif=exif)
    assert picture_size(tmp_path / "lying.jpg") == read_frame(str(tmp_path / "lying.jpg")).shape[:2] == (24, 16)
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        picture_size(tmp_path / "text.png")


def test_labelme_and_video(tmp_path):
    shape = {"label": "a", "points": [[12, 0], [23, 15]], "shape_type": "rectangle"}
    path = write_json(tmp_path / "a.json", {"shapes": [shape], "imageHeight": 16, "imageWidth": 24})
    assert (read_mask({"labelme": str(path), "labels": None}, (16, 24)) == HALF).all()
    assert not read_mask({"labelme": str(path), "labels": ["b"]}).any()
    video = write_video(tmp_path / "masks.mkv", [drawn(i)[..., None].repeat(3, -1) for i in (5, 12)])
    assert (read_mask((str(video), 1)) == HALF).all()
    assert (read_frame([str(video), 0]) == drawn(5)[..., None]).all()  # as it comes from JSON
