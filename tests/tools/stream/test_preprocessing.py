from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, Flipd, Resized

from common.inferers.device_frames import DeviceFrames
from common.transforms import FramesFirstd, LoadClipd, NormalizeFramesd
from tools.stream.preprocessing import frame_preprocessing

BUNDLES = Path(__file__).resolve().parents[3] / "bundles"
PICTURE = np.random.default_rng(0).integers(0, 256, (270, 480, 3), dtype=np.uint8)
CPU = torch.device("cpu")


def load() -> LoadClipd:
    return LoadClipd(allow_missing_keys=True)


def normalize() -> NormalizeFramesd:
    return NormalizeFramesd("image")


def frames() -> FramesFirstd:
    return FramesFirstd("image")


def resized(**options: object) -> Resized:
    return Resized("image", **{"spatial_size": (64, 96), "mode": "bilinear"} | options)


def check(chain: Compose, on_device: bool) -> None:
    ready = frame_preprocessing(chain, CPU)
    assert isinstance(ready, DeviceFrames) is on_device
    expected = chain({"image": [PICTURE]})["image"].as_tensor()[0]
    found = ready(PICTURE)
    assert type(found) is torch.Tensor
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bundle", ["funet", "bess"])
def test_the_bundles_preprocessing_is_done_on_the_device(bundle):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(BUNDLES / bundle)
    check(parser.get_parsed_content("preprocessing"), True)


CHAINS: dict[str, tuple[Callable[[], Compose], bool]] = {
    "with a resize": (lambda: Compose([load(), resized(), normalize(), frames()]), True),
    "without": (lambda: Compose([load(), normalize(), frames()]), True),
    "corners stated": (lambda: Compose([load(), resized(align_corners=False), normalize(), frames()]), True),
    "corners aligned": (lambda: Compose([load(), resized(align_corners=True), normalize(), frames()]), False),
    "against aliasing": (lambda: Compose([load(), resized(anti_aliasing=True), normalize(), frames()]), False),
    "nearest": (lambda: Compose([load(), resized(mode="nearest"), normalize(), frames()]), False),
    "longest side": (
        lambda: Compose([load(), resized(spatial_size=96, size_mode="longest"), normalize(), frames()]),
        False,
    ),
    "one side": (lambda: Compose([load(), resized(spatial_size=(64, -1)), normalize(), frames()]), False),
    "double precision": (lambda: Compose([load(), resized(dtype=torch.float64), normalize(), frames()]), False),
    "normalised first": (lambda: Compose([load(), normalize(), resized(), frames()]), False),
    "one more": (lambda: Compose([load(), normalize(), frames(), Flipd("image", 2)]), False),
    "one twice": (lambda: Compose([load(), resized(), resized(), normalize(), frames()]), False),
}


@pytest.mark.parametrize("name", CHAINS)
def test_which_chains_are_recognised(name):
    chain, on_device = CHAINS[name]
    check(chain(), on_device)
