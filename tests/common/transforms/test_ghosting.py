from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from common.transforms import RandGhostingd
from common.transforms.ghosting import ghosted

AFFINE = torch.diag(torch.tensor([2.0, 3, 4, 1], dtype=torch.float64))


def picture(*size: int) -> torch.Tensor:
    """Noise in a box, nothing round it."""
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
    inner = torch.zeros(size)
    inner[..., 3:8, 4:9] = 1
    return (noise + 0.5) * inner


@pytest.mark.parametrize("phase", [0.0, 0.7, np.pi / 2, 4.0])
@pytest.mark.parametrize(("dim", "shift"), [(1, 5), (2, 7), (2, 10)])
def test_is_the_modulation_of_k_space(dim, shift, phase):
    """Lines multiplied by a cosine, transformed back, and the magnitude taken."""
    image, strength = picture(3, 16, 20), 0.2
    size = image.shape[dim]
    lines = np.arange(size)
    factors = 1 + 2 * strength * np.cos(2 * np.pi * lines * shift / size + phase)
    shape = [1, 1, 1]
    shape[dim] = size
    k_space = np.fft.fft(image.numpy().astype(float), axis=dim) * factors.reshape(shape)
    wanted = np.abs(np.fft.ifft(k_space, axis=dim))
    np.testing.assert_allclose(ghosted(image, dim, shift, strength, phase).numpy(), wanted, atol=1e-6)


def test_copies_of_a_point():
    """In the air they have their strength, at their distance, once round the end, whatever the phase."""
    image = torch.zeros(1, 20, 16)
    image[0, 4, 9] = 2.0
    for phase in (0.0, 1.0, 3.0):
        found = ghosted(image, 1, 6, 0.25, phase)
        wanted = torch.zeros(20)
        wanted[[4, 10, 18]] = torch.tensor([2.0, 0.5, 0.5])
        torch.testing.assert_close(found[0, :, 9], wanted)
        assert not found[..., :9].any() and not found[..., 10:].any()


def test_the_smallest_value_is_no_signal():
    """So normalised images, whose air is below 0, get what the scan would."""
    image = picture(1, 16, 20)
    for scale, offset in ((1.0, -0.7), (3.0, 50.0)):
        found = ghosted(scale * image + offset, 2, 6, 0.2, 0.5)
        torch.testing.assert_close(found, scale * ghosted(image, 2, 6, 0.2, 0.5) + offset)


def test_never():
    item = {"image": MetaTensor(picture(1, 16, 20)), "label": torch.ones(1, 16, 20)}
    found = RandGhostingd("image", prob=0.0)(item)
    assert all(found[key] is item[key] for key in item)


def test_only_its_keys_all_alike_and_where_they_lie():
    volume = picture(1, 4, 16, 20)
    item = {"image": MetaTensor(volume, affine=AFFINE), "other": 2 * volume, "label": (volume > 0).to(torch.uint8)}
    found = RandGhostingd(("image", "other", "absent"), prob=1.0, axes=(1, 2), allow_missing_keys=True)(item)
    assert isinstance(found["image"], MetaTensor) and torch.equal(found["image"].affine, AFFINE)
    assert found["label"] is item["label"] and found["image"].dtype == torch.float32
    torch.testing.assert_close(found["other"], 2 * found["image"].as_tensor())
    assert not torch.equal(found["other"], item["other"]) and torch.equal(item["other"], 2 * volume)


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_draws_stay_in_their_ranges(axes):
    """Read from the copies of a point in the air."""
    image = torch.zeros(1, 40, 50, 60)
    image[0, 20, 25, 30] = 1.0
    step = RandGhostingd("image", prob=1.0, axes=axes, distance=(0.2, 0.4), strength=(0.1, 0.3)).set_random_state(0)
    seen, strengths, shares = set(), [], []
    for _ in range(60):
        found = step({"image": image})["image"][0]
        found[20, 25, 30] = 0
        copies = found.nonzero()
        assert len(copies) == 2
        (axis,) = (copies[0] != copies[1]).nonzero()[0].tolist()
        seen.add(axis)
        shares.append(abs(int(copies[0][axis]) - image.shape[axis + 1] // 2) / image.shape[axis + 1])
        strengths.append(float(found.max()))
    assert seen == set(axes)
    assert 0.1 <= min(strengths) < 0.13 and 0.27 < max(strengths) <= 0.3
    assert 0.18 < min(shares) < 0.24 and 0.36 < max(shares) < 0.42


def test_the_same_seed_draws_the_same():
    image = picture(1, 4, 16, 20)
    pipeline = Compose([RandGhostingd("image", prob=0.5, axes=(1, 2))])
    runs = []
    for seed in (3, 3, 4):
        pipeline.set_random_state(seed)
        runs.append(torch.stack([pipeline({"image": image})["image"] for _ in range(8)]))
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    untouched = sum(torch.equal(one, image) for one in runs[0])
    assert 0 < untouched < 8


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"distance": (0.0, 0.3)}, "distance must be a range above 0 and up to 0.5"),
        ({"distance": (0.3, 0.6)}, "distance must be"),
        ({"strength": (0.3, 0.2)}, "strength must be a range from 0 to 1"),
        ({"strength": (0.5,)}, "strength must be"),
        ({"axes": ()}, "at least one axis"),
    ],
)
def test_mistakes(given, says):
    with pytest.raises(ValueError, match=says):
        RandGhostingd("image", **given)
