"""Random changes of slices and volumes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy import ndimage

from common.transforms.similarity import similarity
from common.transforms.slice_augmentation import RandAugmentSliced, RandSimilarityd
from common.transforms.volume_augmentation import RandAugmentVolumed

OFF = {f"{kind}_prob": 0.0 for kind in ("flip", "noise", "blur", "similarity", "distortion", "sharpen")}


def shape_picture(size=(64, 96)) -> torch.Tensor:
    """A smooth shape without symmetry, 0 to 1."""
    rows, columns = np.indices(size)
    picture = np.exp(-(((rows - 24) / 7) ** 2) - ((columns - 40) / 12) ** 2)
    picture += np.exp(-(((rows - 40) / 5) ** 2) - ((columns - 58) / 6) ** 2)
    return torch.from_numpy(picture.astype(np.float32))


def slice_item() -> dict[str, torch.Tensor]:
    picture = shape_picture()
    return {"image": torch.stack([picture, 2 * picture, 3 * picture]), "label": (picture > 0.3).float()[None]}


def volume_item(depth: int = 25) -> dict[str, torch.Tensor]:
    """The shape, strongest in the middle slice."""
    profile = torch.exp(-(((torch.arange(depth) - depth // 2) / 8.0) ** 2))
    image = shape_picture()[..., None] * profile
    return {"image": image[None], "label": (image > 0.3).to(torch.uint8)[None]}


def agree(image: torch.Tensor, label: torch.Tensor) -> float:
    """Dice of a label map and of where the image is bright."""
    bright = image > 0.3
    return float(2 * (bright & (label == 1)).sum() / (bright.sum() + (label == 1).sum()))


def moment(picture: torch.Tensor) -> np.ndarray:
    """Mass and centre of a picture."""
    weights = np.asarray(picture, dtype=float)
    return np.array([weights.sum(), *ndimage.center_of_mass(weights)])


class TestSimilarity:
    def test_shift(self):
        before, after = (moment(p) for p in (shape_picture(), similarity(shape_picture()[None], shift=(5, -7))[0]))
        assert np.allclose(after - before, [0, 5, -7], atol=0.05)

    def test_magnification_about_the_centre(self):
        before, after = (moment(p) for p in (shape_picture(), similarity(shape_picture()[None], zoom=1.2)[0]))
        assert after[0] == pytest.approx(1.44 * before[0], rel=0.01)
        middle = np.array([31.5, 47.5])
        assert np.allclose(after[1:] - middle, 1.2 * (before[1:] - middle), atol=0.05)

    def test_rotation_about_the_centre(self):
        before, after = (moment(p) for p in (shape_picture(), similarity(shape_picture()[None], angle=0.3)[0]))
        middle = np.array([31.5, 47.5])
        assert np.linalg.norm(after[1:] - middle) == pytest.approx(np.linalg.norm(before[1:] - middle), abs=0.05)
        turned = np.cross(before[1:] - middle, after[1:] - middle) / np.linalg.norm(before[1:] - middle) ** 2
        assert abs(np.arcsin(turned)) == pytest.approx(0.3, abs=0.01)


class TestSlices:
    @pytest.mark.parametrize("kind", ["flip", "similarity", "distortion"])
    def test_image_channels_and_label_move_alike(self, kind):
        step = RandAugmentSliced(prob=1.0, **(OFF | {f"{kind}_prob": 1.0})).set_random_state(0)
        moved = 0
        for _ in range(10):
            item = slice_item()
            found = step(item)
            assert found["image"].shape == item["image"].shape and found["label"].shape == item["label"].shape
            assert torch.allclose(found["image"][1], 2 * found["image"][0], atol=1e-5)
            assert set(found["label"].unique().tolist()) == {0.0, 1.0}
            assert agree(found["image"][0], found["label"][0]) > 0.94
            moved += not torch.allclose(found["image"].as_tensor(), item["image"])
        assert moved == 10

    @pytest.mark.parametrize("kind", ["noise", "blur", "sharpen"])
    def test_intensities_change_and_labels_do_not(self, kind):
        item = slice_item()
        found = RandAugmentSliced(prob=1.0, **(OFF | {f"{kind}_prob": 1.0})).set_random_state(1)(item)
        assert not torch.allclose(found["image"], item["image"])
        assert torch.equal(found["label"], item["label"])

    def test_noise_is_not_clipped(self):
        step = RandAugmentSliced(prob=1.0, **(OFF | {"noise_prob": 1.0})).set_random_state(0)
        found = [step({"image": torch.full((3, 64, 64), -2.0)})["image"] for _ in range(40)]
        spreads = [float(image.std()) for image in found]
        assert all(float(image.mean()) == pytest.approx(-2, abs=0.02) for image in found)
        assert max(spreads) < 0.31 and max(spreads) > 0.25 and min(spreads) < 0.05

    def test_flips_are_along_either_axis_or_both(self):
        step = RandAugmentSliced(prob=1.0, **(OFF | {"flip_prob": 1.0})).set_random_state(0)
        image = slice_item()["image"]
        ways = {way: image.flip(way) for way in ((1,), (2,), (1, 2))}
        found = [step({"image": image})["image"] for _ in range(60)]
        counts = {way: sum(torch.equal(one, flipped) for one in found) for way, flipped in ways.items()}
        assert sum(counts.values()) == 60 and min(counts.values()) >= 10

    @pytest.mark.parametrize(("axes", "ways"), [((0,), [(1,)]), ((), [()])])
    def test_flips_can_be_left_out(self, axes, ways):
        step = RandAugmentSliced(prob=1.0, flip_axes=axes, **(OFF | {"flip_prob": 1.0})).set_random_state(0)
        image = slice_item()["image"]
        assert all(torch.equal(step({"image": image})["image"], image.flip(way)) for way in ways for _ in range(5))

    def test_beyond_the_border_lies_a_reflection(self):
        step = RandAugmentSliced(prob=1.0, **(OFF | {"similarity_prob": 1.0})).set_random_state(0)
        assert torch.allclose(step({"image": torch.ones(3, 32, 48)})["image"], torch.ones(3, 32, 48), atol=1e-5)

    def test_half_of_the_items_stay(self):
        step = RandAugmentSliced(**(OFF | {"noise_prob": 1.0})).set_random_state(0)
        image = slice_item()["image"]
        same = sum(step({"image": image})["image"] is image for _ in range(200))
        assert 70 < same < 130

    def test_scales_of_the_axes_are_one(self):
        with pytest.raises(ValueError, match="a magnification is above 0"):
            RandSimilarityd("image", zoom=(0, 1))
        step = RandSimilarityd("image", zoom=(0.8, 1.2), prob=1.0).set_random_state(0)
        disc = torch.from_numpy(np.hypot(*(np.indices((64, 64)) - 31.5)) < 15).float()[None]
        for _ in range(5):
            found = step({"image": disc})["image"][0]
            assert found.sum(0).max() == pytest.approx(float(found.sum(1).max()), abs=0.1)


class TestVolumes:
    def test_nothing_at_all(self):
        item = volume_item()
        assert RandAugmentVolumed(prob=0.0)(item) == item

    @pytest.mark.parametrize("kind", ["zoom", "rotate"])
    def test_image_and_label_move_alike(self, kind):
        off = {"noise_prob": 0.0, "zoom_prob": 0.0, "rotate_prob": 0.0}
        step = RandAugmentVolumed(prob=1.0, **(off | {f"{kind}_prob": 1.0})).set_random_state(0)
        for _ in range(5):
            item = {key: MetaTensor(value) for key, value in volume_item().items()}
            found = step(item)
            assert all(isinstance(found[key], MetaTensor) for key in item)
            assert found["image"].shape == item["image"].shape and found["label"].dtype == torch.uint8
            assert not torch.equal(found["label"], item["label"])
            assert agree(found["image"], found["label"]) > 0.9

    def test_magnification_is_one_of_all_three_axes(self):
        step = RandAugmentVolumed(prob=1.0, noise_prob=0, zoom_prob=1.0, rotate_prob=0).set_random_state(0)
        depth = 13
        distance = sum(
            ((axis - (size - 1) / 2) / (size / 6)) ** 2
            for axis, size in zip(np.indices((64, 96, depth)), (64, 96, depth), strict=True)
        )
        image = torch.from_numpy(np.exp(-distance).astype(np.float32))[None]
        for _ in range(5):
            found = step({"image": image, "label": image})["image"][0].numpy()
            spreads = []
            for axis in range(3):
                others = tuple(other for other in range(3) if other != axis)
                for volume in (image[0].numpy(), found):
                    profile = volume.sum(axis=others)
                    place = np.arange(len(profile)) - (len(profile) - 1) / 2
                    assert abs((profile * place).sum() / profile.sum()) < 0.05
                    spreads.append(np.sqrt((profile * place**2).sum() / profile.sum()))
            zooms = np.array(spreads[1::2]) / np.array(spreads[::2])
            assert 0.99 < zooms.min() and zooms.max() < 1 / 0.7 + 0.05 and np.ptp(zooms) < 0.12

    def test_noise_before_the_rest(self):
        step = RandAugmentVolumed(prob=1.0, noise_prob=1.0, zoom_prob=0, rotate_prob=0).set_random_state(0)
        item = {"image": torch.zeros(1, 32, 32, 12), "label": torch.zeros(1, 32, 32, 12)}
        spreads = [float(step(item)["image"].std()) for _ in range(30)]
        assert 0.08 < max(spreads) < 0.105 and min(spreads) < 0.02

    @pytest.mark.parametrize("zoom", [0, 1.2])
    def test_bad_zoom(self, zoom):
        with pytest.raises(ValueError, match="zoom must be"):
            RandAugmentVolumed(zoom=zoom)


@pytest.mark.parametrize(("step", "item"), [(RandAugmentSliced(), slice_item()), (RandAugmentVolumed(), volume_item())])
def test_the_same_seed_draws_the_same(step, item):
    """Also as part of a pipeline, which is what the epochs' seeds are given to."""
    pipeline = Compose([step])
    runs = []
    for seed in (3, 3, 4):
        pipeline.set_random_state(seed)
        runs.append(torch.stack([torch.as_tensor(pipeline(item)["image"]) for _ in range(8)]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
