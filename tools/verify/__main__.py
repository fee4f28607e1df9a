"""Check bundles as MONAI's Model Zoo does, without a network: ``python -m tools.verify [NAME ...]``.

One line per bundle and check: ok, FAILED and why, or waived. What runs a bundle runs in a process of its own, in an
empty folder, with nothing of the repository but the bundle, at the size that its metadata state.

A bundle without trained weights is a recipe: the checks that need weights are waived, each by its name, and no others.
With --random_weights they run too, on a temporary copy that has random weights.

The metadata are compared with the newest published schema: --schema FILE, or shared/schemas/ beside the repository, or
MONAI's download. Where none can be had the check fails, unless it is waived by name: --waive schema.

The exit status is 1 where a check failed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.errors import InputError
from tools.arguments import OneLineParser
from tools.bundle_files import BUNDLES, find_bundles
from tools.verify.checks import CHECKS, verify_bundle
from tools.verify.schema import add_schema_argument, find_schema


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineParser("python -m tools.verify", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of bundles; default: all")
    parser.add_argument("--bundles", type=Path, default=BUNDLES, metavar="DIR", help="default: bundles/")
    add_schema_argument(parser)
    parser.add_argument("--random_weights", action="store_true", help="check recipes with random weights too")
    parser.add_argument(
        "--waive", action="append", default=[], choices=CHECKS, metavar="CHECK", help=f"one of {', '.join(CHECKS)}"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Check bundles and print what was found.

    Returns:
        The exit status.
    """
    options = _arguments(argv)
    counts: Counter[str] = Counter()
    try:
        roots, schema = find_bundles(options.bundles, options.names), find_schema(options.schema)
        for root in roots:
            for result in verify_bundle(root, schema, random_weights=options.random_weights, waived=options.waive):
                print(result, flush=True)
                counts[result.status] += 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"{len(roots)} bundles: " + ", ".join(f"{counts[status]} {status}" for status in ("ok", "waived", "FAILED")))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
