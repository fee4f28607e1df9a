from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate
from monai.transforms import Compose, Resized

from common.errors import InputError
from common.transforms.clips import NormalizeFramesd
from common.transforms.frames import LoadFramed
from tests.common.data.video.dataset_files import drawn, picture, write_json, write_picture, write_video


@pytest.fixture
def item(tmp_path) -> dict:
    colours = np.arange(16 * 24 * 3, dtype=np.uint32).reshape(16, 24, 3).astype(np.uint8)
    return {
        "image": str(write_picture(tmp_path / "a.png", colours)),
        "label": str(write_picture(tmp_path / "mask.png", drawn(9))),
        "present": True,
        "colours": colours,
    }


def test_frame_mask_and_presence(item):
    loaded = LoadFramed()(item)
    assert isinstance(loaded["image"], MetaTensor) and loaded["image"].dtype == torch.float32
    assert (loaded["image"].numpy() == np.moveaxis(item["colours"], -1, 0)).all()
    assert loaded["image"].meta["filename_or_obj"] == item["image"] and not loaded["image"].meta["is_clip"]
    assert tuple(loaded["image"].meta["spatial_shape"]) == (16, 24)
    assert loaded["label"].shape == (1, 16, 24) and (loaded["label"][0].numpy() == (drawn(9) > 0)).all()
    assert loaded["present"].tolist() == [1.0] and loaded["present"].dtype == torch.float32
    assert item["present"] is True  # the item itself is as it was


def test_nothing_drawn(item):
    loaded = LoadFramed()(item | {"label": None, "present": False})
    assert loaded["label"].shape == (1, 16, 24) and not loaded["label"].any() and loaded["present"].tolist() == [0.0]
    with pytest.raises(InputError) as error:
        LoadFramed()(item | {"label": None})
    assert str(error.value) == f"{item['image']}: is a positive without a mask; draw it, or leave the frame out"


def test_labelme_and_video(item, tmp_path):
    shape = {"label": "root", "points": [[9, 0], [23, 15]], "shape_type": "rectangle"}
    path = write_json(tmp_path / "a.json", {"shapes": [shape], "imageHeight": 16, "imageWidth": 24})
    expected = LoadFramed()(item)["label"]
    assert (LoadFramed()(item | {"label": {"labelme": str(path), "labels": ["root"]}})["label"] == expected).all()
    frames = write_video(tmp_path / "v.mkv", [picture(0), picture(7)])
    masks = write_video(tmp_path / "m.mkv", [np.zeros_like(picture(0)), drawn(9)[..., None].repeat(3, -1)])
    loaded = LoadFramed()(item | {"image": (str(frames), 1), "label": (str(masks), 1)})
    assert (loaded["image"] == 7).all() and (loaded["label"] == expected).all()


def test_mask_of_another_size(item, tmp_path):
    path = write_picture(tmp_path / "mask.png", drawn(3, (12, 24)))
    with pytest.raises(InputError, match=r"mask\.png: is 24 x 12, its frame 24 x 16"):
        LoadFramed()(item | {"label": str(path)})


def test_classifiers_need_no_masks(item):
    batch = list_data_collate(
        [LoadFramed(load_label=False)(item | {"label": label}) for label in (None, "nowhere.png")]
    )
    assert "label" not in batch and batch["image"].shape == (2, 3, 16, 24) and batch["present"].shape == (2, 1)


def test_missing_keys(item):
    bare = {"image": item["image"]}
    assert set(LoadFramed(allow_missing_keys=True)(bare)) == {"image"}
    with pytest.raises(KeyError):
        LoadFramed()(bare)


def test_the_other_transforms_follow(item):
    chain = Compose(
        [
            LoadFramed(),
            Resized(["image", "label"], (8, 8), mode=["bilinear", "nearest"]),
            NormalizeFramesd("image", "none"),
        ]
    )
    done = chain(item)
    assert done["image"].shape == (3, 8, 8) and done["label"].shape == (1, 8, 8) and 0.2 < done["image"].mean() < 0.8
