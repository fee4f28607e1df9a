from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, PILReader, decollate_batch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    Invertd,
    LoadImaged,
    NormalizeIntensity,
    RandFlipd,
    Resized,
    ToTensord,
)  # fmt: skip
from PIL import Image

from common.data.video.cases import VideoCases
from common.errors import InputError
from common.transforms.clips import FramesFirstd, FrameToPictured, LoadClipd, NormalizeFramesd, RandSideCropd
from tests.common.data.video.dataset_files import SIZE, drawn, picture, write_picture, write_sequences, write_video

REAL = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "cvc612"
KEYS = ["image", "label"]


def message(call, *args) -> str:
    with pytest.raises(InputError) as error:
        call(*args)
    return str(error.value)


@pytest.fixture
def item(tmp_path) -> dict:
    """Three frames of noise, and masks whose foreground begins at column 5, 6 and 7."""
    rng, files = np.random.default_rng(0), {"image": [], "label": []}
    for i in range(3):
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        files["image"].append(str(write_picture(tmp_path / f"f{i}.png", image)))
        files["label"].append(str(write_picture(tmp_path / f"m{i}.png", drawn(5 + i))))
    return files


def pixels(file: str) -> np.ndarray:
    return np.asarray(Image.open(file))


class TestLoadClip:
    def test_frames_and_masks(self, item):
        found = LoadClipd()(item)
        image, label = found["image"], found["label"]
        assert (image.shape, label.shape) == ((9, *SIZE), (3, *SIZE))
        assert type(image) is type(label) is MetaTensor and image.dtype == label.dtype == torch.float32
        for i in range(3):
            assert np.array_equal(image[3 * i : 3 * i + 3].permute(1, 2, 0).numpy(), pixels(item["image"][i]))
            assert np.array_equal(label[i].numpy(), pixels(item["label"][i]) / 255)
        assert image.meta["filename_or_obj"] == item["image"][0] and tuple(image.meta["spatial_shape"]) == SIZE
        assert label.meta["filename_or_obj"] == item["label"][0]
        assert isinstance(item["image"], list)  # what came in stays

    @pytest.mark.parametrize("kind", [str, Path])
    def test_one_frame(self, item, kind):
        found = LoadClipd(allow_missing_keys=True)({"image": kind(item["image"][1])})
        assert np.array_equal(found["image"].permute(1, 2, 0).numpy(), pixels(item["image"][1]))

    def test_frames_of_videos(self, tmp_path):
        video = str(write_video(tmp_path / "v.mkv", [picture(10 * i) for i in range(8)]))
        masks = str(write_video(tmp_path / "m.mkv", [drawn(i)[..., None].repeat(3, -1) for i in range(8)]))
        chosen = [5, 6, 7, 7, 7]
        for pair in (tuple, list):  # lists are what JSON makes of pairs
            found = LoadClipd()(
                {key: [pair((file, i)) for i in chosen] for key, file in zip(KEYS, (video, masks), strict=True)}
            )
            assert found["image"][::3, 0, 0].tolist() == [50, 60, 70, 70, 70]
            assert found["label"].sum(dim=(1, 2)).tolist() == [SIZE[0] * (SIZE[1] - i) for i in chosen]
        assert found["image"].meta["filename_or_obj"] == video
        one = LoadClipd(allow_missing_keys=True)({"image": (video, 3)})
        assert one["image"].shape == (3, *SIZE) and one["image"].unique().tolist() == [30]

    def test_pictures(self, item):
        """Frames that are there already are the same as those read from files."""
        arrays = {key: [pixels(file) for file in item[key]] for key in KEYS}
        arrays["label"] = [mask[..., None].repeat(3, axis=-1) for mask in arrays["label"]]
        before = [array.copy() for array in arrays["image"]]
        found, wanted = LoadClipd()(arrays), LoadClipd()(item)
        for key in KEYS:
            assert torch.equal(found[key].as_tensor(), wanted[key].as_tensor()) and found[key].dtype == torch.float32
            assert tuple(found[key].meta["spatial_shape"]) == SIZE and "filename_or_obj" not in found[key].meta
        assert all(np.array_equal(*pair) for pair in zip(arrays["image"], before, strict=True))

    def test_pictures_of_two_sizes(self):
        assert message(LoadClipd(allow_missing_keys=True), {"image": [picture(0), picture(0, (8, 10))]}) == (
            "a picture of the clip: is 10 x 8, the first frame of its clip 24 x 16; give all frames of a sequence "
            "one size"
        )

    def test_what_is_a_clip(self, item):
        load, first = LoadClipd(allow_missing_keys=True), item["image"][0]
        for frames, is_clip in ((first, False), ([first], True), ([pixels(first)], True)):
            assert load({"image": frames})["image"].meta["is_clip"] is is_clip

    @pytest.mark.parametrize(("rule", "foreground"), [("255", [255]), ("> 128", [129, 254, 255])])
    def test_what_is_foreground(self, tmp_path, rule, foreground):
        values = np.array([[0, 1, 127, 128, 129, 254, 255]], np.uint8)
        mask = write_picture(tmp_path / "m.png", values)
        colours = write_picture(tmp_path / "rgb.png", values[..., None].repeat(3, -1))
        frame = write_picture(tmp_path / "f.png", picture(0, (1, 7)))
        label = LoadClipd(label_rule=rule)({"image": [frame] * 2, "label": [mask, colours]})["label"]
        for i in range(2):
            assert values[0][label[i, 0].bool().numpy()].tolist() == foreground

    @pytest.mark.parametrize("rule", ["255", "> 128"])
    def test_a_single_frames_mask_in_the_labels_value(self, tmp_path, rule):
        """Host applications write what the metadata says: 1 is nerve."""
        mask = str(write_picture(tmp_path / "m.png", drawn(3) // 255))
        frame = str(write_picture(tmp_path / "f.png", picture(0)))
        label = LoadClipd(label_rule=rule)({"image": frame, "label": mask})["label"]
        assert np.array_equal(label[0].numpy(), drawn(3) / 255)

    def test_masks_in_one_bit(self, tmp_path):
        mask = tmp_path / "m.png"
        Image.fromarray(drawn(3)).convert("1").save(mask)
        frame = write_picture(tmp_path / "f.png", picture(0))
        assert np.array_equal(LoadClipd()({"image": [frame], "label": [mask]})["label"][0].numpy(), drawn(3) / 255)

    def test_mistakes(self, tmp_path, item):
        load, image, label = LoadClipd(), item["image"], item["label"]
        small = str(write_picture(tmp_path / "small.png", picture(0, (8, 10))))
        assert message(load, {"image": [image[0], small], "label": label[:2]}) == (
            f"{small}: is 10 x 8, the first frame of its clip 24 x 16; give all frames of a sequence one size"
        )
        assert message(load, {"image": image[:2], "label": [label[0], small]}) == (
            f"{small}: is 10 x 8, its frame {image[1]} 24 x 16; draw the mask on its own frame"
        )
        assert message(load, {"image": image, "label": label[:2]}) == (
            f"{image[0]}: begins a clip of 3 frames with 2 masks; give each one mask"
        )
        ones = str(write_picture(tmp_path / "ones.png", drawn(3) // 255))
        assert message(load, {"image": image[:1], "label": [ones]}) == (
            f"{ones}: is written in 0 and 1, which counts as empty; write foreground as 255"
        )
        assert message(load, {"image": [f"{tmp_path}/no.png"], "label": label[:1]}).startswith(f"{tmp_path}/no.png: ")
        with pytest.raises(ValueError, match="label_rule must be '255' or '> 128'"):
            LoadClipd(label_rule=">128")

    def test_missing_masks(self, item):
        with pytest.raises(KeyError, match="label"):
            LoadClipd()({"image": item["image"]})

    def test_the_same_as_a_plain_picture(self, item):
        """MONAI Label loads single frames through LoadImaged; with this reader rows come first, as here."""
        reader = PILReader(reverse_indexing=False, converter=lambda image: image.convert("RGB"))
        plain = Compose([LoadImaged("image", reader=reader), EnsureChannelFirstd("image", channel_dim=-1)])
        steps = Compose([Resized("image", (32, 64)), NormalizeFramesd("image")])
        one = {"image": item["image"][0]}
        assert torch.equal(
            steps(plain(one))["image"].as_tensor(), steps(LoadClipd(allow_missing_keys=True)(one))["image"].as_tensor()
        )


class TestFrameToPicture:
    def test_a_single_frame(self, item):
        frame = LoadClipd(allow_missing_keys=True)({"image": item["image"][0]})
        mask = MetaTensor(torch.arange(16 * 24, dtype=torch.uint8).reshape(1, 16, 24), meta=dict(frame["image"].meta))
        found = FrameToPictured("pred")({**frame, "pred": mask, "name": "a"})
        assert found["pred"].shape == (24, 16) and found["pred"].is_contiguous() and found["name"] == "a"
        assert np.array_equal(found["pred"].numpy(), mask[0].numpy().T)
        assert tuple(found["image"].meta["spatial_shape"]) == (24, 16)
        assert tuple(frame["image"].meta["spatial_shape"]) == (16, 24)  # of the item that was given

    def test_a_clip_stays(self, item):
        clip = LoadClipd(allow_missing_keys=True)({"image": item["image"]})
        found = FrameToPictured("pred")({**clip, "pred": torch.ones(3, 16, 24)})
        assert found["pred"].shape == (3, 16, 24) and tuple(found["image"].meta["spatial_shape"]) == (16, 24)

    def test_missing_masks(self, item):
        frame = LoadClipd(allow_missing_keys=True)({"image": item["image"][0]})
        assert FrameToPictured("pred", allow_missing_keys=True)(frame).keys() == {"image"}
        with pytest.raises(KeyError, match="pred"):
            FrameToPictured("pred")(frame)


class TestWholeClipsAlike:
    """Frames of one picture stay of one picture, whatever is drawn."""

    @pytest.fixture
    def same(self, item) -> dict:
        return LoadClipd()({key: item[key][:1] * 3 for key in KEYS})

    @pytest.mark.parametrize(
        "transform",
        [
            RandFlipd(KEYS, prob=1.0, spatial_axis=1),
            RandSideCropd(KEYS, 3, ["bilinear", "nearest"]),
            Resized(KEYS, (8, 10), mode=["bilinear", "nearest"]),
        ],
        ids=lambda transform: type(transform).__name__,
    )
    def test_all_frames_are_treated_alike(self, same, transform):
        found = Compose([transform, FramesFirstd(KEYS, (3, 1))]).set_random_state(2)(same)
        for key in KEYS:
            for other in found[key][1:]:  # interpolation rounds channels differently in the last digit
                torch.testing.assert_close(other, found[key][0], rtol=0, atol=1e-3)
            assert found[key].shape[2:] != same[key].shape[1:] or not torch.equal(found[key][:, 0], same[key][:3])

    def test_flips_are_horizontal(self, same):
        found = RandFlipd(KEYS, prob=1.0, spatial_axis=1)(same)
        assert found["label"][0, 0].tolist() == drawn(5)[0, ::-1].astype(bool).tolist()


class TestRandSideCrop:
    @pytest.mark.parametrize("size", [(16, 24), (17, 23)])
    def test_the_same_is_cut_from_both_sides(self, size):
        """A ramp along each axis keeps its middle, and loses twice the number of pixels that were drawn."""
        rows, columns = torch.meshgrid(*(torch.arange(float(side)) for side in size), indexing="ij")
        crop = RandSideCropd("image", 5, "nearest").set_random_state(0)
        drawn_cuts = set()
        for _ in range(300):
            found = crop({"image": MetaTensor(torch.stack([rows, columns]))})["image"]
            assert found.shape == (2, *size)
            cut = [int(found[0, 0, 0]), int(found[1, 0, 0])]
            assert [int(found[0, -1, -1]), int(found[1, -1, -1])] == [size[i] - 1 - cut[i] for i in range(2)]
            drawn_cuts.add(tuple(cut))
        assert drawn_cuts == {(i, j) for i in range(6) for j in range(6)}  # 0 and the most too, independently

    def test_one_draw_for_all_keys(self):
        ramp = torch.arange(24.0).expand(1, 16, 24)
        crop = RandSideCropd(KEYS, 7, "nearest").set_random_state(1)
        for _ in range(10):
            found = crop({"image": ramp.repeat(9, 1, 1), "label": ramp.repeat(3, 1, 1)})
            assert torch.equal(found["image"][:3], found["label"])

    def test_labels_stay_labels(self):
        label = torch.from_numpy(drawn(9) / 255)[None]
        found = RandSideCropd(KEYS, 5, ["bilinear", "nearest"]).set_random_state(0)({"image": label, "label": label})
        assert set(found["label"].unique().tolist()) == {0, 1}

    def test_seeds(self):
        image = {"image": torch.rand(3, 16, 24)}
        first, again, other = (
            Compose([RandSideCropd("image", 7)]).set_random_state(seed)(image)["image"] for seed in (3, 3, 4)
        )
        assert torch.equal(first, again) and not torch.equal(first, other)

    def test_nothing_to_cut(self):
        image = torch.rand(3, 4, 4)
        assert torch.equal(RandSideCropd("image", 0)({"image": image})["image"], image)

    def test_too_much(self):
        with pytest.raises(ValueError, match="leaves nothing of 16 x 24"):
            RandSideCropd("image", 8)({"image": torch.rand(3, 16, 24)})
        with pytest.raises(ValueError, match="negative"):
            RandSideCropd("image", -1)

    def test_missing_keys(self):
        image = {"image": torch.rand(3, 16, 24)}
        assert RandSideCropd(KEYS, 7, allow_missing_keys=True)(image).keys() == {"image"}


class TestNormalizeFrames:
    frames = 255 * torch.rand(6, 4, 5, generator=torch.Generator().manual_seed(0))

    def test_imagenet(self):
        before = self.frames.clone()
        found = NormalizeFramesd("image")({"image": MetaTensor(self.frames, meta={"filename_or_obj": "a"})})["image"]
        for channel in range(6):
            mean, std = (0.485, 0.456, 0.406)[channel % 3], (0.229, 0.224, 0.225)[channel % 3]
            torch.testing.assert_close(found[channel].as_tensor(), (before[channel] / 255 - mean) / std)
        assert torch.equal(self.frames, before) and found.meta["filename_or_obj"] == "a"

    def test_none(self):
        found = NormalizeFramesd("image", "none")({"image": self.frames})["image"]
        torch.testing.assert_close(torch.as_tensor(found), self.frames / 255)

    def test_own_statistics(self):
        mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
        found = NormalizeFramesd("image", [mean, std])({"image": self.frames})["image"]
        wanted = NormalizeIntensity(
            subtrahend=[255 * m for m in mean * 2], divisor=[255 * s for s in std * 2], channel_wise=True
        )(self.frames.clone())
        torch.testing.assert_close(found, wanted)

    @pytest.mark.parametrize("normalize", ["None", "z", [[0, 0, 0]], [[0, 0], [1, 1]], [[0, 0, 0], [1, 0, 1]]])
    def test_unknown_statistics(self, normalize):
        with pytest.raises(ValueError, match=r"normalize must be|a standard deviation"):
            NormalizeFramesd("image", normalize)

    @pytest.mark.parametrize("transform", [NormalizeFramesd("image"), FramesFirstd("image")])
    def test_parts_of_frames(self, transform):
        with pytest.raises(ValueError, match="expected frames of 3 channels, got 4"):
            transform({"image": torch.rand(4, 2, 2)})


def test_frames_first(item):
    loaded = LoadClipd()(item)
    found = FramesFirstd(KEYS, (3, 1))(loaded)
    assert (found["image"].shape, found["label"].shape) == ((3, 3, *SIZE), (3, 1, *SIZE))
    for i in range(3):
        assert torch.equal(found["image"][i], loaded["image"][3 * i : 3 * i + 3])
        assert torch.equal(found["label"][i, 0], loaded["label"][i])
    assert found["image"].meta["filename_or_obj"] == item["image"][0]


def test_a_single_frame_is_no_clip(item):
    one = {key: item[key][0] for key in KEYS}
    found = FramesFirstd(KEYS, (3, 1))(LoadClipd()(one))
    assert (found["image"].shape, found["label"].shape) == ((3, *SIZE), (1, *SIZE))
    clip = FramesFirstd(KEYS, (3, 1))(LoadClipd()({key: [file] for key, file in one.items()}))
    assert (clip["image"].shape, clip["label"].shape) == ((1, 3, *SIZE), (1, 1, *SIZE))
    plain = FramesFirstd("image")({"image": torch.rand(6, 4, 5)})["image"]  # without meta data: a clip
    assert plain.shape == (2, 3, 4, 5)


def test_frames_first_and_back(item):
    loaded, transform = LoadClipd()(item), FramesFirstd(KEYS, (3, 1))
    back = transform.inverse(transform(loaded))
    assert all(torch.equal(back[key], loaded[key]) for key in KEYS)


@pytest.mark.parametrize("clip", [True, False])
def test_predictions_go_back_to_the_pictures(item, clip):
    """One channel for each frame, with the size that was loaded."""
    image = item["image"] if clip else item["image"][0]
    before = Compose(
        [
            LoadClipd(allow_missing_keys=True),
            Resized("image", (8, 12), mode="bilinear"),
            NormalizeFramesd("image"),
            FramesFirstd("image"),
        ]
    )
    batch = next(iter(DataLoader(Dataset([{"image": image}], before), batch_size=1)))
    batch["pred"] = batch["image"].mean(dim=-3, keepdim=True)
    (one,) = decollate_batch(batch)
    found = Invertd("pred", before, orig_keys="image", nearest_interp=False)(one)["pred"]
    flat = one["pred"].as_tensor().reshape(-1, 1, 8, 12)
    wanted = torch.nn.functional.interpolate(flat, SIZE, mode="bilinear", align_corners=False)[:, 0]
    assert found.shape == (3 if clip else 1, *SIZE)
    torch.testing.assert_close(found.as_tensor(), wanted)


def steps(size: tuple[int, int]) -> Compose:
    """A training's transforms."""
    mode = ["bilinear", "nearest"]
    return Compose(
        [
            LoadClipd(label_rule="255"),
            Resized(KEYS, size, mode=mode),
            RandSideCropd(KEYS, 3, mode),
            RandFlipd(KEYS, prob=0.5, spatial_axis=1),
            NormalizeFramesd("image"),
            FramesFirstd(KEYS, (3, 1)),
            ToTensord(["frames", "keep"]),
        ]
    )


def test_batches_and_back(tmp_path):
    write_sequences(tmp_path, {"a": 8, "b": 8, "c": 6})
    (tmp_path / "splits.json").write_text('{"train": ["a", "b"], "test": ["c"]}', encoding="utf-8")
    cases = VideoCases(tmp_path)
    for part in (cases.train, cases.test):
        batch = next(iter(DataLoader(Dataset(part, steps((32, 48))), batch_size=2)))
        assert (batch["image"].shape, batch["label"].shape) == ((2, 5, 3, 32, 48), (2, 5, 1, 32, 48))
        assert batch["frames"].tolist() == [item["frames"] for item in part[:2]]
        assert batch["keep"].tolist() == [item["keep"] for item in part[:2]]
        assert batch["sequence_number"].tolist() == [item["sequence_number"] for item in part[:2]]
        items = decollate_batch(batch)
        assert [item["id"] for item in items] == [item["id"] for item in part[:2]]
        assert [item["image"].meta["filename_or_obj"] for item in items] == [item["image"][0] for item in part[:2]]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real sequences are not there (shared/data/cvc612)")
def test_real_sequences():
    item = VideoCases(REAL).train[0]
    found = steps((256, 448)).set_random_state(0)(item)
    assert (found["image"].shape, found["label"].shape) == ((5, 3, 256, 448), (5, 1, 256, 448))
    assert abs(float(found["image"].mean())) < 1.5 and 0 < float(found["label"].mean()) < 0.5
