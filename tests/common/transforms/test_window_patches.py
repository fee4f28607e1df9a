from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor

from common.networks.slice_context import halve_in_plane
from common.transforms.window_patches import RandWindowPatchesd

SHAPE, WINDOW, PATCH = (80, 96, 14), (48, 64, 12), (16, 24, 12)


def numbered() -> torch.Tensor:
    """A volume whose voxels carry their own number."""
    return torch.arange(int(np.prod(SHAPE)), dtype=torch.float32).reshape(1, *SHAPE)


def labelled(*places: tuple[int, int, int, int]) -> torch.Tensor:
    """A label map with single voxels of a class: row, column, slice, class."""
    label = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    for row, column, index, value in places:
        label[0, row, column, index] = value
    return label


def sampler(seed: int = 0, **options) -> RandWindowPatchesd:
    options = {"window": WINDOW, "patch": PATCH, "num_patches": 5, "num_classes": 20} | options
    return RandWindowPatchesd(**options).set_random_state(seed)


def window_start(found: dict) -> np.ndarray:
    """Where the window lies, by each patch's first voxel and box; all say the same."""
    firsts = np.stack(np.unravel_index(found["image"][:, 0, 0, 0, 0].numpy().astype(int), SHAPE), axis=1)
    firsts[:, :2] -= found["boxes"][:, [0, 2]].numpy()
    assert (firsts == firsts[0]).all()
    return firsts[0]


def draws(times: int, label: torch.Tensor, **options) -> list[dict]:
    draw = sampler(**options)
    return [draw({"image": numbered(), "label": label}) for _ in range(times)]


@pytest.mark.parametrize("seed", range(20))
class TestGeometry:
    def item(self, seed: int) -> dict:
        label = (numbered() % 20).to(torch.uint8)
        return sampler(seed)({"image": numbered(), "label": label, "drawn": torch.ones(20)})

    def test_shapes_and_places(self, seed):
        found = self.item(seed)
        assert found["image"].shape == found["label"].shape == (5, 1, *PATCH)
        assert found["stack"].shape == (12, 3, 24, 32)
        assert found["boxes"].shape == (5, 4) and found["boxes"].dtype == torch.int64
        assert found["drawn"].sum() == 20
        start = window_start(found)
        assert (start[:2] % 8 == 0).all()
        assert (start >= 0).all() and (start + WINDOW <= SHAPE).all()
        rows, columns = found["boxes"][:, :2], found["boxes"][:, 2:]
        for sides, patch, window in ((rows, 16, 48), (columns, 24, 64)):
            assert (sides[:, 1] - sides[:, 0] == patch).all() and (sides % 8 == 0).all()
            assert sides.min() >= 0 and sides.max() <= window

    def test_patches_are_what_the_boxes_say(self, seed):
        found = self.item(seed)
        row, column, index = window_start(found)
        window = numbered()[0, row : row + 48, column : column + 64, index : index + 12]
        for patch, label, (top, bottom, left, right) in zip(
            found["image"], found["label"], found["boxes"].tolist(), strict=True
        ):
            assert torch.equal(patch[0], window[top:bottom, left:right])
            assert torch.equal(label[0], window[top:bottom, left:right] % 20)

    def test_stack_is_the_halved_volume_with_true_neighbours(self, seed):
        found = self.item(seed)
        row, column, index = window_start(found)
        whole = halve_in_plane(numbered()[None])[0, 0, row // 2 : row // 2 + 24, column // 2 : column // 2 + 32]
        for place, triple in enumerate(found["stack"]):
            for channel, neighbour in enumerate((-1, 0, 1)):
                wanted = whole[..., min(max(index + place + neighbour, 0), 13)]
                assert torch.allclose(triple[channel], wanted, rtol=1e-6, atol=1e-2)

    def test_maps_of_the_window_crop_to_the_patch(self, seed):
        """At an eighth of the resolution, too, a patch begins and ends with a voxel."""
        found = self.item(seed)
        row, column, index = window_start(found)
        pool = torch.nn.AvgPool3d((8, 8, 1))
        window = pool(numbered()[:, row : row + 48, column : column + 64, index : index + 12])
        for patch, box in zip(found["image"], found["boxes"].tolist(), strict=True):
            top, bottom, left, right = (side // 8 for side in box)
            assert torch.equal(pool(patch)[0], window[0, top:bottom, left:right])


def test_every_window_holds_foreground_and_every_one_that_does_is_drawn():
    label = labelled((70, 10, 13, 3))
    starts = np.array([window_start(found) for found in draws(200, label)])
    assert (starts[:, 0] + 48 > 70).all() and (starts[:, 1] <= 10).all() and (starts[:, 2] + 12 > 13).all()
    assert {tuple(start) for start in starts} == {(24, 0, 2), (24, 8, 2), (32, 0, 2), (32, 8, 2)}


def test_classes_are_balanced():
    """One voxel of class 2 among thousands of class 1 is in half of the patches, of two classes."""
    label = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    label[0, 20:60, 30:40] = 1
    label[0, 30, 70, 7] = 2
    found = draws(100, label, num_classes=3, window=(80, 96, 12))
    share = np.mean([float((item["label"] == 2).any(dim=(1, 2, 3, 4)).float().mean()) for item in found])
    assert 0.4 < share < 0.6
    assert all((item["label"] > 0).any(dim=1).any(dim=3).any(dim=2).any(dim=1).all() for item in found)


def test_a_class_that_is_not_there_gives_its_turn_to_any():
    found = draws(20, labelled((40, 40, 5, 7)), window=(80, 96, 12))
    assert all((patch == 7).sum() == 1 for item in found for patch in item["label"])


def test_without_foreground_every_window_and_patch_is_as_likely():
    found = draws(300, labelled())
    starts = np.array([window_start(item) for item in found])
    assert set(starts[:, 0]) == {0, 8, 16, 24, 32} and set(starts[:, 2]) == {0, 1, 2}
    boxes = torch.cat([item["boxes"] for item in found])
    assert set(boxes[:, 0].tolist()) == {0, 8, 16, 24, 32} and set(boxes[:, 2].tolist()) == {0, 8, 16, 24, 32, 40}


def test_the_same_seed_draws_the_same():
    label = (numbered() % 20).to(torch.uint8)
    first, again, other = (draws(3, label, seed=seed) for seed in (4, 4, 5))
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in a)
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(first, other, strict=True))


def test_batches():
    item = {"image": MetaTensor(numbered()), "label": MetaTensor(labelled((40, 40, 5, 1)))}
    batch = next(iter(DataLoader(Dataset([item, item], sampler(num_patches=2)), batch_size=2)))
    shapes = {key: tuple(value.shape) for key, value in batch.items()}
    assert shapes == {
        "image": (2, 2, 1, *PATCH), "label": (2, 2, 1, *PATCH), "stack": (2, 12, 3, 24, 32), "boxes": (2, 2, 4),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": (16, 24, 8)}, "as many slices"),
        ({"patch": (56, 24, 12)}, "does not fit into the window"),
        ({"patch": (20, 24, 12)}, "multiples of 8"),
        ({"num_patches": 0}, "expected patches"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        sampler(**options)


@pytest.mark.parametrize(("window", "message"), [((48, 104, 12), "pad it"), ((48, 64, 15), "pad it")])
def test_volumes_that_are_too_small(window, message):
    with pytest.raises(ValueError, match=message):
        draws(1, labelled(), window=window, patch=(*PATCH[:2], window[2]))
