from __future__ import annotations

import pytest

from tests.bundles.bundle_test_base import BundleTests


class TestSAFNet(BundleTests):
    name = "safnet"
    training = BundleTests.training | {"lr": 0.005, "dice_weight": 1.0}
    whole = BundleTests.whole | {"crop_fraction": 1.0}
