"""Measure what the crop to half the front-back extent cuts off: ``python -m tools.crop_loss DATASET_DIR``."""

from __future__ import annotations

import argparse
import logging
import sys

from monai.transforms import EnsureChannelFirst, LoadImage

from common.data import ScanReader, find_cases
from common.errors import InputError
from common.transforms import CropAnteriorPosteriord


def cut_share(dataset_dir: str, fraction: float, center: str) -> dict[str, float]:
    """Return for each case which share of its labelled voxels lies outside the crop."""
    load, channel_first = LoadImage(ScanReader()), EnsureChannelFirst(channel_dim="no_channel")
    crop = CropAnteriorPosteriord(keys=("image", "label"), fraction=fraction, center=center)
    shares = {}
    for case in find_cases(dataset_dir):
        item = {key: channel_first(load(case[key])) for key in ("image", "label")}
        whole = int((item["label"] > 0).sum())
        shares[case["id"]] = 1 - int((crop(item)["label"] > 0).sum()) / max(whole, 1)
    return shares


def main(argv: list[str] | None = None) -> int:
    """Print a line for each way to crop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset_dir")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.5, 0.6])
    arguments = parser.parse_args(argv)
    logging.disable(logging.WARNING)  # the transform's own warning is what is counted here
    try:
        for fraction in arguments.fractions:
            for center in ("image", "body"):
                shares = cut_share(arguments.dataset_dir, fraction, center)
                cut = {name: share for name, share in shares.items() if share > 0}
                worst = max(shares, key=shares.get)
                print(
                    f"crop_fraction {fraction} crop_center {center:<6} {len(cut):3d} of {len(shares)} cases lose "
                    f"labelled voxels, at worst {100 * shares[worst]:.1f} % ({worst})"
                )
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        logging.disable(logging.NOTSET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
